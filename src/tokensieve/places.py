"""Where this machine keeps what it has of an object store, and the URLs that messages and files say instead.

What stands at ``s3://bucket/runs/a`` has its place at ``SCRATCH/s3/bucket/runs/a``, so that code works on paths alone.
The scratch folder is ``$TOKENSIEVE_SCRATCH``, or one in the user's cache. It is a copy: it can be deleted at any time.
Stores behind an address of their own (``AWS_ENDPOINT_URL``) have a folder of their own.
"""

from __future__ import annotations

import functools
import hashlib
import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

WRITABLE = ("s3", "gs")
"""Schemes of stores that runs are written to; from ``hf`` rows are read alone."""
# `Path` makes one slash of two.
_URL = re.compile(r"(?P<scheme>s3|gs|hf):/+(?P<rest>.*)", re.DOTALL)
_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",)}


@dataclass(frozen=True)
class Remote:
    """A place in an object store.

    Attributes:
        scheme: ``s3``, ``gs`` or ``hf``.
        path: bucket and key, such as ``bucket/runs/a``.
    """

    scheme: str
    path: str

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.path.partition("/")[0]

    @property
    def key(self) -> str:
        """What follows the bucket; empty for the bucket itself."""
        return self.path.partition("/")[2]

    @property
    def url(self) -> str:
        """The URL."""
        return f"{self.scheme}://{self.path}"


def is_url(text: str | Path) -> bool:
    """Whether a text, or a path made of one, is the URL of something in an object store."""
    return _URL.fullmatch(str(text)) is not None


def place(text: str | Path) -> Path:
    """Return the path on this machine of a URL; any other path as it is."""
    if (found := _URL.fullmatch(str(text))) is None:
        return Path(text)
    endpoint = endpoint_of(found["scheme"])
    mark = f"@{hashlib.sha256(endpoint.encode()).hexdigest()[:8]}" if endpoint else ""
    inside = posixpath.normpath(f"/{found['rest']}").lstrip("/")  # no `..` leads out of the scratch folder
    return scratch() / f"{found['scheme']}{mark}" / inside


def remote_of(path: Path) -> Remote | None:
    """Return what a path on this machine stands for; None where it is a file or folder of this machine alone."""
    text, root = str(path), f"{scratch()}/"
    if not text.startswith(root):
        return None
    store, _, inside = text[len(root) :].partition("/")
    return Remote(store.partition("@")[0], inside) if inside and _is_store(store) else None


def told(text: str | Path) -> str:
    """Return a text for the user, or for a file that other machines read: URLs in place of their paths here."""
    return re.sub(rf"{re.escape(str(scratch()))}/(s3|gs|hf)(?:@[0-9a-f]{{8}})?/", r"\1://", str(text))


def endpoint_of(scheme: str) -> str | None:
    """Return the address of a store that speaks the protocol of a scheme, where the environment gives one."""
    return next((value for name in _ENDPOINTS.get(scheme, ()) if (value := os.environ.get(name))), None)


def _is_store(name: str) -> bool:
    return re.fullmatch(r"(s3|gs|hf)(@[0-9a-f]{8})?", name) is not None


def scratch() -> Path:
    """Return the folder of what this machine keeps to save work; it can be deleted at any time."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _resolved(os.environ.get("TOKENSIEVE_SCRATCH") or os.path.join(cache, "tokensieve"))


@functools.cache
def _resolved(folder: str) -> Path:
    return Path(folder).expanduser().resolve()
