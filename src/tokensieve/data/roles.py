"""The speakers of a conversation: the names that data gives them, and the roles that templates know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from tokensieve.errors import TokensieveError, did_you_mean

ROLES = {
    "system": "system", "developer": "developer",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant", "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "ipython": "tool",
}  # fmt: skip
"""The role that a template knows for each name that data gives a speaker."""

_TURNS = ("messages", "conversations", "prompt", "completion")
_SPEAKER = ("role", "from")


def _known(roles: dict[str, str]) -> dict[str, str]:
    for name, role in roles.items():
        if role.lower() not in ROLES:
            raise TokensieveError(
                f"'{name}' is to be read as '{role}', which is no role that is known{did_you_mean(role, ROLES)}",
                where=f".{name}",
                hint=f"one of: {', '.join(ROLES)}",
            )
    return roles


RoleNames = Annotated[dict[str, str], AfterValidator(_known)]
"""What to read the name of a speaker as, by that name."""


def with_roles(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a row whose speakers have the names that are given for theirs, in upper or lower case."""
    wanted = {name.lower(): role for name, role in names.items()}
    return {name: _renamed(value, wanted) if name in _TURNS else value for name, value in row.items()}


def _renamed(value: Any, wanted: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(turn, wanted) for turn in value]
    if not isinstance(value, dict):
        return value
    said = {key: value[key] for key in _SPEAKER if isinstance(value.get(key), str)}
    return {**value, **{key: wanted.get(name.lower(), name) for key, name in said.items()}}
