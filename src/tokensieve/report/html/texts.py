"""The text of every example of a served page, decoded once in the background, and searched as far as it is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Condition, Thread

import numpy as np

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.report.html.pack import plain_text
from tokensieve.runs.view import RunView

PATIENCE = 0.2
"""Seconds after which a search answers with what it has found so far."""
_PART = 1000  # examples that are decoded, and searched, at a time


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        places: of the examples, in order.
        next: the part to go on with; None where everything was searched.
    """

    places: list[int]
    next: int | None


class Texts:
    """The texts of examples; their decoding begins at once.

    Args:
        view: the run, or several joined.
        numbers: int64 ``[examples]``, the examples on the page, rising.
    """

    def __init__(self, view: RunView, numbers: Int64) -> None:
        self._view, self._numbers = view, numbers
        self._parts: list[list[tuple[int, str]]] = []
        self._ended: bool | TokensieveError | OSError = False
        self._more = Condition()
        Thread(target=self._decode, daemon=True).start()

    def search(self, query: str, first: int = 0) -> Found:
        """Find the examples whose text contains the query, ignoring white space and case.

        It answers after `PATIENCE`, so that whoever asks sees the first hits and can stop to ask.

        Args:
            query: the text.
            first: the part to begin with.

        Raises:
            TokensieveError: examples that cannot be read.
            OSError: likewise.
        """
        wanted, until, places = plain_text(query), time.monotonic() + PATIENCE, list[int]()
        number = first
        while time.monotonic() < until:
            part = self._part(number, until)
            if part is None:
                return Found(places, None)
            places += [place for place, text in part if wanted in text]
            number += bool(part)
        return Found(places, number)

    def _part(self, number: int, until: float) -> list[tuple[int, str]] | None:
        """Return a part; an empty one if it is not there in time, None after the last."""
        with self._more:
            self._more.wait_for(lambda: len(self._parts) > number or self._ended, until - time.monotonic())
            if number < len(self._parts):
                return self._parts[number]
            if isinstance(self._ended, Exception):
                raise self._ended
            return None if self._ended else []

    def _decode(self) -> None:
        ended: bool | TokensieveError | OSError = True
        try:
            for part in self._decoded():
                with self._more:
                    self._parts.append(part)
                    self._more.notify_all()
        except (TokensieveError, OSError) as error:  # the next search raises it
            ended = error
        with self._more:
            self._ended = ended
            self._more.notify_all()

    def _decoded(self) -> Iterator[list[tuple[int, str]]]:
        """Yield the place and text of each example, in order and in parts."""
        view = self._view
        places = {number: place for place, number in enumerate(self._numbers.tolist())}
        for shard, start in enumerate(view.starts[:-1].tolist()):
            examples = view.store.read(shard)
            sequences = [ids.tolist() for ids in np.split(examples.input_ids, examples.cu_seqlens[1:-1])]
            for first in range(0, len(sequences), _PART):
                texts = view.decoder.texts(sequences[first : first + _PART])
                numbers = range(start + first, start + first + len(texts))
                found = [(places[n], plain_text(text)) for n, text in zip(numbers, texts, strict=True) if n in places]
                if found:
                    yield found
