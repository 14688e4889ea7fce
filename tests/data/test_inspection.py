from __future__ import annotations

import json

import pytest

from tokensieve.data import inspection
from tokensieve.data.inspection import inspect_data
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.engines import local, unseen
from tokensieve.errors import TokensieveError

GOOD = {"question": "How many apples?", "answer": "Two."}


def inspect(encoder, *paths, examples=2, compare_with=None, on_rows=unseen, **options):
    settings = DataSettings(files=tuple(map(str, paths)), **options)
    return inspect_data(settings, encoder, examples, compare_with, on_rows)


def errors(found):
    return [problem for problem in found.problems if problem.level == "error"]


def test_good_data(write_jsonl, tiny_encoder):
    path = write_jsonl(GOOD, *[{**GOOD, "answer": answer} for answer in ("Two!", "One.", "One!", "Six.")])
    found = inspect(tiny_encoder, path)
    assert found.problems == []
    assert not found.has_errors
    assert (found.source, found.template, found.answers_by) == (str(path), "own", "generation")
    assert found.turn_ends == ["<|end|>"]
    assert (found.counts.rows, found.counts.examples, found.unusable) == (5, 5, 0)
    assert found.counts.lengths["0.5"] == len(found.previews[0].token_ids)
    assert [(p.row, p.where) for p in found.previews] == [(0, f"{path}:1"), (1, f"{path}:2")]
    preview = found.previews[0]
    decode = tiny_encoder.tokenizer.decode
    assert decode(preview.token_ids) == "<|user|>How many apples?<|end|><|assistant|>Two.<|end|>"
    trained = [token for token, yes in zip(preview.token_ids, preview.trainable, strict=True) if yes]
    assert decode(trained) == "Two.<|end|>"


def test_json_is_plain_and_complete(write_jsonl, tiny_encoder):
    found = inspect(tiny_encoder, write_jsonl(GOOD, {"foo": 1}))
    value = json.loads(json.dumps(found.to_json()))
    assert value["counts"]["rows"] == 2
    assert value["problems"][0]["level"] == "error"
    assert value["previews"][0]["trainable"][-1] is True
    assert value["unusable"] == 1


def test_ten_thousand_bad_rows_are_one_problem_with_the_first_five_places(tmp_path, tiny_encoder):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"foo": n}) for n in range(10_000)]
    path.write_text("\n".join([json.dumps(GOOD), *lines]) + "\n")
    found = inspect(tiny_encoder, path)
    (problem,) = errors(found)
    assert problem.message == "a row with the columns foo is of no known form"
    assert problem.where == ", ".join(f"{path}:{n}" for n in range(2, 7)) + " and 9,995 more"
    assert problem.count == found.unusable == 10_000
    assert "conversations" in problem.hint
    assert (found.counts.rows, found.counts.examples) == (10_001, 1)
    assert found.has_errors


def test_problems_that_differ_in_numbers_and_names_alone_are_one(write_jsonl, tiny_encoder):
    wrong = [{"input_ids": [5, 6, 7], "labels": [-100, 6, label]} for label in (1, 2, 33)]
    spoken = [{"conversations": [{"from": name, "value": "x"}]} for name in ("alien", "robot")]
    found = inspect(tiny_encoder, write_jsonl(*wrong, *spoken, GOOD))
    assert [problem.count for problem in errors(found)] == [3, 2]
    assert "label 1 at position 2" in errors(found)[0].message


def test_no_more_kinds_of_problems_than_can_be_read(write_jsonl, tiny_encoder):
    rows = [{"x" * n: 1} for n in range(1, 60)]
    found = inspect(tiny_encoder, write_jsonl(GOOD, *rows))
    assert len(found.problems) == 21
    assert found.problems[-1].message == "further errors of other kinds"
    assert sum(problem.count for problem in found.problems) == 59


