"""A trainer whose data marks no answers ranks prompts too, and says what to add."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from datasets import Dataset

from tests.train.online import make_rows, method_of, trainer_for

TURNS = [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3 w4"}]
MESSAGES = {"messages": [TURNS] * 8}
PAIRS = {"prompt": ["w1 w2"] * 8, "completion": [" w3 w4"] * 8}
UNMARKED = "nothing marks the answers"


def told(base, words, output, data: Any, **arguments: Any) -> list[str]:
    rows = Dataset.from_dict(data) if isinstance(data, dict) else data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = trainer_for(base, words, output, method_of("profit"), rows, **arguments)
        trainer.train()
    return [str(one.message) for one in caught if UNMARKED in str(one.message)]


@pytest.mark.parametrize(
    ("data", "arguments", "add"),
    [
        (MESSAGES, {}, "Add assistant_only_loss=True to SFTConfig"),
        (PAIRS, {"completion_only_loss": False}, "Add completion_only_loss=True to SFTConfig"),
        ({"text": ["w1 w2 w3"] * 8}, {}, "Add a column `labels` to the data"),
        ({"input_ids": [[2, 3, 4]] * 8}, {}, "Add a column `labels` to the data"),
    ],
)
def test_it_is_said_once_with_what_to_add(data, arguments, add, base, words, tmp_path):
    (warning,) = told(base, words, tmp_path, data, **arguments)
    assert add in warning
    assert "'profit' scores the tokens of prompts too" in warning


@pytest.mark.parametrize(
    ("data", "arguments"),
    [(MESSAGES, {"assistant_only_loss": True}), (PAIRS, {}), (PAIRS, {"completion_only_loss": True}), (None, {})],
)
def test_nothing_is_said_where_answers_are_marked(data, arguments, base, words, tmp_path):
    assert told(base, words, tmp_path, make_rows() if data is None else data, **arguments) == []
