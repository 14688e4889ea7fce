"""Conversations to text, and which characters of it are the assistant's answers.

They come from the template's ``{% generation %}`` blocks where it has them. Otherwise they come from prefixes: the
conversation up to an answer, with the generation prompt, must be a prefix of the whole, or the template is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

from tokensieve.data.chat_template_private import render_texts
from tokensieve.data.formats import THOUGHTS, Conversation
from tokensieve.data.settings import TRAINING_TEMPLATE
from tokensieve.data.template_errors import TemplateTimeError
from tokensieve.data.tool_calls import DIALECTS, Dialect
from tokensieve.errors import TokensieveError

PROBE = "7317931"
"""A content without letters, which a template might change."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_HINT = (
    "give data.chat_template a template with {% generation %} ... {% endgeneration %} around the assistant's "
    f"text and turn-end token, or `{TRAINING_TEMPLATE}` for the one that TRL has for many models"
)
_OF_EVERY_MESSAGE = {"role", "content"}
Span = tuple[int, int]
"""First character and last (exclusive)."""


class ChatTemplate:
    """A Jinja chat template.

    Args:
        source: the template.
        special_tokens: names that it may use, ``eos_token`` for instance, and their text.

    Attributes:
        has_generation: whether the template marks answers with ``{% generation %}``.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.has_generation = bool(_GENERATION.search(source))
        self._source, self._special_tokens = source, dict[str, Any](special_tokens)
        self._known_roles: set[str] = set()
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        self._left_out: dict[tuple[Any, ...], list[_Part]] = {}

    def render(self, conversation: Conversation, generation_prompt: bool = False) -> str:
        """Return the conversation as text.

        Raises:
            TokensieveError: the template refuses the conversation.
        """
        return self._apply(conversation.messages, conversation.tools, generation_prompt)[0]

    def render_answers(self, conversation: Conversation) -> tuple[str, list[Span]]:
        """Return the conversation as text, and the characters of its trainable answers, rising.

        Raises:
            TokensieveError: the template refuses the conversation, leaves out a message of it, or does not tell
                where an answer lies.
        """
        messages, tools = conversation.messages, conversation.tools
        text, spans = self._apply(messages, tools)
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        trained = [number for number in answers if number not in conversation.untrained]
        if not self.has_generation and (shaped := self._shaped_spans(conversation, text)) is not None:
            return text, [shaped[number] for number in trained]
        for number in range(len(messages)):
            self._check_message(conversation, number, text)
        self._check_parts(conversation)
        if not self.has_generation:
            return text, [self._prefix_span(messages, tools, number, text) for number in trained]
        if answers and not any(stop > start for start, stop in spans):
            raise TokensieveError("the chat template renders no {% generation %} span", hint=_HINT)
        if len(trained) == len(answers):
            return text, spans
        if len(spans) != len(answers):
            raise TokensieveError(
                f"the chat template renders {len(spans)} generation spans for {len(answers)} answers, so single "
                "answers cannot be excluded from training",
                hint=_HINT,
            )
        return text, [span for number, span in zip(answers, spans, strict=True) if number in trained]

    def forgotten_thoughts(self, conversation: Conversation, text: str) -> int:
        """Return how many trainable answers lose their thoughts: some templates render those of the last turn alone.

        Args:
            conversation: one that `render_answers` took.
            text: its text.
        """
        messages = conversation.messages
        lost = {part.message for part in self._parts_left_out(conversation)}
        for number, message in enumerate(messages):
            if message["role"] == "assistant" and "</think>" in (message.get("content") or ""):
                thoughts = message["content"].partition("</think>")[0].rpartition("<think>")[2].strip()
                lost |= {number} if thoughts not in text else set()
        return len(lost - conversation.untrained)

    def _shaped_spans(self, conversation: Conversation, text: str) -> dict[int, Span] | None:
        """Return the span of each answer by what is known of conversations of these roles; None where it does not fit.

        Prefixes take two renderings an answer. A template that puts fixed text around the contents tells the same by
        one of probes, and whether it did so here shows in the text.
        """
        messages = conversation.messages
        if conversation.tools or not all(m.keys() == _OF_EVERY_MESSAGE and m["content"] for m in messages):
            return None
        roles = tuple(message["role"] for message in messages)
        if roles not in self._shapes:
            self._shapes[roles] = self._shape(roles)
        shape, contents = self._shapes[roles], [message["content"] for message in messages]
        if shape is None:
            return None
        for rendered in (contents, list(map(str.strip, contents))):
            if text == "".join(shape.pieces(rendered)):
                return shape.spans(rendered)
        return None

    def _shape(self, roles: Sequence[str]) -> _Shape | None:
        messages = [{"role": role, "content": f"{PROBE}{number:09d}"} for number, role in enumerate(roles)]
        contents = [message["content"] for message in messages]
        try:
            text, _ = self._apply(messages, None)
            answers = [number for number, role in enumerate(roles) if role == "assistant"]
            spans = {number: self._prefix_span(messages, None, number, text) for number in answers}
        except TemplateTimeError:
            raise
        except TokensieveError:
            return None
        around = re.split("|".join(contents), text)
        whole = _Shape(tuple(around), dict.fromkeys(answers, (0, 0)))
        if len(around) != len(contents) + 1 or text != "".join(whole.pieces(contents)):
            return None  # a message is left out, said twice or moved
        places = whole.spans(contents)
        return _Shape(
            whole.around,
            {n: (start - places[n][0], stop - places[n][1]) for n, (start, stop) in spans.items()},
        )

    def _prefix_span(self, messages: list[dict[str, Any]], tools: list[Any] | None, answer: int, text: str) -> Span:
        start, _ = self._apply(messages[:answer], tools, generation_prompt=True)
        stop, _ = self._apply(messages[: answer + 1], tools)
        for prefix in (start, stop):
            if not text.startswith(prefix):
                raise TokensieveError(
                    f"the chat template has no {{% generation %}} and renders message {answer} differently in a "
                    f"longer conversation ({_first_difference(prefix, text)}), so the answer cannot be found",
                    hint=_HINT,
                )
        return len(start), len(stop)

    def _check_message(self, conversation: Conversation, number: int, text: str) -> None:
        """Refuse a template that silently leaves out a message, or whose spans are beside the answers.

        A content may be missing from the text because a template rewrites it, or be there because
        another message says the same. A probe in its place tells.
        """
        message = conversation.messages[number]
        role, content = message["role"], (message.get("content") or "").strip()
        if not content or message.get("tool_calls") or (role in self._known_roles and content in text):
            return
        probed = [*conversation.messages]
        probed[number] = {**message, "content": PROBE}
        try:
            rendered, spans = self._apply(probed, conversation.tools)
        except TemplateTimeError:
            raise
        except TokensieveError:  # a template that reads the content, JSON for instance
            rendered, spans = PROBE if content in text else "", []
        answers = sum(other["role"] == "assistant" for other in probed)
        if PROBE not in rendered:
            raise TokensieveError(
                f"the chat template leaves out message {number}, of the role '{role}'",
                hint="rename the role or drop the message, or give data.chat_template a template that renders it",
            )
        marked = any(PROBE in rendered[start:stop] for start, stop in spans)
        if role == "assistant" and len(spans) == answers and not marked:
            raise TokensieveError(
                "the {% generation %} blocks of the chat template lie beside the answers",
                hint="write the blocks outside macros and {% set %}, within which transformers misplaces them",
            )
        self._known_roles.add(role)

    def _check_parts(self, conversation: Conversation) -> None:
        """Refuse a template that leaves out what an answer is made of: its tool calls, or its thoughts.

        Thoughts may be missing from the turns before the last where they are rendered in the last: such a template
        asks the model to forget them.
        """
        messages = conversation.messages
        for part in self._parts_left_out(conversation):
            alone = Conversation(messages[: part.message + 1], conversation.tools)
            others = {one.kind for one in _parts(conversation) if one.message == part.message} - {part.kind}
            if part.kind == "tool calls" or not others or part in self._parts_left_out(alone):
                raise TokensieveError(
                    f"the chat template leaves out the {part.kind} of message {part.message}, so that the answer would "
                    f"be trained without {'it' if part.kind == 'text' else 'them'}",
                    hint="give data.chat_template a template that renders them (TRL has one for many models: "
                    f"`{TRAINING_TEMPLATE}`), or leave them out of the data",
                )

    def _parts_left_out(self, conversation: Conversation) -> list[_Part]:
        """Return the parts of answers that the template does not render, by what is known of conversations of a shape.

        A part may show in the text because another message says the same. Probes in the place of all parts tell.
        """
        parts = list(_parts(conversation))
        if not parts:
            return []
        shape = (bool(conversation.tools), *((m["role"], *sorted(m)) for m in conversation.messages), *parts)
        if shape not in self._left_out:
            probed = [dict(message) for message in conversation.messages]
            for number, part in enumerate(parts):
                part.put(probed[part.message], f"{PROBE}{number:09d}")
            rendered, spans = self._apply(probed, conversation.tools)
            if self.has_generation:
                rendered = "\n".join(rendered[start:stop] for start, stop in spans)
            self._left_out[shape] = [
                part for number, part in enumerate(parts) if f"{PROBE}{number:09d}" not in rendered
            ]
        return self._left_out[shape]

    @cached_property
    def _dialect(self) -> Dialect:
        """How the template reads tool calls: the first way in which it renders a call with its arguments."""
        call = {"type": "function", "function": {"name": "look_up", "arguments": {"of": PROBE}}}
        messages = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "Hi"},
            {"role": "assistant", "content": "Hi"},
        ]
        for dialect in DIALECTS:
            try:
                if PROBE in self._rendered(dialect(messages), None, False)[0]:
                    return dialect
            except TemplateTimeError:
                raise
            except TokensieveError:
                continue
        return DIALECTS[0]

    def _apply(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, generation_prompt: bool = False
    ) -> tuple[str, list[Span]]:
        calls = any("tool_calls" in message for message in messages)
        return self._rendered(self._dialect(messages) if calls else messages, tools, generation_prompt)

    def _rendered(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, generation_prompt: bool
    ) -> tuple[str, list[Span]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        from tokensieve.data.template_limit import Limits

        try:
            with Limits(self._source) as template:
                if tools is None and all(map(_is_text_alone, messages)):
                    return render_texts(
                        template,
                        messages,
                        self._special_tokens,
                        mark=self.has_generation,
                        prompt=generation_prompt,
                    )
                rendered: Any = render_jinja_template(
                    conversations=[messages],
                    tools=tools,
                    chat_template=self._source,
                    return_assistant_tokens_mask=self.has_generation,
                    add_generation_prompt=generation_prompt,
                    **self._special_tokens,
                )
        except TemplateTimeError:
            raise
        except Exception as error:  # Jinja's errors, and whatever a template's own code raises
            roles = ", ".join(message["role"] for message in messages)
            raise TokensieveError(
                f"the chat template refuses the conversation with the roles {roles or '(none)'}: "
                f"{str(error) or type(error).__name__}",
                hint="change the data, or give data.chat_template a template that takes such messages",
            ) from error
        (text,), spans = rendered
        return text, [(start, stop) for start, stop in spans[0]] if spans else []


def _is_text_alone(message: dict[str, Any]) -> bool:
    return message.keys() == _OF_EVERY_MESSAGE and type(message["content"]) is type(message["role"]) is str


@dataclass(frozen=True)
class _Part:
    """What an answer is made of besides a text alone.

    Attributes:
        message: number of the message.
        kind: what it is, in words.
        keys: the keys of the message that hold it.
        call: number of the tool call, where it is one.
    """

    message: int
    kind: str
    keys: tuple[str, ...]
    call: int = 0

    def put(self, message: dict[str, Any], probe: str) -> None:
        """Put a probe in the place of the part."""
        if self.kind == "tool calls":
            calls = list(message["tool_calls"])
            function = {**calls[self.call]["function"], "arguments": {"of": probe}}
            calls[self.call] = {**calls[self.call], "function": function}
            message["tool_calls"] = calls
        else:
            message |= dict.fromkeys(self.keys, probe)


def _parts(conversation: Conversation) -> Iterator[_Part]:
    """Yield the parts of answers that are more than a text: each tool call, and text and thoughts of trainable ones."""
    for number, message in enumerate(conversation.messages):
        if message["role"] != "assistant" or message.keys() <= _OF_EVERY_MESSAGE:
            continue
        calls = message.get("tool_calls", ())
        thoughts = tuple(key for key in THOUGHTS if message.get(key))
        if not (calls or thoughts):
            continue
        for call in range(len(calls)):
            yield _Part(number, "tool calls", ("tool_calls",), call)
        if number not in conversation.untrained:
            if (message.get("content") or "").strip():
                yield _Part(number, "text", ("content",))
            if thoughts:
                yield _Part(number, "thoughts", thoughts)


@dataclass(frozen=True)
class _Shape:
    """How a template renders conversations of some roles.

    Attributes:
        around: the text before each content, and behind the last.
        answers: number of a message to how many characters behind its content's start the answer starts, and
            behind its end it ends.
    """

    around: tuple[str, ...]
    answers: dict[int, Span]

    def pieces(self, contents: Sequence[str]) -> list[str]:
        """Return the parts of a conversation's text, each content with the text before it and the last text behind."""
        return [*chain.from_iterable(zip(self.around, contents, strict=False)), self.around[-1]]

    def spans(self, contents: Sequence[str]) -> dict[int, Span]:
        """Return the characters of each answer, by the number of its message."""
        ends = list(accumulate(map(len, self.pieces(contents))))
        return {n: (ends[2 * n] + before, ends[2 * n + 1] + behind) for n, (before, behind) in self.answers.items()}


def training_template(tokenizer: Any) -> str:
    """Return TRL's training version of a tokenizer's own template.

    It marks the answers and renders a message alike in every conversation, and is otherwise the same.

    Args:
        tokenizer: a `transformers` tokenizer with a chat template.

    Raises:
        TokensieveError: TRL knows no training version of it.
    """
    from trl import get_training_chat_template

    own = tokenizer.chat_template
    try:
        found = get_training_chat_template(tokenizer) if own else None
    except ValueError:
        found = None
    if found is None and not _GENERATION.search(own or ""):
        raise TokensieveError(
            "TRL has no training version of the tokenizer's chat template",
            where=f"data.chat_template: {TRAINING_TEMPLATE}",
            hint="give a file with a template that has {% generation %} ... {% endgeneration %} around the answers",
        )
    return found or own


def _first_difference(prefix: str, text: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(prefix, text, strict=False)) if a != b), min(len(prefix), len(text)))
    return f"{prefix[at : at + 20]!r} against {text[at : at + 20]!r} at character {at}"
