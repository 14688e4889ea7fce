"""Cleaned data: rows of token ids and labels that any trainer reads.

``data/train-00000-of-000NN.parquet``, and the same as JSON lines in ``jsonl/train.jsonl`` when asked, with
``input_ids`` int32, ``attention_mask`` int8, ``labels`` int32 (unshifted, -100 = dropped or prompt) and
``assistant_masks`` int8 (1 = trained). Both labels and masks, since trainers differ in which they keep.
An engine (`engines`) maps over the shards. JSON lines of a shard lie in a file of their own until those of all shards
before it are in the common file, which therefore has the order of the shards, whoever is done first.
``manifest.json`` has the rows and the checksum of each file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Examples, Int64
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Done, Engine, each
from tokensieve.engines.local import LOCAL
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import keep_segments, offsets, segment_any
from tokensieve.select.streaming import read_selection
from tokensieve.store import checksum
from tokensieve.store.checksum import FileRecord
from tokensieve.store.joined import JoinedFile, write_piece
from tokensieve.store.json_lines import json_lines
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.records import FileRecords
from tokensieve.store.shards import write_parquet

_DATA, _JSON_LINES, _LINES = "data", "jsonl/train.jsonl", "lines"
Rows = tuple[Int64, Mapping[str, NDArray[Any]]]
"""Offsets, int64 ``[examples + 1]``, and flat columns, ``[tokens]`` each."""
RowsOf = Callable[[int], Rows]
"""Shard number to the rows of a data set; plain data, since any process may call it."""


def write_cleaned(examples: ExampleStore, scores: Path, folder: Path, *, jsonl: bool, engine: Engine = LOCAL) -> int:
    """Write the selected tokens of every example as a data set.

    Args:
        examples: the tokens.
        scores: folder of `streaming.select_shards`.
        folder: gets ``data/train-*.parquet``, and ``jsonl/train.jsonl`` when ``jsonl``: apart, so that
            `datasets.load_dataset` finds one format in a folder.
        jsonl: also write JSON lines.
        engine: maps over the shards.

    Returns:
        Number of examples written. Those of which nothing is kept are left out: a trainer that packs
        would keep them as context alone.

    Raises:
        TokensieveError: the selection keeps no token at all.
    """
    return write_data(folder, _Selected(examples, scores), examples.shards, jsonl=jsonl, engine=engine)


def write_subset(examples: ExampleStore, picked: Bool, folder: Path, engine: Engine = LOCAL) -> int:
    """Write some examples with all their trainable tokens as a data set.

    Args:
        examples: the tokens.
        picked: bool ``[examples]``, True for the examples to write.
        folder: gets ``data/train-*.parquet``.
        engine: maps over the shards.

    Returns:
        Number of examples written.
    """
    return write_data(folder, _Subset(examples, picked), examples.shards, engine=engine)


def write_training(
    examples: ExampleStore,
    columns: Callable[[int], Mapping[str, NDArray[Any]]],
    folder: Path,
    engine: Engine = LOCAL,
) -> None:
    """Write every example with all its labels and further values, for a trainer that selects as it trains.

    Args:
        examples: the tokens.
        columns: gives ``[tokens]`` arrays of a shard, by name, in any process.
        folder: gets ``data/train-*.parquet``, one file a shard.
        engine: maps over the shards.
    """
    write_data(folder, _WithColumns(examples, columns), examples.shards, engine=engine)


@dataclass(frozen=True)
class _Selected:
    examples: ExampleStore
    scores: Path

    def __call__(self, number: int) -> Rows:
        return cleaned_rows(self.examples.read(number), read_selection(self.scores, number)[1])


@dataclass(frozen=True, eq=False)
class _Subset:
    examples: ExampleStore
    picked: Bool

    def __call__(self, number: int) -> Rows:
        shard, (start, stop) = self.examples.read(number), self.examples.first_examples[number : number + 2]
        return cleaned_rows(shard, (shard.labels != IGNORE_INDEX) & np.repeat(self.picked[start:stop], shard.lengths))


@dataclass(frozen=True)
class _WithColumns:
    examples: ExampleStore
    columns: Callable[[int], Mapping[str, NDArray[Any]]]

    def __call__(self, number: int) -> Rows:
        shard = self.examples.read(number)
        return shard.cu_seqlens, {"input_ids": shard.input_ids, "labels": shard.labels, **self.columns(number)}


def write_data(folder: Path, rows: RowsOf, shards: int, *, jsonl: bool = False, engine: Engine = LOCAL) -> int:
    """Write a data set with its manifest; shards without rows get no file, since `datasets` refuses them.

    Args:
        folder: gets ``data/train-*.parquet``, ``manifest.json``, and ``jsonl/train.jsonl`` when ``jsonl``.
        rows: gives the rows of a shard.
        shards: how many there are.
        jsonl: also write JSON lines.
        engine: maps over the shards.

    Returns:
        Number of examples written.

    Raises:
        TokensieveError: no shard has a row.
    """
    files, examples, tokens = FileRecords(), 0, 0
    with ExitStack() as stack:
        text = stack.enter_context(JoinedFile(folder / _JSON_LINES, folder / _LINES)) if jsonl else None
        for done in each(engine, _Write(folder, rows, shards, jsonl), shards):
            files.add(done.files)
            examples += sum(one.rows for one in done.files.values())
            tokens += done.tokens
            if text is not None:
                text.add(done.shard)
    if not files:
        raise TokensieveError("the selection keeps no token", hint="raise the fraction, or lower the threshold")
    if jsonl:
        files[_JSON_LINES] = FileRecord(examples, tokens, checksum.of_file(folder / _JSON_LINES))
    write_manifest(folder, files)
    return examples


@dataclass(frozen=True)
class _Write:
    """Writes the rows of a shard, and its JSON lines into a file of their own, which is there without rows too."""

    folder: Path
    rows: RowsOf
    shards: int
    jsonl: bool

    def __call__(self, number: int) -> Done:
        cu_seqlens, columns = self.rows(number)
        if self.jsonl:
            write_piece(self.folder / _LINES, number, json_lines(cu_seqlens, columns))
        if len(cu_seqlens) == 1:
            return Done(number, 0, {})
        name = f"{_DATA}/train-{number:05d}-of-{self.shards:05d}.parquet"
        record = write_parquet(self.folder / name, cu_seqlens, columns)
        return Done(number, record.tokens, {name: record})


def data_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a data set that this module wrote, in order, with their checksums verified.

    Raises:
        TokensieveError: a file that is missing, damaged, or not of this data set.
    """
    return open_manifest(folder).verified(_DATA)


