"""Recipes: typed settings of every stage, from YAML and the command line and back to YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tokensieve import yaml12
from tokensieve.containers import Role
from tokensieve.data.settings import DataSettings
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.settings import Dtype
from tokensieve.pipeline.recipe_yaml import override_key, read_recipe
from tokensieve.pipeline.validated import Where, validated
from tokensieve.places import place, told
from tokensieve.runs.folder import RunFolder
from tokensieve.search.settings import SearchSettings
from tokensieve.setting_types import (
    Folder,
    MethodChoice,
    Seed,
    Source,
    bare,
    known_keys_only,
    one_or_more,
    shown,
    without_empty_sections,
)
from tokensieve.store.mirror import fetched
from tokensieve.store.sealed import COMMENT
from tokensieve.train.settings import PreferenceSettings, Train, TrainSettings, WarmUp

_BOTH_SEEDS = TokensieveError(
    "seed and seeds are both given", where="recipe: seeds", hint="keep seeds for several, or seed for one"
)


def _listed_seeds(value: Any) -> Any:
    """Refuse one number: it could be a seed, or how many there are."""
    if isinstance(value, list | tuple) and value:
        return value
    raise TokensieveError(
        f"seeds is {shown(value)}, it must be a list of one seed or more",
        where="recipe: seeds",
        hint="seeds: [0, 1, 2]",
    )


@known_keys_only
@dataclass(frozen=True)
class RoleSettings:
    """The model of a role: one that exists, or one to be made.

    Attributes:
        path: folder or Hub id of a causal language model; the base's when not given.
        adapter: folder or Hub id of a PEFT adapter on top of it.
        revision: Hub revision.
        dtype: precision to compute in; `auto` is the one the weights are stored in.
        trust_remote_code: run the model's own Python code; only for models that you trust.
        warm_up: make the model: fine-tune the base on a subset with every token.
        preferences: make the model of the role `reward`: train a head on the hidden states of this one to rank answers.
    """

    path: Source | None = None
    adapter: Source | None = None
    revision: str | None = None
    dtype: Dtype = "auto"
    trust_remote_code: bool = False
    warm_up: WarmUp | None = None
    preferences: Annotated[PreferenceSettings, bare("files")] | None = None


@known_keys_only
@dataclass(frozen=True)
class SelectSettings:
    """How scores become labels.

    Attributes:
        keep_turn_end: keep the token that ends an assistant turn whatever its score, within the
            fraction; a model that never sees it does not learn to stop.
        threshold: keep tokens whose score is at least this, instead of the method's own rule; controls keep theirs.
        jsonl: write the cleaned data as JSON lines too.
    """

    keep_turn_end: bool = True
    threshold: float | None = None
    jsonl: bool = True


@known_keys_only
@dataclass(frozen=True)
class ReportSettings:
    """What the page shows.

    Attributes:
        examples: number of token heat maps.
    """

    examples: Annotated[int, Field(ge=0)] = 100


@known_keys_only
@dataclass(frozen=True)
class Recipe:
    """Everything that a run does.

    Attributes:
        output: folder of the run: a local one, or one of an object store, such as `s3://bucket/runs/a` or
            `gs://bucket/runs/a`.
        data: the rows to clean.
        models: the model of each role: `base`, `reference`.
        method: name and hyper-parameters of the method (see `tokensieve methods`).
        controls: methods to compare with. `random` keeps as many tokens as the method, or draws as many examples or
            tokens of each batch; it is left out where the method keeps every token. Other controls take the method's
            fraction, and keep their own scope and rounding. More can be added at the end when the run is finished.
        store: folder of tokenised data and statistics, shared by runs, local or of an object store; `store` beside
            `output` when not given.
        seed: of training, of random choices and of the random control.
        seeds: several in place of `seed`, such as `[0, 1, 2]`: every arm is trained and evaluated with each, and the
            random control drawn with each; results are means with intervals over seeds. All else takes the first.
        engine: where the stages run that map over shards.
        measure: how statistics are measured.
        select: how scores become labels.
        train: how to fine-tune; `null` ends the run with the cleaned data.
        evaluate: what to measure the fine-tuned models on.
        report: what the page shows.
        search: what `tokensieve search` tries.
    """

    output: Folder
    data: Annotated[DataSettings, bare("files")]
    models: dict[Role, Annotated[RoleSettings, bare("path")]]
    method: MethodChoice = field(default_factory=lambda: {"name": "token-cleaning"})
    controls: Annotated[tuple[MethodChoice, ...], one_or_more] = ({"name": "full"}, {"name": "random"})
    store: Folder | None = None
    seed: Seed = 0
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_listed_seeds)] = ()
    engine: Annotated[EngineSettings, bare("name")] = field(default_factory=EngineSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    select: SelectSettings = field(default_factory=SelectSettings)
    train: Train | None = field(default_factory=TrainSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    search: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        """Take the seed from the seeds, where these are given."""
        if len(set(self.seeds)) < len(self.seeds):
            raise TokensieveError(
                f"seeds is {list(self.seeds)}, and the same seed gives the same model",
                where="recipe: seeds",
                hint="give each seed once",
            )
        if self.seeds and self.seed not in (0, self.seeds[0]):
            raise _BOTH_SEEDS
        if self.seeds:
            object.__setattr__(self, "seed", self.seeds[0])

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """The seeds that every arm is trained with; the first is `seed`."""
        return self.seeds or (self.seed,)

    @property
    def output_folder(self) -> Path:
        """Folder of the run, on this machine."""
        return place(self.output)

    @property
    def store_folder(self) -> Path:
        """Folder of tokenised data and statistics, on this machine."""
        return place(self.store) if self.store else self.output_folder.parent / "store"


def load_recipe(path: str | Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Local paths become absolute, so that the written recipe gives the same run from any folder.

    Args:
        path: YAML file; None starts from the overrides alone.
        overrides: ``key.path=value``, the value in YAML, such as ``method.fraction=0.5``.

    Raises:
        TokensieveError: no such file, text that is not YAML, an unknown key (with its line), a value of
            a wrong type, or a required key that is missing.
    """
    path = fetched(place(path)) if path else None
    values, lines = read_recipe(path) if path else ({}, {})
    values = {"controls": ["full", "random"], **values}
    overridden = {override.partition("=")[0] for override in overrides}
    for one, other in (("seed", "seeds"), ("seeds", "seed")):
        if one in overridden and other not in overridden:
            values.pop(other, None)
    for override in overrides:
        values = override_key(values, override)
        lines[tuple(override.partition("=")[0].split("."))] = f"command line, {override}"
    where = Where(str(path) if path else "command line", lines)
    if {"seed", "seeds"} <= values.keys():
        raise TokensieveError(_BOTH_SEEDS.what, where=where.of(("seeds",)), hint=_BOTH_SEEDS.hint)
    recipe: Recipe = validated(Recipe, without_empty_sections(Recipe, values), where)
    for role, model in recipe.models.items():
        if model.warm_up is not None:
            _changed(recipe.train or TrainSettings(), model.warm_up.train, where, ("models", role, "warm_up", "train"))
    if path is not None and "output" not in overridden:
        _check_in_place(path, recipe)
    return recipe


