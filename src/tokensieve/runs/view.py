"""A run folder read back: settings and figures at once, tokens and scores one shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Examples, Float32, Int64, StatisticSpec, UInt8
from tokensieve.data.decoding import TokenDecoder, read_decoder
from tokensieve.data.example_store import ExampleStore, open_examples
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.places import place
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.results import Row, read_rows
from tokensieve.select.passes import kept_name
from tokensieve.select.selection import Selection
from tokensieve.select.streaming import read_selection
from tokensieve.store.manifest import Manifest, open_manifest
from tokensieve.store.mirror import sync
from tokensieve.store.shards import HINT, shard_name


@dataclass(frozen=True, eq=False)
class ShardView:
    """One shard's tokens with all figures, aligned with them.

    Attributes:
        examples: the tokens.
        statistics: float32 ``[tokens]`` by ``role.statistic``; meaningless where a token is not trainable.
        scores: float32 ``[tokens]`` by arm; likewise.
        kept: bool ``[tokens]`` by arm.
        reasons: uint8 ``[tokens]`` by arm, a bit for each of the reasons of its method; where the method gives them.
    """

    examples: Examples
    statistics: Mapping[str, Float32]
    scores: Mapping[str, Float32]
    kept: Mapping[str, Bool]
    reasons: Mapping[str, UInt8]

    @property
    def trainable(self) -> Bool:
        """Bool ``[tokens]``, True where a token carries a label."""
        return self.examples.labels != IGNORE_INDEX

    def value(self, arm: str, name: str) -> Float32:
        """Return float32 ``[tokens]`` of a statistic such as ``base.loss``, or an arm's ``score``.

        Raises:
            TokensieveError: an unknown arm or statistic.
        """
        if arm not in self.scores:
            raise TokensieveError(
                f"the run has no arm '{arm}'{did_you_mean(arm, self.scores)}", hint=f"one of: {', '.join(self.scores)}"
            )
        values = {"score": self.scores[arm], **self.statistics}
        if name not in values:
            raise TokensieveError(
                f"the run has no value '{name}'{did_you_mean(name, values)}", hint=f"one of: {', '.join(values)}"
            )
        return values[name]


@dataclass(frozen=True, eq=False)
class ExampleView:
    """One example within its shard.

    Attributes:
        number: its position in the example store.
        row: the number of its source row.
        shard: the shard that it lies in.
        tokens: its slice of the shard's flat arrays.
    """

    number: int
    row: int
    shard: ShardView
    tokens: slice

    @property
    def token_ids(self) -> list[int]:
        """Its token ids."""
        return self.shard.examples.input_ids[self.tokens].tolist()

    @property
    def trainable(self) -> Bool:
        """Bool ``[tokens of the example]``, True where a token carries a label."""
        return self.shard.trainable[self.tokens]

    @property
    def marks(self) -> UInt8 | None:
        """uint8 ``[tokens of the example]``, 0 or the number from 1 of a mark's type; None where no token is marked."""
        marks = self.shard.examples.marks
        return None if marks is None or not marks[self.tokens].any() else marks[self.tokens]

    def kept(self, arm: str) -> Bool:
        """Return bool ``[tokens of the example]``, an arm's decisions."""
        return self.shard.kept[arm][self.tokens]

    def reasons(self, arm: str, names: Sequence[str]) -> list[list[str]]:
        """Return the reasons to drop each token, from an arm's names of its bits."""
        if arm not in self.shard.reasons:
            return [[] for _ in self.token_ids]
        bits = self.shard.reasons[arm][self.tokens].tolist()
        return [[name for bit, name in enumerate(names) if value >> bit & 1] for value in bits]

    def value(self, arm: str, name: str) -> Float32:
        """Return float32 ``[tokens of the example]``, as `ShardView.value` does."""
        return self.shard.value(arm, name)[self.tokens]


