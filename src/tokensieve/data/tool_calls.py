"""Tool calls, however a row writes them, and as chat templates read them.

A template reads a call as ``{"type": "function", "function": {"name": ..., "arguments": {...}}}``: arguments that are
JSON text would be encoded a second time by a template that applies ``tojson``.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from tokensieve import json_text
from tokensieve.errors import TokensieveError

Messages = list[dict[str, Any]]
Dialect = Callable[[Messages], Messages]
"""Rewrites the tool calls of a conversation as some templates read them."""

_CALL = '{"name": "look_up", "arguments": {"city": "Oslo"}}'


def message_with_calls(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with its `tool_calls` as templates read them; one without calls lacks the key.

    `tool_calls` may be JSON text, and so may the arguments of each call. A `function_call`, as OpenAI had it once, is
    the only call. A message with calls and no text gets an empty one, since templates differ in what they make of
    none.

    Raises:
        TokensieveError: a call without a name, or text that is not the JSON of calls or arguments.
    """
    rest = {key: value for key, value in message.items() if key not in ("tool_calls", "function_call")}
    calls = read_calls(message.get("tool_calls") or message.get("function_call") or [])
    return {**rest, "content": rest.get("content", ""), "tool_calls": calls} if calls else rest


def read_calls(given: Any) -> list[dict[str, Any]]:
    """Return the calls that a value holds: one or a list, as dictionaries or as JSON text.

    Raises:
        TokensieveError: a call without a name, or text that is not the JSON of calls or arguments.
    """
    value = _parsed(given, "a tool call")
    return [_call(one) for one in (value if isinstance(value, list) else [value])]


def tool_schema(tool: Any) -> Any:
    """Return a schema as templates read it: one that names its function at the top is put in ``function``."""
    bare = isinstance(tool, dict) and "function" not in tool and "name" in tool
    return {"type": "function", "function": tool} if bare else tool


def unchanged(messages: Messages) -> Messages:
    """Leave calls as they are."""
    return messages


def numbered(messages: Messages) -> Messages:
    """Give each call without an ``id`` one of nine letters and digits, and the answers of tools its ``tool_call_id``.

    Mistral's templates refuse calls without one.
    """
    changed, open_calls, count = [], deque[str](), 0
    for message in messages:
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                calls.append({**call, "id": call.get("id") or f"call{count:05d}"})
                open_calls.append(calls[-1]["id"])
                count += 1
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool" and open_calls:
            answered = open_calls.popleft()
            message = {**message, "tool_call_id": message.get("tool_call_id") or answered}
        changed.append(message)
    return changed


def with_text_arguments(messages: Messages) -> Messages:
    """Write the arguments of each call as JSON text, which DeepSeek's templates take as it is."""

    def call(one: dict[str, Any]) -> dict[str, Any]:
        function = one["function"]
        return {**one, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}

    return [
        {**message, "tool_calls": [call(one) for one in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


DIALECTS: tuple[Dialect, ...] = (unchanged, numbered, with_text_arguments)
"""In the order in which they are tried with a template."""


def _call(one: Any) -> dict[str, Any]:
    call = one.get("function", one) if isinstance(one, dict) else None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise TokensieveError(f"not a tool call: {one!r:.80}", hint=f"a name and arguments, such as {_CALL}")
    arguments = _parsed(call.get("arguments") or {}, f"the arguments of '{call['name']}'")
    if not isinstance(arguments, dict):
        raise TokensieveError(
            f"the arguments of '{call['name']}' must be a JSON object, not {type(arguments).__name__}",
            hint=f"names and values, such as those of {_CALL}",
        )
    around = {key: value for key, value in one.items() if key not in ("function", "name", "arguments")}
    return {"type": "function", **around, "function": {**call, "arguments": arguments}}


def _parsed(value: Any, what: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json_text.parse(value)
    except json_text.JsonError as error:
        raise TokensieveError(
            f"{what} is not JSON: {error.what} at character {error.column} of {value!r:.80}",
            hint=f"JSON text, such as {_CALL}",
        ) from error
