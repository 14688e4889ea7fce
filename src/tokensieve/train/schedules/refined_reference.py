"""The rounds of TOSS-Pro (ICLR 2026, arXiv 2603.01185): a safety-degraded model, refined on what it finds.

Each round scores the pool with the model as it is, adds the examples that hold the riskiest tokens to the harmful set,
and makes the model again from the base on the larger set. Models and statistics are kept in the store by what they are
made from, so that a killed run finds its rounds there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tokensieve.containers import Role, check_finite
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.methods.toss_pro import TossPro
from tokensieve.models.settings import ModelSettings
from tokensieve.select.streaming import LoadStatistics
from tokensieve.train.schedules._base import Added, Intent, Schedule, Workbench


class RefinedReference(Schedule):
    """The model of a role is made again, round by round, on what it finds in the pool, before anything is scored."""

    name: ClassVar[str] = "refined-reference"

    def check(self, method: Method, intent: Intent) -> None:
        """Check that the model to be refined has data of its own, and that no other arm reads it.

        Raises:
            TokensieveError: a model that exists or has no data of its own, or another arm that would read it.
        """
        role = _refining(method).refines
        warm_up = intent.warm_ups.get(role)
        if warm_up is None or not warm_up.files:
            fault = "none is given" if role not in intent.warm_ups else "a finished one is given"
            if warm_up is not None:
                fault = "its warm_up names no files"
            raise TokensieveError(
                f"method '{method.name}' trains the model in the role '{role}' again in each round, from the base on a "
                f"growing harmful set: {fault}",
                where=f"recipe: models.{role}",
                hint=f"models.{role}: {{warm_up: {{files: [HARMFUL.jsonl]}}}}, or method toss for a finished model",
            )
        for other in intent.methods:
            if any(role == needed for needed, _ in other.needs) and _rounds(other) != _rounds(method):
                raise TokensieveError(
                    f"'{other.name}' would read the model in the role '{role}' as '{method.name}' refines it",
                    where="recipe: controls",
                    hint="give it a recipe of its own with the same store: nothing is made or measured twice",
                )

    def check_examples(self, method: Method, examples: int) -> None:
        """Check that the pool has as many examples as the rounds add.

        Raises:
            TokensieveError: it has fewer.
        """
        refining = _refining(method)
        if refining.rounds * refining.added > examples:
            raise TokensieveError(
                f"method '{method.name}' adds {refining.added} examples in each of {refining.rounds} rounds, and the "
                f"data has {examples}",
                where="recipe: method.added",
                hint=f"method.added: {max(1, examples // refining.rounds)} at most, or fewer rounds",
            )

    def refined_role(self, method: Method) -> Role | None:
        """Return the role whose model is made again."""
        return _refining(method).refines

    def refinements(self, method: Method) -> list[int]:
        """Return how many examples each round adds."""
        refining = _refining(method)
        return [refining.added] * refining.rounds

    def refine(self, method: Method, workbench: Workbench) -> ModelSettings:
        """Make the model from its own data, then again with what each round adds to it."""
        refining, shards = _refining(method), workbench.examples.shards
        rounds: list[Added] = []

        def make() -> ModelSettings:
            workbench.free_models()
            return workbench.make_model(refining.refines, rounds)

        model = make()
        while len(rounds) < refining.rounds:
            label = f"round {len(rounds) + 1}"
            load = workbench.load_with(refining, refining.refines, model, label)
            rounds.append(riskiest_examples(refining, load, shards, rounds))
            model = make()
        return model


def riskiest_examples(method: TossPro, load: LoadStatistics, shards: int, before: Sequence[Added]) -> Added:
    """Return the ``method.added`` examples with the highest-risk trainable tokens that were not added before.

    Of equal examples the earlier one is taken first.
    """
    risks, rows = [], []
    for number in range(shards):
        statistics, shard_rows = load(number)
        risk = -method.score(statistics)
        check_finite(risk, statistics.trainable, statistics.cu_seqlens, "risk")
        # A store holds no empty example, and one without a trainable token is never the riskiest.
        risk = np.where(statistics.trainable, risk, np.float32(-np.inf))
        risks.append(np.maximum.reduceat(risk, statistics.cu_seqlens[:-1]))
        rows.append(shard_rows)
    highest, source = np.concatenate(risks), np.concatenate(rows)
    order = np.argsort(-highest, kind="stable")
    taken = [example for one in before for example in one.examples]
    chosen = order[~np.isin(order, taken)][: method.added]
    return Added(tuple(chosen.tolist()), tuple(source[chosen].tolist()), tuple(highest[chosen].tolist()))


def _refining(method: Method) -> TossPro:
    if not isinstance(method, TossPro):
        raise TokensieveError(
            f"method '{method.name}' has the schedule 'refined-reference', which needs the rounds of toss-pro",
            hint="derive the method from tokensieve's TossPro",
        )
    return method


def _rounds(method: Method) -> tuple[int, int] | None:
    return (method.rounds, method.added) if isinstance(method, TossPro) else None
