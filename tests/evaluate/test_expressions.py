"""An expression that goes back and forth without end is refused after a time; others match what Python's do."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.evaluate import expressions
from tokensieve.evaluate.exact_match import read_questions
from tokensieve.evaluate.expressions import check_expression, first_match, last_match

CATASTROPHIC, ANSWER = r"(?:a|a|aa)+$", "a" * 60 + "!"


@pytest.mark.parametrize("match", [first_match, last_match])
def test_what_goes_back_and_forth_is_stopped(match, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.2)
    begun = time.monotonic()
    with pytest.raises(TokensieveError, match=r"(?s)does not end within 0.2 s.*61 characters.*repeats within repeats"):
        match(CATASTROPHIC, ANSWER)
    assert time.monotonic() - begun < 10


def test_a_reference_answer_names_its_row(write_jsonl, tiny_encoder, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.2)
    path = write_jsonl({"question": "why", "answer": "aaa"}, {"question": "why", "answer": ANSWER})
    with pytest.raises(TokensieveError, match=r"(?s)does not end.*rows.jsonl:2"):
        read_questions(DataSettings((str(path),)), tiny_encoder, CATASTROPHIC)


@pytest.mark.parametrize(
    "expression",
    ["((a{1000}){1000}){1000}", "a{4000000000}", "a{99999999999}", "(" * 9 + "a" + "){9}" * 9, f"a{{{'9' * 5000}}}"],
)
def test_a_part_that_is_repeated_a_billion_times_is_refused_at_once(expression):
    begun = time.thread_time()
    with pytest.raises(TokensieveError, match=r"repeats a part more than 1,000,000 times\n.*evaluate.extract"):
        check_expression(expression, "evaluate.extract")
    assert time.thread_time() - begun < 1


EXPRESSIONS = [
    r"#### (-?[0-9.,]+)",
    r"[AB]",
    r"x(y)?",
    r"(?i)\bfinal\s+(\w+)",
    r"\\boxed\{([^}]*)\}",
    r"a*",
    r"(?m)^-?\d+$",
    r"(?:a{2}){2}|(?:x{1,1000}){3,}",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@given(
    st.lists(
        st.sampled_from(["#### ", "-1,0", "A", "x", "y", "Final ", "\\boxed{", "}", "a", "\n", "é", " 7"]), max_size=9
    ).map("".join)
)
def test_others_match_what_python_matches(expression, text):
    check_expression(expression, "evaluate")
    matches = list(re.finditer(expression, text))
    group = 1 if re.compile(expression).groups else 0
    assert last_match(expression, text) == (matches[-1].group(group) if matches else None)
    assert first_match(expression, text) == (matches[0][0] if matches else None)
