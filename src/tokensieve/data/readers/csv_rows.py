"""Rows of CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokensieve.data.readers.items import BadRowError, Item
from tokensieve.data.readers.text import cut_lines, open_text, too_large_error

_LONGEST_FIELD = 2**31 - 1  # more than the C library takes


def csv_items(path: Path, most: int) -> Iterator[Item]:
    """Yield the items of a CSV file; ``most`` is the limit of a line, and of a field, in bytes."""
    csv.field_size_limit(min(most, _LONGEST_FIELD))  # Python's own limit of 128 KiB is less than a long document
    with open_text(path) as handle:
        reader = csv.DictReader(_lines(path, handle, most))
        try:
            for row in reader:
                yield Item(f"{path}:{reader.line_num}", row, _fields)
        except csv.Error as error:
            if "field limit" in str(error):
                raise too_large_error(f"{path}:{reader.line_num}", most) from error
            raise


def _lines(path: Path, handle: Any, most: int) -> Iterator[str]:
    for number, (line, length) in enumerate(cut_lines(handle, most), 1):
        if length > most + 1:
            raise too_large_error(f"{path}:{number}", most)
        yield line


def _fields(where: str, row: dict[Any, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise BadRowError(
            "more or fewer fields than the header names",
            where=where,
            hint="quote fields that hold commas or line breaks",
            row=row,
        )
    return row
