"""Marks: parts of an answer that somebody found bad, as character ranges, and what a corrected answer changes of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokensieve import json_text
from tokensieve.errors import TokensieveError

MARKED = "marked"
"""The type of a span that is given without one."""
CHANGED = "corrected"
"""The type of what a corrected answer removes or replaces."""
KEYS = ("spans", "corrected")
"""Keys of a message, and columns of a row with one answer, that hold marks and the corrected answer."""

FEW_MARKED, ENOUGH_MARKED = 50, 200
"""Marked rows below which nothing is concluded from marks, and as many as are enough to try."""

_EXAMPLE = 'such as [[0, 4]], [[0, 4, "wrong"]] or [{"start": 0, "end": 4, "type": "wrong"}]; or data.ignore: [spans]'
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, order=True)
class MarkedSpan:
    """A marked part of an answer.

    Attributes:
        start: first character of it; of an answer that is given as token ids, the first token.
        stop: the last one (exclusive).
        type: what is wrong with it.
    """

    start: int
    stop: int
    type: str = MARKED


def read_spans(given: Any, answer: str | Sequence[int]) -> tuple[MarkedSpan, ...]:
    """Return the spans of an answer, rising and without overlap; spans of one type that overlap or touch are joined.

    Args:
        given: a list, or its JSON text, of ``[start, end]``, ``[start, end, type]`` or mappings of `start`, `end` and,
            where they are given, `type` and `text`. Ranges are half-open.
        answer: what the spans are parts of: a text, or token ids.

    Raises:
        TokensieveError: what is no span, a span that is empty, reversed, outside the answer or of another text than the
            answer has there, or spans of different types that overlap.
    """
    if isinstance(given, str):
        try:
            given = json_text.parse(given)
        except json_text.JsonError as error:
            raise TokensieveError(f"'spans' is not JSON: {error.what}", hint=_EXAMPLE) from error
    if not isinstance(given, list | tuple):
        raise TokensieveError(f"'spans' must be a list of spans, not {given!r:.60}", hint=_EXAMPLE)
    joined: list[MarkedSpan] = []
    for span in sorted(_span(one, answer) for one in given):
        last = joined[-1] if joined else None
        if last is not None and span.start < last.stop and span.type != last.type:
            raise TokensieveError(
                f"the spans {_shown(last)} and {_shown(span)} overlap and have different types",
                hint="give each part of an answer one type",
            )
        if last is not None and span.start <= last.stop and span.type == last.type:
            joined[-1] = MarkedSpan(last.start, max(last.stop, span.stop), last.type)
        else:
            joined.append(span)
    return tuple(joined)


def changed_words(answer: str, corrected: str) -> tuple[MarkedSpan, ...]:
    """Return the words of an answer that its correction removes or replaces, neighbours joined.

    A word is what stands between white space. The longest common blocks of words are those of `difflib`.
    """
    words, others = ([*_WORD.finditer(text)] for text in (answer, corrected))
    matcher = difflib.SequenceMatcher(None, [one[0] for one in words], [one[0] for one in others], autojunk=False)
    changed = [(first, last) for kind, first, last, _, _ in matcher.get_opcodes() if kind in ("replace", "delete")]
    return tuple(MarkedSpan(words[first].start(), words[last - 1].end(), CHANGED) for first, last in changed)


def read_marks(spans: Any, corrected: Any, answer: str) -> tuple[tuple[MarkedSpan, ...], str | None]:
    """Return the spans of an answer and the corrected answer.

    Args:
        spans: as `read_spans` takes them; None takes what the correction changes.
        corrected: the corrected answer; None or an empty text where there is none.
        answer: the answer.

    Raises:
        TokensieveError: what `read_spans` refuses, or a corrected answer that is no text.
    """
    if corrected is not None and not isinstance(corrected, str):
        raise TokensieveError(
            f"'corrected' must be the text of the corrected answer, not {corrected!r:.60}",
            hint="a string; or leave it out with data.ignore: [corrected]",
        )
    if spans is not None:
        return read_spans(spans, answer), corrected or None
    return changed_words(answer, corrected) if corrected else (), corrected or None


def conversation_marks(
    messages: Sequence[Mapping[str, Any]], trained: Sequence[int], row: Mapping[str, Any], ignore: Collection[str]
) -> tuple[dict[int, tuple[MarkedSpan, ...]], dict[int, str]]:
    """Return the spans and the corrected contents of the messages of a row, by the number of the message.

    Args:
        messages: with the keys `KEYS`, where they have marks.
        trained: numbers of the messages that are trained on.
        row: has them itself, where one message is trained on.
        ignore: keys that the user leaves out.

    Raises:
        TokensieveError: marks of what is not trained on, or of the row where it is not clear which answer they are
            about; and what `read_marks` refuses.
    """
    of_messages: dict[int, Mapping[str, Any]] = {}
    for number, message in enumerate(messages):
        found = {key: message[key] for key in KEYS if key in message and key not in ignore}
        if number not in trained and (names := [key for key, value in found.items() if value]):
            raise TokensieveError(
                f"message {number}, of the role '{message['role']}', has {' and '.join(map(repr, names))}, and it is "
                "not trained on",
                hint="mark only answers that are trained on, or leave the marks out with data.ignore: "
                f"[{', '.join(names)}]",
            )
        if number in trained and found:
            of_messages[number] = found
    of_row = {key: row[key] for key in KEYS if row.get(key) is not None}
    if any(of_row.values()) and (len(trained) != 1 or of_messages):
        raise TokensieveError(
            f"the row has {' and '.join(map(repr, of_row))}, and "
            + ("its messages have marks too" if of_messages else f"{len(trained)} answers that are trained on"),
            hint="write them into the message that they are about",
        )
    if of_row and len(trained) == 1:
        of_messages.setdefault(trained[0], of_row)
    marks = {
        number: read_marks(found.get("spans"), found.get("corrected"), messages[number].get("content") or "")
        for number, found in of_messages.items()
    }
    spans = {number: spans for number, (spans, _) in marks.items() if spans}
    return spans, {number: corrected for number, (_, corrected) in marks.items() if corrected is not None}


def _span(given: Any, answer: str | Sequence[int]) -> MarkedSpan:
    start, stop, kind, text = _parts(given)
    unit = "characters" if isinstance(answer, str) else "tokens"
    if not 0 <= start < stop <= len(answer):
        outside = f"lies outside the answer, which has {len(answer)} {unit}"
        fault = "is empty" if start == stop else "ends before it starts" if start > stop else outside
        raise TokensieveError(
            f"the span [{start}, {stop}] {fault}",
            hint=f"spans count the {unit} of the answer from 0, and the end is the first one behind them",
        )
    if text is not None and (not isinstance(answer, str) or answer[start:stop] != text):
        there = f"{answer[start:stop]!r:.60}" if isinstance(answer, str) else "token ids"
        raise TokensieveError(
            f"the span [{start}, {stop}] says {text!r:.60}, and the answer has {there} there",
            hint="the spans belong to another text: count the characters of the answer as the row has it",
        )
    return MarkedSpan(start, stop, kind)


def _parts(given: Any) -> tuple[int, int, str, str | None]:
    """Return start, end, type and text of a span as a row has it."""
    text = None
    parts = given
    if isinstance(given, dict):
        parts, text = [given.get("start"), given.get("end"), given.get("type")], given.get("text")
    if isinstance(parts, list | tuple) and len(parts) in (2, 3):
        start, stop, kind = parts[0], parts[1], parts[2] if len(parts) == 3 else None
        texts = isinstance(kind, str | None) and isinstance(text, str | None)
        if isinstance(start, int) and isinstance(stop, int) and bool not in (type(start), type(stop)) and texts:
            return start, stop, kind or MARKED, text
    raise TokensieveError(f"not a span: {given!r:.80}", hint=_EXAMPLE)


def _shown(span: MarkedSpan) -> str:
    return f"[{span.start}, {span.stop}] ({span.type})"
