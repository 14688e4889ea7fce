"""Data that would train something else than it says: it is read as it was meant, refused by name, or counted.

`docs/data.md` has the table of forms and traps with the tests of this module.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokensieve import yaml12
from tokensieve.cli import main
from tokensieve.data.formats import Conversation, PlainText, convert
from tokensieve.data.inspection import inspect_data
from tokensieve.data.prepare import converted_rows, prepare, raise_error
from tokensieve.data.settings import DataSettings, FileSettings
from tokensieve.data.sources import source_fingerprint
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.inputs import prepare_inputs
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.progress import StageProgress

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ASK, GOOD, BAD = "2 + 2?", "4", "5"


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
        row = {"question": ASK, "answer": GOOD, "figure": {"bytes": b"\x89PNG", "path": "a.png"}}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
        with pytest.raises(TokensieveError, match="column 'figure' holds what has no text tokens"):
            converted(tmp_path / "a.parquet")
        assert converted(tmp_path / "a.parquet", ignore=("figure",)) == [Conversation(turns(ASK, GOOD))]

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
            "messages": {"messages": turns(text, GOOD)},
            "conversations": {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": GOOD}]},
            "alpaca": {"instruction": text, "output": GOOD},
            "text": {"prompt": text, "completion": GOOD},
        }[form]
        path = write_jsonl(row)
        with pytest.raises(TokensieveError, match="stands for what has no text tokens") as error:
            converted(path)
        assert f"data.ignore: [{way_out}]" in error.value.hint
        expected = PlainText(text, GOOD) if form == "text" else Conversation(turns(text, GOOD))
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
        row = {"prompt": ASK, "completion": GOOD}
        assert converted(write_jsonl({**row, name: True})) == [PlainText(ASK, GOOD)]
        path = write_jsonl({**row, name: True}, {**row, name: false})
        with pytest.raises(TokensieveError, match=f"'{name}' is false: .* rejected") as error:
            converted(path)
        assert error.value.where == f"{path}:2"
        assert f"data.ignore: [{name}]" in error.value.hint
        assert converted(path, ignore=(name,)) == [PlainText(ASK, GOOD)] * 2

    def test_a_label_of_a_class_is_no_preference(self):
        assert convert({"question": ASK, "answer": GOOD, "label": 0}) == Conversation(turns(ASK, GOOD))
        assert convert({"text": "a", "label": False}) == PlainText("", "a")

    @pytest.mark.parametrize(
        "row",
        [
            {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}"},
            {"chosen": turns(ASK, GOOD), "rejected": turns(ASK, BAD)},
            {"prompt": ASK, "chosen": turns(ASK, GOOD), "rejected": turns(ASK, BAD), "score_chosen": 9.0},
            {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
            {"question": ASK, "chosen": GOOD, "rejected": BAD, "id": 1},
            {"instruction": ASK, "chosen": GOOD, "rejected": BAD},
            {"prompt": turns(ASK), "chosen": turns("", GOOD)[1:], "rejected": turns("", BAD)[1:]},
            {
                "conversations": [{"from": "human", "value": ASK}],
                "chosen": {"from": "gpt", "value": GOOD},
                "rejected": {"from": "gpt", "value": BAD},
            },
            {"instruction": ASK, "output": GOOD, "rejected": BAD},
            {"instruction": ASK, "output": GOOD, "chosen": GOOD, "rejected": BAD},
            {"messages": turns(ASK, GOOD), "rejected_response": BAD},
        ],
    )
    def test_preference_rows_are_refused_with_settings_that_train_on_the_preferred_answers(self, row, write_jsonl):
        path = write_jsonl(row)
        with pytest.raises(TokensieveError, match=r"a preference row, .* DPO and reward models") as error:
            converted(path)
        (given,) = re.findall(r"data: (\{.*\})$", error.value.hint)
        settings = yaml12.parse_value(given)
        (found,) = converted(path, columns=settings.get("columns", {}), ignore=tuple(settings["ignore"]))
        assert [(m["role"], m["content"]) for m in found.messages] == [("user", ASK), ("assistant", GOOD)]

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
    @pytest.mark.parametrize("answer", [{"output": GOOD}, {"response": GOOD}])
    def test_alpaca_history_becomes_earlier_turns(self, answer):
        row = {"instruction": ASK, **answer, "history": [["a?", "b"], ["c?", "d"]], "system": "Be brief."}
        found = convert(row)
        assert isinstance(found, Conversation)
        assert found.messages == [{"role": "system", "content": "Be brief."}, *turns("a?", "b", "c?", "d", ASK, GOOD)]
        assert convert({"instruction": ASK, **answer, "history": []}) == Conversation(turns(ASK, GOOD))

    @pytest.mark.parametrize("history", ["a", [["a?"]], [["a?", None]], [{"role": "user", "content": "a?"}]])
    def test_a_history_that_is_none_is_refused(self, history):
        with pytest.raises(TokensieveError, match="'history' must be a list of earlier turns"):
            convert({"instruction": ASK, "output": GOOD, "history": history})

    @pytest.mark.parametrize("name", ["history", "system", "tools"])
    def test_what_surrounds_a_conversation_is_refused_where_the_form_has_no_place_for_it(self, name):
        row = {"prompt": ASK, "completion": GOOD, name: [["a?", "b"]] if name == "history" else "x"}
        with pytest.raises(TokensieveError, match=f"no place for the column '{name}'") as error:
            convert(row)
        assert f"data.ignore: [{name}]" in error.value.hint

    def test_two_columns_for_one_purpose_are_refused(self):
        row = {"question": ASK, "answer": GOOD, "response": BAD}
        with pytest.raises(TokensieveError, match="columns 'answer' and 'response' have the same purpose") as error:
            convert(row)
        assert "data.ignore: [response]" in error.value.hint
        assert convert({**row, "response": ""}) == Conversation(turns(ASK, GOOD))

    def test_metadata_is_no_error_and_is_listed(self, write_jsonl, tiny_encoder):
        row = {"id": 1, "messages": TURNS, "lang": "en", "score": 0.5, "source": "web", "tags": [], "spans": [[0, 1]]}
        found = inspect_data(DataSettings(files=(str(write_jsonl(row, row, {"messages": TURNS})),)), tiny_encoder, 1)
        assert not found.has_errors
        assert found.counts.unused_columns == {"id": 2, "lang": 2, "score": 2, "spans": 2}
        assert found.to_json()["counts"]["unused_columns"]["lang"] == 2
        ignored = DataSettings(files=(str(write_jsonl(row)),), ignore=("id", "spans"))
        assert inspect_data(ignored, tiny_encoder, 1).counts.unused_columns == {"lang": 1, "score": 1}

    def test_columns_that_are_not_used_are_shown_by_inspect_and_by_a_dry_run(self, write_jsonl, tmp_path, capsys):
        path = write_jsonl({"question": ASK, "answer": GOOD, "id": 1, "lang": "en"})
        main(["inspect", str(path), "--tokenizer", str(MODEL)])
        told = "columns that are not used, with their rows: id (1), lang (1)"
        assert told in " ".join(capsys.readouterr().out.split())
        main(["run", "--dry-run", f"output={tmp_path / 'run'}", f"data={path}", f"models.base={MODEL}", "method=loss"])
        assert told in capsys.readouterr().out

    def test_a_run_knows_the_columns_of_examples_that_were_prepared_before(self, write_jsonl, tmp_path, tiny_encoder):
        settings = DataSettings(files=(str(write_jsonl({"question": ASK, "answer": GOOD, "id": 1})),))
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
        assert "assistant" in error.value.hint

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
            {"instruction": ASK, "context": "", "response": GOOD, "category": "open_qa"},
            {"instruction": ASK, "input": "", "response": GOOD},
            {"prompt": ASK, "response": GOOD},
            {"query": ASK, "response": GOOD},
            {"question": ASK, "response": GOOD},
            {"input": ASK, "output": GOOD},
            {"conversations": turns(ASK, GOOD)},
        ],
    )
    def test_pairs_of_many_names(self, row):
        assert convert(row) == Conversation(turns(ASK, GOOD))

    @pytest.mark.parametrize(
        "row",
        [
            {"instruction": "Add.", "context": "2 2", "response": GOOD},
            {"instruction": "Add.", "input": "2 2", "output": GOOD},
            {"question": "Add.", "context": "2 2", "answer": GOOD},
        ],
    )
    def test_a_context_is_part_of_the_question(self, row):
        assert convert({**row, "system_prompt": "Be brief."}) == Conversation(
            [{"role": "system", "content": "Be brief."}, *turns("Add.\n\n2 2", GOOD)]
        )

    @pytest.mark.parametrize("indent", [None, 1])
    @pytest.mark.parametrize(
        ("name", "wrap"),
        [("a.json", lambda rows: {"version": "1.1", "data": rows}), ("a.jsonl", list), ("a.ndjson", list)],
    )
    def test_rows_under_data_and_a_list_in_a_file_of_json_lines(self, name, wrap, indent, tmp_path):
        path = tmp_path / name
        path.write_text(json.dumps(wrap([{"question": ASK, "answer": GOOD}] * 3), indent=indent))
        assert converted(path) == [Conversation(turns(ASK, GOOD))] * 3

    def test_a_line_that_is_a_list_is_still_named(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('[1]\n{"question": "a", "answer": "b"}\n')
        with pytest.raises(TokensieveError, match="a JSON list, not an object") as error:
            converted(path)
        assert error.value.where == f"{path}:1"

    def test_a_broken_list_in_a_file_of_json_lines_is_one_error(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('[\n{"question": "a", "answer": "b"},\n{"question": "a" "answer": "b"}\n]')
        with pytest.raises(TokensieveError, match="not JSON") as error:
            converted(path)
        assert error.value.where == f"{path}:3"


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
        assert len(inputs.questions) == 1

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
        path = write_jsonl(*[{"Q": ASK, "A": GOOD, "images": ["x"]}] * 3)
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
        path = write_jsonl({"Q": ASK, "A": GOOD, "text": "other", "images": ["x"]})
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
