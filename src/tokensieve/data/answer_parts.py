"""What answers are made of besides a text alone: tool calls, and thoughts before the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokensieve.data.formats import THOUGHTS, Conversation

OF_EVERY_MESSAGE = {"role", "content"}
"""The keys of a message that is a text alone."""


@dataclass(frozen=True)
class Part:
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


def answer_parts(conversation: Conversation) -> Iterator[Part]:
    """Yield the parts of answers that are more than a text: each tool call, and text and thoughts of trainable ones."""
    for number, message in enumerate(conversation.messages):
        if message["role"] != "assistant" or message.keys() <= OF_EVERY_MESSAGE:
            continue
        calls = message.get("tool_calls", ())
        thoughts = tuple(key for key in THOUGHTS if message.get(key))
        if not (calls or thoughts):
            continue
        for call in range(len(calls)):
            yield Part(number, "tool calls", ("tool_calls",), call)
        if number not in conversation.untrained:
            if (message.get("content") or "").strip():
                yield Part(number, "text", ("content",))
            if thoughts:
                yield Part(number, "thoughts", thoughts)
