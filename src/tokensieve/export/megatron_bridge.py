"""Megatron-Bridge: packed rows for `GPTSFTPackedParquetDataset`.

A row contains several examples: their concatenated ``input_ids``, the start of each in ``seq_start_id``, and
``loss_mask`` shifted left by one within each example: position ``t`` marks whether the prediction of ``t + 1`` is
trained. Megatron-Bridge converts the loss mask to integers when it collates rows (``data/packing``).
"""

from __future__ import annotations

import functools
from bisect import bisect_left, insort
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokensieve.containers import Int64
from tokensieve.export._base import Facts, Shard, Shards, Snippet, Target, quoted, write_files
from tokensieve.ops.ragged import gather_segments, offsets
from tokensieve.store.atomic import atomic_file


def pack(lengths: Int64, capacity: int) -> list[list[int]]:
    """Return packs of at most ``capacity`` tokens, by best-fit decreasing; a longer example gets its own pack."""
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # free tokens of each pack, and its number; sorted
    for example in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[example])
        fit = bisect_left(rooms, (length, -1))
        if fit == len(rooms):
            packs.append([example])
            insort(rooms, (capacity - length, len(packs) - 1))
        else:
            room, number = rooms.pop(fit)
            packs[number].append(example)
            insort(rooms, (room - length, number))
    return packs


def _write(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
    (folder / "data").mkdir()
    write_files(shards, functools.partial(_write_packs, folder / "data", facts.max_length))
    return ()


def _write_packs(folder: Path, capacity: int, shard: Shard) -> None:
    lengths = np.diff(shard.cu_seqlens)
    packs = pack(lengths, capacity)
    order = np.concatenate([np.array(examples) for examples in packs])
    starts = offsets(lengths[order])
    # Within an example the mask moves left by one; its last position predicts nothing.
    mask = np.append(shard.trained[1:], False)
    mask[shard.cu_seqlens[1:] - 1] = False
    firsts = offsets(np.array([len(examples) for examples in packs]))
    in_pack = starts[:-1] - np.repeat(starts[firsts[:-1]], np.diff(firsts))
    rows = {
        "input_ids": (starts[firsts], gather_segments(shard.input_ids, shard.cu_seqlens, order)),
        "loss_mask": (starts[firsts], gather_segments(mask.astype(np.int8), shard.cu_seqlens, order)),
        "seq_start_id": (firsts, in_pack.astype(np.int32)),
    }
    columns = {
        name: pa.ListArray.from_arrays(pa.array(bounds, type=pa.int32()), pa.array(values))
        for name, (bounds, values) in rows.items()
    }
    with atomic_file(folder / f"{shard.name}.idx.parquet") as partial:
        pq.write_table(pa.table(columns), partial)


def _config(facts: Facts) -> tuple[Snippet, ...]:
    text = (
        "from megatron.bridge.data.builders import GPTSFTDatasetConfig\n"
        "from megatron.bridge.data.packing.config import PackedSequenceSpecs\n\n"
        "dataset = GPTSFTDatasetConfig(\n"
        f"    dataset_root={quoted(facts.folder)},\n"
        f"    seq_length={facts.max_length},\n"
        "    enable_offline_packing=True,\n"
        "    offline_packing_specs=PackedSequenceSpecs(\n"
        f"        packed_sequence_size={facts.max_length},\n"
        f"        packed_train_data_path={quoted(facts.folder / 'data')},\n"
        "    ),\n"
        "    do_validation=False,\n"
        "    do_test=False,\n"
        ")\n"
    )
    return (Snippet("the recipe, in place of its dataset", "python", text),)


TARGETS = (
    Target(
        "megatron-bridge",
        _write,
        _config,
        "Packed rows: `input_ids`, `loss_mask` (shifted left by one within each example) and `seq_start_id`.",
        loads_with_datasets=True,
        note="packed rows train with a micro batch size of 1",
    ),
)
