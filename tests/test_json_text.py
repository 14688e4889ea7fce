"""JSON of others: every text comes through, and every fault is one kind of error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve import json_text

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""What ``str.splitlines`` cuts at, while JSON lines end at line feeds alone."""


@given(st.lists(st.text(st.sampled_from(f"a\n\r{SEPARATORS}"))), st.booleans())
def test_lines_come_back_with_every_separator_in_them(values, escaped):
    text = "".join(json.dumps(value, ensure_ascii=escaped) + "\n\n" for value in values)
    assert json_text.parse_lines(text) == json_text.parse_lines(text.encode()) == values


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b'{"a": 1}\n{"a": \n', r"Expecting value \(line 2, column 7\)"),
        (b'"a"\n"\xff"\n', "the text is not UTF-8"),
        ("1\n" + "[" * 100_000, "lists and objects are nested too deep"),
    ],
)
def test_a_line_that_is_not_json_is_named(text, what):
    with pytest.raises(json_text.JsonError, match=what):
        json_text.parse_lines(text)
