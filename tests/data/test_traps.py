"""Data that would train something else than it says: it is read as it was meant, refused by name, or counted.

`docs/data.md` has the table of forms and traps with the tests of this module.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trl

from tokensieve import yaml12
from tokensieve.cli import main
from tokensieve.data.bad_rows import raise_error
from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.counts import Counts
from tokensieve.data.encode import converted_rows
from tokensieve.data.formats import Conversation, PlainText, convert
from tokensieve.data.inspection import inspect_data
from tokensieve.data.prepare import prepare
from tokensieve.data.repeats import repeats, shared
from tokensieve.data.settings import DataSettings, FileSettings
from tokensieve.data.sources import source_fingerprint
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.inputs import prepare_inputs
from tokensieve.pipeline.inspection import inspect, inspect_recipe
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.progress import StageProgress
from tokensieve.report.as_json import results_json
from tokensieve.runs.view import load_run
from tokensieve.select.selection import Selection

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ASK, RIGHT, WRONG = "2 + 2?", "4", "5"


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def converted(path: Path, **options: Any) -> list[Any]:
    """Return the rows of a file in one form."""
    settings = DataSettings(files=(str(path),), **options)
    return [item for batch, _ in converted_rows(settings, raise_error) for _, item in batch]


class TestMedia:
    @pytest.mark.parametrize("name", ["image", "images", "video", "videos", "audio", "audios", "pixel_values"])
    def test_a_column_of_media_is_refused_unless_it_is_ignored(self, name, write_jsonl):
        path = write_jsonl({"messages": TURNS}, {"messages": TURNS, name: ["a.bin"]})
        with pytest.raises(TokensieveError, match=f"column '{name}' holds what has no text tokens") as error:
            converted(path)
        assert error.value.where == f"{path}:2"
        assert f"data.ignore: [{name}]" in error.value.hint
        assert converted(path, ignore=(name,)) == [Conversation(TURNS)] * 2

    @pytest.mark.parametrize("empty", [None, [], ""])
    def test_an_empty_column_of_media_is_no_error(self, empty, write_jsonl):
        assert converted(write_jsonl({"messages": TURNS, "images": empty})) == [Conversation(TURNS)]

    def test_binary_values_are_media_whatever_the_name(self, tmp_path):
        row = {"question": ASK, "answer": RIGHT, "figure": {"bytes": b"\x89PNG", "path": "a.png"}}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
        with pytest.raises(TokensieveError, match="column 'figure' holds what has no text tokens"):
            converted(tmp_path / "a.parquet")
        assert converted(tmp_path / "a.parquet", ignore=("figure",)) == [Conversation(turns(ASK, RIGHT))]

    @pytest.mark.parametrize(
        ("text", "way_out"),
        [
            ("<image>\nWhat is this?", "images"),
            ("What is this?\n<image>", "images"),
            ("<video>Why is this funny?", "videos"),
            ("Compare <image> and <image>", "images"),
            ("What is said? <audio>", "audios"),
            ("See <|image_pad|> here", "images"),
        ],
    )
    @pytest.mark.parametrize("form", ["messages", "conversations", "alpaca", "text"])
    def test_a_placeholder_is_refused_unless_its_medium_is_ignored(self, form, text, way_out, write_jsonl):
        row = {
            "messages": {"messages": turns(text, RIGHT)},
            "conversations": {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": RIGHT}]},
            "alpaca": {"instruction": text, "output": RIGHT},
            "text": {"prompt": text, "completion": RIGHT},
        }[form]
        path = write_jsonl(row)
        with pytest.raises(TokensieveError, match="stands for what has no text tokens") as error:
            converted(path)
        assert f"data.ignore: [{way_out}]" in error.value.hint
        expected = PlainText(text, RIGHT) if form == "text" else Conversation(turns(text, RIGHT))
        assert converted(path, ignore=(way_out,)) == [expected]

    @pytest.mark.parametrize(
        "text",
        [
            "What does the <video> tag do in HTML?",
            "Fix this:\n<video>\n  <source>\n</video>",
            "<image>a.png</image>",
            "An <images> element",
        ],
    )
    def test_tags_of_markup_are_text(self, text):
        assert convert({"question": text, "answer": "<image>\nis a tag"}) == Conversation(
            turns(text, "<image>\nis a tag")
        )

    def test_ignored_images_are_left_out_of_the_parts_of_a_content(self, write_jsonl):
        parts = [{"type": "image"}, {"type": "text", "text": ASK}]
        path = write_jsonl({"messages": [{"role": "user", "content": parts}, TURNS[1]], "images": ["a.png"]})
        with pytest.raises(TokensieveError, match="column 'images'"):
            converted(path)
        assert converted(path, ignore=("images",)) == [Conversation(turns(ASK, "Hello"))]


class TestPreferences:
    @pytest.mark.parametrize("name", ["label", "kto_tag"])
    @pytest.mark.parametrize("false", [False, "False"])
    def test_a_rejected_answer_of_kto_is_refused_and_an_accepted_one_trains(self, name, false, write_jsonl):
        row = {"prompt": ASK, "completion": RIGHT}
        assert converted(write_jsonl({**row, name: True})) == [PlainText(ASK, RIGHT)]
        path = write_jsonl({**row, name: True}, {**row, name: false})
        with pytest.raises(TokensieveError, match=f"'{name}' is false: .* rejected") as error:
            converted(path)
        assert error.value.where == f"{path}:2"
        assert f"data.ignore: [{name}]" in error.value.hint
        assert converted(path, ignore=(name,)) == [PlainText(ASK, RIGHT)] * 2

    def test_a_label_of_a_class_is_no_preference(self):
        assert convert({"question": ASK, "answer": RIGHT, "label": 0}) == Conversation(turns(ASK, RIGHT))
        assert convert({"text": "a", "label": False}) == PlainText("", "a")

    @pytest.mark.parametrize(
        "row",
        [
            {
                "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {RIGHT}",
                "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {WRONG}",
            },
            {"chosen": turns(ASK, RIGHT), "rejected": turns(ASK, WRONG)},
            {"prompt": ASK, "chosen": turns(ASK, RIGHT), "rejected": turns(ASK, WRONG), "score_chosen": 9.0},
            {"prompt": ASK, "chosen": RIGHT, "rejected": WRONG},
            {"question": ASK, "chosen": RIGHT, "rejected": WRONG, "id": 1},
            {"instruction": ASK, "chosen": RIGHT, "rejected": WRONG},
            {"prompt": turns(ASK), "chosen": turns("", RIGHT)[1:], "rejected": turns("", WRONG)[1:]},
            {
                "conversations": [{"from": "human", "value": ASK}],
                "chosen": {"from": "gpt", "value": RIGHT},
                "rejected": {"from": "gpt", "value": WRONG},
            },
            {"instruction": ASK, "output": RIGHT, "rejected": WRONG},
            {"instruction": ASK, "output": RIGHT, "chosen": RIGHT, "rejected": WRONG},
            {"messages": turns(ASK, RIGHT), "rejected_response": WRONG},
        ],
    )
    def test_preference_rows_are_refused_with_settings_that_train_on_the_preferred_answers(self, row, write_jsonl):
        path = write_jsonl(row)
        with pytest.raises(TokensieveError, match=r"a preference row, .* DPO and reward models") as error:
            converted(path)
        (given,) = re.findall(r"data: (\{.*\})$", error.value.hint)
        settings = yaml12.parse_value(given)
        (found,) = converted(path, columns=settings.get("columns", {}), ignore=tuple(settings["ignore"]))
        assert [(m["role"], m["content"]) for m in found.messages] == [("user", ASK), ("assistant", RIGHT)]

    def test_real_preferences(self, shared, tmp_path):
        packed = shared / "data/hh_rlhf/harmless-base/test.jsonl.gz"
        path = tmp_path / "hh.jsonl"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        with pytest.raises(TokensieveError, match=r"columns: {chosen: messages}, ignore: \[rejected\]"):
            converted(path, limit=1)
        found = converted(path, columns={"chosen": "messages"}, ignore=("rejected",))
        assert len(found) == 2312
        assert {m["role"] for one in found for m in one.messages} == {"user", "assistant"}
        first = json.loads(path.read_text().splitlines()[0])["chosen"]
        assert found[0].messages[-1]["content"] == first.rpartition("Assistant:")[2].strip()
        book = shared / "data/llmsfromscratch_instruct/ch07/04_preference-tuning-with-dpo"
        with pytest.raises(TokensieveError, match=r"ignore: \[chosen, rejected\]"):
            converted(book / "instruction-data-with-preference.json")


class TestColumns:
    @pytest.mark.parametrize("answer", [{"output": RIGHT}, {"response": RIGHT}])
    def test_alpaca_history_becomes_earlier_turns(self, answer):
        row = {"instruction": ASK, **answer, "history": [["a?", "b"], ["c?", "d"]], "system": "Be brief."}
        found = convert(row)
        assert isinstance(found, Conversation)
        assert found.messages == [{"role": "system", "content": "Be brief."}, *turns("a?", "b", "c?", "d", ASK, RIGHT)]
        assert convert({"instruction": ASK, **answer, "history": []}) == Conversation(turns(ASK, RIGHT))

    @pytest.mark.parametrize("history", ["a", [["a?"]], [["a?", None]], [{"role": "user", "content": "a?"}]])
    def test_a_history_that_is_none_is_refused(self, history):
        with pytest.raises(TokensieveError, match="'history' must be a list of earlier turns"):
            convert({"instruction": ASK, "output": RIGHT, "history": history})

    @pytest.mark.parametrize("name", ["history", "system", "tools"])
    def test_what_surrounds_a_conversation_is_refused_where_the_form_has_no_place_for_it(self, name):
        row = {"prompt": ASK, "completion": RIGHT, name: [["a?", "b"]] if name == "history" else "x"}
        with pytest.raises(TokensieveError, match=f"no place for the column '{name}'") as error:
            convert(row)
        assert f"data.ignore: [{name}]" in error.value.hint

    def test_two_columns_for_one_purpose_are_refused(self):
        row = {"question": ASK, "answer": RIGHT, "response": WRONG}
        with pytest.raises(TokensieveError, match="columns 'answer' and 'response' have the same purpose") as error:
            convert(row)
        assert "data.ignore: [response]" in error.value.hint
        assert convert({**row, "response": ""}) == Conversation(turns(ASK, RIGHT))

    def test_metadata_is_no_error_and_is_listed(self, write_jsonl, tiny_encoder):
        row = {"id": 1, "messages": TURNS, "lang": "en", "score": 0.5, "source": "web", "tags": [], "places": [[0, 1]]}
        found = inspect_data(DataSettings(files=(str(write_jsonl(row, row, {"messages": TURNS})),)), tiny_encoder, 1)
        assert not found.has_errors
        assert found.counts.unused_columns == {"id": 2, "lang": 2, "score": 2, "places": 2}
        assert found.to_json()["counts"]["unused_columns"]["lang"] == 2
        ignored = DataSettings(files=(str(write_jsonl(row)),), ignore=("id", "places"))
        assert inspect_data(ignored, tiny_encoder, 1).counts.unused_columns == {"lang": 1, "score": 1}

    def test_columns_that_are_not_used_are_shown_by_inspect_and_by_a_dry_run(self, write_jsonl, tmp_path, capsys):
        path = write_jsonl({"question": ASK, "answer": RIGHT, "id": 1, "lang": "en"})
        main(["inspect", str(path), "--tokenizer", str(MODEL)])
        told = "columns that are not used, with their rows: id (1), lang (1)"
        assert told in " ".join(capsys.readouterr().out.split())
        main(["run", "--dry-run", f"output={tmp_path / 'run'}", f"data={path}", f"models.base={MODEL}", "method=loss"])
        assert told in capsys.readouterr().out

    def test_a_run_knows_the_columns_of_examples_that_were_prepared_before(self, write_jsonl, tmp_path, tiny_encoder):
        settings = DataSettings(files=(str(write_jsonl({"question": ASK, "answer": RIGHT, "id": 1})),))
        for _ in range(2):
            examples = prepare(settings, tiny_encoder, tmp_path / "store", lambda _: None)
            assert examples.counts.unused_columns == {"id": 1}

    @pytest.mark.parametrize(
        ("file", "unused"),
        [
            ("fastchat/data/dummy_conversation.json", {"id": 500}),
            ("llamafactory_demo/v1_sft_demo.jsonl", {}),
            ("alpaca_subsets/filtered/dolly_3k.json", {"category": 2996}),
            ("gsm8k/test.jsonl", {}),
        ],
    )
    def test_real_files_without_traps_are_read(self, shared, tiny_encoder, file, unused):
        found = inspect_data(DataSettings(files=(str(shared / "data" / file),)), tiny_encoder, 0)
        assert not found.has_errors
        assert found.counts.unused_columns == unused


class TestRoles:
    @pytest.mark.parametrize("form", ["messages", "conversations"])
    @pytest.mark.parametrize(("key", "text"), [("role", "content"), ("from", "value")])
    @pytest.mark.parametrize(("human", "model"), [("human", "gpt"), ("User", "Assistant"), ("user", "model")])
    def test_known_names_of_speakers_are_recognised_in_every_form(self, form, key, text, human, model):
        row = {form: [{key: human, text: "Hi"}, {key: model, text: "Hello"}]}
        assert convert(row) == Conversation(TURNS)

    @pytest.mark.parametrize("role", ["narrator", "critic", "thought"])
    def test_an_unknown_role_is_named_with_its_row(self, role, write_jsonl):
        path = write_jsonl({"messages": TURNS}, {"messages": [{"role": role, "content": "x"}, *TURNS]})
        with pytest.raises(TokensieveError, match=f"unknown role '{role}'") as error:
            converted(path)
        assert error.value.where == f"{path}:2"
        assert "human" in error.value.hint
        assert f"data.roles: {{{role}: user}}" in error.value.hint

    @pytest.mark.parametrize("form", ["messages", "conversations", "prompt"])
    @pytest.mark.parametrize("key", ["role", "from"])
    def test_an_unknown_role_is_read_as_what_the_user_says(self, form, key, write_jsonl):
        text = {"role": "content", "from": "value"}[key]
        said = [{key: "Narrator", text: "It rains."}, {key: "critic", text: "Well."}, {key: "gpt", text: "It pours."}]
        row = {form: said[:2], "completion": said[2:]} if form == "prompt" else {form: said}
        path = write_jsonl({**row, "id": {"role": "narrator"}})
        roles = {"narrator": "system", "critic": "user"}
        (found,) = converted(path, roles=roles)
        assert [message["role"] for message in found.messages] == ["system", "user", "assistant"]
        (of_a_file,) = converted_rows(
            DataSettings(files=(FileSettings(str(path), roles=roles),), roles={"critic": "tool"}), raise_error
        )
        assert of_a_file[0][0][1] == found
        assert of_a_file[0][0][0].data["id"] == {"role": "narrator"}, "what is no turn stays as it is"
        assert source_fingerprint(DataSettings(files=(str(path),))) != source_fingerprint(
            DataSettings(files=(str(path),), roles=roles)
        )

    @pytest.mark.parametrize("key", ["data.roles", "evaluate.held_out.roles", "data.files.0.roles"])
    def test_a_role_that_is_not_known_either_is_refused(self, key):
        files = "data.files=[{path: a.jsonl}]"
        given = ["output=o", files, "models.base=m", "evaluate.held_out.files=b.jsonl", f"{key}={{narrator: usr}}"]
        with pytest.raises(
            TokensieveError, match="read as 'usr', which is no role that is known; did you mean"
        ) as error:
            load_recipe(None, given)
        assert error.value.where.endswith(f": {key}.narrator")
        assert "assistant" in error.value.hint

    def test_roles_on_the_command_line(self, write_jsonl, capsys):
        path = write_jsonl({"messages": [{"role": "narrator", "content": "Hi"}, TURNS[1]]})
        main(["inspect", str(path), "--tokenizer", str(MODEL), "--roles", "narrator=user", "--json"])
        assert json.loads(capsys.readouterr().out)["counts"]["examples"] == 1
        with pytest.raises(SystemExit):
            main(["inspect", str(path), "--tokenizer", str(MODEL), "--roles", "narrator"])
        assert "'narrator' is not NAME=ROLE" in capsys.readouterr().err

    def test_human_and_gpt_in_messages_are_trained_on(self, write_jsonl, tiny_encoder):
        row = {"messages": [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Hello"}]}
        found = inspect_data(DataSettings(files=(str(write_jsonl(row)),)), tiny_encoder, 1)
        assert not found.has_errors
        trained = [i for i, yes in zip(found.previews[0].token_ids, found.previews[0].trainable, strict=True) if yes]
        assert tiny_encoder.tokenizer.decode(trained) == "Hello<|end|>"


class TestForms:
    @pytest.mark.parametrize(
        "row",
        [
            {"instruction": ASK, "context": "", "response": RIGHT, "category": "open_qa"},
            {"instruction": ASK, "input": "", "response": RIGHT},
            {"prompt": ASK, "response": RIGHT},
            {"query": ASK, "response": RIGHT},
            {"question": ASK, "response": RIGHT},
            {"input": ASK, "output": RIGHT},
            {"conversations": turns(ASK, RIGHT)},
        ],
    )
    def test_pairs_of_many_names(self, row):
        assert convert(row) == Conversation(turns(ASK, RIGHT))

    @pytest.mark.parametrize(
        "row",
        [
            {"instruction": "Add.", "context": "2 2", "response": RIGHT},
            {"instruction": "Add.", "input": "2 2", "output": RIGHT},
            {"question": "Add.", "context": "2 2", "answer": RIGHT},
        ],
    )
    def test_a_context_is_part_of_the_question(self, row):
        assert convert({**row, "system_prompt": "Be brief."}) == Conversation(
            [{"role": "system", "content": "Be brief."}, *turns("Add.\n\n2 2", RIGHT)]
        )

    @pytest.mark.parametrize("indent", [None, 1])
    @pytest.mark.parametrize(
        ("name", "wrap"),
        [("a.json", lambda rows: {"version": "1.1", "data": rows}), ("a.jsonl", list), ("a.ndjson", list)],
    )
    def test_rows_under_data_and_a_list_in_a_file_of_json_lines(self, name, wrap, indent, tmp_path):
        path = tmp_path / name
        path.write_text(json.dumps(wrap([{"question": ASK, "answer": RIGHT}] * 3), indent=indent))
        assert converted(path) == [Conversation(turns(ASK, RIGHT))] * 3

    @pytest.mark.parametrize(
        ("text", "message", "line"),
        [
            ('[1]\n{"question": "a", "answer": "b"}\n', "a JSON list, not an object", 1),
            ('[\n{"question": "a", "answer": "b"},\n{"question": "a" "answer": "b"}\n]', "not JSON", 3),
        ],
    )
    def test_a_line_that_is_a_list_and_a_broken_list_are_named(self, text, message, line, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text(text)
        with pytest.raises(TokensieveError, match=message) as error:
            converted(path)
        assert error.value.where == f"{path}:{line}"


class TestFiles:
    @pytest.fixture
    def pair(self, write_jsonl):
        """A file of questions and a file whose columns have other names."""
        one = write_jsonl(*[{"question": f"{n}?", "answer": f"{n}"} for n in range(3)], name="one.jsonl")
        other = write_jsonl(*[{"Q": f"{n}!", "A": f"{n}", "images": ["x"]} for n in range(3)], name="other.jsonl")
        return one, other

    def test_columns_form_and_limit_of_each_file(self, pair):
        one, other = map(str, pair)
        entry = FileSettings(
            other, columns={"Q": "instruction", "A": "output"}, form="alpaca", limit=2, ignore=("images",)
        )
        settings = DataSettings(files=(FileSettings(one, limit=1), entry, one), limit=5)
        found = [item for batch, _ in converted_rows(settings, raise_error) for _, item in batch]
        asked = [item.messages[0]["content"] for item in found if isinstance(item, Conversation)]
        assert asked == ["0?", "0!", "1!", "0?", "1?"]

    def test_what_a_file_leaves_open_is_as_for_the_others(self, pair):
        one, other = map(str, pair)
        columns = {"Q": "question", "A": "answer"}
        settings = DataSettings(files=(FileSettings(one, columns={}), other), columns=columns, ignore=("images",))
        assert len([row for batch, _ in converted_rows(settings, raise_error) for row in batch]) == 6

    def test_settings_of_a_file_are_in_the_identity(self, pair):
        one = str(pair[0])
        given: list[dict[str, Any]] = [
            {},
            {"limit": 2},
            {"form": "alpaca"},
            {"columns": {"a": "b"}},
            {"ignore": ("a",)},
        ]
        prints = {source_fingerprint(DataSettings(files=(FileSettings(one, **options),))) for options in given}
        assert len(prints) == len(given)
        assert source_fingerprint(DataSettings(files=(one,), form="alpaca")) == source_fingerprint(
            DataSettings(files=(FileSettings(one, form="alpaca"),))
        )

    def test_every_place_that_takes_files_takes_their_settings(self, pair, tmp_path):
        one, other = pair
        columns = "columns: {Q: question, A: answer}, ignore: images"
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"output: {tmp_path / 'run'}\n"
            f"data: {{files: [{one}, {{path: {other}, limit: 1, {columns}}}], limit: 9}}\n"
            f"models: {{base: {MODEL}, reference: {{warm_up: {{files: {{path: {other}, {columns}}}}}}}}}\n"
            f"evaluate:\n"
            f"  held_out: {{files: {other}, limit: 2, {columns}}}\n"
            f"  exact_match: [{{path: {other}, limit: 1, {columns}}}]\n"
        )
        inputs = prepare_inputs(make_plan(load_recipe(recipe)), StageProgress())
        assert inputs.examples.counts.rows == 4
        assert inputs.held_out is not None
        assert inputs.held_out.counts.rows == 2
        assert inputs.warm_ups["reference"].counts.rows == 3
        assert len(inputs.evaluation.questions) == 1

    def test_the_pool_and_the_held_out_file_need_not_share_columns(self, pair, tmp_path):
        one, other = map(str, pair)
        given = [f"output={tmp_path / 'run'}", f"models.base={MODEL}", "method=loss"]
        data = f"data={{files: {other}, limit: 1, columns: {{Q: question, A: answer}}, ignore: images}}"
        recipe = load_recipe(None, [*given, data, f"evaluate.held_out={{files: {one}, columns: {{}}, limit: 2}}"])
        inputs = prepare_inputs(make_plan(recipe), StageProgress())
        assert inputs.held_out is not None
        assert (inputs.examples.counts.rows, inputs.held_out.counts.rows) == (1, 2)

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("data.files=[{path: a.jsonl, limt: 3}]", "unknown key 'limt'; did you mean 'limit'"),
            ("data.files=[{path: a.jsonl, limit: 0}]", "data.files.0.limit is 0, it must be at least 1"),
            ("data.files=[{limit: 3}]", "'data.files.0.path' is required"),
            ("data.files=[5]", "data.files.0 is 5, it must be text or a mapping"),
            ("evaluate.held_out={limit: 3}", "'limit' says how to read files, and no files are given"),
            ("models.reference.warm_up={form: alpaca}", "'form' says how to read files, and no files are given"),
        ],
    )
    def test_faulty_settings_of_files(self, override, message):
        with pytest.raises(TokensieveError, match=message):
            load_recipe(None, ["output=o", "data.files=[x.jsonl]", "models.base=m", override])

    def test_an_override_adds_to_a_path(self):
        recipe = load_recipe(
            None, ["output=o", "models.base=m", "data.files=[a.jsonl, b.jsonl]", "data.files.1.limit=5"]
        )
        assert recipe.data.files == ("a.jsonl", FileSettings("b.jsonl", limit=5))


class TestInspect:
    def test_a_recipe_is_inspected_with_its_settings(self, write_jsonl, tmp_path, capsys):
        path = write_jsonl(*[{"Q": ASK, "A": RIGHT, "images": ["x"]}] * 3)
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"output: {tmp_path / 'run'}\nmodels: {{base: {MODEL}}}\n"
            f"data: {{files: {path}, columns: {{Q: question, A: answer}}, ignore: [images], limit: 2}}\n"
        )
        main(["inspect", str(recipe), "--json"])
        assert json.loads(capsys.readouterr().out)["counts"]["rows"] == 2
        main(["inspect", str(recipe), "data.limit=1", "--json"])
        assert json.loads(capsys.readouterr().out)["counts"]["rows"] == 1
        assert not (tmp_path / "run").exists()

    def test_columns_form_and_columns_to_ignore_on_the_command_line(self, write_jsonl, capsys):
        path = write_jsonl({"Q": ASK, "A": RIGHT, "text": "other", "images": ["x"]})
        command = ["inspect", str(path), "--tokenizer", str(MODEL), "--json"]
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 1
        assert "column 'images'" in capsys.readouterr().out
        options = ["--columns", "Q=question", "A=answer", "--form", "question-answer", "--ignore", "images"]
        main([*command, *options])
        found = json.loads(capsys.readouterr().out)
        assert found["problems"] == []
        assert found["counts"]["unused_columns"] == {"text": 1}

    def test_a_faulty_column_and_no_tokenizer_are_refused(self, write_jsonl, capsys):
        path = str(write_jsonl({"messages": TURNS}))
        for options, message in ((["--tokenizer", "m", "--columns", "Q"], "'Q' is not OLD=NEW"), ([], "no tokenizer")):
            with pytest.raises(SystemExit) as stop:
                main(["inspect", path, *options])
            assert stop.value.code == 2
            assert message in capsys.readouterr().err

    def test_code_of_a_model_is_run_only_where_it_is_trusted(self, write_jsonl, tmp_path, capsys):
        folder = tmp_path / "model"
        shutil.copytree(MODEL, folder)
        config = json.loads((folder / "config.json").read_text())
        del config["architectures"]
        auto = {"AutoConfig": "own.OwnConfig"}
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": auto}))
        (folder / "own.py").write_text(
            "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        )
        command = ["inspect", str(write_jsonl({"messages": TURNS})), "--tokenizer", str(folder), "--json"]
        with pytest.raises(SystemExit):
            main(command)
        assert "trust_remote_code" in capsys.readouterr().out
        main([*command, "--trust-remote-code"])
        assert json.loads(capsys.readouterr().out)["problems"] == []


SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% elif m.tool_calls is defined %}[TOOL_CALLS] [{% for call in m.tool_calls %}"
    "{% if call.id is not defined or call.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
    "{{ (call.function | tojson)[:-1] + ', \"id\": \"' + call.id + '\"}' }}{{ ', ' if not loop.last }}"
    "{% endfor %}]{{ eos_token }}"
    "{% elif m.role == 'assistant' %} {{ m.content | trim + eos_token }}"
    "{% elif m.role == 'tool' %}"
    "{% if m.tool_call_id | default('') | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
    '[TOOL_RESULTS] {"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]'
    "{% endif %}{% endfor %}"
)


def template(name: str) -> ChatTemplate:
    """Return a template as TRL ships it, or one that asks for what Mistral's do."""
    if name == "mistral":
        return ChatTemplate(MISTRAL, SPECIAL)
    path = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    return ChatTemplate(path.read_text(encoding="utf-8"), SPECIAL)


