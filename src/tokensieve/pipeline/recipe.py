"""Recipes: typed settings of every stage, from YAML and the command line and back to YAML."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from tokensieve.containers import Role
from tokensieve.data.settings import TRAINING_TEMPLATE, DataSettings
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.settings import Dtype
from tokensieve.pipeline.recipe_yaml import override_key, read_yaml
from tokensieve.train.settings import DEFAULT_ARGUMENTS, TrainSettings, WarmUp


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
    """

    path: str | None = None
    adapter: str | None = None
    revision: str | None = None
    dtype: Dtype = "auto"
    trust_remote_code: bool = False
    warm_up: WarmUp | None = None


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


@dataclass(frozen=True)
class ReportSettings:
    """What the page shows.

    Attributes:
        examples: number of token heat maps.
    """

    examples: int = 100


@dataclass(frozen=True)
class Recipe:
    """Everything that a run does.

    Attributes:
        output: folder of the run.
        data: the rows to clean.
        models: the model of each role: `base`, `reference`.
        method: name and hyper-parameters of the method (see `tokensieve methods`).
        controls: methods to compare with; `random` keeps what the method keeps.
        store: folder of tokenised data and statistics, shared by runs; `store` beside `output` when not
            given.
        seed: of training, of random choices and of the random control.
        measure: how statistics are measured.
        select: how scores become labels.
        train: how to fine-tune; `null` ends the run with the cleaned data.
        evaluate: what to measure the fine-tuned models on.
        report: what the page shows.
    """

    output: str
    data: DataSettings
    models: dict[Role, RoleSettings]
    method: dict[str, Any] = field(default_factory=lambda: {"name": "token-cleaning"})
    controls: tuple[dict[str, Any], ...] = ({"name": "full"}, {"name": "random"})
    store: str | None = None
    seed: int = 0
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    select: SelectSettings = field(default_factory=SelectSettings)
    train: TrainSettings | None = field(default_factory=TrainSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    @property
    def store_folder(self) -> Path:
        """Folder of tokenised data and statistics."""
        return Path(self.store) if self.store else Path(self.output).parent / "store"


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: YAML file; None starts from the overrides alone.
        overrides: ``key.path=value``, the value in YAML, such as ``method.fraction=0.5``.

    Raises:
        TokensieveError: no such file, text that is not YAML, an unknown key (with its line), a value of
            a wrong type, or a required key that is missing.
    """
    values, lines = read_yaml(path) if path else ({}, {})
    values = _spell_out({"controls": ["full", "random"], **values})
    for override in overrides:
        values = _spell_out(override_key(values, override))
        lines[tuple(override.partition("=")[0].split("."))] = f"command line, {override}"
    where = _Where(str(path) if path else "command line", lines)
    _check_keys(Recipe, values, (), where)
    return _localise(_validate(_collect_arguments(values), where))


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML, defaults spelled out; `load_recipe` of it gives an equal recipe."""
    return yaml.safe_dump(recipe_values(recipe), sort_keys=False, allow_unicode=True)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain dictionaries and lists, as YAML spells it."""
    values: dict[str, Any] = _plain(asdict(recipe))
    if values["train"] is not None:
        values["train"].update(values["train"].pop("arguments"))
    return values


def train_settings(values: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """Return training settings with some keys of a `train` section changed.

    Raises:
        TokensieveError: a value of a wrong type.
    """
    merged = {**_plain(asdict(values)), **values.arguments}
    merged.pop("arguments")
    changed = _collect_arguments({"train": {**merged, **changes}})["train"]
    return _adapt(TrainSettings, changed, _Where("recipe", {}), ("models", "*", "warm_up", "train"))


@dataclass(frozen=True)
class _Where:
    """Where a key stands, for messages."""

    source: str
    lines: dict[tuple[str, ...], str]

    def of(self, key: tuple[str, ...]) -> str:
        """Return ``file:line: key``, or the override that set the key."""
        places = (self.lines[key[:length]] for length in range(len(key), 0, -1) if key[:length] in self.lines)
        return ": ".join(filter(None, (next(places, self.source), ".".join(key))))


def _spell_out(values: dict[str, Any]) -> dict[str, Any]:
    """Replace the short spellings: a path for a model, a name for a method, a file for data."""
    values = dict(values)
    if isinstance(models := values.get("models"), dict):
        values["models"] = {role: {"path": m} if isinstance(m, str) else m for role, m in models.items()}
    if isinstance(method := values.get("method"), str):
        values["method"] = {"name": method}
    if isinstance(controls := values.get("controls"), list):
        values["controls"] = [{"name": c} if isinstance(c, str) else c for c in controls]
    if isinstance(data := values.get("data"), str | list):
        values["data"] = {"files": data}
    for section, name in (("data", "files"), ("evaluate", "held_out"), ("evaluate", "tasks")):
        if isinstance(values.get(section), dict) and isinstance(values[section].get(name), str):
            values[section] = {**values[section], name: [values[section][name]]}
    evaluate = values.get("evaluate")
    if isinstance(evaluate, dict) and isinstance(match := evaluate.get("exact_match"), str | list):
        values["evaluate"] = {**evaluate, "exact_match": {"files": [match] if isinstance(match, str) else match}}
    return values


def _collect_arguments(values: dict[str, Any]) -> dict[str, Any]:
    """Move the keys of `train` that are not our own to its `arguments`."""
    train = values.get("train")
    if not isinstance(train, dict):
        return values
    own = {item.name for item in fields(TrainSettings)} - {"arguments"}
    arguments = {**DEFAULT_ARGUMENTS, **{key: value for key, value in train.items() if key not in own}}
    return {**values, "train": {**{key: train[key] for key in train if key in own}, "arguments": arguments}}


def _check_keys(settings: Any, values: Any, path: tuple[str, ...], where: _Where) -> None:
    """Refuse keys that the settings do not have, at any depth."""
    if not isinstance(values, dict):
        return
    hints = _hints(settings)
    for key, value in values.items():
        if settings is TrainSettings and key not in hints:
            continue  # for SFTConfig, which is checked by train.settings.check_arguments
        if key not in hints:
            raise TokensieveError(
                f"unknown key '{key}'{did_you_mean(str(key), hints)}",
                where=where.of((*path, str(key))),
                hint=f"{'.'.join(path) or 'a recipe'} has: {', '.join(hints)}",
            )
        if get_origin(hints[key]) is dict:
            _check_items(hints[key], value, (*path, key), where)
            continue
        for inner in _settings_in(hints[key]):
            _check_keys(inner, value, (*path, key), where)


def _check_items(hint: Any, values: Any, path: tuple[str, ...], where: _Where) -> None:
    """Refuse keys of a mapping with fixed names, such as roles, and unknown keys within its items."""
    names, item = get_args(hint)
    if not isinstance(values, dict) or not is_dataclass(item):
        return
    for key, value in values.items():
        if key not in get_args(names):
            raise TokensieveError(
                f"unknown role '{key}'{did_you_mean(str(key), get_args(names))}",
                where=where.of((*path, str(key))),
                hint=f"one of: {', '.join(get_args(names))}",
            )
        _check_keys(item, value, (*path, str(key)), where)


@cache
def _hints(settings: Any) -> dict[str, Any]:
    return get_type_hints(settings)


def _settings_in(hint: Any) -> list[Any]:
    """Return the settings classes that a type mentions: ``X`` or ``X | None``."""
    if is_dataclass(hint):
        return [hint]
    if get_origin(hint) in (Union, types.UnionType):
        return [inner for argument in get_args(hint) for inner in _settings_in(argument)]
    return []


def _validate(values: dict[str, Any], where: _Where) -> Recipe:
    return _adapt(Recipe, values, where, ())


def _adapt(settings: Any, values: Any, where: _Where, path: tuple[str, ...]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(settings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = (*path, *(str(part) for part in first["loc"] if not str(part)[:1].isupper()))
        name = ".".join(key)
        own = first.get("ctx", {}).get("error")
        if isinstance(own, TokensieveError):  # what the settings check themselves
            at = where.of(tuple(own.where.removeprefix("recipe: ").split(".")) if own.where else key)
            raise TokensieveError(own.what, where=at, hint=own.hint) from error
        if first["type"] == "missing":
            raise TokensieveError(
                f"'{name}' is required",
                where=where.of(key),
                hint=f"name it in the recipe or as {name}=...; docs/recipe.md has one to start from",
            ) from error
        raise TokensieveError(
            f"{first['msg']}, not {first['input']!r:.60}",
            where=where.of(key),
            hint=f"docs/recipe.md says what {name or 'a recipe'} takes",
        ) from error


def _localise(recipe: Recipe) -> Recipe:
    """Make local paths absolute, so that the written recipe gives the same run from any folder."""
    values = recipe_values(recipe)
    for section, names in _PATHS.items():
        holders = values["models"].values() if section == "models" else [_at(values, section)]
        for holder in (holder for holder in holders if holder):
            for name in names:
                # the word stands for a template, whatever a folder here is called
                if (name, holder.get(name)) != ("chat_template", TRAINING_TEMPLATE):
                    holder[name] = _absolute(holder.get(name))
    for role in values["models"].values():
        if role["warm_up"]:
            role["warm_up"]["files"] = _absolute(role["warm_up"]["files"])
    values["output"] = str(Path(values["output"]).expanduser().absolute())
    values["store"] = values["store"] and str(Path(values["store"]).expanduser().absolute())
    return _validate(_collect_arguments(values), _Where("recipe", {}))


_PATHS = {
    "data": ("files", "tokenizer", "chat_template"),
    "models": ("path", "adapter"),
    "evaluate": ("held_out", "task_folder"),
    "evaluate.exact_match": ("files",),
}


def _at(values: dict[str, Any], section: str) -> Any:
    for key in section.split("."):
        values = (values or {}).get(key)  # type: ignore[assignment]
    return values


def _absolute(value: Any) -> Any:
    """Make a path absolute where something is there (or a glob could be); a Hub id stays as it is."""
    if isinstance(value, list | tuple):
        return [_absolute(item) for item in value]
    if not isinstance(value, str) or "\n" in value or "{" in value:
        return value
    path = Path(value).expanduser()
    is_local = path.exists() or any(mark in value for mark in "*?[")
    return str(path.absolute()) if is_local else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
