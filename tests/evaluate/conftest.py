"""A tokenizer of single characters and tiny random models that share its vocabulary."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder

CHARACTERS = ["\n", *map(chr, range(32, 127))]
VOCABULARY = 2 + len(CHARACTERS)
CONTEXT = 256
CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    ),
}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """Return an encoder whose tokens are printable characters, so that other tokens are another text."""
    vocabulary = {name: number for number, name in enumerate(["<|end|>", "<|pad|>", *CHARACTERS])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return load_encoder(str(folder))


@pytest.fixture(scope="session")
def make_model():
    """Return a function that makes a random model of an architecture, far from uniform."""

    def make(name: str, seed: int = 0):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4 if parameter.ndim > 1 else 1)
        return model.requires_grad_(False)

    return make


@pytest.fixture
def make_store(tmp_path, encoder):
    """Return a function that tokenises a file of rows."""

    def make(path):
        return prepare(DataSettings((str(path),)), encoder, tmp_path / "store", lambda _: None)

    return make
