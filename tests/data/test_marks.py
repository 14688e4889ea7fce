from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.data.formats import Conversation, PlainText, Tokenised, convert
from tokensieve.data.marks import CHANGED, MARKED, MarkedSpan, changed_words, read_spans
from tokensieve.errors import TokensieveError

ANSWER = "The sea is dry."
ASKED = {"role": "user", "content": "What is the sea?"}
ANSWERED = {"role": "assistant", "content": ANSWER}
DRY = MarkedSpan(11, 14)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[11, 14]], (DRY,)),
        ([[11, 14, None]], (DRY,)),
        ("[[11, 14]]", (DRY,)),
        ([{"start": 11, "end": 14}], (DRY,)),
        ([{"start": 11, "end": 14, "type": None, "text": "dry"}], (DRY,)),
        ([[11, 14, "wrong"], [0, 3, "odd"]], (MarkedSpan(0, 3, "odd"), MarkedSpan(11, 14, "wrong"))),
        ([[0, 5], [3, 7], [7, 9]], (MarkedSpan(0, 9),)),
        ([[0, 5, "a"], [5, 7, "b"]], (MarkedSpan(0, 5, "a"), MarkedSpan(5, 7, "b"))),
        ([[0, 15]], (MarkedSpan(0, 15),)),
        ([], ()),
    ],
)
def test_spans_in_every_spelling(spans, expected):
    assert read_spans(spans, ANSWER) == expected


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([[10, 16]], r"\[10, 16\] lies outside the answer, which has 15 characters"),
        ([[-1, 3]], "lies outside"),
        ([[5, 5]], r"\[5, 5\] is empty"),
        ([[5, 3]], "ends before it starts"),
        ([[0, 5, "a"], [4, 7, "b"]], r"\[0, 5\] \(a\) and \[4, 7\] \(b\) overlap"),
        ([{"start": 11, "end": 14, "text": "wet"}], "says 'wet', and the answer has 'dry' there"),
        ([[0.0, 3]], "not a span"),
        ([[True, 3]], "not a span"),
        ([[0, 3, 7]], "not a span"),
        ([[0]], "not a span"),
        ([{"start": 0, "stop": 3}], "not a span"),
        (["dry"], "not a span"),
        ("[[0,", "'spans' is not JSON"),
        ({"start": 0}, "must be a list"),
        (3, "must be a list"),
    ],
)
def test_spans_that_cannot_be_used(spans, message):
    with pytest.raises(TokensieveError, match=message) as error:
        read_spans(spans, ANSWER)
    assert error.value.hint


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20)).filter(lambda s: s[0] < s[1]), max_size=6))
def test_joined_spans_cover_the_same_characters(spans):
    found = read_spans([list(span) for span in spans], "x" * 20)
    assert {i for span in found for i in range(span.start, span.stop)} == {i for a, b in spans for i in range(a, b)}
    assert all(one.stop < two.start for one, two in pairwise(found))


def test_what_a_correction_removes_or_replaces():
    answer = "The whole day-long Auvere  battle was lost ."
    assert changed_words(answer, "The all-day long Auvere battle was lost .") == (MarkedSpan(4, 18, CHANGED),)
    assert changed_words(answer, "The whole day-long Auvere battle was lost , all of it .") == ()
    assert changed_words(answer, answer) == ()
    assert changed_words("", "Something") == ()
    assert changed_words("a b", "c") == (MarkedSpan(0, 3, CHANGED),)


def test_the_changed_words_are_those_of_bug_fixes(shared):
    path = shared / "data" / "marked" / "code_refinement.jsonl"
    if not path.is_file():
        pytest.skip("needs shared/data/marked")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:300]]
    found = [[[span.start, span.stop] for span in changed_words(row["response"], row["clean"])] for row in rows]
    assert found == [row["spans"] for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "What is the sea?", "answer": ANSWER, "spans": [[11, 14]]},
        {"instruction": "What is the sea?", "output": ANSWER, "spans": [[11, 14]]},
        {"messages": [ASKED, ANSWERED], "spans": [[11, 14]]},
        {"messages": [ASKED, {**ANSWERED, "spans": [[11, 14]]}], "spans": None},
        {"messages": [{**ASKED, "spans": []}, {**ANSWERED, "spans": [[11, 14]]}], "spans": []},
        {"prompt": [ASKED], "completion": [{**ANSWERED, "spans": [[11, 14]]}]},
        {
            "conversations": [
                {"from": "human", "value": "What is the sea?"},
                {"from": "gpt", "value": ANSWER, "spans": [{"start": 11, "end": 14}]},
            ]
        },
    ],
)
def test_marks_of_a_conversation(row):
    found = convert(row)
    assert isinstance(found, Conversation)
    assert (found.messages, found.trained, found.spans) == ([ASKED, ANSWERED], [1], {1: (DRY,)})