def cleaned_rows(
    shard: Examples, kept: Bool, further: Mapping[str, NDArray[Any]] | None = None
) -> tuple[Int64, dict[str, NDArray[Any]]]:
    """Return offsets and columns of the examples that keep a token.

    Args:
        shard: the tokens.
        kept: bool ``[tokens]``.
        further: ``[tokens]`` arrays that become columns too.

    Returns:
        int64 ``[examples that keep a token + 1]`` offsets, and the columns named above and those of ``further``, flat.
    """
    chosen = segment_any(kept, shard.cu_seqlens)
    labels = np.where(kept, shard.labels, np.int32(IGNORE_INDEX))
    given = {"input_ids": shard.input_ids, "labels": labels, **(further or {})}
    found = {name: keep_segments(values, shard.cu_seqlens, chosen) for name, values in given.items()}
    input_ids, labels = found.pop("input_ids"), found.pop("labels")
    columns = {
        "input_ids": input_ids,
        "attention_mask": np.ones(len(labels), dtype=np.int8),
        "labels": labels,
        "assistant_masks": (labels != IGNORE_INDEX).view(np.int8),
    }
    return offsets(shard.lengths[chosen]), columns | found


def examples_with_kept(shard: Examples, kept: Bool) -> Int64:
    """Return int64, the numbers in the shard of the examples that keep a token."""
    return np.flatnonzero(segment_any(kept, shard.cu_seqlens))
