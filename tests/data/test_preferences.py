from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokensieve.data.preferences import ranked_answers, write_answers
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError

ASKED, ANSWERED = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}
OTHER, LAST = {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "No."}
DIALOGUE = "\n\nHuman: Hi?\n\nAssistant: Yes.\n\nHuman: Sure?\n\nAssistant: "
FORMS = {
    "hh-rlhf": (
        {"chosen": DIALOGUE + "Yes.", "rejected": DIALOGUE + "No."},
        [([ASKED, ANSWERED, OTHER], [ANSWERED]), ([ASKED, ANSWERED, OTHER], [LAST])],
    ),
    "TRL, texts": ({"prompt": "1+1=", "chosen": "2", "rejected": "3"}, [("1+1=", "2"), ("1+1=", "3")]),
    "TRL, messages": (
        {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [LAST]},
        [([ASKED], [ANSWERED]), ([ASKED], [LAST])],
    ),
    "TRL, the prompt inside": (
        {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, LAST]},
        [([ASKED], [ANSWERED]), ([ASKED], [LAST])],
    ),
    "whole conversations beside their prompt": (
        {"prompt": "Hi?", "chosen": [ASKED, ANSWERED], "rejected": [ASKED, LAST], "score_chosen": 8},
        [([ASKED], [ANSWERED]), ([ASKED], [LAST])],
    ),
    "ranked": ({"prompt": "a", "answers": ["b", "c", "d"]}, [("a", "b"), ("a", "c"), ("a", "d")]),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_answers_best_first(form):
    row, expected = FORMS[form]
    assert [(one["prompt"], one["completion"]) for one in ranked_answers(row)] == expected


def test_a_system_prompt_stays():
    row = {"system": "Be short.", "prompt": [ASKED], "chosen": [ANSWERED], "rejected": [LAST]}
    assert [one["system"] for one in ranked_answers(row)] == ["Be short."] * 2


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"messages": [ASKED, ANSWERED]}, "a row with the columns messages ranks no answers"),
        ({"prompt": "a", "answers": ["b"]}, "1 answers, where two are needed"),
        ({"chosen": "It is blue.", "rejected": "It is green."}, "an answer without its prompt"),
        ({"chosen": [ASKED, ANSWERED], "rejected": [ASKED]}, "does not end with an answer of the assistant"),
        ({"chosen": DIALOGUE + "a\n\nHuman: b", "rejected": DIALOGUE}, "does not end with an answer"),
    ],
)
def test_a_row_that_ranks_nothing_is_refused(row, fault):
    with pytest.raises(TokensieveError, match=fault) as error:
        ranked_answers(row)
    assert error.value.hint


def written(tmp_path, rows, **data):
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {name: data[name] for name in ("bad_rows", "max_row_bytes") if name in data}
    return write_answers(DataSettings(files=(str(path),), **own), DataSettings(**data), tmp_path / "store")


def rankings_of(rows, tiny_tokenizer_folder, tmp_path):
    encoder = load_encoder(str(tiny_tokenizer_folder))
    examples = prepare(rows.settings, encoder, tmp_path / "store", lambda _: None)
    found = rows.rankings(examples)
    told = []
    for one in found:
        parts = [(examples.read(answer.shard).input_ids, answer.places) for answer in one.answers]
        told.append([encoder.tokenizer.decode(ids[places]) for ids, places in parts])
    return found, told


def test_answers_become_rankings_of_their_tokens(tiny_tokenizer_folder, tmp_path):
    rows = [
        {"prompt": "the cat:", "answers": [" sat", " ran", " flew"]},
        {"prompt": "the dog:", "chosen": " barks", "rejected": " sings"},
        {"prompt": "the cat:", "chosen": " sleeps", "rejected": " drives"},
    ]
    found, told = rankings_of(written(tmp_path, rows, max_length=64), tiny_tokenizer_folder, tmp_path)
    assert [[text.replace("<|end|>", "").strip() for text in one] for one in told] == [
        ["sat", "ran", "flew"],
        ["barks", "sings"],
        ["sleeps", "drives"],
    ]
    assert found[0].prompt == found[2].prompt != found[1].prompt


def test_a_long_prompt_loses_its_start_and_not_the_answer(tiny_tokenizer_folder, tmp_path):
    rows = [
        {"prompt": "the cat:" * 50, "chosen": " sat", "rejected": " ran"},
        {"prompt": "the cat:" * 50, "chosen": " sat on the mat", "rejected": " ran"},
    ]
    found, told = rankings_of(written(tmp_path, rows, max_length=16), tiny_tokenizer_folder, tmp_path)
    assert found[0].prompt == found[1].prompt  # although less of it is left before the longer answer
    assert [text.replace("<|end|>", "").strip() for text in told[0]] == ["sat", "ran"]


def test_rows_that_rank_nothing_are_left_out_where_the_recipe_says_so(tiny_tokenizer_folder, tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "the:", "chosen": " cat", "rejected": " dog"}]
    with pytest.raises(TokensieveError, match="ranks no answers") as error:
        written(tmp_path, rows)
    assert error.value.where.endswith("preferences.jsonl:1")
    _, told = rankings_of(written(tmp_path, rows, bad_rows="skip", max_length=64), tiny_tokenizer_folder, tmp_path)
    assert [[text.replace("<|end|>", "").strip() for text in one] for one in told] == [["cat", "dog"]]


def test_a_larger_row_that_is_no_longer_left_out_shifts_no_ranking(tmp_path):
    rows = [{"prompt": "a" * 300, "chosen": "b", "rejected": "c"}, {"prompt": "the:", "chosen": "d", "rejected": "e"}]
    few = written(tmp_path, rows, bad_rows="skip", max_row_bytes=200)
    every = written(tmp_path, rows, bad_rows="skip")
    lines = Path(str(every.settings.files[0])).read_text().splitlines()
    assert (sum(few.counts), sum(every.counts), len(lines)) == (2, 4, 4)


def test_the_rows_are_written_once_and_for_each_content(tmp_path):
    rows = [{"prompt": "the:", "chosen": " cat", "rejected": " dog"}]
    first = written(tmp_path, rows)
    before = (tmp_path / "store").rglob("*.jsonl")
    stamps = {path: path.stat().st_mtime_ns for path in before}
    assert written(tmp_path, rows) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.jsonl")} == stamps
    assert written(tmp_path, rows * 2).settings.files != first.settings.files
    assert np.array_equal(first.counts, [2])
