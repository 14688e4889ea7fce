"""SHA-256 of files, of large ones once for each state of a file: 140 GB of weights take minutes to read.

Every process that measures asks what the weights are, and so does every command. The digest of a large local file is
kept in the scratch folder (`places.scratch`) under its path, inode, size, and the times of the last change of content
and of inode. The latter cannot be set back, so a file that is written to in place with its old time is read again. One
that changed a moment before it was read may change once more within the same tick, so its digest is not kept.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from tokensieve.places import remote_of, scratch
from tokensieve.store.processes import beside
from tokensieve.store.remote import open_stream

_LARGE = 2**26  # bytes; less is read in a moment
_SETTLED = 2 * 10**9  # nanoseconds: file systems tell times in ticks, some of whole seconds


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file or an object."""
    if remote_of(path) is not None or path.stat().st_size < _LARGE:
        return _read(path)
    try:
        kept = _kept_at(path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(kept.with_suffix(".lock"))
        lock.acquire()  # the other ranks of this machine wait for the first
    except OSError:  # a read-only home: the digest is right without it
        return _read(path)
    try:
        with suppress(OSError, ValueError):
            found = bytes.fromhex(kept.read_text(encoding="ascii"))
            if len(found) == hashlib.sha256().digest_size:
                return found
        began = time.time_ns()
        digest = _read(path)
        settled = began - path.stat().st_ctime_ns > _SETTLED
        if settled and _kept_at(path) == kept:
            with suppress(OSError):
                partial = beside(kept)
                partial.write_text(digest.hex(), encoding="ascii")
                partial.replace(kept)
        return digest
    finally:
        lock.release()


def _read(path: Path) -> bytes:
    with open_stream(path) as handle:
        return hashlib.file_digest(handle, "sha256").digest()  # type: ignore[arg-type]


def _kept_at(path: Path) -> Path:
    """Return where the digest of a file in its present state is kept."""
    real = path.resolve()
    stat = os.stat(real)
    state = f"{real}\0{stat.st_ino}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    return scratch() / "digests" / f"{hashlib.sha256(state.encode(errors='surrogateescape')).hexdigest()}.sha256"
