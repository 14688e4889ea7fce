"""Data that would train something else than it says: it is read as it was meant, refused by name, or counted.

`docs/data.md` has the table of forms and traps with the tests of this module.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import trl

from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.formats import Conversation, convert
from tokensieve.data.inspection import inspect_data
from tokensieve.data.prepare import prepare
from tokensieve.data.repeats import repeats, shared
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.inputs import inspect
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.progress import StageProgress
from tokensieve.report.table import results_json
from tokensieve.runs.view import load_run
from tokensieve.select.selection import Selection

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
            ("{city: Oslo}", r"the arguments of 'look_up' is not JSON: .* at character 1 of '{city: Oslo}'"),
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
        assert "of no known form" in found[1]["reason"]
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
        (message,) = self.messages(tiny_encoder, write_jsonl(*GOOD, GOOD[3], GOOD[3], GOOD[0], GOOD[0]))
        assert message.startswith("4 of 12 examples repeat an earlier one token by token (rows 8, 9, 10 and 1 more")

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
        assert warning.startswith("2 of 3 held-out examples are in data.files too, token by token (rows 0, 2, counted")
        assert load_run(folder).warnings == [warning]
        run(recipe, "select", again := StageProgress())
        assert again.warnings == [warning]

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
