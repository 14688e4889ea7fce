"""A tokenizer of words and a tiny Llama, for training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from tokensieve.models.settings import ModelSettings
from tokensieve.ops.ragged import offsets
from tokensieve.store.shards import write_parquet


@pytest.fixture(scope="package")
def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    vocabulary = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i + 2 for i in range(30)}}
    fast = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    folder = tmp_path_factory.mktemp("base")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return ModelSettings(str(folder))


@pytest.fixture(scope="package")
def rows(tmp_path_factory):
    """Eight examples of very different lengths and kept shares, one of them with a single kept token."""
    generator = np.random.default_rng(0)
    lengths = [3, 40, 7, 22, 5, 31, 12, 60]
    ids = [generator.integers(2, 32, length).astype(np.int32) for length in lengths]
    kept = [generator.random(length) < share for length, share in zip(lengths, np.linspace(0.1, 0.9, 8), strict=True)]
    for mask in kept:
        mask[0], mask[-1] = False, True
    labels = [np.where(mask, i, -100).astype(np.int32) for i, mask in zip(ids, kept, strict=True)]
    flat: dict[str, np.ndarray] = {"input_ids": np.concatenate(ids), "labels": np.concatenate(labels)}
    flat["attention_mask"] = np.ones(sum(lengths), dtype=np.int8)
    flat["assistant_masks"] = (flat["labels"] != -100).astype(np.int8)
    path = tmp_path_factory.mktemp("rows") / "train-00000-of-00001.parquet"
    write_parquet(path, offsets(lengths), flat)
    return path


@pytest.fixture(scope="module")
def words(tokenizer):
    """The tokenizer with a chat template and words between spaces."""
    import copy

    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = copy.deepcopy(tokenizer)
    words.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    words.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>{% endgeneration %}"
        "{% else %}{{ m.content }} {% endif %}{% endfor %}"
    )
    return words