def answers(name: str, conversation: object) -> list[str]:
    """Return what would be trained of a conversation."""
    assert isinstance(conversation, Conversation)
    text, spans = template(name).render_answers(conversation)
    return [text[start:stop].strip() for start, stop in spans]


TYPOGRAPHIC = str.maketrans({"\uff5c": "|", "\u2581": "_"})  # in the special tokens of DeepSeek
SCHEMA = {
    "name": "look_up",
    "description": "the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "its name"}}},
}
CALLS = {
    "qwen2_5": '<tool_call>\n{"name": "look_up", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>',
    "qwen2_5_training": '<tool_call>\n{"name": "look_up", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>',
    "qwen3_training": '<think>\n\n</think>\n\n<tool_call>\n{"name": "look_up", "arguments": {"city": "Oslo"}}\n'
    "</tool_call><|im_end|>",
    "llama3_1": '{"name": "look_up", "parameters": {"city": "Oslo"}}<|eot_id|>',
    "gptoss_training": "<|start|>assistant to=functions.look_up<|channel|>commentary json<|message|>"
    '{"city": "Oslo"}<|call|>',
    "deepseekv3_training": "<|Assistant|><|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>look_up\n"
    '```json\n{"city": "Oslo"}\n```<|tool_call_end|><|tool_calls_end|><|end_of_sentence|>',
    "mistral": '[TOOL_CALLS] [{"name": "look_up", "arguments": {"city": "Oslo"}, "id": "call00000"}]</s>',
}


