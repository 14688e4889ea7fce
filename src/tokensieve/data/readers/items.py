"""What a file has for its rows, and where each begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokensieve.errors import TokensieveError

FORMATS = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".csv")
CODECS = {".gz": "gzip", ".zst": "zstd"}
"""Name that pyarrow has for the compression of each ending."""
COMPRESSED = tuple(CODECS)
OnError = Callable[[TokensieveError], None]
"""Takes the `BadRowError` of each row that cannot be used, and any other error of a source; raise in it to stop."""


class BadRowError(TokensieveError):
    """A row that cannot be used, while others of its source can.

    Args:
        what: one sentence that states the fault.
        where: file and line, or row.
        hint: what the user can do about it.
        row: what was read of it: its columns, or the text that is not JSON.
    """

    def __init__(self, what: str, *, where: str, hint: str, row: Any) -> None:
        super().__init__(what, where=where, hint=hint)
        self.row = row


class Item(NamedTuple):
    """What a file has for one row, before it is known to be one.

    Attributes:
        where: file and line (or row) for messages to the user.
        raw: what stands there: text, or values that were read together with others.
        parse: gives its columns, from where it stands and what stands there.
    """

    where: str
    raw: Any
    parse: Callable[[str, Any], dict[str, Any]]

    def row(self) -> dict[str, Any]:
        """Return the columns.

        Raises:
            BadRowError: it is no row.
        """
        return self.parse(self.where, self.raw)


@dataclass(frozen=True)
class Start:
    """Where an item of a file begins.

    Attributes:
        item: its number in the file, from 0.
        direct: whether it can be read without the items before it.
        byte: where it begins, in a file of lines that can be read from its middle.
        line: lines before it there.
    """

    item: int = 0
    direct: bool = True
    byte: int = 0
    line: int = 0


BEGINNING = Start()


def no_rows(path: Path | str) -> TokensieveError:
    """Return the error of a file that has none."""
    return TokensieveError("the file has no rows", where=str(path), hint="write it again, or leave it out")


def format_of(path: Path) -> str:
    """Return the ending that names the format, without those of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