@dataclass(frozen=True, eq=False)
class RunView:
    """A run as its folder tells it.

    Attributes:
        folder: the run folder.
        name: of the run.
        method: name of the method's arm.
        rows: the controls, the method, then points of reference.
        store: the tokenised examples.
        statistics: the folder of each role's statistics.
        seconds: what each stage took.
        versions: of the libraries.
        folders: the folder of each arm; of several runs, where they are joined.
        tokens: how many went through each stage, where that was noted.
        warnings: what a user should know of the data and the models.
    """

    folder: Path
    name: str
    method: str
    rows: tuple[Row, ...]
    store: ExampleStore
    statistics: Mapping[str, Path]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    folders: Mapping[str, ArmFolder]
    tokens: Mapping[str, int]
    warnings: Sequence[str]

    @property
    def run_folder(self) -> RunFolder:
        """Its files; of several runs joined, those of the first."""
        return RunFolder(self.folder)

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms."""
        return tuple(row.name for row in self.rows if row.selection is not None)

    def row(self, name: str) -> Row:
        """Return the line of an arm or point of reference."""
        return next(row for row in self.rows if row.name == name)

    @cached_property
    def decoder(self) -> TokenDecoder:
        """Decodes the token ids of the run."""
        return read_decoder(self.store.tokenizer)

    @cached_property
    def starts(self) -> Int64:
        """int64 ``[shards + 1]``, the number of each shard's first example."""
        return self.store.first_examples

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self.starts[-1])

    def shards(self) -> Iterator[ShardView]:
        """Read shard after shard."""
        return (self.shard(number) for number in range(self.store.shards))

    def shard(self, number: int) -> ShardView:
        """Read one shard with all its figures.

        Raises:
            TokensieveError: a file that is missing, damaged, or not of these examples.
        """
        examples = self.store.read(number)
        statistics = {
            f"{role}.{key}": _aligned(manifest, f"{key}/{shard_name(number)}", examples)[key.partition("@")[0]]
            for role, folder in self.statistics.items()
            if folder.is_dir()
            for manifest in [open_manifest(folder)]
            for key in sorted(path.parent.name for path in map(Path, manifest.files) if path.name == shard_name(number))
            if manifest.has(f"{key}/{shard_name(number)}")
        }
        scores, kept, reasons = {}, {}, {}
        for arm in self.arms:
            manifest = open_manifest(self.folders[arm].scores)
            columns = _aligned(manifest, shard_name(number), examples)
            scores[arm] = columns["score"]
            kept[arm] = _aligned(manifest, kept_name(number), examples)["kept"]
            if "reasons" in columns:
                reasons[arm] = columns["reasons"]
        return ShardView(examples, _plain_names(statistics), scores, kept, reasons)

    def read_scores(self, arm: str, number: int) -> tuple[Float32, Bool]:
        """Read one shard's scores of an arm, float32 ``[tokens]``, and its decisions, bool ``[tokens]``."""
        return read_selection(self.folders[arm].scores, number)

    def parts(self, arm: str, number: int) -> Mapping[str, Float32]:
        """Return float32 ``[tokens]`` of one shard by name: the summands of an arm's score.

        Empty where the method has none, is not known here, or what it read is gone.
        """
        selection = self.row(arm).selection
        assert selection is not None
        try:
            method = get_method(selection.method, **selection.parameters)
        except TokensieveError:
            return {}
        if type(method).parts is Method.parts:
            return {}
        examples, values = self.store.read(number), {}
        folders = {folder.name: folder for folder in self.statistics.values()}
        for role, name in method.needs:
            key = StatisticSpec.of(name, method.options(name)).key
            folder = folders.get(selection.identity.statistics.get(f"{role}.{name}", ""))
            file = f"{key}/{shard_name(number)}"
            if folder is None or not folder.is_dir() or not (manifest := open_manifest(folder)).has(file):
                return {}
            values[role, name] = _aligned(manifest, file, examples)[name]
        return method.parts(self.store.statistics(examples, values, 0))

    def example(self, number: int) -> ExampleView:
        """Read one example, by its position in the store.

        Raises:
            TokensieveError: there is no such example.
        """
        if not 0 <= number < len(self):
            raise TokensieveError(
                f"there is no example {number}: the run has {len(self)} examples",
                where=str(self.folder),
                hint=f"0 to {len(self) - 1}",
            )
        shard_number = int(np.searchsorted(self.starts, number, side="right")) - 1
        shard = self.shard(shard_number)
        index = number - int(self.starts[shard_number])
        start, stop = shard.examples.cu_seqlens[index : index + 2].tolist()
        return ExampleView(number, int(shard.examples.rows[index]), shard, slice(start, stop))

    def number_of_row(self, row: int) -> int:
        """Return the position in the store of the example that came from a source row.

        Raises:
            TokensieveError: no example came from this row.
        """
        for number, start in enumerate(self.starts[:-1].tolist()):
            found = np.flatnonzero(self.store.read(number).rows == row)
            if len(found):
                return start + int(found[0])
        raise TokensieveError(
            f"no example came from source row {row}",
            where=str(self.folder),
            hint="rows count from 0; rows with nothing to train on were dropped",
        )


