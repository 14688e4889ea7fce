"""Cleaned data: rows of token ids and labels that any trainer reads.

``data/train-00000-of-000NN.parquet``, and the same as JSON lines in ``jsonl/train.jsonl`` when asked, with
``input_ids`` int32, ``attention_mask`` int8, ``labels`` int32 (unshifted, -100 = dropped or prompt) and
``assistant_masks`` int8 (1 = trained). Both labels and masks, since trainers differ in which they keep.
Shards are written side by side; ``manifest.json`` has the rows and the checksum of each file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Examples, Int64
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import keep_segments, offsets, segment_any
from tokensieve.select.streaming import in_order, read_selection, workers
from tokensieve.store import checksum
from tokensieve.store.atomic import atomic_file
from tokensieve.store.checksum import FileRecord
from tokensieve.store.json_lines import json_lines
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.shards import write_parquet

_DATA, _JSON_LINES = "data", "jsonl/train.jsonl"
Rows = tuple[Int64, Mapping[str, NDArray[Any]]]
"""Offsets, int64 ``[examples + 1]``, and flat columns, ``[tokens]`` each."""


def write_cleaned(examples: ExampleStore, scores: Path, folder: Path, *, jsonl: bool) -> int:
    """Write the selected tokens of every example as a data set.

    Args:
        examples: the tokens.
        scores: folder of `streaming.select_shards`.
        folder: gets ``data/train-*.parquet``, and ``jsonl/train.jsonl`` when ``jsonl``: apart, so that
            `datasets.load_dataset` finds one format in a folder.
        jsonl: also write JSON lines.

    Returns:
        Number of examples written. Those of which nothing is kept are left out: a trainer that packs
        would keep them as context alone.

    Raises:
        TokensieveError: the selection keeps no token at all.
    """

    def rows(number: int) -> Rows:
        return cleaned_rows(examples.read(number), read_selection(scores, number)[1])

    return write_data(folder, rows, examples.shards, jsonl=jsonl)


def write_subset(examples: ExampleStore, picked: Bool, folder: Path) -> int:
    """Write some examples with all their trainable tokens as a data set.

    Args:
        examples: the tokens.
        picked: bool ``[examples]``, True for the examples to write.
        folder: gets ``data/train-*.parquet``.

    Returns:
        Number of examples written.
    """

    def rows(number: int) -> Rows:
        shard, (start, stop) = examples.read(number), examples.first_examples[number : number + 2]
        return cleaned_rows(shard, (shard.labels != IGNORE_INDEX) & np.repeat(picked[start:stop], shard.lengths))

    return write_data(folder, rows, examples.shards)


def write_training(examples: ExampleStore, columns: Callable[[int], Mapping[str, NDArray[Any]]], folder: Path) -> None:
    """Write every example with all its labels and further values, for a trainer that selects as it trains.

    Args:
        examples: the tokens.
        columns: gives ``[tokens]`` arrays of a shard, by name.
        folder: gets ``data/train-*.parquet``, one file a shard.
    """

    def rows(number: int) -> Rows:
        shard = examples.read(number)
        return shard.cu_seqlens, {"input_ids": shard.input_ids, "labels": shard.labels, **columns(number)}

    write_data(folder, rows, examples.shards)


def write_data(folder: Path, rows: Callable[[int], Rows], shards: int, *, jsonl: bool = False) -> int:
    """Write a data set with its manifest; shards without rows get no file, since `datasets` refuses them.

    Args:
        folder: gets ``data/train-*.parquet``, ``manifest.json``, and ``jsonl/train.jsonl`` when ``jsonl``.
        rows: gives the rows of a shard; called from several threads.
        shards: how many there are.
        jsonl: also write JSON lines.

    Returns:
        Number of examples written.

    Raises:
        TokensieveError: no shard has a row.
    """

    def work(number: int) -> tuple[str, FileRecord | None, bytes]:
        cu_seqlens, columns = rows(number)
        name = f"{_DATA}/train-{number:05d}-of-{shards:05d}.parquet"
        if len(cu_seqlens) == 1:
            return name, None, b""
        return (
            name,
            write_parquet(folder / name, cu_seqlens, columns),
            json_lines(cu_seqlens, columns) if jsonl else b"",
        )

    files: dict[str, FileRecord] = {}
    with ExitStack() as stack:
        text = stack.enter_context(_text_file(folder / _JSON_LINES)) if jsonl else None
        pool = stack.enter_context(ThreadPoolExecutor(workers()))
        for name, record, lines in in_order(pool, work, shards):
            if record is not None:
                files[name] = record
            if text is not None:
                text.write(lines)
    if not files:
        raise TokensieveError("the selection keeps no token", hint="raise the fraction, or lower the threshold")
    examples, tokens = (sum(getattr(one, what) for one in files.values()) for what in ("rows", "tokens"))
    if jsonl:
        files[_JSON_LINES] = FileRecord(examples, tokens, checksum.of_file(folder / _JSON_LINES))
    write_manifest(folder, files)
    return examples


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


@contextmanager
def _text_file(path: Path) -> Iterator[BinaryIO]:
    with atomic_file(path) as partial, partial.open("wb") as handle:
        yield handle
