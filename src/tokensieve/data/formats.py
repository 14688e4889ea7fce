"""The forms that fine-tuning data is written in, and one form for all: messages, text or tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX
from tokensieve.data.forms import Form
from tokensieve.data.tool_calls import message_with_calls, tool_schema
from tokensieve.errors import TokensieveError

THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Keys under which a message has the thoughts before its answer; templates read one of the first two."""


@dataclass(frozen=True)
class Conversation:
    """Messages for a chat template.

    Attributes:
        messages: dictionaries with `role` and `content`; further keys are passed on to the template.
        tools: tool schemas for the template, or None.
        untrained: numbers of the assistant messages that the data itself excludes from training.
    """

    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    untrained: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class PlainText:
    """A prompt and the text that follows it, both without a chat template."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Tokenised:
    """Token ids and labels that come with the data, unshifted, -100 where a token is not trainable."""

    input_ids: list[int]
    labels: list[int]


Converted = Conversation | PlainText | Tokenised

_SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "bard": "assistant", "bing": "assistant", "model": "assistant", "system": "system",
    "function_call": "assistant", "observation": "tool", "tool": "tool", "function": "tool",
}  # fmt: skip
_WEIGHTS = ("loss_weight", "weight", "train")


def _messages(row: dict[str, Any]) -> Conversation:
    return _conversation([_message(m) for m in _list(row["messages"], "messages")], row)


def _prompt_completion(row: dict[str, Any]) -> Conversation | PlainText:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return PlainText(prompt, completion)
    asked, answered = _as_messages(prompt, "prompt", "user"), _as_messages(completion, "completion", "assistant")
    conversation = _conversation([_message(m) for m in [*asked, *answered]], row)
    in_prompt = range(len(conversation.messages) - len(answered))
    return Conversation(conversation.messages, conversation.tools, conversation.untrained.union(in_prompt))


def _alpaca(row: dict[str, Any]) -> Conversation:
    instruction, context = _string(row, "instruction"), _string(row, "input")
    user = f"{instruction}\n\n{context}" if context.strip() else instruction
    return _turns(_string(row, "system"), user, _string(row, "output"))


def _sharegpt(row: dict[str, Any]) -> Conversation:
    messages = []
    for turn in _list(row["conversations"], "conversations"):
        speaker = turn.get("from") if isinstance(turn, dict) else None
        if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
            raise TokensieveError(
                f"unknown speaker {speaker!r} in 'conversations'",
                hint=f"'from' must be one of {', '.join(_SHAREGPT_ROLES)}; turns with 'role' and 'content' belong in "
                "a column 'messages' (data.columns: {conversations: messages})",
            )
        rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
        said = "tool_calls" if speaker == "function_call" else "content"
        messages.append(_message({"role": _SHAREGPT_ROLES[speaker], said: turn.get("value"), **rest}))
    return _conversation(messages, row)


def _question_answer(row: dict[str, Any]) -> Conversation:
    return _turns(_string(row, "system"), _string(row, "question"), _string(row, "answer"))


def _text(row: dict[str, Any]) -> PlainText:
    return PlainText("", _string(row, "text"))


def _tokenised(row: dict[str, Any]) -> Tokenised:
    ids, labels = _integers(row, "input_ids"), _integers(row, "labels")
    attended = _integers(row, "attention_mask") if row.get("attention_mask") is not None else np.ones_like(ids)
    for name, values in (("labels", labels), ("attention_mask entries", attended)):
        if len(ids) != len(values):
            raise TokensieveError(f"{len(ids)} input_ids but {len(values)} {name}", hint="one for each token")
    ids, labels = ids[attended != 0], labels[attended != 0]  # padding is no part of an example
    if (ids < 0).any():
        raise TokensieveError(
            f"token id {ids.min()} is negative", hint="ids count from 0; -100 belongs in labels alone"
        )
    wrong = np.flatnonzero((labels != IGNORE_INDEX) & (labels != ids))
    if len(wrong):
        raise TokensieveError(
            f"label {labels[wrong[0]]} at position {wrong[0]} is neither -100 nor the token id {ids[wrong[0]]}",
            hint="labels must be unshifted: labels[t] is input_ids[t] or -100",
        )
    return Tokenised(ids.tolist(), labels.tolist())


# In this order: a form that needs more columns comes before one that a subset of them would match.
_FORMS: dict[Form, tuple[tuple[str, ...], Callable[[dict[str, Any]], Converted]]] = {
    "tokenised": (("input_ids", "labels"), _tokenised),
    "messages": (("messages",), _messages),
    "sharegpt": (("conversations",), _sharegpt),
    "prompt-completion": (("prompt", "completion"), _prompt_completion),
    "alpaca": (("instruction", "output"), _alpaca),
    "question-answer": (("question", "answer"), _question_answer),
    "text": (("text",), _text),
}


def convert(data: dict[str, Any], form: Form = "auto") -> Converted:
    """Turn a row into messages, plain text or tokens.

    Args:
        data: columns and values of the row.
        form: the form it is written in; ``auto`` takes the first form whose columns it has.

    Raises:
        TokensieveError: a row of no known form, without the columns of the form, or with values of a
            wrong type.
    """
    names: list[Form] = list(_FORMS) if form == "auto" else [form]
    for name in names:
        columns, converter = _FORMS[name]
        if all(data.get(column) is not None for column in columns):
            return converter(data)
    forms = "; ".join(f"{name} ({', '.join(_FORMS[name][0])})" for name in names)
    raise TokensieveError(
        f"a row with the columns {', '.join(sorted(data)) or '(none)'} is "
        + ("of no known form" if form == "auto" else f"not of the form '{form}'"),
        hint=f"forms and the columns they need: {forms}. Rename columns with data.columns",
    )


def _turns(system: str, user: str, answer: str) -> Conversation:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return Conversation([{"role": "system", "content": system}, *messages] if system.strip() else messages)


def _conversation(messages: list[dict[str, Any]], row: dict[str, Any]) -> Conversation:
    if not messages:
        raise TokensieveError("a conversation without messages", hint="leave out the row, or give it messages")
    if (system := _string(row, "system")).strip() and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    tools = row.get("tools") or None
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError as error:
            raise TokensieveError(
                f"'tools' is not JSON: {error.msg}", hint="a JSON list of schemas, one a function"
            ) from error
    if tools and not isinstance(tools, list):
        raise TokensieveError(
            f"'tools' must be a list of schemas, not {type(tools).__name__}", hint="one JSON schema a function"
        )
    untrained = frozenset(
        number for number, message in enumerate(messages) if any(message.get(key) in (0, False) for key in _WEIGHTS)
    )
    return Conversation(messages, [tool_schema(tool) for tool in tools] if tools else None, untrained)


def _message(message: Any) -> dict[str, Any]:
    """Check one message; join the text parts of a content that is a list."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise TokensieveError(
            f"a message must have 'role' and 'content', not {message!r:.80}",
            hint='such as {"role": "user", "content": "Hello"}',
        )
    message = {key: value for key, value in message.items() if value is not None}  # Parquet fills gaps with null
    message = _with_thoughts(message_with_calls(message))
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": "".join(_part(part) for part in content)}
    if content is None and not message.get("tool_calls"):
        raise TokensieveError(
            f"the message of role '{message['role']}' has no content", hint="give it a text, or leave out the message"
        )
    if content is not None and not isinstance(content, str):
        raise TokensieveError(
            f"content must be text, not {type(content).__name__}", hint="a text, or a list of text parts"
        )
    return message


