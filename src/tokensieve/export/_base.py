"""An export target: how to write rows, and the lines to paste into the trainer's config."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Float32, Int64, UInt8
from tokensieve.store.joined import JoinedFile, write_piece


@dataclass(frozen=True, eq=False)
class Shard:
    """The examples of one shard that have at least one trained token.

    Attributes:
        number: number of the shard, from 0.
        total: number of shards.
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        input_ids: int32 ``[tokens]``.
        labels: int32 ``[tokens]``, unshifted; -100 for prompts and dropped tokens.
        weights: float32 ``[tokens]``, the weight of each token's loss, or None if the method has no weights.
        rows: int64 ``[examples]``, the number of each example's source row.
        marks: uint8 ``[tokens]``, the number from 1 in `mark_types` of a token's mark, or 0; None without marks.
        mark_types: types of marks.
    """

    number: int
    total: int
    cu_seqlens: Int64
    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    weights: Float32 | None
    rows: Int64
    marks: UInt8 | None = None
    mark_types: tuple[str, ...] = ()

    def spans(self, example: slice) -> list[dict[str, Any]]:
        """Return start, end and type of each marked run of trained tokens of an example."""
        marks = np.zeros(1, dtype=np.uint8) if self.marks is None else self.marks[example]
        edges = np.flatnonzero(np.diff(marks, prepend=0, append=0))
        runs = [(start, stop, int(marks[start])) for start, stop in pairwise(edges.tolist()) if marks[start]]
        # Mappings: Arrow has no lists of numbers and text.
        return [{"start": start, "end": stop, "type": self.mark_types[mark - 1]} for start, stop, mark in runs]

    @property
    def name(self) -> str:
        """File name without a suffix, numbered as `datasets` expects."""
        return f"train-{self.number:05d}-of-{self.total:05d}"

    @property
    def trained(self) -> Bool:
        """Bool ``[tokens]``, True if the token is trained."""
        return self.labels != IGNORE_INDEX

    @property
    def loss_scale(self) -> Float32:
        """float32 ``[tokens]``, the factor of each token's loss: its weight, or 1 if it is trained, else 0."""
        return self.trained.astype(np.float32) if self.weights is None else self.weights


class Shards(Protocol):
    """The shards of an export, those without a trained token left out."""

    def __iter__(self) -> Iterator[Shard]:
        """Yield them in order, in this process."""
        ...

    def map(self, work: Callable[[Shard], Any]) -> Iterator[int]:
        """Do work for each, wherever the engine runs it, and yield the numbers of all shards in any order.

        Args:
            work: plain data, or a function of such; doing it twice is doing it once.
        """
        ...


@dataclass(frozen=True)
class Facts:
    """The values that config lines contain.

    Attributes:
        folder: folder of the export, absolute.
        max_length: maximum tokens per example.
        model: folder or Hub id of the base model.
        tokenizer: folder of the tokenizer.
        largest_id: the largest token id in the data.
        weighted: whether tokens have weights.
    """

    folder: Path
    max_length: int
    model: str
    tokenizer: Path
    largest_id: int
    weighted: bool


@dataclass(frozen=True)
class Snippet:
    """Lines to paste.

    Attributes:
        where: the file or program to paste them into.
        language: ``yaml``, ``python`` or ``console``.
        text: the lines.
    """

    where: str
    language: str
    text: str


@dataclass(frozen=True)
class Target:
    """A trainer, or a plain format.

    Attributes:
        name: its name for ``--to``.
        write: writes the shards into an empty folder and returns notes for the user, one line each.
        config: returns the lines to paste, for a finished export.
        layout: description of the files, for the card.
        carries_weights: whether it trains with a float weight per token.
        loads_with_datasets: whether `datasets.load_dataset` reads the folder.
        note: a note for users of this trainer.
    """

    name: str
    write: Callable[[Shards, Path, Facts], tuple[str, ...]]
    config: Callable[[Facts], tuple[Snippet, ...]]
    layout: str
    carries_weights: bool = False
    loads_with_datasets: bool = False
    note: str = ""


def yaml_lines(values: Any) -> str:
    """Return YAML with keys in the order given."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)


def quoted(value: object) -> str:
    """Return a Python string literal in double quotes."""
    return json.dumps(str(value), ensure_ascii=False)


def write_files(shards: Shards, write: Callable[[Shard], Any]) -> None:
    """Let each shard be written into a file of its own."""
    for _ in shards.map(write):
        pass


def write_lines(shards: Shards, folder: Path, rows: Callable[[Shard], Iterable[Any]]) -> None:
    """Write ``data/train.jsonl``, a line for each row of the shards, in their order.

    Args:
        shards: the shards.
        folder: of the export.
        rows: gives the rows of a shard, in any process.
    """
    pieces = folder / "data" / "pieces"
    with JoinedFile(folder / "data" / "train.jsonl", pieces) as joined:
        for number in shards.map(partial(_write_piece, rows, pieces)):
            joined.add(number)


def _write_piece(rows: Callable[[Shard], Iterable[Any]], pieces: Path, shard: Shard) -> None:
    lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in rows(shard))
    write_piece(pieces, shard.number, "".join(lines).encode())