def test_marks_of_plain_text_and_of_token_ids():
    assert convert({"prompt": "Sea? ", "completion": ANSWER, "spans": [[11, 14]]}) == PlainText("Sea? ", ANSWER, (DRY,))
    assert convert({"text": ANSWER, "spans": [[11, 14]]}) == PlainText("", ANSWER, (DRY,))
    row = {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "spans": [[0, 2, "odd"]]}
    assert convert(row) == Tokenised([5, 6, 7], [-100, 6, 7], (MarkedSpan(0, 2, "odd"),))


def test_a_corrected_answer_marks_what_it_changes_unless_spans_are_given():
    row = {"question": "What is the sea?", "answer": ANSWER, "corrected": "The sea is wet."}
    changed = MarkedSpan(11, 15, CHANGED)
    corrected = {1: "The sea is wet."}
    assert convert(row) == Conversation([ASKED, ANSWERED], spans={1: (changed,)}, corrected=corrected)
    assert convert({**row, "spans": [[11, 14]]}) == Conversation(
        [ASKED, ANSWERED], spans={1: (DRY,)}, corrected=corrected
    )
    assert convert({**row, "spans": []}) == Conversation([ASKED, ANSWERED], corrected=corrected)
    assert convert({**row, "corrected": None}) == convert({**row, "corrected": ""}) == Conversation([ASKED, ANSWERED])
    in_message = {"messages": [ASKED, {**ANSWERED, "corrected": "The sea is wet."}]}
    assert convert(in_message) == convert(row)
    found = convert({"prompt": "", "completion": ANSWER, "corrected": "The sea is wet."})
    assert found == PlainText("", ANSWER, (changed,), "The sea is wet.")


def test_marks_of_several_answers_stand_in_their_messages():
    turns = [ASKED, {**ANSWERED, "spans": [[0, 3, "odd"]]}, ASKED, {**ANSWERED, "corrected": "The sea is wet."}]
    found = convert({"messages": turns})
    assert isinstance(found, Conversation)
    assert found.messages == [ASKED, ANSWERED, ASKED, ANSWERED]
    assert found.spans == {1: (MarkedSpan(0, 3, "odd"),), 3: (MarkedSpan(11, 15, CHANGED),)}
    assert found.corrected == {3: "The sea is wet."}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [ASKED, ANSWERED, ASKED, ANSWERED], "spans": [[0, 3]]}, "2 answers that are trained on"),
        ({"messages": [ASKED, {**ANSWERED, "spans": [[0, 3]]}], "spans": [[0, 3]]}, "its messages have marks too"),
        ({"messages": [{**ASKED, "spans": [[0, 3]]}, ANSWERED]}, "message 0, of the role 'user', has 'spans'"),
        ({"messages": [ASKED, {**ANSWERED, "train": False, "corrected": "x"}]}, "message 1, .* it is not trained on"),
        (
            {"prompt": [ASKED, {**ANSWERED, "spans": [[0, 3]]}, ASKED], "completion": ANSWER},
            "message 1, .* not trained",
        ),
        ({"question": "x", "answer": ANSWER, "spans": [[0, 99]]}, "outside the answer"),
        ({"question": "x", "answer": ANSWER, "corrected": [ANSWER]}, "must be the text of the corrected answer"),
        ({"input_ids": [5, 6], "labels": [-100, 6], "spans": [[0, 1]]}, "covers no token that is trained on"),
        ({"input_ids": [5, 6], "labels": [-100, 6], "spans": [[0, 3]]}, "which has 2 tokens"),
        ({"input_ids": [5, 6], "labels": [-100, 6], "corrected": "x"}, "no place for the column 'corrected'"),
    ],
)
def test_marks_that_cannot_be_used(row, message):
    with pytest.raises(TokensieveError, match=message) as error:
        convert(row)
    assert error.value.hint


def test_marks_that_are_left_out():
    turns = [{**ASKED, "spans": [[0, 3]]}, {**ANSWERED, "spans": "none", "corrected": "The sea is wet."}]
    assert convert({"messages": turns}, ignore=("spans", "corrected")) == Conversation([ASKED, ANSWERED])


@pytest.mark.parametrize("value", [0, 0.0, False])
def test_a_loss_mask_of_a_message(value):
    found = convert({"messages": [ASKED, {**ANSWERED, "loss_mask": value}, ASKED, {**ANSWERED, "loss_mask": 1}]})
    assert isinstance(found, Conversation)
    assert found.trained == [3]


def test_a_loss_mask_that_is_neither_0_nor_1():
    with pytest.raises(TokensieveError, match="the loss_mask of message 1 is"):
        convert({"messages": [ASKED, {**ANSWERED, "loss_mask": [0, 1]}]})


def test_the_default_type():
    assert DRY.type == MARKED
