"""The model of the role `reward`: one that scores tokens, or a head that is trained on preferences, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tokensieve.containers import Role
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.preferences import AnswerRows, Ranking, write_answers
from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import wilson
from tokensieve.measure.hidden_states import HiddenStates
from tokensieve.models.identity import model_identity
from tokensieve.models.loading import load_config, scores_states
from tokensieve.models.reward import RewardHead
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.recipe import Recipe, RoleSettings
from tokensieve.store import fingerprint
from tokensieve.train.reward_head import pairs_in_order, split_rankings, train_reward_head
from tokensieve.train.settings import PreferenceSettings

PREFERENCES = "models.reward.preferences"
"""The key of the preference data in a recipe."""


@dataclass(frozen=True)
class HeadResult:
    """How well a reward head orders answers that it was not trained on.

    Attributes:
        accuracy: share of the pairs of held-out answers that it orders as they are ranked; each ranking counts once.
        low: lower end of its 95 % interval (Wilson, over rankings).
        high: upper end of it.
        held_out: rankings that were held out.
        trained: rankings that the head was trained on.
    """

    accuracy: float
    low: float
    high: float
    held_out: int
    trained: int

    @property
    def line(self) -> str:
        """The result in a line."""
        return (
            f"held-out pair accuracy {self.accuracy:.1%} (95 % interval {self.low:.1%} to {self.high:.1%}) on "
            f"{self.held_out:,} rankings, trained on {self.trained:,}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    def check(self) -> None:
        """Refuse a head that cannot be told from chance, or is worse.

        Raises:
            TokensieveError: an interval that reaches down to 50 %.
        """
        if self.low > 0.5:
            return
        raise TokensieveError(
            f"the reward head orders held-out answers no better than chance: {self.line}",
            where=f"recipe: {PREFERENCES}",
            hint="give more preferences, a model that knows more with models.reward.path, or other "
            "models.reward.preferences: {epochs, learning_rate, width}",
        )


@dataclass(frozen=True)
class Preferences:
    """Tokenised preference data.

    Attributes:
        settings: how its answers are read.
        examples: the answers, each with its prompt.
        rankings: which of them are ranked against each other.
    """

    settings: DataSettings
    examples: ExampleStore
    rankings: Sequence[Ranking]

    @classmethod
    def of(cls, rows: AnswerRows, examples: ExampleStore) -> Preferences:
        """Return the preferences among tokenised answers.

        Raises:
            TokensieveError: fewer than two prompts, of which none could be held out.
        """
        rankings = rows.rankings(examples)
        if len({one.prompt for one in rankings}) < 2:
            raise TokensieveError(
                "all preferences are of one prompt, and one more is needed to hold out",
                where=f"recipe: {PREFERENCES}",
                hint="give preferences of several prompts",
            )
        return cls(rows.settings, examples, rankings)

    def bytes_of_states(self, backbone: ModelSettings) -> int:
        """Return the bytes of the hidden states of a model at all tokens of the answers."""
        return 4 * self.examples.counts.trainable_tokens * load_config(backbone).hidden_size

    def identity(self, backbone: ModelSettings, settings: PreferenceSettings) -> dict[str, Any]:
        """Return all that a head depends on; no name of a file or folder is in it."""
        ranked = [[[one.shard, int(one.places[0])] for one in ranking.answers] for ranking in self.rankings]
        own = {name: value for name, value in asdict(settings).items() if name != "files"}
        return {
            "backbone": model_identity(backbone),
            "answers": [self.examples.fingerprint, self.examples.cut],
            "rankings": fingerprint.of_value(ranked),
            "preferences": own,
        }

    def train(
        self, states: HiddenStates, settings: PreferenceSettings, device: torch.device
    ) -> tuple[RewardHead, HeadResult]:
        """Train a head on most of the rankings, and try it on the others."""
        mapped = {number: states.read(number) for number in range(self.examples.shards)}
        trained, held_out = split_rankings(self.rankings, settings.held_out, settings.seed)
        head = train_reward_head(mapped.__getitem__, trained, settings, device)
        right = pairs_in_order(head, mapped.__getitem__, held_out, device)
        low, high = wilson(round(float(right.sum())), len(right))
        return head, HeadResult(float(right.mean()), low, high, len(held_out), len(trained))


def check_reward(recipe: Recipe) -> None:
    """Refuse what a recipe says of preferences and of the role `reward` where it cannot be meant.

    Raises:
        TokensieveError: preferences for another role, or a reward model that is fine-tuned or that is the base.
    """
    for role, settings in recipe.models.items():
        if role != "reward" and settings.preferences is not None:
            raise TokensieveError(
                f"preferences make a reward model, and models.{role} is none",
                where=f"recipe: models.{role}.preferences",
                hint="models.reward: {preferences: FILE}",
            )
    reward = recipe.models.get("reward")
    if reward is None:
        return
    if reward.warm_up is not None:
        raise TokensieveError(
            "a warm-up makes a language model, which gives no rewards",
            where="recipe: models.reward.warm_up",
            hint="models.reward: {preferences: FILE}",
        )
    if reward.path is None and reward.preferences is None:
        raise TokensieveError(
            "the base gives no rewards",
            where="recipe: models.reward",
            hint="models.reward: {preferences: FILE}, or name a reward model with models.reward.path",
        )


def check_kind(role: Role, model: ModelSettings, settings: RoleSettings) -> None:
    """Refuse a model that scores tokens where a language model is needed, and the other way round.

    Raises:
        TokensieveError: as described.
    """
    is_scorer, wanted = scores_states(model), role == "reward" and settings.preferences is None
    if is_scorer and not wanted:
        raise TokensieveError(
            "this model scores tokens and has no language-model head",
            where=f"{model.path} (models.{role})",
            hint="name it as models.reward, without preferences, and a causal language model here",
        )
    if wanted and not is_scorer:
        raise TokensieveError(
            "this language model gives no rewards",
            where=f"{model.path} (models.reward)",
            hint="add models.reward.preferences: FILE to train a head on its hidden states, or name a model that "
            "transformers loads as AutoModelForTokenClassification",
        )


def recipe_answers(recipe: Recipe) -> AnswerRows | None:
    """Read a recipe's preferences, and write their answers into the store; None where it names none.

    Raises:
        TokensieveError: the first row that cannot be used, unless `data.bad_rows` leaves them out.
    """
    data = preference_data(recipe)
    return None if data is None else write_answers(data, recipe.data, recipe.store_folder)


def preference_data(recipe: Recipe) -> DataSettings | None:
    """Return how the rows of a recipe's preferences are read; None where it names none."""
    reward = recipe.models.get("reward")
    if reward is None or reward.preferences is None:
        return None
    own, data = DataSettings(files=reward.preferences.files), recipe.data
    return dataclasses.replace(own, bad_rows=data.bad_rows, max_row_bytes=data.max_row_bytes)
