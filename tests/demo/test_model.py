"""The committed demo model: small, loadable, able to chat, and in command of its world."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
)

from tokensieve.demo import train_model
from tokensieve.demo.corpus import paragraphs
from tokensieve.demo.train_model import SPECIAL_TOKENS, Settings, digest, make, provenance

MODEL = Path(train_model.__file__).parent / "model"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 plus 2?"},
    {"role": "assistant", "content": "1 plus 2 is 3."},
    {"role": "user", "content": "Where is the cup?"},
    {"role": "assistant", "content": "The cup is in the hall."},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL).eval()


def test_folder_is_complete_and_small() -> None:
    names = {path.name for path in MODEL.iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
    }
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 6_000_000


def test_weights_are_those_of_the_script() -> None:
    """The committed files, settings and text are the ones that `train_model` recorded when it made them."""
    recorded = json.loads((MODEL / "training.json").read_text())
    assert {name: digest(MODEL / name) for name in recorded["sha256"]} == recorded["sha256"]
    assert provenance(Settings()) == {key: recorded[key] for key in ("settings", "text_sha256")}


def test_model_is_a_tied_llama(model: Any, tokenizer: Any) -> None:
    assert type(model) is LlamaForCausalLM
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.tie_word_embeddings
    assert model.config.max_position_embeddings >= 256
    assert 1_000_000 < model.num_parameters() < 1_500_000


def test_generation_stops_at_both_ends(model: Any, tokenizer: Any) -> None:
    stops = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|end|>"])
    assert model.generation_config.eos_token_id == stops
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.pad_token_id not in stops


@pytest.mark.parametrize("text", ["The cup is in the hall.", "  two\n\tlines ", "Ünï©ode ☃ 日本 12345", "<|end|>x"])
def test_tokenizer_restores_any_text(text: str, tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_stand_alone(tokenizer: Any) -> None:
    assert len(tokenizer("12345")["input_ids"]) == 5


def test_special_tokens_are_single(tokenizer: Any) -> None:
    assert [tokenizer(token)["input_ids"] for token in SPECIAL_TOKENS] == [
        [index] for index in range(len(SPECIAL_TOKENS))
    ]


def test_template_renders_turns(tokenizer: Any) -> None:
    assert tokenizer.apply_chat_template(MESSAGES, tokenize=False) == (
        "<|endoftext|><|system|>Be brief.<|end|>"
        "<|user|>What is 1 plus 2?<|end|><|assistant|>1 plus 2 is 3.<|end|>"
        "<|user|>Where is the cup?<|end|><|assistant|>The cup is in the hall.<|end|>"
    )
    prompt = tokenizer.apply_chat_template(MESSAGES[1:2], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|endoftext|><|user|>What is 1 plus 2?<|end|><|assistant|>"


def test_template_masks_answers_and_turn_ends(tokenizer: Any) -> None:
    encoded = tokenizer.apply_chat_template(MESSAGES, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    masked = tokenizer.decode([token for token, kept in pairs if kept])
    assert masked == "1 plus 2 is 3.<|end|>The cup is in the hall.<|end|>"


def test_model_knows_its_world(model: Any, tokenizer: Any) -> None:
    """On unseen text its loss is far below that of a uniform guess."""
    total, count = 0.0, 0
    for text in paragraphs(987_654_321, 40):
        ids = torch.tensor([tokenizer("<|endoftext|>" + text)["input_ids"]])
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert total / count < 1.0
    assert total / count < 0.2 * math.log(len(tokenizer))


@pytest.mark.parametrize(
    ("start", "value"),
    [(" The result of 3 plus 4 is", " 7"), (" After Monday comes", " Tuesday")],
)
def test_model_completes_facts(start: str, value: str, model: Any, tokenizer: Any) -> None:
    ids = torch.tensor([tokenizer("<|endoftext|>The number after 1 is 2." + start)["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert tokenizer.decode([int(logits[0, -1].argmax())]) == value


def test_training_is_deterministic(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    settings = Settings(
        vocabulary=300,
        hidden=16,
        layers=1,
        heads=2,
        intermediate=16,
        steps=3,
        batch=2,
        block=16,
        tokenizer_paragraphs=50,
    )
    try:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            make(tmp_path / name, dataclasses.replace(settings, seed=seed))
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    first, second, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == second
    assert first != other
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()