class TestToolCalls:
    """Tool calls reach the text as the template writes them, or the row is refused."""

    @staticmethod
    def openai(calls, **message):
        return {
            "messages": [
                {"role": "user", "content": "Rain?"},
                {"role": "assistant", "content": None, "tool_calls": calls, **message},
                {"role": "tool", "content": "wet"},
                {"role": "assistant", "content": "It rains."},
            ],
            "tools": [SCHEMA],
        }

    @staticmethod
    def sharegpt(value):
        turns = [("human", "Rain?"), ("function_call", value), ("observation", "wet"), ("gpt", "It rains.")]
        return {
            "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
            "tools": json.dumps([SCHEMA]),
        }

    @pytest.mark.parametrize("name", CALLS)
    @pytest.mark.parametrize("written", ["objects", "JSON text", "all JSON text", "one of old", "sharegpt", "a list"])
    def test_a_call_is_written_as_the_template_writes_it(self, name, written):
        call = {"name": "look_up", "arguments": {"city": "Oslo"}}
        as_text = {**call, "arguments": json.dumps(call["arguments"])}
        row = {
            "objects": lambda: self.openai([{"type": "function", "function": call}]),
            "JSON text": lambda: self.openai([{"type": "function", "function": as_text}]),
            "all JSON text": lambda: self.openai(json.dumps([{"type": "function", "function": as_text}])),
            "one of old": lambda: self.openai([], function_call=as_text),
            "sharegpt": lambda: self.sharegpt(json.dumps(call)),
            "a list": lambda: self.sharegpt(json.dumps([call])),
        }[written]()
        (answer, _) = answers(name, convert(row))
        assert answer.translate(TYPOGRAPHIC) == CALLS[name]

    def test_what_a_tool_says_is_context(self):
        conversation = convert(self.sharegpt('{"name": "look_up", "arguments": {}}'))
        assert isinstance(conversation, Conversation)
        for name in CALLS:
            text, spans = template(name).render_answers(conversation)
            assert "wet" in text
            assert not any("wet" in text[start:stop] for start, stop in spans)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("{city: Oslo}", r"the arguments of 'look_up' is not JSON: .* at character 2 of '{city: Oslo}'"),
            ('["Oslo"]', "the arguments of 'look_up' must be a JSON object, not list"),
            ('"{}"', "the arguments of 'look_up' must be a JSON object, not str"),
        ],
    )
    def test_arguments_that_are_not_the_json_of_an_object(self, arguments, message):
        with pytest.raises(TokensieveError, match=message):
            convert(self.openai([{"function": {"name": "look_up", "arguments": arguments}}]))

    @pytest.mark.parametrize("value", ["I look it up.", '{"city": "Oslo"}', "[3]", '[{"name": 3}]'])
    def test_a_function_call_that_is_no_call_names_its_row(self, value, write_jsonl, tiny_encoder):

        path = write_jsonl({"question": "a", "answer": "b"}, self.sharegpt(value))
        found = inspect_data(DataSettings(files=(str(path),)), tiny_encoder, 0)
        (problem,) = [problem for problem in found.problems if problem.level == "error"]
        assert problem.message.startswith(("a tool call is not JSON", "not a tool call"))
        assert problem.where == f"{path}:2"

    def test_a_function_call_without_a_call(self):
        with pytest.raises(TokensieveError, match="has no content"):
            convert(self.sharegpt("[]"))

    def test_ids_that_are_given_stay(self):
        row = self.openai([{"id": "abcdefghi", "function": {"name": "look_up"}}])
        row["messages"][2]["tool_call_id"] = "abcdefghi"
        assert answers("mistral", convert(row))[0].endswith('"arguments": {}, "id": "abcdefghi"}]</s>')
        row["messages"][1]["tool_calls"][0]["id"] = "call_1"
        with pytest.raises(TokensieveError, match="ids have 9 characters"):
            answers("mistral", convert(row))

    @pytest.mark.parametrize("name", ["llama3", "llama3_training", "lfm2"])
    def test_a_template_that_ignores_calls_is_refused_with_the_way_out(self, name):
        with pytest.raises(TokensieveError, match="leaves out the tool calls of message 1") as error:
            answers(name, convert(self.sharegpt('{"name": "look_up", "arguments": {}}')))
        assert "data.chat_template" in error.value.hint
        assert "`training`" in error.value.hint

    def test_a_template_that_leaves_out_the_second_call(self):
        row = self.sharegpt('[{"name": "look_up", "arguments": {"city": "Oslo"}}, {"name": "look_up"}]')
        assert answers("qwen3_training", convert(row))[0].count("look_up") == 2
        with pytest.raises(TokensieveError, match="leaves out the tool calls of message 1"):
            answers("gptoss_training", convert(row))

    def test_a_template_that_leaves_out_the_text_beside_a_call(self):
        row = self.openai([{"function": {"name": "look_up"}}], content="Let me look.")
        assert "Let me look." in answers("qwen2_5", convert(row))[0]
        with pytest.raises(TokensieveError, match="leaves out the text of message 1"):
            answers("llama3_1", convert(row))

    def test_a_template_that_leaves_out_what_tools_say(self):
        forgetful = ChatTemplate(MISTRAL.replace("m.role == 'tool'", "m.role == 'tool' and false"), SPECIAL)
        conversation = convert(self.sharegpt('{"name": "look_up"}'))
        assert isinstance(conversation, Conversation)
        with pytest.raises(TokensieveError, match="leaves out message 2, of the role 'tool'"):
            forgetful.render_answers(conversation)

    def test_calls_that_a_template_marks_as_context_are_refused(self):
        beside = ChatTemplate(
            "{% for m in messages %}<|{{ m.role }}|>{{ m.tool_calls | tojson if m.tool_calls }}"
            "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}"
            "{% else %}{{ m.content }}{% endif %}{% endfor %}",
            SPECIAL,
        )
        conversation = convert(self.sharegpt('{"name": "look_up"}'))
        assert isinstance(conversation, Conversation)
        with pytest.raises(TokensieveError, match="leaves out the tool calls of message 1"):
            beside.render_answers(conversation)

    def test_real_rows(self, shared):
        rows = json.loads((shared / "data/llamafactory_demo/glaive_toolcall_en_demo.json").read_text("utf-8"))[:40]
        read, calls = template("qwen2_5_training"), 0
        for row in rows:
            conversation = convert(row)
            assert isinstance(conversation, Conversation)
            text, spans = read.render_answers(conversation)
            trained = [text[start:stop] for start, stop in spans]
            said = [turn for turn in row["conversations"] if turn["from"] in ("gpt", "function_call")]
            for answer, turn in zip(trained, said, strict=True):
                if turn["from"] == "function_call":
                    inside = answer.split("<tool_call>\n")[1].split("\n</tool_call>")[0]
                    assert json.loads(inside) == json.loads(turn["value"])
                    calls += 1
                else:
                    assert answer.strip() == turn["value"].strip() + "<|im_end|>"
        assert calls > 10


