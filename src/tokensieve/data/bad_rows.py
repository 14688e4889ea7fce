"""Rows that cannot be used: an error, or left out and kept apart, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tokensieve.data.readers.items import BadRowError
from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.store import checksum
from tokensieve.store.checksum import FileRecord

BAD_ROWS = "bad_rows.jsonl"
"""The file of the rows that were left out, in the folder of the examples: JSON lines of `at`, `reason` and `row`."""


def raise_error(error: TokensieveError) -> None:
    """Stop at the first row that cannot be used."""
    raise error


class BadRows:
    """Does with each row that cannot be used what `data.bad_rows` says.

    Args:
        settings: of the data.
        folder: gets the file of the rows that are left out; None writes none.

    Attributes:
        count: rows that were left out.
        first: the error of the first of them.
    """

    def __init__(self, settings: DataSettings, folder: Path | None = None) -> None:
        self.count = 0
        self.first: BadRowError | None = None
        self._skip, self._path = settings.bad_rows == "skip", folder and folder / BAD_ROWS
        self._file: IO[str] | None = None

    def __call__(self, error: TokensieveError) -> None:
        """Note the error of a row.

        Raises:
            TokensieveError: the error, where it is not to be skipped, or is not one of a row.
        """
        if not self._skip or not isinstance(error, BadRowError):
            raise error
        self.count += 1
        self.first = self.first or error
        if self._path is not None:
            if self._file is None:  # a lone surrogate becomes its JSON escape
                self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
            line = {"at": error.where, "reason": error.what, "row": error.row}
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def check(self, examples: int) -> None:
        """Refuse data of which no row can be used; see `check_usable`."""
        if self.first is not None:
            check_usable(examples, self.count, self.first)

    def files(self) -> dict[str, FileRecord]:
        """Return what the manifest of the folder is to say of the file; nothing where no row was left out."""
        if self._path is None or self._file is None:
            return {}
        return {BAD_ROWS: FileRecord(self.count, 0, checksum.of_file(self._path))}


def check_usable(examples: int, bad_rows: int, first: TokensieveError) -> None:
    """Refuse data of which no row can be used.

    Args:
        examples: rows that can.
        bad_rows: rows that cannot.
        first: the error of the first of them.

    Raises:
        TokensieveError: there is none that can.
    """
    if not examples:
        raise TokensieveError(
            f"not one row can be used; the first of {bad_rows:,}: {first.what}", where=first.where, hint=first.hint
        )
