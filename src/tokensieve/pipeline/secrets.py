"""Secrets in recipes: refused by the names of their keys, since a run writes and prints its recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tokensieve.errors import TokensieveError

_NAMES = re.compile(r"(?:.*_)?(?:token|secret|password|passwd|api_?key|(?:access|secret|private)_key|credentials?)")
_NO_SECRETS = frozenset({"eos_token", "pad_token", "bos_token", "unk_token"})
_NAMED_BY_DATA = frozenset({"columns", "roles"})


def is_secret(key: str) -> bool:
    """Whether the value of a key is a secret, by its name."""
    name = key.lower().replace("-", "_")
    return name not in _NO_SECRETS and _NAMES.fullmatch(name) is not None


def mentions_secret(text: str) -> bool:
    """Whether a text has the name of a secret in it, so that it must not be shown."""
    return any(map(is_secret, re.findall(r"[\w-]+", text)))


def refuse_secrets(values: Any, where: str, key: tuple[str, ...] = ()) -> None:
    """Refuse values that hold a secret, without its value in the message.

    Args:
        values: of a recipe, or a part of one.
        where: the file, or the command line.
        key: of the part.

    Raises:
        TokensieveError: a key that names a secret, and is not null.
    """
    if isinstance(values, Mapping) and key[-1:] and key[-1] in _NAMED_BY_DATA:
        return
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for name, value in items:
        inner = (*key, str(name))
        if is_secret(inner[-1]) and value is not None:
            raise TokensieveError(
                f"'{'.'.join(inner)}' names a secret, and a run writes its recipe to disk",
                where=where,
                hint="leave it out and set the environment variable that its library reads, such as HF_TOKEN",
            )
        refuse_secrets(value, where, inner)
