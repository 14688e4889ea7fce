"""The forms that fine-tuning data is written in, and one form for all: messages, text or tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve import json_text
from tokensieve.containers import IGNORE_INDEX
from tokensieve.data import columns
from tokensieve.data.forms import Form
from tokensieve.data.marks import KEYS, MarkedSpan, conversation_marks, read_marks, read_spans
from tokensieve.data.roles import ROLES
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
        spans: the marked parts of the contents of trained answers, by the number of the message; characters.
        corrected: corrected contents of trained answers, by the number of the message.
    """

    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    untrained: frozenset[int] = field(default_factory=frozenset)
    spans: Mapping[int, tuple[MarkedSpan, ...]] = field(default_factory=dict)
    corrected: Mapping[int, str] = field(default_factory=dict)

    @property
    def trained(self) -> list[int]:
        """Numbers of the assistant messages that are trained on."""
        numbers = range(len(self.messages))
        return [n for n in numbers if self.messages[n]["role"] == "assistant" and n not in self.untrained]


@dataclass(frozen=True)
class PlainText:
    """A prompt and the text that follows it, both without a chat template.

    Attributes:
        prompt: what is not trained on.
        completion: the answer.
        spans: its marked parts; characters.
        corrected: the corrected answer; None where there is none.
    """

    prompt: str
    completion: str
    spans: tuple[MarkedSpan, ...] = ()
    corrected: str | None = None


@dataclass(frozen=True)
class Tokenised:
    """Token ids and labels that come with the data, unshifted, -100 where a token is not trainable.

    Attributes:
        input_ids: every token.
        labels: the same where a token is trained on.
        spans: the marked parts; tokens.
    """

    input_ids: list[int]
    labels: list[int]
    spans: tuple[MarkedSpan, ...] = ()


Converted = Conversation | PlainText | Tokenised

_SHAREGPT_KEYS = {"from": "role", "value": "content"}
_TEXT_ALONE, _SAY_TEXTS = {"role", "content"}, ROLES.keys() - {"function_call"}
_WEIGHTS = ("loss_weight", "weight", "train", "loss_mask")
_SPEAKERS = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def _messages(row: dict[str, Any]) -> Conversation:
    turns = row["messages"]
    if isinstance(turns, str) and columns.is_transcript(turns):
        turns = transcript(turns)
    return _conversation([_message(m) for m in _list(turns, "messages")], row)


