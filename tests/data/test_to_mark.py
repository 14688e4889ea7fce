from __future__ import annotations

import json

import pytest

from tokensieve.cli import main
from tokensieve.data.formats import Conversation, convert
from tokensieve.data.marks import CHANGED, MarkedSpan
from tokensieve.data.settings import DataSettings
from tokensieve.data.to_mark import rows_to_mark, rows_with_corrections, write_rows
from tokensieve.errors import TokensieveError

ROWS = [{"question": f"What is {n}?", "answer": f"It is the number {n}.", "id": n} for n in range(20)]


def settings_of(path, **options):
    return DataSettings(files=(str(path),), **options)


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_rows_are_drawn_in_order_with_spans_to_fill_in(write_jsonl):
    found = rows_to_mark(settings_of(write_jsonl(*ROWS)), 5, 0)
    assert len(found) == 5
    assert [row["id"] for row in found] == sorted({row["id"] for row in found})
    assert all(row == {"spans": [], **ROWS[row["id"]]} for row in found)
    assert found == rows_to_mark(settings_of(write_jsonl(*ROWS)), 5, 0)
    assert found != rows_to_mark(settings_of(write_jsonl(*ROWS)), 5, 1)
    assert len(rows_to_mark(settings_of(write_jsonl(*ROWS)), 200, 0)) == 20


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_each_of_several_answers_gets_spans(write_jsonl, key):
    said = [("user", "Hi"), ("assistant", "Hello"), ("user", "Sum?"), ("assistant", "It is 4.")]
    turns = [{"role": role, "content": text} for role, text in said]
    row = {key: turns, "system": "Be brief."}
    (found,) = rows_to_mark(settings_of(write_jsonl(row)), 5, 0)
    assert [("spans" in turn) for turn in found[key]] == [False, True, False, True]
    found[key][3]["spans"].append([6, 7])
    converted = convert(found)
    assert isinstance(converted, Conversation)
    assert converted.spans == {4: (MarkedSpan(6, 7),)}


def test_corrected_answers_mark_what_they_change(write_jsonl):
    data = write_jsonl(*ROWS)
    given = write_jsonl(
        {"row": 3, "corrected": "It is number 3."}, {"row": 1, "corrected": "It is one."}, name="c.jsonl"
    )
    found = rows_with_corrections(settings_of(data), given)
    assert [row["id"] for row in found] == [1, 3]
    assert found[1] == {**ROWS[3], "spans": [[6, 9, CHANGED]], "corrected": "It is number 3."}
    in_order = write_jsonl(*({"corrected": row["answer"]} for row in ROWS), name="all.jsonl")
    assert [row["spans"] for row in rows_with_corrections(settings_of(data), in_order)] == [[]] * 20


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"corrected": "x"}], "1 corrected answers for 20 rows"),
        ([{"row": 20, "corrected": "x"}], "'row' is 20"),
        ([{"row": "1", "corrected": "x"}], "'row' is '1'"),
        ([{"row": 1, "corrected": "x"}, {"row": 1, "corrected": "y"}], "'row' is 1, as in an earlier row"),
        ([{"row": 1, "corrected": " "}], "'corrected' is ' ', no answer"),
        ([{"row": 1}], "'corrected' is None"),
    ],
)
def test_corrections_that_cannot_be_used(write_jsonl, rows, message):
    with pytest.raises(TokensieveError, match=message) as error:
        rows_with_corrections(settings_of(write_jsonl(*ROWS)), write_jsonl(*rows, name="c.jsonl"))
    assert error.value.hint
    assert "c.jsonl" in error.value.where


def test_a_correction_of_one_of_several_answers(write_jsonl):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}] * 2
    with pytest.raises(TokensieveError, match="not one answer"):
        rows_with_corrections(
            settings_of(write_jsonl({"messages": turns})), write_jsonl({"corrected": "x"}, name="c.jsonl")
        )


def test_a_file_with_marks_is_never_overwritten(tmp_path):
    write_rows([{"a": 1}], tmp_path / "marks.jsonl")
    with pytest.raises(TokensieveError, match="the file exists, and may hold marks"):
        write_rows([{"a": 2}], tmp_path / "marks.jsonl")
    assert read(tmp_path / "marks.jsonl") == [{"a": 1}]


def test_the_command_says_how_to_fill_in_its_file(write_jsonl, tmp_path, capsys):
    rows = [{"ASKED": row["question"], "answer": row["answer"]} for row in ROWS]
    output = tmp_path / "to-mark.jsonl"
    main(["mark", str(write_jsonl(*rows)), "--output", str(output), "--rows", "3", "--columns", "ASKED=question"])
    printed = capsys.readouterr().out
    assert "3 rows" in printed
    assert '"spans": [[0, 4], [10, 17, "wrong"]]' in printed
    assert f"tokensieve ceiling RECIPE data={output}" in printed
    assert [set(row) for row in read(output)] == [{"spans", "question", "answer"}] * 3
    corrected = write_jsonl({"row": 0, "corrected": "It is zero."}, name="c.jsonl")
    marked = tmp_path / "marked.jsonl"
    main(["mark", str(write_jsonl(*ROWS)), "--corrected", str(corrected), "--output", str(marked), "--json"])
    assert json.loads(capsys.readouterr().out) == {"file": str(marked), "rows": 1}


@pytest.mark.parametrize("inside", [True, False])
def test_marks_that_are_there_stay_or_are_replaced(write_jsonl, tmp_path, inside):
    """Rows would be refused with marks in two places."""
    marks = {"spans": [[0, 2]]}
    answer = {"role": "assistant", "content": "No way.", **(marks if inside else {})}
    row = {"messages": [{"role": "user", "content": "Well?"}, answer], **({} if inside else marks)}
    settings = DataSettings(files=(str(write_jsonl(row)),))
    assert rows_to_mark(settings, 1, 0) == [row]
    corrections = tmp_path / "corrections.jsonl"
    corrections.write_text(json.dumps({"corrected": "Some way."}) + "\n")
    (found,) = rows_with_corrections(settings, corrections)
    (converted,) = (convert(one, "auto", ()) for one in [found])
    assert found["corrected"] == "Some way."
    assert isinstance(converted, Conversation)
    assert [(span.start, span.stop) for span in converted.spans[1]] == [(0, 2)]