def recipe_of_run(folder: RunFolder) -> Recipe:
    """Read the recipe of a run, which may have been moved since.

    Raises:
        TokensieveError: as for `load_recipe`.
    """
    return load_recipe(folder.recipe_file, [f"output={json.dumps(str(folder.path))}"])


def _check_in_place(path: Path, recipe: Recipe) -> None:
    """Refuse the recipe of a run that was moved or copied: it names the place where the run was.

    Raises:
        TokensieveError: as described.
    """
    found, named = RunFolder(path.parent), RunFolder(recipe.output_folder)
    is_of_run = path.name == found.recipe_file.name and found.state_file.is_file()
    if is_of_run and path.parent.resolve() != named.path.resolve():
        raise TokensieveError(
            f"this run was moved or copied, and its recipe writes to {told(named.path)}",
            where=str(path),
            hint=f"add output={told(path.parent)} to go on here, with store=FOLDER if its store was moved too, or "
            "output=NEW to start another run",
        )


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML, defaults spelled out; `load_recipe` of it gives an equal recipe."""
    return yaml12.dump(recipe_values(recipe))


def is_dumped(path: Path) -> bool:
    """Return whether a file is a recipe as a run writes it, with nothing of anybody else's in it."""
    try:
        values = yaml12.read(path)
        text = path.read_text(encoding="utf-8").rpartition(COMMENT)[0]
    except (TokensieveError, OSError):
        return False
    known = {item.name for item in fields(Recipe)}
    written = [known - {"seed"}, known - {"seeds"}]
    return isinstance(values, dict) and values.keys() in written and yaml12.dump(values) == text


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain dictionaries and lists, as YAML spells it; of `seed` and `seeds` the one in use."""
    values: dict[str, Any] = _plain(asdict(recipe))
    del values["seed" if recipe.seeds else "seeds"]
    return {**values, "train": recipe.train and _train_values(recipe.train)}


def train_settings(values: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """Return training settings with some keys of a `train` section changed.

    Raises:
        TokensieveError: a value of a wrong type.
    """
    return _changed(values, changes, Where("recipe", {}), ("models", "*", "warm_up", "train"))


def _train_values(train: TrainSettings) -> dict[str, Any]:
    values = _plain(asdict(train))
    arguments = values.pop("arguments")
    return {**values, **arguments}


def _changed(train: TrainSettings, changes: Mapping[str, Any], where: Where, section: tuple[str, ...]) -> Any:
    return validated(Train, {**_train_values(train), **changes}, where, section)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