class TestReasoning:
    """Thoughts reach the text, or the row is refused; those that a template forgets in earlier turns are counted."""

    @staticmethod
    def row(key="reasoning_content", turns=1, **last):
        said = [
            [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}", key: f"thought {n}"}]
            for n in range(turns)
        ]
        messages = [message for turn in said for message in turn]
        messages[-1] |= last
        return {"messages": messages}

    @pytest.mark.parametrize(
        ("name", "key"),
        [
            *itertools.product(
                ["qwen3", "qwen3_training", "gptoss_training"], ["reasoning_content", "thinking", "reasoning"]
            )
        ],
    )
    def test_thoughts_are_trained(self, name, key):
        (answer,) = answers(name, convert(self.row(key)))
        assert "thought 0" in answer

    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("llama3", "reasoning_content"),
            ("llama3_1", "thinking"),
            ("qwen2_5", "reasoning_content"),
            ("mistral", "reasoning"),
        ],
    )
    @pytest.mark.parametrize("content", ["a", ""])
    def test_a_template_that_ignores_thoughts_is_refused(self, name, key, content):
        with pytest.raises(TokensieveError, match="leaves out the thoughts of message 1") as error:
            answers(name, convert(self.row(key, content=content)))
        assert "data.chat_template" in error.value.hint

    def test_an_answer_whose_thoughts_are_not_trained_may_lose_them(self):
        row = self.row("thinking", train=False)
        row["messages"] += [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        assert answers("llama3_1", convert(row)) == ["a<|eot_id|>"]

    @pytest.mark.parametrize("key", ["thinking", "content"])
    def test_thoughts_of_earlier_turns_that_a_template_forgets_are_counted(self, key, make_tokenizer, write_jsonl):

        forgets = (
            "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}"
            "{% if loop.last and m.thinking %}<think>{{ m.thinking }}</think>{% endif %}"
            "{{ m.content if loop.last else m.content.split('</think>')[-1] }}<|end|>{% endgeneration %}"
            "{% else %}{{ m.content }}{% endif %}{% endfor %}"
        )
        encoder = load_encoder(str(make_tokenizer(chat_template=forgets)))
        row = self.row(turns=3, key="thinking")
        if key == "content":
            for message in row["messages"][1::2]:
                message["content"] = f"<think>{message.pop('thinking')}</think>{message['content']}"
        found = inspect_data(DataSettings(files=(str(write_jsonl(row)),)), encoder, 1)
        assert not found.has_errors
        assert found.counts.thoughts_forgotten == 2
        assert any("leaves out the thoughts of 2 answers" in problem.message for problem in found.problems)

    def test_an_earlier_turn_that_is_thoughts_alone_would_be_a_bare_turn_end(self):
        row = self.row("thinking")
        row["messages"][1]["content"] = ""
        row["messages"] += [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        with pytest.raises(TokensieveError, match="leaves out the thoughts of message 1"):
            answers("gptoss_training", convert(row))


GOOD = [{"question": f"How many apples are {n} apples?", "answer": f"The answer is {n}."} for n in range(8)]


def ignore(_: int) -> None:
    """Progress that nobody watches."""


def settings_of(*paths, **options):
    return DataSettings(files=tuple(map(str, paths)), **options)


def levels(found):
    return [problem.level for problem in found.problems]


class TestBadRows:
    """One row that cannot be used is an error, or is left out and kept apart with its reason."""

    @staticmethod
    def write(tmp_path):
        lines = [json.dumps(GOOD[0]), "{not JSON", json.dumps({"foo": "日本 \ud800"}), "[1]", json.dumps(GOOD[1])]
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def test_the_first_is_an_error(self, tmp_path, tiny_encoder):
        path = self.write(tmp_path)
        with pytest.raises(TokensieveError, match="not JSON") as error:
            prepare(settings_of(path), tiny_encoder, tmp_path / "store", ignore)
        assert error.value.where == f"{path}:2"
        assert levels(inspect_data(settings_of(path), tiny_encoder, 0)) == ["error"] * 3

    def test_skipped_ones_are_in_a_file_with_their_reasons(self, tmp_path, tiny_encoder):
        path = self.write(tmp_path)
        settings = settings_of(path, bad_rows="skip")
        store = prepare(settings, tiny_encoder, tmp_path / "store", ignore)
        assert (store.counts.examples, store.counts.bad_rows, store.shards) == (2, 3, 1)
        assert store.bad_rows_file is not None
        lines = store.bad_rows_file.read_text("utf-8").splitlines()
        found = sorted(map(json.loads, lines), key=lambda row: row["at"])
        assert [row["at"] for row in found] == [f"{path}:{number}" for number in (2, 3, 4)]
        assert [row["row"] for row in found] == ["{not JSON\n", {"foo": "日本 \ud800"}, [1]]
        assert found[1]["reason"] == "a text or key has half of a surrogate pair, which is no character"
        assert "日本" in store.bad_rows_file.read_text("utf-8")
        assert store.warnings()[0] == f"3 rows cannot be used and were left out: {store.bad_rows_file} has the reasons"
        inspected = inspect_data(settings, tiny_encoder, 0)
        assert (levels(inspected), inspected.unusable, inspected.has_errors) == (["warning"] * 3, 3, False)
        assert inspected.counts.examples == 2

    def test_the_setting_is_in_the_identity_and_its_effect_in_the_fingerprint(
        self, tmp_path, write_jsonl, tiny_encoder
    ):
        path = write_jsonl(*GOOD)
        stores = [
            prepare(settings_of(path, bad_rows=bad_rows), tiny_encoder, tmp_path / "store", ignore)
            for bad_rows in ("error", "skip")
        ]
        assert stores[0].folder != stores[1].folder
        assert stores[0].fingerprint == stores[1].fingerprint  # no row is bad
        assert stores[1].bad_rows_file is None
        fewer = prepare(settings_of(self.write(tmp_path), bad_rows="skip"), tiny_encoder, tmp_path / "store", ignore)
        assert fewer.fingerprint != stores[0].fingerprint

    def test_a_file_that_was_deleted_is_made_again(self, tmp_path, tiny_encoder):
        settings = settings_of(self.write(tmp_path), bad_rows="skip")
        first = prepare(settings, tiny_encoder, tmp_path / "store", ignore).bad_rows_file
        assert first is not None
        text = first.read_bytes()
        first.unlink()
        prepare(settings, tiny_encoder, tmp_path / "store", ignore)
        assert first.read_bytes() == text

    def test_all_rows_bad_is_an_error(self, tmp_path, write_jsonl, tiny_encoder):
        settings = settings_of(write_jsonl({"foo": 1}, {"foo": 2}), bad_rows="skip")
        with pytest.raises(TokensieveError, match=r"not one row can be used; the first of 2: .* of no known form"):
            prepare(settings, tiny_encoder, tmp_path / "store", ignore)
        found = inspect_data(settings, tiny_encoder, 0)
        assert found.has_errors
        assert found.problems[0].message == "not one row can be used"
        assert not list((tmp_path / "store").rglob("*.jsonl"))

    @pytest.mark.parametrize("content", [None, ""])
    def test_a_file_that_cannot_be_read_is_no_bad_row(self, content, tmp_path, write_jsonl, tiny_encoder):
        other = tmp_path / "other.jsonl"
        if content is not None:
            other.write_text(content)
        settings = settings_of(write_jsonl(*GOOD), other, bad_rows="skip")
        with pytest.raises(TokensieveError, match=r"no such file|the file is empty"):
            prepare(settings, tiny_encoder, tmp_path / "store", ignore)
        assert levels(inspect_data(settings, tiny_encoder, 0)) == ["error"]

    def test_real_rows_with_a_template_that_knows_no_calls(self, shared, tmp_path):
        encoder = load_encoder(str(shared / "models/english-3M"))
        file = shared / "data/llamafactory_demo/glaive_toolcall_en_demo.json"
        store = prepare(settings_of(file, limit=100, bad_rows="skip"), encoder, tmp_path, ignore)
        assert 0 < store.counts.bad_rows == 100 - store.counts.examples < 100

    def test_a_run_trains_on_the_others(self, tmp_path, tiny_model_folder):
        """The reference has a tokenizer of its own, and the dry run reads the data too."""
        path = self.write(tmp_path)
        path.write_text(path.read_text("utf-8") + "".join(json.dumps(row) + "\n" for row in GOOD[2:]), "utf-8")
        recipe = tiny_recipe(tmp_path, path, tiny_model_folder, data={"bad_rows": "skip"})
        progress = StageProgress()
        view = load_run(run(recipe, "select", progress))
        assert view.store.counts.examples == 8
        assert view.store.bad_rows_file is not None
        assert str(view.store.bad_rows_file) in view.warnings[0]
        assert results_json(view)["warnings"] == list(view.warnings) == progress.warnings


class TestTooLong:
    """`inspect` and `run` decide alike on rows that are too long, and say how many."""

    def test_inspect_cuts_where_a_run_cuts(self, tmp_path, write_jsonl, tiny_model_folder):
        long = [{"question": "How many?", "answer": "Two apples. " * 60}, {"question": "Why? " * 150, "answer": "So."}]
        path = write_jsonl(*GOOD, *long)
        recipe = tiny_recipe(tmp_path, path, tiny_model_folder)
        progress = StageProgress()
        counts = load_run(run(recipe, "select", progress)).store.counts
        found, _ = inspect(settings_of(path), str(tiny_model_folder("llama")), 0, None)
        assert not found.has_errors
        assert (counts.truncated_examples, counts.rows_cut_empty, counts.examples) == (2, 1, 9)
        assert found.counts == counts
        assert [problem.message for problem in found.problems] == progress.warnings

    def test_all_too_long_is_an_error_in_both(self, tmp_path, write_jsonl, tiny_model_folder):
        path = write_jsonl({"question": "Why? " * 150, "answer": "So."})
        found, _ = inspect(settings_of(path), str(tiny_model_folder("llama")), 0, None)
        assert levels(found)[0] == "error"
        with pytest.raises(TokensieveError, match=r"every label is -100.*1 of them after truncation to 128") as error:
            run(tiny_recipe(tmp_path, path, tiny_model_folder), "select")
        assert found.problems[0].message == error.value.what

    def test_a_length_beyond_the_context_is_a_problem_beside_the_others(self, write_jsonl, tiny_model_folder):
        path = write_jsonl({"foo": 1}, *GOOD)
        found, _ = inspect(settings_of(path, max_length=4096), str(tiny_model_folder("llama")), 0, None)
        assert [problem.message.split(" ")[0] for problem in found.problems] == ["max_length", "a"]
        assert found.counts.examples == 8

    def test_a_tokenizer_alone_has_the_length_of_a_run(self, write_jsonl, tiny_tokenizer_folder):
        path = write_jsonl({"input_ids": [5] * 3000, "labels": [5] * 3000})
        found, _ = inspect(settings_of(path), str(tiny_tokenizer_folder), 0, None)
        assert (found.counts.truncated_examples, found.counts.tokens) == (1, 2048)


class TestWarnings:
    """What is likely not meant is said, in `inspect`, by a run, and on the page."""

    @staticmethod
    def messages(encoder, *paths, **options):
        return [problem.message for problem in inspect_data(settings_of(*paths, **options), encoder, 0).problems]

    def test_duplicate_rows(self, write_jsonl, tiny_encoder):
        path = write_jsonl({"foo": 1}, *GOOD, GOOD[3], GOOD[3], GOOD[0], GOOD[0])
        (_, message) = self.messages(tiny_encoder, path, bad_rows="skip")
        places = f"{path}:10, {path}:11, {path}:12 and 1 more"
        assert message.startswith(f"4 of 12 examples repeat an earlier one token by token ({places}): each counts")

    def test_numbers_of_warnings_have_separators(self):
        many = 1_234_567
        counts = Counts()
        for one in dataclasses.fields(counts):
            if one.type == "int":
                setattr(counts, one.name, many)
        warnings = counts.warnings()
        assert len(warnings) == 10
        assert all("1,234,567" in warning and str(many) not in warning for warning in warnings)

    def test_a_single_large_hash_is_found(self):
        hashes = np.array([2**64 - 1, 5, 2**63], dtype=np.uint64)
        assert shared(hashes, hashes[:1]).tolist() == [0]
        assert shared(hashes, hashes[2:]).tolist() == [2]

    def test_repeats_and_shared_examples_by_hash(self):
        hashes = np.array([5, 2**63 + 1, 5, 7, 2**63 + 1, 5], dtype=np.uint64)
        assert repeats(hashes).tolist() == [2, 4, 5]
        assert shared(hashes, hashes[[3, 1]]).tolist() == [1, 3, 4]
        assert repeats(hashes[:0]).tolist() == []

    def test_answers_full_of_the_unknown_token(self, write_jsonl, make_tokenizer):
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1, "yes": 2, "no": 3}, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>")
        folder = make_tokenizer()
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
        tokenizer.save_pretrained(folder)
        encoder = load_encoder(str(folder))
        path = write_jsonl({"prompt": "no", "completion": " yes maybe"}, {"prompt": "perhaps", "completion": " yes"})
        (message,) = self.messages(encoder, path)
        assert message.startswith("1 of 5 trainable tokens (20.0 %) are the unknown token")

    def test_a_token_that_is_unknown_and_ends_turns_is_none(self, write_jsonl, make_tokenizer):
        encoder = load_encoder(str(make_tokenizer(unk_token="<|end|>")))
        assert self.messages(encoder, write_jsonl(*GOOD)) == []

    def test_the_built_in_chat_template(self, write_jsonl, make_tokenizer):
        encoder = load_encoder(str(make_tokenizer(chat_template=None)))
        text = {"text": "The sea is wide."}
        path = write_jsonl(*GOOD, text)
        (message,) = self.messages(encoder, path)
        assert message.startswith("the built-in chat template renders 8 rows, since the tokenizer has none")
        assert self.messages(encoder, write_jsonl(text, name="text.jsonl")) == []

    def test_held_out_rows_that_are_trained_on(self, tmp_path, write_jsonl, tiny_model_folder):
        held_out = write_jsonl(GOOD[5], {"question": "Who?", "answer": "Ann."}, GOOD[2], name="held-out.jsonl")
        evaluate = {"held_out": [str(held_out)]}
        recipe = tiny_recipe(tmp_path, write_jsonl(*GOOD), tiny_model_folder, evaluate=evaluate)
        progress = StageProgress()
        folder = run(recipe, "select", progress)
        (warning,) = progress.warnings
        assert warning.startswith(
            f"2 of 3 held-out examples are in data.files too, token by token ({held_out}:1, {held_out}:3): what"
        )
        assert load_run(folder).warnings == [warning]
        run(recipe, "select", again := StageProgress())
        assert again.warnings == [warning]

    @pytest.mark.parametrize("trained", ["data", "warm-up"])
    @pytest.mark.parametrize("evaluated", ["held_out", "exact_match"])
    def test_inspect_says_of_leaks_what_a_run_says(self, evaluated, trained, tmp_path, write_jsonl, tiny_model_folder):
        other = write_jsonl({"question": "Who?", "answer": "Ann."}, name="other.jsonl")
        tested = write_jsonl({"question": "Why?", "answer": "So."}, GOOD[5], GOOD[2], name="tested.jsonl")
        pool = write_jsonl(*GOOD)
        recipe = tiny_recipe(tmp_path, pool, tiny_model_folder, evaluate={evaluated: [str(tested)]})
        if trained == "warm-up":
            files = [f"data.files={other}", f"models.reference={{warm_up: {{files: {pool}, rows: 8}}}}"]
            recipe = load_recipe(tmp_path / "recipe.yaml", files)
        prepare_inputs(make_plan(recipe), progress := StageProgress())
        (warning,) = progress.warnings
        name = "held-out examples" if evaluated == "held_out" else "exact-match questions"
        files = "models.reference.warm_up.files" if trained == "warm-up" else "data.files"
        assert warning.startswith(f"2 of 3 {name} are in {files} too, token by token ({tested}:2, {tested}:3)")
        found, _ = inspect_recipe(recipe, 0, None)
        assert [problem.message for problem in found.problems] == [warning]
        assert "hashed" not in found.to_json()

    def test_inspect_names_the_data_set_of_every_problem(self, tmp_path, write_jsonl, tiny_model_folder):
        held_out = write_jsonl({"foo": 1}, GOOD[0], name="held-out.jsonl")
        unanswered = write_jsonl({"messages": TURNS[:1]}, name="unanswered.jsonl")
        recipe = tiny_recipe(
            tmp_path,
            write_jsonl(*GOOD[1:], GOOD[1]),
            tiny_model_folder,
            evaluate={"held_out": [str(held_out)], "exact_match": [str(unanswered)]},
        )
        found, _ = inspect_recipe(recipe, 0, None)
        assert levels(found) == ["error", "error", "warning"]
        assert [(problem.message.split(":")[0], problem.where) for problem in found.problems[:2]] == [
            ("evaluate.held_out", f"{held_out}:1"),
            ("evaluate.exact_match", f"{unanswered}:1"),
        ]
        assert found.problems[2].message.startswith("1 of 8 examples repeat")

    def test_a_share_so_small_that_turn_ends_fill_it(self, tmp_path, write_jsonl, tiny_model_folder):
        method = {"name": "loss", "fraction": 0.02}
        recipe = tiny_recipe(tmp_path, write_jsonl(*GOOD), tiny_model_folder, method=method)
        progress = StageProgress()
        folder = run(recipe, "report", progress)
        (warning,) = progress.warnings
        assert warning.startswith("8 of the 8 tokens that 'loss' keeps are turn ends")
        assert warning.replace("'", "&#39;") in (folder / "report.html").read_text("utf-8")
        found = Selection.read(folder / "arms/loss/selection.json")
        assert (found.kept, found.kept_turn_ends) == (8, 8)
        half = tiny_recipe(tmp_path / "half", tmp_path / "rows.jsonl", tiny_model_folder, method={"name": "loss"})
        run(half, "select", quiet := StageProgress())
        assert quiet.warnings == []

    def test_a_key_given_twice_names_both_lines(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text(
            "output: a\nmodels: {base: m}\ndata: {files: a.jsonl}\nselect:\n  jsonl: true\n  jsonl: false\n"
        )
        with pytest.raises(TokensieveError, match=r"given twice: 'select.jsonl' in line 5 and in line 6") as error:
            load_recipe(path)
        assert error.value.where == f"{path}:6"


def tiny_recipe(folder, path, models, **sections):
    """Return a recipe that selects with the loss of a tiny model, without training."""
    recipe = {
        "output": str(folder / "run"),
        "data": {"files": [str(path)], **sections.pop("data", {})},
        "models": {"base": str(models("llama")), "reference": str(models("llama", 1))},
        "method": {"name": "token-cleaning", "fraction": 0.5},
        "controls": [],
        "train": None,
        "measure": {"device": "cpu"},
        **sections,
    }
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")
