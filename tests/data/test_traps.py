"""Data that would train something else than it says: it is read as it was meant, refused by name, or counted.

`docs/data.md` has the table of forms and traps with the tests of this module.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import trl

from tokensieve.data.chat_template import ChatTemplate
from tokensieve.data.formats import Conversation, convert
from tokensieve.data.inspection import inspect_data
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError

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