def load_run(folder: Path) -> RunView:
    """Open a run folder.

    Raises:
        TokensieveError: a folder that holds no run, one whose tokens are not selected yet, or an arm that was selected
            from other examples than those of the run.
    """
    folder = place(folder)
    sync(folder)
    run = RunFolder(folder)
    state = run.state()
    run.check_recipe()
    examples = run.place_of(state.examples)
    statistics = {role: run.place_of(path) for role, path in state.statistics.items()}
    for one in {examples, *statistics.values()}:
        sync(one)
    if not examples.is_dir():
        raise TokensieveError(
            "the tokenised examples of this run are not there: it was moved or copied without its store",
            where=str(examples),
            hint=f"put the store there, or make it again where the recipe's data and models are: `tokensieve run "
            f"{run.recipe_file} output=NEW`",
        )
    store = open_examples(examples)
    own = [name for name in state.arms if name != state.method]
    arms = [*own, *(name for name in run.imported_arms() if name not in state.arms), state.method]
    try:
        rows = read_rows(run, arms, state.seeds[0])
    except (KeyError, TypeError, AttributeError) as error:
        raise TokensieveError(
            f"a field of an evaluation is missing or garbled: {type(error).__name__}: {error}",
            where=str(folder),
            hint="delete the evaluation.json that lacks it and run `tokensieve evaluate` with the recipe of the run",
        ) from error
    for row in rows:
        if row.selection is not None:
            check_data(row.selection, store, run.arm(row.name))
    return RunView(
        folder,
        state.name,
        state.method,
        rows,
        store,
        statistics,
        run.seconds(),
        state.versions,
        {name: run.arm(name) for name in arms},
        state.tokens,
        state.warnings,
    )


def check_data(selection: Selection, store: ExampleStore, arm: ArmFolder) -> None:
    """Refuse an arm that was selected from other examples, or from the same ones in other shards.

    Args:
        selection: what the arm selected.
        store: the examples that are to be used with it.
        arm: its folder.

    Raises:
        TokensieveError: the fingerprints differ.
    """
    for what, found, wanted in (
        ("other examples than those", selection.identity.data, store.fingerprint),
        ("other shards than those", selection.identity.cut, store.cut),
    ):
        if found != wanted:
            raise TokensieveError(
                f"arm '{arm.name}' was selected from {what} of the run: {found[:16]} there, {wanted[:16]} here",
                where=str(arm.selection_file),
                hint="the data changed since: give another output, or delete the folder of the arm and select again",
            )


def _plain_names(statistics: dict[str, Float32]) -> dict[str, Float32]:
    """Leave the digest of a statistic's options out of its name where one name is measured one way."""
    plain = [name.partition("@")[0] for name in statistics]
    names = [short if plain.count(short) == 1 else name for short, name in zip(plain, statistics, strict=True)]
    return dict(zip(names, statistics.values(), strict=True))


def _aligned(manifest: Manifest, name: str, examples: Examples) -> dict[str, NDArray]:
    """Read a shard of values and check that it belongs to these examples."""
    cu_seqlens, columns = manifest.read(name)
    same_rows = "row" not in columns or np.array_equal(columns["row"], examples.rows)
    if not same_rows or not np.array_equal(cu_seqlens, examples.cu_seqlens):
        where = str(manifest.folder / name)
        raise TokensieveError("a shard whose examples are not those of the run", where=where, hint=HINT)
    return columns
