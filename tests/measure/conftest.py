"""Tiny random models of several architectures, and examples of odd shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from tokensieve.data.counts import Counts
from tokensieve.data.example_store import ExampleStore
from tokensieve.ops.ragged import offsets
from tokensieve.store.manifest import write_manifest
from tokensieve.store.shards import shard_name, write_shard

VOCABULARY = 101

SHAPE: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE, intermediate_size=48, num_key_value_heads=2, max_position_embeddings=256),
    "qwen3": Qwen3Config(**SHAPE, intermediate_size=48, num_key_value_heads=2, head_dim=8, max_position_embeddings=256),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "gpt_neox": GPTNeoXConfig(**SHAPE, intermediate_size=48, max_position_embeddings=256),
    "gemma2": Gemma2Config(  # final soft cap, sliding windows
        **SHAPE,
        intermediate_size=48,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        max_position_embeddings=256,
        final_logit_softcapping=2.0,
    ),
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Return the folder of a tiny random model of an architecture."""
    root = tmp_path_factory.mktemp("models")

    def make(name: str, seed: int = 0) -> Path:
        folder = root / f"{name}-{seed}"
        if not folder.exists():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(CONFIGS[name])
            with torch.no_grad():  # logits far from uniform, so that errors show
                model.get_output_embeddings().weight.mul_(20)
            model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def example_store(tmp_path):
    """Return a function that writes random examples into an `ExampleStore`."""

    def make(lengths: list[int], shards: int = 1, seed: int = 0) -> ExampleStore:
        generator = np.random.default_rng(seed)
        numbers = np.arange(len(lengths))
        drawn = [generator.integers(0, VOCABULARY, length).astype(np.int32) for length in lengths]
        masks = [generator.random(length) < 0.6 for length in lengths]
        for mask in masks:
            mask[0], mask[-1] = False, True
        folder = tmp_path / f"examples-{shards}-{seed}"
        files = {}
        for number, part in enumerate(np.array_split(numbers, shards)):
            ids = np.concatenate([drawn[row] for row in part])
            labels = np.where(np.concatenate([masks[row] for row in part]), ids, -100).astype(np.int32)
            cu_seqlens = offsets([lengths[row] for row in part])
            columns = {"input_ids": ids, "labels": labels}
            name, rows = shard_name(number), {"row": part.astype(np.int64)}
            files[name] = write_shard(folder / name, cu_seqlens, columns, rows)
        write_manifest(folder, files)
        counts = Counts(examples=len(lengths), tokens=sum(lengths))
        return ExampleStore(folder, f"{lengths}-{seed}", counts, (), shards)

    return make
