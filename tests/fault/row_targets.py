"""Readers of rows under attack: every row is an example or dropped with a reason, also where the file is cut."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from good_inputs import COLUMNS, GOOD_ROWS
from target import Target

from tokensieve.data.chunks import cut
from tokensieve.data.inspection_worker import Part, Worker, joined, look
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows
from tokensieve.data.tokenize import Encoder, load_encoder
from tokensieve.engines import unseen

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
_MOST = 2000  # bytes of a row
_CHUNK = 2
WORDS = [
    *COLUMNS,
    "role",
    "user",
    "assistant",
    "content",
    "from",
    "value",
    "[[0, 1]]",
    "\\ud800",
    "\\u0000",
    "1e999",
    "-1",
]


@cache
def encoder() -> Encoder:
    """Return the tokenizer of the demo."""
    return load_encoder(str(MODEL))


def row_target(suffix: str, folder: Path) -> Target:
    """Return the reader of files with an ending; inputs are written into the folder."""
    return Target(partial(_read, folder / f"rows.{suffix}", COUNTS[suffix]), _good(suffix), WORDS)


def _good(suffix: str) -> list[bytes]:
    match suffix:
        case "jsonl":
            lines = [json.dumps(row) + "\n" for row in GOOD_ROWS]
            return [text.encode() for text in ("".join(lines), *lines)]
        case "json":
            documents = [GOOD_ROWS[:3], {"data": GOOD_ROWS[3:]}, {"a": GOOD_ROWS[0]}, GOOD_ROWS[1]]
            return [json.dumps(document, indent=1).encode() for document in documents]
        case "csv":
            return [b'prompt,completion,source\r\nHi,"He,\nllo",s\r\nYo,So,\r\n', b"\xef\xbb\xbftext\na b c\n"]
        case _:
            # A column of a table has one type, and Parquet no dictionary without keys.
            write = _parquet if suffix == "parquet" else _arrow
            return [write(pa.Table.from_pylist([row])) for row in GOOD_ROWS[2:]]


def _read(path: Path, count: Callable[[bytes], int], data: bytes) -> bool:
    path.write_bytes(data)
    settings = DataSettings(files=(str(path),), bad_rows="skip", max_row_bytes=_MOST, max_length=32)
    whole, parts = look(settings, encoder(), 1, read_rows, unseen), _in_chunks(settings)
    if whole.errors.stops:
        assert parts is None or parts.errors.stops or not parts.encoded
        return False
    assert parts is not None
    assert (parts.counts, parts.errors, parts.previews[:1]) == (whole.counts, whole.errors, whole.previews)
    counts, dropped = whole.counts, whole.errors.count
    assert counts.examples + counts.rows_without_trainable + counts.rows_cut_empty + dropped == count(data)
    assert sum(problem.count for problem in whole.errors.problems()) == dropped
    return True


def _in_chunks(settings: DataSettings) -> Part | None:
    """Return what is found in chunks; None where the data cannot be cut."""
    rows = cut(settings, _CHUNK)
    if rows.error is not None:
        return None
    with Worker(settings, encoder(), 1, rows.chunks) as worker:
        return joined([worker.do(number, unseen).value for number in range(len(rows.chunks))])


def _values(suffix: str, data: bytes) -> int:
    """Return how many values a text has for rows, as Python's own parser sees it."""
    text = data.decode("utf-8-sig")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list):
        return len(value)
    if suffix == ".jsonl" or not isinstance(value, dict):
        return sum(bool(line.strip()) for line in re.split(r"\r\n|\r|\n", text))
    rows = value.get("data")
    if isinstance(rows, list) and any(isinstance(row, dict) for row in rows):
        return len(rows)
    return len(value) if value and all(isinstance(row, dict) for row in value.values()) else 1


def _csv_rows(data: bytes) -> int:
    return sum(1 for _ in csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


COUNTS: dict[str, Callable[[bytes], int]] = {
    "jsonl": partial(_values, ".jsonl"),
    "json": partial(_values, ".json"),
    "csv": _csv_rows,
    "parquet": lambda data: pq.read_table(pa.BufferReader(data)).num_rows,
    "arrow": lambda data: pa.ipc.open_file(pa.BufferReader(data)).read_all().num_rows,
}
"""How many rows a file has, by its ending."""
