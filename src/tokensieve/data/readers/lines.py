"""Rows of files with one JSON object a line, which can be read from their middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokensieve import json_text
from tokensieve.data.readers.items import BEGINNING, COMPRESSED, BadRowError, Item, Start, format_of
from tokensieve.data.readers.json_values import begins_array, not_json, parser
from tokensieve.data.readers.text import cut_lines, open_text, too_large, too_large_error
from tokensieve.places import remote_of

_SHOWN = 200  # characters of a row that is too large


def line_items(path: Path, most: int, start: Start = BEGINNING) -> Iterator[Item]:
    """Yield the items of a file of lines, from one of them on; ``most`` is the limit of a row in bytes."""
    with open_text(path, start.byte) as handle:
        for number, (line, length) in enumerate(cut_lines(handle, most), start=start.line + 1):
            if not line.strip():
                continue
            if length > most + 1 or too_large(line.rstrip("\r\n"), most):
                yield Item(f"{path}:{number}", (line[:_SHOWN], most), _refused)
            else:
                yield Item(f"{path}:{number}", line, _parsed)


def _parsed(where: str, line: str) -> dict[str, Any]:
    try:
        value = json_text.parse(line)
    except json_text.JsonError as error:
        raise BadRowError(not_json(error), where=where, hint="one JSON object per line", row=line) from None
    return parser(line)(where, value)


def _refused(where: str, raw: tuple[str, int]) -> dict[str, Any]:
    begins, most = raw
    error = too_large_error(where, most)
    raise BadRowError(error.what, where=where, hint=error.hint, row=f"{begins} ...")


def line_starts(path: Path, every: Iterator[int], most: int) -> Iterator[tuple[Start, int]] | None:
    """Cut a file of lines, so that each part can be read without those before it.

    Args:
        path: the file.
        every: items of the first part, of the second and so on.
        most: bytes of a row at most.

    Returns:
        Where each part begins, and how many items it has; None where the file is compressed, is not one of lines that
        end with a line feed, or is in a store of objects: one pass over an object costs less than two and a cut.
    """
    if remote_of(path) is not None or path.suffix.lower() in COMPRESSED or format_of(path) not in (".jsonl", ".ndjson"):
        return None
    return None if begins_array(path, most) or _has_lone_returns(path) else _line_starts(path, every, most)


def _has_lone_returns(path: Path) -> bool:
    """Whether carriage returns alone end lines, as they do for Python's text."""
    last = b""
    with path.open("rb") as handle:
        while block := handle.read(2**20):
            block = last + block
            last = b"\r" if block.endswith(b"\r") else b""
            if block.count(b"\r") - len(last) != block.count(b"\r\n"):
                return True
    return bool(last)


def _line_starts(path: Path, every: Iterator[int], most: int) -> Iterator[tuple[Start, int]]:
    size, start, items, byte = next(every), BEGINNING, 0, 0
    with path.open("rb") as handle:
        for number, (line, length) in enumerate(cut_lines(handle, most)):
            if line[:1] == b"{" or line.decode("utf-8" if number else "utf-8-sig", "replace").strip():
                if items == size:
                    yield start, items
                    size, start, items = next(every), Start(start.item + items, True, byte, number), 0
                items += 1
            byte += length
    yield start, items
