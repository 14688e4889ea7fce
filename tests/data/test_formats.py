from __future__ import annotations

import json

import pytest

from tokensieve.data.formats import Conversation, PlainText, Tokenised, convert
from tokensieve.errors import TokensieveError

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SYSTEM = {"role": "system", "content": "Be brief."}


def test_messages_pass_untouched():
    messages = [SYSTEM, *TURNS, {"role": "tool", "content": "4", "name": "add", "tool_call_id": "1"}]
    assert convert({"messages": messages, "id": 7}) == Conversation(messages)


def test_prompt_and_completion_as_strings_are_plain_text():
    assert convert({"prompt": "2+2=", "completion": " 4"}) == PlainText("2+2=", " 4")
    assert convert({"prompt": "", "completion": "x"}) == PlainText("", "x")


@pytest.mark.parametrize("completion", ["Hello", TURNS[1:]])
def test_prompt_as_messages_is_not_trained_even_where_the_assistant_speaks(completion):
    found = convert({"prompt": [*TURNS, TURNS[0]], "completion": completion})
    assert isinstance(found, Conversation)
    assert found.messages == [*TURNS, *TURNS]
    assert 1 in found.untrained
    assert 3 not in found.untrained


def test_prompt_as_a_string_and_completion_as_messages():
    found = convert({"prompt": "Hi", "completion": TURNS[1:], "system": "Be brief."})
    assert isinstance(found, Conversation)
    assert found.messages == [SYSTEM, *TURNS]
    assert 2 not in found.untrained


@pytest.mark.parametrize(
    ("row", "user", "system"),
    [
        ({"instruction": "Add", "input": "1 2", "output": "3"}, "Add\n\n1 2", None),
        ({"instruction": "Add", "input": "", "output": "3"}, "Add", None),
        ({"instruction": "Add", "input": None, "output": "3"}, "Add", None),
        ({"instruction": "Add", "output": "3", "system": "Be brief.", "text": "ignored"}, "Add", "Be brief."),
    ],
)
def test_alpaca(row, user, system):
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": "3"}]
    assert convert(row) == Conversation([SYSTEM, *messages] if system else messages)


def test_question_and_answer():
    row = {"question": "Hi", "answer": "Hello"}
    assert convert(row) == Conversation(TURNS)
    assert convert({**row, "system": "Be brief."}) == Conversation([SYSTEM, *TURNS])


def test_text_is_a_completion_without_a_prompt():
    assert convert({"text": "Once upon"}) == PlainText("", "Once upon")


def test_sharegpt_speakers_become_roles():
    speakers = ["system", "human", "observation", "gpt", "user", "chatgpt"]
    found = convert({"conversations": [{"from": name, "value": name} for name in speakers]})
    assert isinstance(found, Conversation)
    roles = ["system", "user", "tool", "assistant", "user", "assistant"]
    assert found.messages == [{"role": role, "content": name} for role, name in zip(roles, speakers, strict=True)]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"messages": TURNS},
    ],
)
def test_a_system_column_comes_first_unless_the_turns_have_one(row):
    found = convert({**row, "system": "Be brief."})
    assert isinstance(found, Conversation)
    assert found.messages == [SYSTEM, *TURNS]
    assert convert({**row, "system": ""}) == Conversation(TURNS)
    assert convert({"messages": [SYSTEM, *TURNS], "system": "Be long."}) == Conversation([SYSTEM, *TURNS])


@pytest.mark.parametrize("speaker", ["alien", None, ["human"], 3])
def test_an_unknown_speaker(speaker):
    with pytest.raises(TokensieveError, match="unknown role") as error:
        convert({"conversations": [{"from": speaker, "value": "x"}]})
    assert "human" in error.value.hint


def test_turns_with_role_and_content_under_conversations():
    assert convert({"conversations": TURNS}) == Conversation(TURNS)


@pytest.mark.parametrize("key", ["loss_weight", "weight", "train"])
@pytest.mark.parametrize("value", [0, 0.0, False])
def test_messages_that_the_data_excludes_from_training(key, value):
    messages = [{**TURNS[0], key: value}, {**TURNS[1], key: value}, TURNS[0], {**TURNS[1], key: 1.0}]
    found = convert({"messages": messages})
    assert isinstance(found, Conversation)
    assert 1 in found.untrained
    assert 3 not in found.untrained


@pytest.mark.parametrize("key", ["text", "value"])
def test_text_parts_are_joined(key):
    parts = [{"type": "text", key: "Hel"}, {"type": "text", key: "lo"}]
    assert convert({"messages": [TURNS[0], {"role": "assistant", "content": parts}]}) == Conversation(TURNS)


