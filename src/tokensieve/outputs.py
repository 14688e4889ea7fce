"""Where what a user asks for is written: local paths, and URLs of object stores that take it."""

from __future__ import annotations

from pathlib import Path

from tokensieve.errors import TokensieveError
from tokensieve.places import WRITABLE, is_url, place, remote_of


def output_place(given: str | Path) -> Path:
    """Return the path on this machine of something that is to be written; the argument may be a URL.

    Raises:
        TokensieveError: an object store that is only read, a bucket without a folder in it, or a name with a dot before
            it, as what stays on this machine has.
    """
    path = place(given)
    if not is_url(given) and "://" not in str(given):
        return path
    remote = remote_of(path)
    hidden = remote is not None and any(part.startswith(".") for part in remote.path.split("/"))
    if remote is None or remote.scheme not in WRITABLE or not remote.key or hidden:
        raise TokensieveError(
            f"'{given}' cannot be written to",
            hint=f"give a local path, or {' or '.join(f'{scheme}://BUCKET/NAME' for scheme in WRITABLE)}, with no name "
            "that begins with a dot",
        )
    return path
