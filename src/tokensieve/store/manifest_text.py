"""The text of a manifest: a JSON object with a checksum of its own, of which files are written and read one by one.

``{"layout": 4, ..., "files": {NAME: {"rows": 1, "tokens": 9, "xxh3_128": "..."}, ...}, "xxh3_128": "..."}``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from tokensieve import json_text
from tokensieve.store import checksum
from tokensieve.store.checksum import FileRecord
from tokensieve.store.records import FileRecords

FILES, SEAL = "files", "xxh3_128"
"""The keys of what is in the folder, and of the checksum of all the rest."""
_NO_FILES = f'\n  "{FILES}": {{}}'
_OPENING, _CLOSING = f'  "{FILES}": {{\n', "  }"
_RECORD = re.compile(
    r'    "(?P<name>.+)": \{\n'
    r'      "rows": (?P<rows>\d{1,18}),\n'
    r'      "tokens": (?P<tokens>\d{1,18}),\n'
    r'      "xxh3_128": "(?P<digest>[0-9a-f]{32})"\n'
    r"    \},?\n",
    re.ASCII,
)
_LINES = 5  # of a record
_encoded = json.JSONEncoder(ensure_ascii=False).encode
_in_ascii = json.JSONEncoder().encode


def write(handle: TextIO, value: Mapping[str, Any], files: FileRecords) -> None:
    """Write a manifest.

    Args:
        handle: where to.
        value: what it says beside the files, as JSON values.
        files: what is in the folder.
    """
    sealed = {**value, FILES: {}, SEAL: seal(value, files)}
    before, after = json.dumps(sealed, indent=2, ensure_ascii=False).split(_NO_FILES, 1)
    handle.write(before + (_NO_FILES[:-1] if files else _NO_FILES))
    for place, (name, one) in enumerate(files.ordered()):
        handle.write(
            f'{"," if place else ""}\n    {_encoded(name)}: {{\n      "rows": {one.rows},\n'
            f'      "tokens": {one.tokens},\n      "xxh3_128": "{one.xxh3_128}"\n    }}'
        )
    handle.write(("\n  }" if files else "") + after + "\n")


def read(path: Path) -> tuple[Any, FileRecords | None]:
    """Read a manifest.

    Returns:
        The JSON value, with nothing in the place of the files, and the files; None where they are not what `write`
        writes.

    Raises:
        ValueError: a text that is not JSON, or not UTF-8.
    """
    files = FileRecords()
    known = True

    def take(lines: Iterator[str]) -> str:
        nonlocal known
        while not (line := next(lines, "")).startswith(_CLOSING):
            found = _RECORD.fullmatch(line + "".join(islice(lines, _LINES - 1)))
            if found is None:
                known = False
                return _skip(lines)
            record = FileRecord(int(found["rows"]), int(found["tokens"]), found["digest"])
            name = found["name"]
            files[json_text.parse(f'"{name}"') if "\\" in name else name] = record
        return line

    value = _read(path, take)
    known = known and isinstance(value, dict) and value.get(FILES) == {}
    return value, files if known else None


def read_values(path: Path) -> Any:
    """Read a manifest without its files, as `read` does."""
    return _read(path, _skip)


def seal(value: Mapping[str, Any], files: FileRecords) -> str:
    """Return the checksum of a manifest: of its values and files as JSON, with every key in order."""
    return checksum.of_parts(text.encode() for text in _in_order(value, files))


def _read(path: Path, take: Callable[[Iterator[str]], str]) -> Any:
    """Read JSON, but for the lines of the files: ``take`` takes those, and returns the one that ends them."""
    with path.open(encoding="utf-8") as lines:
        text = "".join(f"{_OPENING[:-1]}{take(lines).lstrip()}" if line == _OPENING else line for line in lines)
    return json_text.parse(text)


def _skip(lines: Iterator[str]) -> str:
    return next((line for line in lines if line.startswith(_CLOSING)), "")


def _in_order(value: Mapping[str, Any], files: FileRecords) -> Iterator[str]:
    opening = "{"
    for key in sorted({*value, FILES}):
        yield f"{opening}{json.dumps(key)}: "
        opening = ", "
        if key != FILES:
            yield json.dumps(value[key], sort_keys=True)
            continue
        for place, (name, one) in enumerate(files.ordered()):
            yield (
                f"{', ' if place else '{'}{_in_ascii(name)}: "
                f'{{"rows": {one.rows}, "tokens": {one.tokens}, "xxh3_128": "{one.xxh3_128}"}}'
            )
        yield "}" if files else "{}"
    yield "}"
