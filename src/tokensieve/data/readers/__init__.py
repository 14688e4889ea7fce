"""Rows of files: JSON, JSON lines, CSV, Parquet and Arrow, plain or compressed.

A module for each kind of file; what they yield is in `items`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from tokensieve.data.readers import lines
from tokensieve.data.readers.csv_rows import csv_items
from tokensieve.data.readers.items import BEGINNING, BadRowError, Item, OnError, Start, format_of, no_rows
from tokensieve.data.readers.json_values import array_items, begins_array, document_items, is_lines
from tokensieve.data.readers.tables import TABLES, rows_of_table
from tokensieve.errors import TokensieveError
from tokensieve.store.remote import size_of


def file_rows(path: Path, most: int, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, columns) of one file.

    Args:
        path: the file.
        most: bytes of a row of text at most.
        on_error: takes the error of each row that cannot be used, and that of a file without rows.

    Raises:
        TokensieveError: an empty file, one of unknown format, or one that is not what its name says.
    """
    count = 0
    for item in file_items(path, most):
        try:
            row = item.row()
        except BadRowError as error:
            on_error(error)
            continue
        count += 1
        yield item.where, row
    if count == 0:
        on_error(no_rows(path))


def file_items(path: Path, most: int, start: Start = BEGINNING) -> Iterator[Item]:
    """Yield the items of one file, from one of them on; ``most`` is the limit of a row of text in bytes.

    Raises:
        TokensieveError: an empty file, one of unknown format, or one that is not what its name says.
    """
    suffix = format_of(path)
    with _reading(path):
        if suffix in TABLES:
            yield from TABLES[suffix](path, start.item)
        elif start.byte:
            yield from lines.line_items(path, most, start)
        else:
            yield from islice(_text_items(path, most)(path, most), start.item, None)


def _text_items(path: Path, most: int) -> Callable[[Path, int], Iterator[Item]]:
    """Return what reads a file: its name does not say whether JSON is an array or lines."""
    suffix = format_of(path)
    if suffix == ".csv":
        return csv_items
    if begins_array(path, most):
        return array_items
    return document_items if suffix == ".json" and not is_lines(path, most) else lines.line_items


def line_starts(path: Path, every: Iterator[int], most: int) -> Iterator[tuple[Start, int]] | None:
    """Cut a file of lines as `lines.line_starts` does.

    Raises:
        TokensieveError: an empty file, or one that cannot be read.
    """
    with _reading(path):
        return lines.line_starts(path, every, most)


def table_rows(path: Path) -> int | None:
    """Return how many rows a file has that tells it; None where it has to be read.

    Raises:
        TokensieveError: an empty file, or one that is not what its name says.
    """
    if format_of(path) not in TABLES:
        return None
    with _reading(path):
        return rows_of_table(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Refuse an empty file, and say of which file an error is."""
    if size_of(path) == 0:
        raise TokensieveError("the file is empty", where=str(path), hint="write it again, or leave it out")
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TokensieveError(
            f"cannot read the file: {error}", where=str(path), hint="text must be UTF-8; an archive may be cut short"
        ) from error