def transcript(text: str) -> list[dict[str, str]]:
    """Return the turns of a dialogue as hh-rlhf writes it, each behind an empty line and who speaks."""
    _, *parts = _SPEAKERS.split(text.strip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _sharegpt(row: dict[str, Any]) -> Conversation:
    return _conversation([_message(turn) for turn in _list(row["conversations"], "conversations")], row)


def _prompt_completion(row: dict[str, Any]) -> Conversation | PlainText:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        for name in (*columns.SYSTEM, *columns.TOOLS):
            if columns.given(row.get(name)):
                raise columns.no_place(name, "a prompt and completion of plain text")
        return _plain_text(prompt, completion, row)
    asked, answered = _as_messages(prompt, "prompt", "user"), _as_messages(completion, "completion", "assistant")
    conversation = _conversation([_message(m) for m in [*asked, *answered]], row)
    in_prompt = range(len(conversation.messages) - len(answered))
    return replace(conversation, untrained=conversation.untrained.union(in_prompt))


def _alpaca(row: dict[str, Any]) -> Conversation:
    return _single_turn(row, columns.INSTRUCTION, columns.INSTRUCTION_CONTEXT, columns.OUTPUT)


def _question_answer(row: dict[str, Any]) -> Conversation:
    return _single_turn(row, columns.QUESTION, columns.QUESTION_CONTEXT, columns.ANSWER)


def _single_turn(
    row: dict[str, Any], asked: columns.Names, around: columns.Names, answered: columns.Names
) -> Conversation:
    """Return a question with its context, and the answer, behind the turns of the history."""
    question, context = _text_of(row, asked), _text_of(row, around)
    question = f"{question}\n\n{context}" if context.strip() else question
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": _text_of(row, answered)}]
    return _conversation([*_history(row), *messages], row)


def _history(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of earlier turns, each a question and its answer."""
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn) for turn in history
    ):
        raise TokensieveError(
            f"'history' must be a list of earlier turns, not {history!r:.80}",
            hint='each a question and its answer, such as [["Hello", "How can I help?"]]; or leave it out with '
            "data.ignore: [history]",
        )
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in history for role, text in zip(roles, turn, strict=True)]


def _text(row: dict[str, Any]) -> PlainText:
    return _plain_text("", _text_of(row, ("text",)), row)


def _plain_text(prompt: str, completion: str, row: dict[str, Any]) -> PlainText:
    return PlainText(prompt, completion, *read_marks(row.get("spans"), row.get("corrected"), completion))


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
    return Tokenised(ids.tolist(), labels.tolist(), _token_spans(row.get("spans"), labels))


def _token_spans(given: Any, labels: NDArray[np.int64]) -> tuple[MarkedSpan, ...]:
    spans = read_spans(given, labels.tolist()) if given is not None else ()
    for span in spans:
        if not (labels[span.start : span.stop] != IGNORE_INDEX).any():
            raise TokensieveError(
                f"the span [{span.start}, {span.stop}] covers no token that is trained on",
                hint="spans of a row of token ids count its tokens from 0, those of the prompt included",
            )
    return spans


_CONVERTERS: dict[Form, Callable[[dict[str, Any]], Converted]] = {
    "tokenised": _tokenised,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "prompt-completion": _prompt_completion,
    "alpaca": _alpaca,
    "question-answer": _question_answer,
    "text": _text,
}


def convert(data: dict[str, Any], form: Form = "auto", ignore: Collection[str] = ()) -> Converted:
    """Turn a row into messages, plain text or tokens.

    Args:
        data: columns and values of the row, without those that are ignored.
        form: the form it is written in; ``auto`` takes the first form whose columns it has.
        ignore: columns that the user leaves out.

    Raises:
        TokensieveError: a row of no known form, without the columns of the form, with a column that would be lost
            and changes what the row means, or with values of a wrong type.
    """
    name = columns.form_of(data, form)
    columns.check_columns(data, name)
    if name is None:
        names: list[Form] = list(columns.FORMS) if form == "auto" else [form]
        raise TokensieveError(
            f"a row with the columns {', '.join(sorted(data)) or '(none)'} is "
            + ("of no known form" if form == "auto" else f"not of the form '{form}'"),
            hint=f"forms and the columns they need: {'; '.join(map(_described, names))}. Rename columns with "
            "data.columns",
        )
    row = columns.without_media_parts(data, ignore)
    converted = _CONVERTERS[name](row)
    if isinstance(converted, Conversation):
        converted = _with_marks(converted, row, ignore)
        asked = [m["content"] for m in converted.messages if m["role"] != "assistant" and m.get("content")]
    else:
        asked = [converted.prompt] if isinstance(converted, PlainText) else []
    for text in asked:
        columns.check_placeholders(text, ignore)
    return converted


def _with_marks(conversation: Conversation, row: dict[str, Any], ignore: Collection[str]) -> Conversation:
    """Return a conversation with the marks of its messages or of its row, and messages without them."""
    messages = conversation.messages
    if all(row.get(key) is None for key in KEYS) and all(message.keys().isdisjoint(KEYS) for message in messages):
        return conversation
    spans, corrected = conversation_marks(messages, conversation.trained, row, ignore)
    unmarked = [{key: value for key, value in message.items() if key not in KEYS} for message in messages]
    return replace(conversation, messages=unmarked, spans=spans, corrected=corrected)


def _described(form: Form) -> str:
    return f"{form} ({', '.join(' or '.join(group) for group in columns.FORMS[form].needs)})"


def _conversation(messages: list[dict[str, Any]], row: dict[str, Any]) -> Conversation:
    if not messages:
        raise TokensieveError("a conversation without messages", hint="leave out the row, or give it messages")
    if (system := _text_of(row, columns.SYSTEM)).strip() and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    tools = row.get("tools") or None
    if isinstance(tools, str):
        try:
            tools = json_text.parse(tools)
        except json_text.JsonError as error:
            raise TokensieveError(
                f"'tools' is not JSON: {error.what}", hint="a JSON list of schemas, one a function"
            ) from error
    if tools and not isinstance(tools, list):
        raise TokensieveError(
            f"'tools' must be a list of schemas, not {type(tools).__name__}", hint="one JSON schema a function"
        )
    untrained: list[int] = []
    for number, message in enumerate(messages):
        if message.keys().isdisjoint(_WEIGHTS):
            continue
        if message.get("loss_mask", 1) not in (0, 1):
            raise TokensieveError(
                f"the loss_mask of message {number} is {message['loss_mask']!r:.60}",
                hint="1 trains on the message and 0 does not; mark parts of an answer with its `spans`",
            )
        if any(message.get(key) in (0, False) for key in _WEIGHTS):
            untrained.append(number)
    return Conversation(messages, [tool_schema(tool) for tool in tools] if tools else None, frozenset(untrained))


def _message(message: Any) -> dict[str, Any]:
    """Check one message, under the keys and roles that templates know; join the text parts of a content."""
    if isinstance(message, dict) and "role" not in message:
        message = {_SHAREGPT_KEYS.get(key, key): value for key, value in message.items()}
    if not isinstance(message, dict) or "role" not in message:
        raise TokensieveError(
            f"a message must have 'role' and 'content', not {message!r:.80}",
            hint='such as {"role": "user", "content": "Hello"}',
        )
    role = message["role"]
    if message.keys() == _TEXT_ALONE and type(role) is type(message["content"]) is str and role in _SAY_TEXTS:
        return {"role": ROLES[role], "content": message["content"]}  # so are most messages, and the rest takes time
    if not isinstance(role, str) or role.lower() not in ROLES:
        name = role if isinstance(role, str) else "NAME"
        raise TokensieveError(
            f"unknown role {role!r}",
            hint=f"give it a role that is known, such as data.roles: {{{name}: user}}, one of {', '.join(ROLES)}; only "
            "what the assistant says is trained on",
        )
    message = {**message, "role": ROLES[role.lower()]}
    if role.lower() == "function_call":
        message["tool_calls"] = message.pop("content", None)
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
            hint="leave out the row, or train on its text alone with data.ignore: [images] (or videos, audios)",
        )
    return text


def _as_messages(value: Any, name: str, role: str) -> list[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [value] if isinstance(value, dict) else _list(value, name)


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


def _text_of(row: dict[str, Any], names: columns.Names) -> str:
    """Return the text of the column that a row has of a group; an empty one where it has none."""
    name = columns.pick(row, names)
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise TokensieveError(
            f"column '{name}' must be text, not {type(value).__name__}",
            hint="write it as a string, or map another column with data.columns",
        )
    return value or ""
