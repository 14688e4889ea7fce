"""Where marked parts of answers stand in the text that a chat template makes of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tokensieve.data.chat_template import PROBE
from tokensieve.data.formats import Conversation
from tokensieve.data.marks import MarkedSpan
from tokensieve.data.template_shape import Span
from tokensieve.errors import TokensieveError

_THOUGHTS_END = "</think>"


def placed_spans(
    conversation: Conversation, text: str, answers: Sequence[Span], render: Callable[[Conversation], str]
) -> list[MarkedSpan]:
    """Return the marked spans of a conversation as characters of its text, rising.

    White space that the template strips from an answer is no longer marked.

    Args:
        conversation: its spans count the characters of contents.
        text: the conversation as the template renders it.
        answers: the characters of its trainable answers.
        render: renders a conversation.

    Raises:
        TokensieveError: the template rewrites a content that has spans.
    """
    found: list[MarkedSpan] = []
    for number, spans in conversation.spans.items():
        if not spans:
            continue
        at, first, last = _place(conversation, number, text, answers, render)
        for span in spans:
            start, stop = max(span.start, first), min(span.stop, last)
            if start < stop:
                found.append(MarkedSpan(at + start - first, at + stop - first, span.type))
    return sorted(found)


def _place(
    conversation: Conversation, number: int, text: str, answers: Sequence[Span], render: Callable[[Conversation], str]
) -> tuple[int, int, int]:
    """Return where in the text a content stands, and the part of it, first and last character, that stands there."""
    content, spans = conversation.messages[number].get("content") or "", conversation.spans[number]
    parts = [part for part in _parts(content) if part[0] <= spans[0].start or not content[: part[0]].strip()]
    for first, last in parts:
        places = [place for start, stop in answers for place in _occurrences(content[first:last], text, start, stop)]
        if len(places) == 1:
            return places[0], first, last
    messages = [*conversation.messages]
    messages[number] = {**messages[number], "content": PROBE}
    probed = render(replace(conversation, messages=messages))
    at = probed.find(PROBE)
    if at >= 0 and probed[:at] == text[:at]:
        for first, last in parts:
            if text.startswith(content[first:last], at):
                return at, first, last
    raise TokensieveError(
        f"the chat template rewrites the text of message {number}, so that its spans cannot be placed",
        hint="give thoughts in `reasoning_content` and mark the content alone, or leave the marks out with "
        "data.ignore: [spans, corrected]",
    )


def _parts(content: str) -> Iterator[Span]:
    """Yield what templates render of a content: all of it, without white space around it, without its thoughts."""
    yield 0, len(content)
    behind = content.rfind(_THOUGHTS_END)
    for start in (0, behind + len(_THOUGHTS_END)) if behind >= 0 else (0,):
        rest = content[start:]
        yield start + len(rest) - len(rest.lstrip()), len(content.rstrip())


def _occurrences(part: str, text: str, start: int, stop: int) -> Iterator[int]:
    at = text.find(part, start, stop) if part else -1
    while at >= 0:
        yield at
        at = text.find(part, at + 1, stop)