def _with_thoughts(message: dict[str, Any]) -> dict[str, Any]:
    thoughts = next((message[key] for key in THOUGHTS if message.get(key)), None)
    return {**dict.fromkeys(THOUGHTS[:2], thoughts), **message} if thoughts else message


def _part(part: Any) -> str:
    text = (
        part.get("text", part.get("value")) if isinstance(part, dict) and part.get("type", "text") == "text" else None
    )
    if not isinstance(text, str):
        raise TokensieveError(
            f"only text parts can be tokenised, not {part!r:.80}",
            hint="leave out the part or the row: images and sound have no text tokens",
        )
    return text


def _as_messages(value: Any, name: str, role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else _list(value, name)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise TokensieveError(
            f"'{name}' must be a list of messages, not {type(value).__name__}",
            hint='such as [{"role": "user", "content": "Hello"}]',
        )
    return value


def _integers(row: dict[str, Any], name: str) -> NDArray[np.int64]:
    values = row[name]
    if isinstance(values, list) and all(type(value) is int and abs(value) < 2**31 for value in values):
        return np.array(values, dtype=np.int64)
    raise TokensieveError(
        f"'{name}' must be a list of 32-bit integers, not {values!r:.80}", hint="numbers such as [1, 42]"
    )


def _string(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise TokensieveError(
            f"column '{name}' must be text, not {type(value).__name__}",
            hint="write it as a string, or map another column with data.columns",
        )
    return value or ""
