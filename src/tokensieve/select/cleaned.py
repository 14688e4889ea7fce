"""Cleaned data: rows of token ids and labels that any trainer reads.

``data/train-00000-of-000NN.parquet``, and the same as JSON lines in ``jsonl/train.jsonl`` when asked, with
``input_ids`` int32, ``attention_mask`` int8, ``labels`` int32 (unshifted, -100 = dropped or prompt) and
``assistant_masks`` int8 (1 = trained). Both labels and masks, since trainers differ in which they keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Examples, Int64, segments
from tokensieve.data.prepare import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import gather_segments, offsets, segment_counts
from tokensieve.select.streaming import read_selection
from tokensieve.store.shards import write_shard


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
    kept = (read_selection(scores, number)[1] for number in range(examples.shards))
    return _write(examples, kept, folder, jsonl=jsonl)


def write_subset(examples: ExampleStore, picked: Bool, folder: Path) -> int:
    """Write some examples with all their trainable tokens as a data set.

    Args:
        examples: the tokens.
        picked: bool ``[examples]``, True for the examples to write.
        folder: gets ``data/train-*.parquet``.

    Returns:
        Number of examples written.
    """
    starts = np.cumsum([0, *(len(shard) for shard in examples)])
    kept = (
        (shard.labels != IGNORE_INDEX) & np.repeat(picked[start : start + len(shard)], shard.lengths)
        for shard, start in zip(examples, starts[:-1], strict=True)
    )
    return _write(examples, kept, folder, jsonl=False)


def write_training(examples: ExampleStore, columns: Iterable[Mapping[str, NDArray[Any]]], folder: Path) -> None:
    """Write every example with all its labels and further figures, for a trainer that selects as it trains.

    Args:
        examples: the tokens.
        columns: ``[tokens]`` arrays of each shard, by name.
        folder: gets ``data/train-*.parquet``.
    """
    for number, (shard, further) in enumerate(zip(examples, columns, strict=True)):
        name = f"train-{number:05d}-of-{examples.shards:05d}.parquet"
        rows = {"input_ids": shard.input_ids, "labels": shard.labels, **further}
        write_shard(folder / "data" / name, shard.cu_seqlens, rows)


def _write(examples: ExampleStore, kept: Iterable[Bool], folder: Path, *, jsonl: bool) -> int:
    written = 0
    for number, (shard, keep) in enumerate(zip(examples, kept, strict=True)):
        cu_seqlens, columns = cleaned_rows(shard, keep)
        name = f"train-{number:05d}-of-{examples.shards:05d}.parquet"
        if len(cu_seqlens) > 1:  # `datasets` refuses a file without rows
            write_shard(folder / "data" / name, cu_seqlens, columns)
        written += len(cu_seqlens) - 1
        if jsonl:
            (folder / "jsonl").mkdir(parents=True, exist_ok=True)
            with (folder / "jsonl" / "train.jsonl").open("a", encoding="utf-8") as lines:
                for span in segments(cu_seqlens):
                    row = {column: values[span].tolist() for column, values in columns.items()}
                    lines.write(json.dumps(row, separators=(",", ":")) + "\n")
    if written == 0:
        raise TokensieveError("the selection keeps no token", hint="raise the fraction, or lower the threshold")
    return written


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
    order = examples_with_kept(shard, kept)
    labels = np.where(kept, shard.labels, IGNORE_INDEX).astype(np.int32)
    labels = gather_segments(labels, shard.cu_seqlens, order)
    columns = {
        "input_ids": gather_segments(shard.input_ids, shard.cu_seqlens, order),
        "attention_mask": np.ones(len(labels), dtype=np.int8),
        "labels": labels,
        "assistant_masks": (labels != IGNORE_INDEX).astype(np.int8),
    }
    columns |= {name: gather_segments(value, shard.cu_seqlens, order) for name, value in (further or {}).items()}
    return offsets(shard.lengths[order]), columns


def examples_with_kept(shard: Examples, kept: Bool) -> Int64:
    """Return int64, the numbers in the shard of the examples that keep a token."""
    return np.flatnonzero(segment_counts(kept, shard.cu_seqlens))
