"""Rows with their corrected answers in the place of those that they were given."""

from __future__ import annotations

from dataclasses import replace

from tokensieve.data.formats import Conversation, Converted, PlainText


def corrected_answers(row: Converted) -> Converted | None:
    """Return a row with each answer that has a correction replaced by it, and without marks; None if none has."""
    if isinstance(row, PlainText) and row.corrected is not None:
        return PlainText(row.prompt, row.corrected)
    if not isinstance(row, Conversation) or not row.corrected:
        return None
    messages = [
        {**message, "content": row.corrected.get(number, message.get("content"))}
        for number, message in enumerate(row.messages)
    ]
    return replace(row, messages=messages, spans={}, corrected={})
