"""The run folder: every path in it, and what reads and writes each file.

    recipe.yaml                     the resolved recipe
    run.json                        where data and statistics are, tokens of each stage, versions
    times.json                      seconds of each stage: all that differs between two runs of one recipe
    arms/<arm>/scores/              score and decision of every token
    arms/<arm>/selection.json       what the arm selected, and what it was made from (`select.selection`)
    arms/<arm>/cleaned/data/        cleaned data, for any trainer; cleaned/jsonl/ the same as JSON lines
    arms/<arm>/cleaned/README.md    its card
    arms/<arm>/training/data/       data with statistics, where tokens are selected or weighted while the model trains
    arms/<arm>/rounds/              rounds of an arm that selects with the model that it trains
    arms/<arm>/model/               the adapter or model that was fine-tuned on it
    arms/<arm>/seeds/<seed>/        model and evaluation of each seed after the first; where the seed decides what is
                                    selected, the selection too
    arms/<arm>/evaluation.json      with the results by example beside it: predictions.jsonl, the answers of exact
                                    match, held_out.jsonl, the losses, and those of `runs.outcomes.MEASURES`
    exports/                        what an arm selected, as other trainers read it
    search/                         what a search tried for this run: search.json, and the run of each probe
    report.html

An arm whose method is `imported` is not in the recipe.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tokensieve import yaml12
from tokensieve.errors import TokensieveError
from tokensieve.places import is_url, place, remote_of
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.store.atomic import read_object, write_json
from tokensieve.store.mirror import is_there
from tokensieve.store.processes import sweep
from tokensieve.store.sealed import has_seal, read_sealed, write_sealed, write_sealed_text

_RECIPE_KEYS = ("data", "models", "method", "controls", "select", "train")
"""What every recipe that a run writes has."""
_FOLDER_NAME = re.compile(r"(?!\.{0,2}$)[^/\\\x00-\x1f]{1,255}")
"""One part of a path, which cannot lead out of the folder that it stands in."""
_GIVE_A_RUN = "give the folder of a run, such as runs/a"
_AGAIN = "run the recipe of the run again: finished work is kept"


@dataclass(frozen=True)
class RunState:
    """What ``run.json`` holds.

    Attributes:
        name: of the run.
        examples: folder of the tokenised examples.
        statistics: the folder of each role's statistics.
        arms: the arms of the recipe.
        method: name of the method's arm.
        tokens: how many went through each stage, where that was noted.
        versions: of the libraries.
        seeds: that arms are trained with.
        warnings: what a user should know of the data and the models.
    """

    name: str
    examples: str
    statistics: Mapping[str, str]
    arms: Sequence[str]
    method: str
    tokens: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def state_file(self) -> Path:
        """Where the run's data and statistics are."""
        return self.path / "run.json"

    @property
    def times_file(self) -> Path:
        """What each stage took."""
        return self.path / "times.json"

    @property
    def search(self) -> Path:
        """The search for a method and a fraction, which is there before the run."""
        return self.path / "search"

    @property
    def has_results(self) -> bool:
        """Whether anything is here that the same recipe would not find again in the store."""
        arms = (ArmFolder(path) for path in (self.path / "arms").glob("*"))
        return self.page.exists() or (self.path / "exports").exists() or any(arm.has_results for arm in arms)

    @property
    def is_unused(self) -> bool:
        """Whether nothing is here but a search, and what a killed run may leave while it writes its first file."""
        entries = self.path.iterdir() if self.path.is_dir() else ()
        return all(
            (entry.name.startswith(".") and entry.suffix in (".partial", ".lock", ".holder")) or entry == self.search
            for entry in entries
        )

    def sweep(self) -> None:
        """Remove the files that killed processes left half-written."""
        for folder in (self.path, *self.path.glob("arms/*"), *self.path.glob("arms/*/seeds/*")):
            sweep(folder)

    def arm(self, name: str) -> ArmFolder:
        """Return the folder of an arm."""
        return ArmFolder(self.path / "arms" / name)

    def selected_arms(self) -> Iterator[ArmFolder]:
        """Yield the arms whose tokens are selected, in alphabetical order, imported ones included."""
        for path in sorted((self.path / "arms").glob("*")):
            if ArmFolder(path).selected:
                yield ArmFolder(path)

    def imported_arms(self) -> list[str]:
        """Return the names of the arms that were imported, in alphabetical order."""
        return [arm.name for arm in self.selected_arms() if arm.selection().imported]

    def export(self, arm: str, target: str) -> Path:
        """Return the folder of an export that names none."""
        return self.path / "exports" / f"{arm}-{target}"

    def recipe(self) -> dict[str, Any]:
        """Read the resolved recipe, as plain values.

        Raises:
            TokensieveError: it is missing, not YAML, or not one that a run writes.
        """
        if not self.recipe_file.is_file():
            raise TokensieveError("the recipe of the run is missing", where=str(self.recipe_file), hint=_AGAIN)
        found = yaml12.read(self.recipe_file)
        if not isinstance(found, dict):
            raise TokensieveError("the recipe of the run is not a mapping", where=str(self.recipe_file), hint=_AGAIN)
        if lacking := [key for key in _RECIPE_KEYS if key not in found]:
            raise TokensieveError(
                f"the recipe of the run lacks {', '.join(lacking)}: no run wrote it so",
                where=str(self.recipe_file),
                hint=_AGAIN,
            )
        return found

    def write_recipe(self, text: str) -> None:
        """Write the resolved recipe with its checksum as a comment, atomically."""
        write_sealed_text(self.recipe_file, text)

    def check_recipe(self) -> None:
        """Refuse to tell of a recipe that is not what the run wrote.

        Raises:
            TokensieveError: it is damaged, or was changed and not run since.
        """
        # Where there is none, whoever needs it says so.
        if self.recipe_file.is_file() and not has_seal(self.recipe_file):
            raise TokensieveError(
                "the recipe of the run is damaged, or was changed since the run wrote it",
                where=str(self.recipe_file),
                hint="run your own recipe again with this output: what is finished is kept",
            )

    def state(self) -> RunState:
        """Read ``run.json``.

        Raises:
            TokensieveError: this folder holds no run, a field is missing or of another type, or the name of an arm
                could lead out of the folder.
        """
        hint = f"run `tokensieve run {self.recipe_file}` again" if self.state_file.is_file() else _GIVE_A_RUN
        found = read_sealed(self.state_file, "this folder holds no run", hint)
        try:
            state = TypeAdapter(RunState).validate_python(found)
        except ValidationError as error:
            first = error.errors()[0]
            raise TokensieveError(
                f"a field is missing or garbled: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                where=str(self.state_file),
                hint=f"run `tokensieve run {self.recipe_file}` again",
            ) from error
        for name in (*state.arms, state.method):
            if not _FOLDER_NAME.fullmatch(name):
                raise TokensieveError(
                    f"'{name:.60}' is no name of an arm, and no run wrote it",
                    where=str(self.state_file),
                    hint="do not use a run folder from somebody whom you do not trust",
                )
        return state

    def write_state(self, state: RunState) -> None:
        """Write ``run.json``, atomically; local paths from the run on, so that it can be moved with its store."""
        statistics = {role: self._relative(path) for role, path in state.statistics.items()}
        relative = replace(state, examples=self._relative(state.examples), statistics=statistics)
        write_sealed(self.state_file, asdict(relative))

    def seconds(self) -> dict[str, float]:
        """Return what each stage took; empty where nothing was noted.

        Raises:
            TokensieveError: ``times.json`` does not hold numbers by name.
        """
        if not is_there(self.times_file):
            return {}
        found = read_object(self.times_file, "", "delete it: nothing but the times of the stages is lost")
        try:
            return TypeAdapter(dict[str, float]).validate_python(found)
        except ValidationError as error:
            raise TokensieveError(
                "not a number of seconds for each stage",
                where=str(self.times_file),
                hint="delete it: nothing but the times of the stages is lost",
            ) from error

    def write_seconds(self, seconds: Mapping[str, float]) -> None:
        """Write ``times.json``, atomically."""
        write_json(self.times_file, dict(seconds))

    def place_of(self, path: str) -> Path:
        """Return where something is that ``run.json`` names: seen from here, or else from where the run was made."""
        if is_url(path):
            return place(path)
        here = os.path.normpath(os.path.join(os.path.realpath(self.path), path))
        if os.path.exists(here) or not self.recipe_file.is_file():
            return Path(here)
        made = str(self.recipe().get("output", ""))
        there = os.path.normpath(os.path.join(os.path.realpath(made), path))
        return Path(there if not is_url(made) and os.path.exists(there) else here)

    def _relative(self, path: str) -> str:
        if not os.path.isabs(path) or remote_of(self.path) is not None:
            return path
        return os.path.relpath(os.path.realpath(path), os.path.realpath(self.path))
