"""Corrected answers against a plain forward pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.corrected import corrected_losses, read_corrected

ROWS = [
    {"question": "What is it?", "answer": "It are a cat", "corrected": "It is a cat."},
    {"prompt": "one two", "completion": " fore", "corrected": " three"},
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hey"},
            {"role": "user", "content": "Bye"},
            {"role": "assistant", "content": "By", "corrected": "Bye!"},
        ]
    },
]
CHATS = [
    ("<|user|>\nWhat is it?\n<|assistant|>\n", "It are a cat<|end|>", "It is a cat.<|end|>"),
    ("one two", " fore<|end|>", " three<|end|>"),
    ("<|user|>\nHi\n<|assistant|>\nHey<|end|>\n<|user|>\nBye\n<|assistant|>\n", "By<|end|>", "Bye!<|end|>"),
]


@pytest.fixture
def corrected(tmp_path, encoder):
    """Return a function that reads rows."""

    def read(*rows):
        path = tmp_path / "corrected.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_corrected(DataSettings((str(path),)), encoder)

    return read


def log_probabilities(model, encoder, before: str, after: str) -> list[float]:
    ids = [encoder.tokenizer(text)["input_ids"] for text in (before, after)]
    logits = model(torch.tensor([ids[0] + ids[1]])).logits[0].double().log_softmax(-1)
    return [float(logits[len(ids[0]) - 1 + place, token]) for place, token in enumerate(ids[1])]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_loss_and_preference_equal_a_plain_forward(name, corrected, encoder, make_model):
    model = make_model(name, 3)
    done = []
    losses, preference, margin, rows = corrected_losses(model, corrected(*ROWS), 300, done.append)
    worse = [log_probabilities(model, encoder, before, answer) for before, answer, _ in CHATS]
    better = [log_probabilities(model, encoder, before, answer) for before, _, answer in CHATS]
    np.testing.assert_allclose(losses.losses, [-sum(one) for one in better], rtol=1e-4)
    assert losses.tokens.tolist() == [len(one) for one in better]
    margins = [np.mean(one) - np.mean(other) for one, other in zip(better, worse, strict=True)]
    assert [row["margin"] for row in rows] == pytest.approx(margins, rel=1e-3)
    assert [row["preferred"] for row in rows] == [one > 0 for one in margins]
    assert margin.mean == pytest.approx(np.mean(margins), rel=1e-3)
    assert preference.share == np.mean([one > 0 for one in margins])
    assert margin.low <= margin.mean <= margin.high
    assert sum(done) == corrected(*ROWS).tokens


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], "the file is empty"),
        ([ROWS[0], {"question": "a", "answer": "b"}], r"(?s)without a corrected answer.*corrected.jsonl:2"),
        ([{"question": "a", "answer": "b", "corrected": "b "}], "the corrected answer is the answer"),
        ([{"input_ids": [5, 6], "labels": [-100, 6]}], "without a corrected answer"),
    ],
)
def test_bad_input(rows, fault, corrected):
    with pytest.raises(TokensieveError, match=fault):
        corrected(*rows)
