"""SIGINT and SIGTERM end a command like an exception: files that are being written are removed on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tokensieve.store.atomic import remove_unfinished

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks the process to end; no file that it was writing stays.

    Signals reach the main thread alone: in another one, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in _NUMBERS}
    try:
        yield
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        _clean_up()
        raise Stopped(signal.SIGTERM) from None  # from the handler that Ray puts in place of this one
    except KeyboardInterrupt:
        _clean_up()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


def _clean_up() -> None:
    """Remove what a second signal has kept its writer from removing; no third one interrupts it."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    remove_unfinished()
