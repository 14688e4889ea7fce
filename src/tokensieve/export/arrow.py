"""Targets that read a `datasets.save_to_disk` folder: LLaMA-Factory and open-instruct.

Both skip their own tokenisation if such a folder is in place of a tokenised data set. tokensieve writes the folder
without `datasets`, for three reasons: `datasets` would copy everything through its cache; version 3, which
LLaMA-Factory also supports, cannot read what version 4 and later write; and the same data always gives the same bytes.
"""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokensieve.export._base import Facts, Shard, Shards, Snippet, Target, write_files, yaml_lines
from tokensieve.export.rows import labelled
from tokensieve.store.atomic import atomic_file, write_json

_TYPES = {"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}
# Every version of `datasets` reads the name `Sequence`; version 4 and later write `List`.
_FEATURES = {
    name: {"feature": {"dtype": dtype, "_type": "Value"}, "_type": "Sequence"} for name, dtype in _TYPES.items()
}


def write_arrow(shards: Shards, folder: Path) -> None:
    """Write a data set that `datasets.load_from_disk` opens.

    Args:
        shards: the examples.
        folder: folder to create; receives ``data-*.arrow``, ``dataset_info.json`` and ``state.json``.
    """
    folder.mkdir(parents=True)
    write_files(shards, functools.partial(_write_shard, folder))
    files = [{"filename": path.name} for path in sorted(folder.glob("data-*.arrow"), key=_in_order)]
    write_json(folder / "dataset_info.json", {"citation": "", "description": "", "features": _FEATURES})
    state = {
        "_data_files": files,
        "_fingerprint": "tokensieve",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": "train",
    }
    write_json(folder / "state.json", state)


def _in_order(path: Path) -> tuple[int, str]:
    return len(path.name), path.name  # also beyond five digits


def _write_shard(folder: Path, shard: Shard) -> None:
    cu_seqlens, columns = labelled(shard)
    arrays = [_lists(cu_seqlens, columns[name]) for name in _TYPES]
    schema = pa.schema([(name, pa.list_(pa.type_for_alias(dtype))) for name, dtype in _TYPES.items()])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": _FEATURES}})})
    batch = pa.record_batch(arrays, schema=schema)
    path = folder / f"data-{shard.number:05d}-of-{shard.total:05d}.arrow"
    with (
        atomic_file(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_stream(sink, schema) as writer,
    ):
        for start in range(0, batch.num_rows, 1000):  # as `datasets` does: single rows stay cheap to read
            writer.write_batch(batch.slice(start, 1000))


def _lists(cu_seqlens: NDArray[np.int64], values: NDArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(cu_seqlens, type=pa.int32()), pa.array(values))


def _write_dict(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
    del facts
    write_arrow(shards, folder / "train")
    write_json(folder / "dataset_dict.json", {"splits": ["train"]})
    return ()


def _write_one(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
    del facts
    write_arrow(shards, folder / "data")
    return ()


def _llama_factory_config(facts: Facts) -> tuple[Snippet, ...]:
    values = {
        "model_name_or_path": facts.model,
        "stage": "sft",
        "do_train": True,
        "dataset": "tokensieve",
        "tokenized_path": str(facts.folder),
        "cutoff_len": facts.max_length,
    }
    return (Snippet("the LLaMA-Factory config", "yaml", yaml_lines(values)),)


def _open_instruct_config(facts: Facts) -> tuple[Snippet, ...]:
    arguments = {
        "model_name_or_path": facts.model,
        "max_seq_length": str(facts.max_length),
        "dataset_cache_mode": "local",
        "dataset_local_cache_dir": str(facts.folder),
        "dataset_config_hash": "data",
    }
    lines = [f"  --{name} {shlex.quote(value)}" for name, value in arguments.items()]
    text = " \\\n".join(["accelerate launch open_instruct/finetune.py", *lines]) + "\n"
    return (Snippet("the command that starts open-instruct", "console", text),)


_LAYOUT = "`input_ids`, `attention_mask`, `labels` (unshifted, -100 if a token is not trained)"

TARGETS = (
    Target(
        "llama-factory",
        _write_dict,
        _llama_factory_config,
        f"A DatasetDict for `datasets.load_from_disk` with the split `train`: {_LAYOUT}.",
        note="dataset needs a value but is not read, because tokenized_path takes precedence",
    ),
    Target(
        "open-instruct",
        _write_one,
        _open_instruct_config,
        f"In `data/`, a data set for `datasets.load_from_disk`: {_LAYOUT}.",
        note="finetune.py reads the folder dataset_config_hash in its cache as rows that it has already tokenised",
    ),
)