def test_other_parts_are_refused():
    with pytest.raises(TokensieveError, match="only text parts"):
        convert({"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]})


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"a": None}}}]


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)])
def test_tools_as_a_list_or_json_text(tools):
    found = convert({"messages": TURNS, "tools": tools})
    assert isinstance(found, Conversation)
    assert found.tools == TOOLS


@pytest.mark.parametrize("tools", [None, "", [], "[]"])
def test_no_tools(tools):
    assert convert({"messages": TURNS, "tools": tools}) == Conversation(TURNS)


@pytest.mark.parametrize(("tools", "message"), [("[{", "'tools' is not JSON"), ('{"a": 1}', "a list of schemas")])
def test_tools_that_are_none(tools, message):
    with pytest.raises(TokensieveError, match=message):
        convert({"messages": TURNS, "tools": tools})


def test_a_tool_call_needs_no_content():
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    found = convert({"messages": [TURNS[0], {**call, "content": None}]})
    assert isinstance(found, Conversation)
    assert found.messages == [TURNS[0], {**call, "content": ""}]


def test_tokens_and_labels():
    row = {"input_ids": [1, 2, 3], "labels": [-100, -100, 3]}
    assert convert(row) == Tokenised([1, 2, 3], [-100, -100, 3])
    assert convert({**row, "messages": TURNS}) == Tokenised([1, 2, 3], [-100, -100, 3])


def test_padding_is_left_out_of_tokens():
    row = {"input_ids": [0, 0, 5, 6, 0], "labels": [-100, -100, -100, 6, -100], "attention_mask": [0, 0, 1, 1, 0]}
    assert convert(row) == Tokenised([5, 6], [-100, 6])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [1, 2], "labels": [1]}, "2 input_ids but 1 labels"),
        ({"input_ids": [1, 2], "labels": [1, 2], "attention_mask": [1]}, "2 input_ids but 1 attention_mask"),
        ({"input_ids": [1, 2, 3], "labels": [2, 3, -100]}, "label 2 at position 0 is neither -100 nor the token id 1"),
        ({"input_ids": [1, -2], "labels": [-100, -2]}, "token id -2 is negative"),
        ({"input_ids": "[1, 2]", "labels": "[1, 2]"}, "'input_ids' must be a list of 32-bit integers"),
        ({"input_ids": [1.0], "labels": [1]}, "'input_ids' must be a list of 32-bit integers"),
        ({"input_ids": [2**40], "labels": [2**40]}, "'input_ids' must be a list of 32-bit integers"),
        ({"input_ids": [1], "labels": [None]}, "'labels' must be a list of 32-bit integers"),
    ],
)
def test_tokens_that_cannot_be_used(row, message):
    with pytest.raises(TokensieveError, match=message):
        convert(row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": []}, "without messages"),
        ({"messages": "Hi"}, "'messages' must be a list of messages, not str"),
        ({"messages": ["Hi"]}, "must have 'role' and 'content'"),
        ({"messages": [{"content": "Hi"}]}, "must have 'role' and 'content'"),
        ({"messages": [{"role": "user"}]}, "the message of role 'user' has no content"),
        ({"messages": [{"role": "user", "content": 3}]}, "content must be text, not int"),
        ({"prompt": 3, "completion": "x"}, "'prompt' must be a list of messages, not int"),
        ({"question": 3, "answer": "x"}, "column 'question' must be text, not int"),
        ({"conversations": [{"from": "human"}]}, "has no content"),
    ],
)
def test_values_of_a_wrong_type(row, message):
    with pytest.raises(TokensieveError, match=message):
        convert(row)


def test_a_row_of_no_known_form_tells_its_columns_and_the_forms():
    with pytest.raises(TokensieveError) as error:
        convert({"foo": 1, "answer": "x", "question": None})
    assert error.value.what == "a row with the columns answer, foo, question is of no known form"
    for form in ("tokenised", "messages", "sharegpt", "prompt-completion", "alpaca", "question-answer", "text"):
        assert form in error.value.hint


def test_a_named_form_is_used_and_demanded():
    row = {"messages": TURNS, "question": "2+2?", "answer": "4"}
    found = convert(row, "question-answer")
    assert isinstance(found, Conversation)
    assert found.messages[1]["content"] == "4"
    with pytest.raises(TokensieveError, match="not of the form 'alpaca'") as error:
        convert(row, "alpaca")
    assert "instruction, output" in error.value.hint
