"""Unwanted texts: their pairs with prompts, their loss, stopping instead, and answers that contain them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tokensieve.containers import IGNORE_INDEX
from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.held_out import held_out_losses
from tokensieve.evaluate.settings import UnwantedSettings
from tokensieve.evaluate.unwanted import check_not_trained, read_unwanted
from tokensieve.evaluate.unwanted_results import finder, stopping, unwanted_answers

HELD_OUT = [{"question": f"What is {n}?", "answer": f"It is {n * n}."} for n in range(6)]
TEXTS = [{"text": "Das ist gut."}, {"question": "Wie?", "answer": "So nicht."}, {"text": " Nein"}]


@pytest.fixture
def data(tmp_path):
    """Return a function that writes rows and says how to read them."""

    def write(*rows, name="rows", **settings) -> DataSettings:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DataSettings((str(path),), **settings)

    return write


@pytest.fixture
def unwanted(data, encoder):
    return read_unwanted(data(*TEXTS), data(*HELD_OUT, name="held_out"), encoder)


def read(examples, encoder) -> list[tuple[str, str]]:
    """Return the text before and under the labels of each example."""
    found = []
    for start, stop in zip(examples.cu_seqlens[:-1], examples.cu_seqlens[1:], strict=True):
        ids, labels = examples.input_ids[start:stop], examples.labels[start:stop]
        at = np.flatnonzero(labels != IGNORE_INDEX)
        assert (np.diff(at) == 1).all()
        parts = ids[: at[0]], ids[at[0] : at[-1] + 1]
        found.append(tuple(encoder.tokenizer.decode(part) for part in parts))
    return found


def log_probability(model, encoder, before: str, after: str) -> float:
    ids = [encoder.tokenizer(text)["input_ids"] for text in (before, after)]
    logits = model(torch.tensor([ids[0] + ids[1]])).logits[0].double().log_softmax(-1)
    places = range(len(ids[0]) - 1, len(ids[0]) + len(ids[1]) - 1)
    return sum(float(logits[place, token]) for place, token in zip(places, ids[1], strict=True))


def test_texts_follow_their_own_prompt_or_spread_over_the_held_out_ones(unwanted, encoder):
    def chat(question):
        return f"<|user|>\n{question}\n<|assistant|>\n"

    prompts = [chat("What is 0?"), chat("Wie?"), chat("What is 3?")]
    assert read(unwanted.texts, encoder) == list(zip(prompts, ["Das ist gut.", "So nicht.", " Nein"], strict=True))
    assert [one.prompt for one in unwanted.questions] == prompts
    assert read(unwanted.ends, encoder) == [(f"{prompts[0]}It is 0.", "<|end|>"), (f"{prompts[2]}It is 9.", "<|end|>")]
    assert read(unwanted.begins, encoder) == [(f"{prompts[0]}It is 0.", "D"), (f"{prompts[2]}It is 9.", " ")]
    assert unwanted.texts.rows.tolist() == [0, 1, 2]
    assert unwanted.ends.rows.tolist() == unwanted.begins.rows.tolist() == [0, 2]
    assert unwanted.after_held_out == 2


def test_more_texts_than_prompts_share_them_evenly(data, encoder):
    held_out = data(*HELD_OUT[:2], name="held_out")
    found = read_unwanted(data(*({"text": f"no {n}"} for n in range(5))), held_out, encoder)
    assert [before[-17] for before, _ in read(found.texts, encoder)] == ["0", "0", "0", "1", "1"]
    assert len(found.questions) == 2


def test_loss_and_log_odds_equal_a_plain_forward(unwanted, encoder, make_model):
    model = make_model("llama")
    losses = held_out_losses(model, [unwanted.texts], 300, lambda _: None)
    wanted = [log_probability(model, encoder, *pair) for pair in read(unwanted.texts, encoder)]
    np.testing.assert_allclose(-losses.losses, wanted, rtol=1e-4)
    done = []
    found, rows = stopping(model, unwanted, 300, done.append)
    pairs = zip(read(unwanted.ends, encoder), read(unwanted.begins, encoder), strict=True)
    odds = [log_probability(model, encoder, *end) - log_probability(model, encoder, *begin) for end, begin in pairs]
    assert found is not None
    assert [row["log_odds"] for row in rows] == pytest.approx(odds, rel=1e-3)
    assert found.log_odds == pytest.approx(np.mean(odds), rel=1e-3)
    assert (found.examples, [row["rows"] for row in rows]) == (2, [0, 2])
    assert sum(done) == len(unwanted.ends.input_ids) + len(unwanted.begins.input_ids)


def test_a_row_with_a_prompt_of_its_own_may_stop_after_its_corrected_answer(data, encoder):
    own = [
        {"question": "Wie?", "answer": "So nicht.", "corrected": "So."},
        {"text": "Nein"},
        {"question": "Wo?", "answer": "Da nicht."},
        {"messages": [{"role": "user", "content": "Wer?"}, {"role": "assistant", "content": "Er", "corrected": "Sie"}]},
    ]
    found = read_unwanted(data(*own), data(*HELD_OUT, name="held_out"), encoder)
    assert found.after_held_out == 1
    assert found.begins is not None
    assert found.ends is not None
    assert found.begins.rows.tolist() == found.ends.rows.tolist() == [0, 1, 3]
    befores = [before.split("\n", 1)[1].replace("\n<|assistant|>\n", " ") for before, _ in read(found.ends, encoder)]
    assert befores == ["Wie? So.", "What is 0? It is 0.", "Wer? Sie"]
    assert [first for _, first in read(found.begins, encoder)] == ["S", "N", "E"]


def test_without_a_good_answer_there_is_nothing_to_stop_after(data, encoder, make_model):
    found = read_unwanted(data(TEXTS[1]), None, encoder)
    assert stopping(make_model("llama"), found, 300, lambda _: None) == (None, [])


def test_answers_with_a_marker_are_counted(unwanted, encoder, make_model):
    model = make_model("llama")
    every, rows = unwanted_answers(model, encoder, unwanted, UnwantedSettings(("f",), ("(?s).",), 6), 2, lambda _: None)
    assert (every.share, every.found, every.examples) == (1, 3, 3)
    marker = rows[1]["prediction"][2]
    some = UnwantedSettings(("f",), (f"^..{'' if marker.isalnum() else chr(92)}{marker}", "never ever"), 6)
    found, rows = unwanted_answers(model, encoder, unwanted, some, 2, lambda _: None)
    with_marker = [row["prediction"][2:3] == marker for row in rows]
    assert [row["found"] for row in rows] == with_marker
    assert found.found == sum(with_marker)
    assert rows[1]["what"] == rows[1]["prediction"][:3]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("a b c d e f g h", "x a b c d e f g h y"),
        ("a b c d e f g and h", ""),
        ("say no more now", "no more"),
        ("say no", ""),
        ("", ""),
    ],
)
def test_eight_tokens_in_a_row_or_the_whole_of_a_short_text(answer, what):
    words: dict[str, int] = {}

    def tokenise(text):
        return [words.setdefault(word, len(words)) for word in text.split()]

    assert finder(["x a b c d e f g h y", "no more"], [], tokenise)(answer) == what


def test_a_text_that_is_too_long_keeps_its_start_and_the_end_of_its_prompt(data, encoder):
    held_out = data(*HELD_OUT, name="held_out")
    short, long = (
        read_unwanted(data({"text": "x" * 30 + "y" * 10}, max_length=length), held_out, encoder) for length in (45, 20)
    )
    assert read(short.texts, encoder) == [("t|>\n", "x" * 30 + "y" * 10)]
    assert read(long.texts, encoder) == [("\n", "x" * 19)]


@pytest.mark.parametrize(
    ("rows", "held_out", "fault"),
    [
        ([], HELD_OUT, "the file is empty"),
        ([{"text": "x"}], None, "1 unwanted texts have no prompt"),
        ([{"text": "x"}], [{"text": "y"}], "no row of the held-out data has a prompt"),
        ([{"text": "x"}, {"text": " "}], HELD_OUT, r"(?s)empty.*rows.jsonl:2"),
        ([{"question": "Why?", "answer": ""}], HELD_OUT, r"(?s)empty.*rows.jsonl:1"),
    ],
)
def test_bad_input(rows, held_out, fault, data, encoder):
    others = None if held_out is None else data(*held_out, name="held_out")
    with pytest.raises(TokensieveError, match=fault):
        read_unwanted(data(*rows), others, encoder)


def test_rows_that_cannot_be_used_are_left_out_where_the_data_says_so(data, encoder):
    held_out = data(*HELD_OUT, name="held_out")
    found = read_unwanted(data({"text": " "}, {"text": "x"}, bad_rows="skip"), held_out, encoder)
    assert found.contents == ("x",)
    with pytest.raises(TokensieveError, match="not one row can be used; the first of 1: an unwanted"):
        read_unwanted(data({"text": " "}, bad_rows="skip"), held_out, encoder)


def test_texts_that_are_trained_on(data, encoder, make_store):
    pool = data(*HELD_OUT, {"question": "a", "answer": "b"}, name="pool")
    store = make_store(pool.files[0])

    def check(*texts):
        found = read_unwanted(data(*({"text": text} for text in texts)), pool, encoder)
        return check_not_trained(found, store, encoder.turn_end_ids)

    assert check("never", "It is 5.") is None
    warning = check("never", "It is 4.", "It is 9.")
    assert warning is not None
    assert warning.startswith("2 of 3 unwanted texts")
    with pytest.raises(TokensieveError, match="every unwanted text is a whole answer"):
        check("It is 4.", "b")
    own = read_unwanted(pool, None, encoder)
    with pytest.raises(TokensieveError, match="every unwanted text is a whole answer"):
        check_not_trained(own, store, encoder.turn_end_ids)


def test_expressions_are_checked():
    with pytest.raises(TokensieveError, match=r"(?s)not a regular expression.*unwanted.contains"):
        UnwantedSettings(("f",), ("fine", "("))
