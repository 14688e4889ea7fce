"""Fixtures that every test may use: a tiny tokenizer, tiny models, and the shared material where it is present."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from no_skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tokensieve.demo.dataset import write

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs a network
# A shell's background jobs ignore interrupts, and so do the processes that they start, which some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def load_benchmark() -> Callable[[str], ModuleType]:
    """Return a function that imports a module of ``benchmarks/quality``, which is no package."""

    def load(name: str) -> ModuleType:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(ROOT / "benchmarks/quality")  # they import each other
            return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def demo_pool(tmp_path_factory) -> Path:
    """Return a file with the 1,400 conversations of the demo."""
    folder = tmp_path_factory.mktemp("data")
    write(0, folder)
    return folder / "pool.jsonl"


SPECIAL_TOKENS = ["<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SENTENCES = [
    "Ann has three apples and gives one to Ben. How many apples are left?",
    "She has two apples left. The answer is 2.",
    "What is the capital of France? The capital of France is Paris.",
    "To add 48 and 24, first add 40 and 20, then 8 and 4: the sum is 72.",
    "Who are you? I am a small language model that answers questions.",
    "Write one sentence about the sea. The sea is wide, and the wind is cold.",
]


def build_tokenizer(
    folder: Path,
    *,
    special_tokens: list[str] = SPECIAL_TOKENS,
    chat_template: str | None = CHAT_TEMPLATE,
    eos: str | None = "<|end|>",
    post_processor: Any = None,
    **config: Any,
) -> Path:
    """Train a byte-level BPE of at most 400 ids on a few sentences and save it as a `transformers` tokenizer."""
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    if post_processor is not None:
        backend.post_processor = post_processor
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token="<|pad|>", **config)
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that builds a tokenizer folder; its arguments are those of `build_tokenizer`."""
    return lambda **options: build_tokenizer(tmp_path_factory.mktemp("tokenizer"), **options)


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(make_tokenizer: Callable[..., Path]) -> Path:
    """Folder of a byte-level BPE of about 400 ids whose chat template has a generation block."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_encoder(tiny_tokenizer_folder: Path) -> Any:
    """The tiny tokenizer, loaded."""
    from tokensieve.data.tokenize import load_encoder

    return load_encoder(str(tiny_tokenizer_folder))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> Callable[..., Path]:
    """Return a function that gives the folder of a tiny random model, with the tiny tokenizer in it.

    Its arguments are the architecture (``llama``, ``gpt2`` or ``gpt_neox``) and a seed.
    """
    root = tmp_path_factory.mktemp("tiny-models")

    def make(architecture: str, seed: int = 0) -> Path:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPTNeoXConfig, LlamaConfig

        folder = root / f"{architecture}-{seed}"
        if folder.exists():
            return folder
        tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
        shape: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
        }
        deep: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        deep |= {"intermediate_size": 64, "max_position_embeddings": 128}
        config: Any = {
            "llama": lambda: LlamaConfig(**shape, **deep, num_key_value_heads=2),
            "gpt2": lambda: GPT2Config(**shape, n_embd=32, n_layer=2, n_head=4, n_positions=128),
            "gpt_neox": lambda: GPTNeoXConfig(**shape, **deep),
        }[architecture]()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of shared data, models and tokenizers, beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder 'shared' beside the repository ({folder.name} is absent)")
    return folder


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows to a JSON-lines file and gives its path."""

    def write(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
