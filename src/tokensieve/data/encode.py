"""Rows to token ids, batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from operator import itemgetter

from tokensieve.data.answers import corrected_answers
from tokensieve.data.counts import Tally
from tokensieve.data.formats import Converted, convert
from tokensieve.data.readers.items import OnError
from tokensieve.data.repeats import HashedExamples
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row, read_rows
from tokensieve.data.template_limit import TemplateTimeError
from tokensieve.data.tokenize import Encoded, Encoder
from tokensieve.errors import TokensieveError

ReadRows = Callable[[DataSettings, OnError], Iterator[Row]]
"""Yields rows, numbered from 0, and calls the second argument with the errors of what is none."""
_ROWS_AT_ONCE = 1000


def encode_rows(
    settings: DataSettings, encoder: Encoder, on_error: OnError, read: ReadRows = read_rows
) -> Iterator[tuple[list[tuple[Row, Encoded]], int]]:
    """Yield batches of encoded rows, and how many source rows each batch came from.

    Args:
        settings: which rows.
        encoder: tokenizer and template.
        on_error: called with the error of each row that cannot be used, in the order of the rows.
        read: gives the rows.

    Raises:
        TemplateTimeError: the chat template does not end in time; with the place of the row.
    """
    errors = _InOrder(on_error)
    for batch, rows in _converted(settings, errors, read):
        encoded: list[tuple[Row, Encoded]] = []
        for (row, _), result in zip(batch, _encoded(batch, encoder), strict=True):
            if isinstance(result, TokensieveError):
                errors.of_row(row, result)
            else:
                encoded.append((row, result))
        errors.hand_on()
        yield encoded, rows
    errors.hand_on()


def _encoded(batch: list[tuple[Row, Converted]], encoder: Encoder) -> list[Encoded | TokensieveError]:
    try:
        return encoder.encode([item for _, item in batch])
    except TemplateTimeError as error:
        raise TemplateTimeError(error.what, where=batch[error.number][0].where, hint=error.hint) from None


def converted_rows(settings: DataSettings, on_error: OnError) -> Iterator[tuple[list[tuple[Row, Converted]], int]]:
    """Yield batches of rows in one form, and how many source rows each batch came from.

    Args:
        settings: which rows.
        on_error: called with the error of each row that cannot be used, in the order of the rows.
    """
    errors = _InOrder(on_error)
    for batch, rows in _converted(settings, errors, read_rows):
        errors.hand_on()
        yield batch, rows
    errors.hand_on()


def hash_examples(settings: DataSettings, encoder: Encoder) -> HashedExamples:
    """Tokenise rows only to find them again, without those that cannot be used."""
    tally = Tally(settings, encoder)
    for batch, _ in encode_rows(settings, encoder, lambda _: None):
        tally.add(batch)
    return tally.hashed


def _converted(
    settings: DataSettings, errors: _InOrder, read: ReadRows
) -> Iterator[tuple[list[tuple[Row, Converted]], int]]:
    iterator = errors.counted(read(settings, errors.of_reading))
    while batch := list(itertools.islice(iterator, _ROWS_AT_ONCE)):
        usable: list[tuple[Row, Converted]] = []
        for row in batch:
            try:
                converted = convert(row.data, row.form, row.ignore)
                corrected = corrected_answers(converted) if settings.answers == "corrected" else None
                usable.append((row, corrected or converted))
            except TokensieveError as error:
                errors.of_row(row, error)
        yield usable, len(batch)


class _InOrder:
    """Holds the errors of a batch, to hand them on in the order of the rows, whatever found them.

    Args:
        on_error: gets them.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error, self._read = on_error, 0
        self._found: list[tuple[tuple[int, bool], TokensieveError]] = []

    def counted(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield rows, and count them: an error of reading comes before the row after it."""
        for row in rows:
            self._read = row.number + 1
            yield row

    def of_reading(self, error: TokensieveError) -> None:
        """Take the error of what is no row, or of a source."""
        self._found.append(((self._read, False), error))

    def of_row(self, row: Row, error: TokensieveError) -> None:
        """Take the error of a row."""
        self._found.append(((row.number, True), row.bad(error)))

    def hand_on(self) -> None:
        """Hand on what was taken since the last time."""
        found, self._found = self._found, []
        for _, error in sorted(found, key=itemgetter(0)):
            self._on_error(error)
