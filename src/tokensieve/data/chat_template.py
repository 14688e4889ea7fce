"""Conversations to text, and which characters of it are the assistant's answers.

They come from the template's ``{% generation %}`` blocks where it has them. Otherwise they come from prefixes: the
conversation up to an answer, with the generation prompt, must be a prefix of the whole, or the template is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from tokensieve.data.answer_parts import OF_EVERY_MESSAGE, Part, answer_parts
from tokensieve.data.chat_template_private import compiled_template, render_texts
from tokensieve.data.formats import Conversation
from tokensieve.data.settings import TRAINING_TEMPLATE
from tokensieve.data.template_errors import TemplateTimeError
from tokensieve.data.template_shape import Answers, Shape, Span, shape_of
from tokensieve.data.tool_calls import DIALECTS, Dialect
from tokensieve.errors import TokensieveError

PROBE = "7317931"
"""A content without letters, which a template might change."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_HINT = (
    "give data.chat_template a template with {% generation %} ... {% endgeneration %} around the assistant's "
    f"text and turn-end token, or `{TRAINING_TEMPLATE}` for the one that TRL has for many models"
)


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
        self._shapes: dict[tuple[str, ...], Shape | None] = {}
        self._left_out: dict[tuple[Any, ...], list[Part]] = {}

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
        messages, tools, trained = conversation.messages, conversation.tools, conversation.trained
        shape, contents = self._shape_of(conversation)
        if shape is not None and (rendered := shape.rendered(contents)) is not None:
            text, shaped = rendered
            return text, [shaped[number] for number in trained]
        text, spans = self._apply(messages, tools)
        if shape is not None and (shaped := shape.answers_in(text, contents)) is not None:
            return text, [shaped[number] for number in trained]
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
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

    def _shape_of(self, conversation: Conversation) -> tuple[Shape | None, list[str]]:
        """Return what is known of conversations of these roles, if anything, and the contents of this one."""
        messages = conversation.messages
        if conversation.tools or not all(map(_is_text_alone, messages)):
            return None, []
        contents = [message["content"] for message in messages]
        if not all(contents):
            return None, []
        roles = tuple(message["role"] for message in messages)
        if roles not in self._shapes:
            self._shapes[roles] = self._shape(roles)
        return self._shapes[roles], contents

    def _shape(self, roles: Sequence[str]) -> Shape | None:
        """Return how conversations of some roles are rendered, by those of probes; None where these do not tell.

        Without it, each answer takes two more renderings, of its prefixes. A text does not show what of it lay in
        ``{% generation %}``: there, only what holds for all contents is a shape.
        """
        probes = [f"{PROBE}{number:09d}" for number in range(len(roles))]
        longer = [probe * (number + 2) for number, probe in enumerate(probes)]
        try:
            shape = shape_of(*self._probed(roles, probes), probes)
            if shape is None or shape.filled(longer) != self._probed(roles, longer):
                return None
        except TemplateTimeError:
            raise
        except TokensieveError:
            return None
        from tokensieve.data.symbolic_rendering import symbolic_text

        text = symbolic_text(self._source, roles, self._special_tokens)
        strips = text.strips if text is not None and text.around == shape.around else None
        return None if self.has_generation and strips is None else replace(shape, strips=strips)

    def _probed(self, roles: Sequence[str], contents: Sequence[str]) -> tuple[str, Answers]:
        """Return the text of a conversation and the answers in it.

        Raises:
            TokensieveError: the template refuses it, or does not tell where an answer lies.
        """
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        text, spans = self._apply(messages, None)
        answers = [number for number, role in enumerate(roles) if role == "assistant"]
        if not self.has_generation:
            spans = [self._prefix_span(messages, None, number, text) for number in answers]
        if len(spans) != len(answers):
            raise TokensieveError(
                f"{len(spans)} generation spans for {len(answers)} answers",
                hint="put the answers, and nothing else, between {% generation %} and {% endgeneration %}",
            )
        return text, dict(zip(answers, spans, strict=True))

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
            others = {one.kind for one in answer_parts(conversation) if one.message == part.message} - {part.kind}
            if part.kind == "tool calls" or not others or part in self._parts_left_out(alone):
                raise TokensieveError(
                    f"the chat template leaves out the {part.kind} of message {part.message}, so that the answer would "
                    f"be trained without {'it' if part.kind == 'text' else 'them'}",
                    hint="give data.chat_template a template that renders them (TRL has one for many models: "
                    f"`{TRAINING_TEMPLATE}`), or leave them out of the data",
                )

    def _parts_left_out(self, conversation: Conversation) -> list[Part]:
        """Return the parts of answers that the template does not render, by what is known of conversations of a shape.

        A part may show in the text because another message says the same. Probes in the place of all parts tell.
        """
        parts = list(answer_parts(conversation))
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

        from tokensieve.data.template_limit import LimitedEnvironment, Limits

        try:
            template = compiled_template(self._source, LimitedEnvironment)
            with Limits(template):
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
    return message.keys() == OF_EVERY_MESSAGE and type(message["content"]) is type(message["role"]) is str


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
