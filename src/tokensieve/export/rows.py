"""Targets that read one row per example, with their own columns: Parquet or JSON lines.

With packing, TRL 0.20 to 1.6 keeps masks and drops labels; later versions use labels unchanged. TRL (and Unsloth, which
uses TRL's trainer) therefore gets both. axolotl requires exactly three columns. torchtune's mask is True for ignored
tokens. Tinker's columns are shifted: the target of a position is the next token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64, segments
from tokensieve.export._base import Facts, Shard, Shards, Snippet, Target, quoted, write_files, write_lines, yaml_lines
from tokensieve.ops.ragged import offsets
from tokensieve.store.shards import write_parquet

Ragged = tuple[Int64, Mapping[str, NDArray[Any]]]


def labelled(shard: Shard) -> Ragged:
    """Return offsets, and the three columns that most trainers expect of a tokenised example."""
    columns = {
        "input_ids": shard.input_ids,
        "attention_mask": np.ones(len(shard.input_ids), dtype=np.int8),
        "labels": shard.labels,
    }
    return shard.cu_seqlens, columns


def _with_masks(shard: Shard) -> Ragged:
    cu_seqlens, columns = labelled(shard)
    return cu_seqlens, {**columns, "assistant_masks": shard.trained.astype(np.int8)}


def _everything(shard: Shard) -> Ragged:
    cu_seqlens, columns = _with_masks(shard)
    return cu_seqlens, columns if shard.weights is None else {**columns, "weights": shard.weights}


def _tokens_and_mask(shard: Shard) -> Ragged:
    return shard.cu_seqlens, {"tokens": shard.input_ids, "mask": ~shard.trained}


def _shifted(shard: Shard) -> Ragged:
    first, last = np.zeros((2, len(shard.input_ids)), dtype=bool)
    first[shard.cu_seqlens[:-1]] = True
    last[shard.cu_seqlens[1:] - 1] = True
    columns = {
        "input_ids": shard.input_ids[~last],
        "target_tokens": shard.input_ids[~first],
        "weights": shard.loss_scale[~first],
    }
    return offsets(np.diff(shard.cu_seqlens) - 1), columns


def _parquet(columns_of: Callable[[Shard], Ragged]) -> Callable[[Shards, Path, Facts], tuple[str, ...]]:
    def write(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
        del facts
        write_files(shards, partial(_write_parquet, columns_of, folder / "data"))
        return ()

    return write


def _write_parquet(columns_of: Callable[[Shard], Ragged], folder: Path, shard: Shard) -> None:
    write_parquet(folder / f"{shard.name}.parquet", *columns_of(shard))


def _jsonl(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
    del facts
    write_lines(shards, folder, _rows)
    return ()


def _rows(shard: Shard) -> Iterator[dict[str, Any]]:
    cu_seqlens, columns = _everything(shard)
    for span in segments(cu_seqlens):
        spans = {"spans": shard.spans(span)} if shard.marks is not None else {}
        yield {**{name: values[span].tolist() for name, values in columns.items()}, **spans}


def _load(facts: Facts) -> str:
    return f'from datasets import load_dataset\n\ntrain_dataset = load_dataset({quoted(facts.folder)}, split="train")\n'


def _plain_config(facts: Facts) -> tuple[Snippet, ...]:
    return (Snippet("a script", "python", _load(facts)),)


def _trl_config(facts: Facts) -> tuple[Snippet, ...]:
    script = (
        "from datasets import load_dataset\n"
        "from trl import SFTConfig, SFTTrainer\n\n"
        f'train_dataset = load_dataset({quoted(facts.folder)}, split="train")\n'
        f'args = SFTConfig(output_dir="output", max_length={facts.max_length})\n'
        f"trainer = SFTTrainer({quoted(facts.model)}, args=args, train_dataset=train_dataset)\n"
    )
    return (Snippet("a script", "python", script),)


def _unsloth_config(facts: Facts) -> tuple[Snippet, ...]:
    script = (
        "from unsloth import FastLanguageModel\n"
        "from datasets import load_dataset\n"
        "from trl import SFTConfig, SFTTrainer\n\n"
        f"model, tokenizer = FastLanguageModel.from_pretrained({quoted(facts.model)}, "
        f"max_seq_length={facts.max_length})\n"
        "model = FastLanguageModel.get_peft_model(model)\n"
        f'train_dataset = load_dataset({quoted(facts.folder)}, split="train")\n'
        f'args = SFTConfig(output_dir="output", max_length={facts.max_length})\n'
        "trainer = SFTTrainer(model, args=args, train_dataset=train_dataset, processing_class=tokenizer)\n"
    )
    return (Snippet("a script", "python", script),)


def _axolotl_config(facts: Facts) -> tuple[Snippet, ...]:
    values = {
        "base_model": facts.model,
        "datasets": [{"path": str(facts.folder), "ds_type": "parquet", "type": None}],
        "sequence_len": facts.max_length,
    }
    return (Snippet("the axolotl config", "yaml", yaml_lines(values)),)


def _torchtune_config(facts: Facts) -> tuple[Snippet, ...]:
    files = quoted(facts.folder / "data" / "*.parquet")
    module = (
        "from torchtune.datasets import SFTDataset\n\n\n"
        "def selected_tokens(tokenizer):\n"
        f'    return SFTDataset(source="parquet", data_files={files}, split="train",\n'
        "                      message_transform=None, model_transform=dict)\n"
    )
    dataset = yaml_lines({"dataset": {"_component_": "tokensieve_dataset.selected_tokens"}})
    return (
        Snippet("tokensieve_dataset.py, in the folder that tune runs in", "python", module),
        Snippet("the torchtune config", "yaml", dataset),
    )


def _tinker_config(facts: Facts) -> tuple[Snippet, ...]:
    script = (
        f"import tinker\n{_load(facts)}"
        "data = [\n"
        "    tinker.Datum(\n"
        '        model_input=tinker.ModelInput.from_ints(row["input_ids"]),\n'
        '        loss_fn_inputs={"target_tokens": row["target_tokens"], "weights": row["weights"]},\n'
        "    )\n"
        "    for row in train_dataset\n"
        "]\n"
    )
    return (Snippet('a script; then forward_backward(data, "cross_entropy")', "python", script),)


_LABELS = "`labels` unshifted, -100 if a token is not trained"

TARGETS = (
    Target(
        "trl",
        _parquet(_with_masks),
        _trl_config,
        f"Rows of `input_ids`, `attention_mask`, `labels`, `assistant_masks`: {_LABELS}.",
        loads_with_datasets=True,
        note="max_length defaults to 1024, which truncates longer examples",
    ),
    Target(
        "unsloth",
        _parquet(_with_masks),
        _unsloth_config,
        f"Rows of `input_ids`, `attention_mask`, `labels`, `assistant_masks`: {_LABELS}.",
        loads_with_datasets=True,
        note="do not call train_on_responses_only: it replaces the labels",
    ),
    Target(
        "axolotl",
        _parquet(labelled),
        _axolotl_config,
        f"Rows of `input_ids`, `attention_mask`, `labels`: {_LABELS}.",
        loads_with_datasets=True,
        note="leave type empty: this marks the rows as tokenised",
    ),
    Target(
        "torchtune",
        _parquet(_tokens_and_mask),
        _torchtune_config,
        "Rows of `tokens` and `mask`: True if a token is not trained.",
        loads_with_datasets=True,
        note="torchtune has not been maintained since 2025",
    ),
    Target(
        "tinker",
        _parquet(_shifted),
        _tinker_config,
        "Rows of `input_ids`, `target_tokens` and `weights`, shifted: position `t` predicts token `t + 1`, and its "
        "loss is multiplied by `weights[t]`.",
        carries_weights=True,
        loads_with_datasets=True,
    ),
    Target(
        "jsonl",
        _jsonl,
        _plain_config,
        f"JSON lines of `input_ids`, `attention_mask`, `labels`, `assistant_masks`, and `weights` if the method "
        f"weights tokens: {_LABELS}. Where the data has marks, `spans` has the marked tokens that are trained on.",
        carries_weights=True,
        loads_with_datasets=True,
    ),
    Target(
        "parquet",
        _parquet(_everything),
        _plain_config,
        f"Rows of `input_ids`, `attention_mask`, `labels`, `assistant_masks`, and `weights` if the method weights "
        f"tokens: {_LABELS}.",
        carries_weights=True,
        loads_with_datasets=True,
    ),
)
