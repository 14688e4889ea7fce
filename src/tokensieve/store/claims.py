"""Locks in an object store, of listings alone: no store needs conditional writes.

Who wants a lock puts a claim of its own beside the folder, ``.NAME.lock/HOST.PID.RANDOM``, and lists the claims. Who
then finds no other claim holds the lock; who finds one withdraws its own and tries again after a random time. Stores
list what was put before (S3 since December 2020, Google Cloud Storage, MinIO, Ceph): of two claims, the later one
finds the earlier one, so that no two processes hold a lock.

Who holds a lock puts its claim again now and then. One that does not change while another process waits for a while is
that of a dead process, and is taken away; that of a dead process of this host, at once. No clocks are compared.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from tokensieve.errors import TokensieveError
from tokensieve.store import remote
from tokensieve.store.processes import holder, host, is_alive
from tokensieve.store.remote import Stamp

EXPIRES = 120.0  # seconds without a change after which a claim is one of the dead
_RENEWALS = 4  # in that time
_PAUSE = 0.5  # seconds between two looks


@contextmanager
def claimed(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock of a store.

    Args:
        path: what is locked.
        on_wait: told again and again who holds it, in words, while somebody does; what it raises ends the wait.

    Raises:
        TokensieveError: the store refuses, or does not answer.
    """
    own = path.with_name(f".{path.name}.lock") / f"{host()}.{os.getpid()}.{secrets.token_hex(4)}"
    text = pa.py_buffer(holder().encode())
    try:
        _put_alone(own, text, on_wait)
        with _renewed(own, text):
            yield
    finally:
        remote.delete(own)


def _put_alone(own: Path, text: pa.Buffer, on_wait: Callable[[str], None]) -> None:
    others, who = _Others(own.parent, own.name), ""
    while True:
        remote.put(text, own)
        if not others.living():
            return
        remote.delete(own)
        time.sleep(random.uniform(0.2, 1) * _PAUSE)  # two that met must not meet again
        while living := others.living():
            if not who:
                with suppress(TokensieveError):  # a claim may go while it is read, and is read for a message alone
                    who = (remote.read(own.with_name(living[0])) or b"").decode(errors="replace")
            if who:
                on_wait(who)
            time.sleep(_PAUSE)


@contextmanager
def _renewed(own: Path, text: pa.Buffer) -> Iterator[None]:
    released = threading.Event()

    def renew() -> None:
        while not released.wait(EXPIRES / _RENEWALS):
            try:
                remote.put(text, own)
            except (TokensieveError, OSError):
                continue  # what the store does not take now it may take the next time

    renewal = threading.Thread(target=renew, daemon=True)
    renewal.start()
    try:
        yield
    finally:
        released.set()
        renewal.join()


class _Others:
    """The claims of other processes on one lock.

    Args:
        claims: their folder.
        own: name of the claim of this process.
    """

    def __init__(self, claims: Path, own: str) -> None:
        self._claims, self._own = claims, own
        self._seen: dict[str, tuple[Stamp, float]] = {}

    def living(self) -> list[str]:
        """Return the names of claims of living processes; take away those of dead ones."""
        now, living = time.monotonic(), []
        for name, stamp in remote.listed(self._claims, recursive=False).items():
            if name == self._own:
                continue
            before, since = self._seen.get(name, (stamp, now))
            self._seen[name] = (stamp, since if stamp == before else now)
            if _is_dead_here(name) or now - self._seen[name][1] > EXPIRES:
                remote.delete(self._claims / name)
            else:
                living.append(name)
        return living


def _is_dead_here(name: str) -> bool:
    where, pid, _ = name.rsplit(".", 2)
    return where == host() and not is_alive(int(pid))