def test_errors_of_reading_forms_and_templates_are_all_found(tmp_path, make_tokenizer):
    template = (
        "{% for m in messages %}{% if m['role'] not in ('user', 'assistant') %}{{ raise_exception('no such role') }}"
        "{% endif %}<|{{ m['role'] }}|>{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}{% endfor %}"
    )
    encoder = load_encoder(str(make_tokenizer(chat_template=template)))
    path = tmp_path / "rows.jsonl"
    system = {"messages": [{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path.write_text("{\n" + "".join(json.dumps(row) + "\n" for row in ({"foo": 1}, system, GOOD)))
    found = inspect(encoder, path)
    assert [problem.where for problem in errors(found)] == [f"{path}:{n}" for n in (1, 2, 3)]
    assert [problem.message.split(":")[0] for problem in errors(found)] == [
        "not JSON",
        "a row with the columns foo is of no known form",
        "the chat template refuses the conversation with the roles system, assistant",
    ]


def test_warnings_follow_errors_and_do_not_fail(write_jsonl, tiny_encoder):
    path = write_jsonl(GOOD, {"question": "How many apples?", "answer": "Two. " * 50})
    found = inspect(tiny_encoder, path, max_length=30)
    assert [problem.level for problem in found.problems] == ["warning"]
    assert "1 examples were truncated" in found.problems[0].message
    assert not found.has_errors
    assert len(found.previews[1].token_ids) == 30


def test_nothing_to_train_on_is_an_error_and_the_rows_are_shown(write_jsonl, tiny_encoder):
    path = write_jsonl({"input_ids": [5, 6], "labels": [-100, -100]})
    found = inspect(tiny_encoder, path)
    assert "every label is -100" in errors(found)[0].message
    assert found.previews[0].trainable == [False, False]


def test_a_template_without_generation_spans_is_named_once(write_jsonl, make_tokenizer):
    template = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'x' %}{% generation %}{% endgeneration %}"
    encoder = load_encoder(str(make_tokenizer(chat_template=template + "{% endif %}{% endfor %}")))
    found = inspect(encoder, write_jsonl(*[GOOD] * 3))
    (problem,) = found.problems
    assert "no {% generation %} span" in problem.message
    assert problem.count == 3
    assert found.previews == []


def test_a_token_id_that_the_tokenizer_does_not_have(write_jsonl, tiny_encoder):
    size = len(tiny_encoder.tokenizer)
    good = {"input_ids": [5, size - 1], "labels": [-100, size - 1]}
    assert not inspect(tiny_encoder, write_jsonl(good)).has_errors
    path = write_jsonl(good, {"input_ids": [5, size], "labels": [-100, size]})
    (problem,) = errors(inspect(tiny_encoder, path))
    assert f"token id {size} is beyond the tokenizer's vocabulary of {size} tokens" in problem.message
    assert problem.where == f"{path}:2"


def test_the_default_template_and_prefixes_are_told(write_jsonl, make_tokenizer):
    assert inspect(load_encoder(str(make_tokenizer(chat_template=None))), write_jsonl(GOOD)).template == "default"
    prefixes = load_encoder(str(make_tokenizer()), "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}")
    assert inspect(prefixes, write_jsonl(GOOD)).answers_by == "prefixes"


def test_a_second_tokenizer_that_differs_is_an_error(write_jsonl, tiny_encoder, tiny_tokenizer_folder, make_tokenizer):
    path = write_jsonl({"foo": 1}, GOOD)
    other = make_tokenizer(special_tokens=["<|pad|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|x|>"])
    same = inspect(tiny_encoder, path, compare_with=str(tiny_tokenizer_folder))
    assert [problem.count for problem in same.problems] == [1]
    found = inspect(tiny_encoder, path, compare_with=str(other))
    assert "two tokenizers give different ids" in errors(found)[1].message
    assert found.unusable == 1


def test_a_source_that_cannot_be_read_is_an_error_beside_the_others(tmp_path, write_jsonl, tiny_encoder):
    (tmp_path / "empty.jsonl").touch()
    missing = tmp_path / "missing.jsonl"
    path, other = write_jsonl(GOOD), write_jsonl({**GOOD, "answer": "Three."}, name="other.jsonl")
    found = inspect(tiny_encoder, path, tmp_path / "empty.jsonl", missing, other)
    assert [problem.message for problem in found.problems] == ["the file is empty", "no such file, folder or glob"]
    assert found.counts.examples == 2


@pytest.mark.parametrize("content", [None, "", "not JSON\n"])
def test_nothing_to_read_at_all_raises(content, tmp_path, tiny_encoder):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TokensieveError, match=r"no such file|the file is empty|not JSON"):
        inspect(tiny_encoder, path)


def test_rows_that_are_all_bad_are_not_blamed_on_their_labels(write_jsonl, tiny_encoder):
    found = inspect(tiny_encoder, write_jsonl({"foo": 1}, {"foo": 2}))
    assert [problem.message for problem in found.problems] == ["a row with the columns foo is of no known form"]


def test_the_whole_of_a_real_file(shared):
    encoder = load_encoder(str(shared / "models/english-3M"))
    found = inspect(encoder, shared / "data/llamafactory_demo/glaive_toolcall_en_demo.json")
    assert found.counts.rows == 300
    (calls,) = errors(found)
    assert "leaves out the tool calls" in calls.message
    assert calls.count == found.unusable == 300 - found.counts.examples > 100
    assert any("rows have tools" in problem.message for problem in found.problems)


def test_chunks_and_processes_find_what_one_pass_finds(tmp_path, tiny_encoder, monkeypatch):
    rows = [{**GOOD, "answer": f"Answer {n % 9}.", "note": n} for n in range(30)]
    lines = [json.dumps(row) for row in rows]
    lines[3:3] = ["", "not JSON", "[1]", json.dumps({"foo": 1})]
    lines += [json.dumps({"question": "q", f"column{'x' * n}": 1}) for n in range(25)]  # kinds of errors without end
    path, limit = tmp_path / "rows.jsonl", {"max_length": 20, "bad_rows": "skip"}
    path.write_text("\n".join(lines))
    whole = inspect(tiny_encoder, path, path, examples=12, **limit).to_json()
    assert whole["unusable"] == 2 * 28
    assert whole["counts"]["repeated_examples"] == 51
    assert [one["row"] for one in whole["previews"]] == [*range(1), *range(1, 3), *range(4, 13)]
    monkeypatch.setattr(inspection, "CHUNK_ROWS", 5)
    read = []
    assert inspect(tiny_encoder, path, path, examples=12, on_rows=read.append, **limit).to_json() == whole
    assert sum(read) == whole["counts"]["rows"]
    monkeypatch.setattr(local, "_WORTH_PROCESSES", -1.0)
    assert inspect(tiny_encoder, path, path, examples=12, **limit).to_json() == whole
