"""Rows that are too large to hold are refused before they are held, and JSON arrays are read as they are parsed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.data.bad_rows import BadRows, raise_error
from tokensieve.data.readers import file_rows, json_values
from tokensieve.data.readers.items import BadRowError
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows
from tokensieve.errors import TokensieveError

ROW, LONG = {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "ü" * 600}
MOST = 1000


def read(path: Path, most: int = MOST) -> list[dict]:
    return [row for _, row in file_rows(path, most, raise_error)]


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(*rows: dict) -> str:
    return "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in rows)


FILES = {
    "a.jsonl": lines(ROW, LONG, ROW),
    "a.json": json.dumps([ROW, LONG, ROW], ensure_ascii=False),
    "b.json": json.dumps({"data": [ROW, LONG, ROW]}, ensure_ascii=False),
    "lines.json": lines(ROW, LONG, ROW),
    "array.jsonl": json.dumps([ROW, LONG, ROW], ensure_ascii=False, indent=1),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_row_is_at_most_so_many_bytes(name, compressed, tmp_path):
    path = tmp_path / (f"{name}.gz" if compressed else name)
    content = FILES[name].encode()
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(TokensieveError, match=r"more than 1,000 bytes \(data.max_row_bytes\)") as error:
        read(path)
    assert "data.max_row_bytes=8000" in error.value.hint
    assert str(path) in str(error.value.where)
    assert read(path, 8000) == [ROW, LONG, ROW]


@pytest.mark.parametrize("field", ["x" * 2000, '"' + "x\n" * 1000 + '"'])
def test_a_field_of_csv_is_at_most_so_many_bytes(field, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"prompt,completion\na,{field}\n")
    with pytest.raises(TokensieveError, match=r"more than 1,000 bytes"):
        read(path)
    assert len(read(path, 8000)) == 1


def test_a_row_that_is_too_large_is_a_bad_row_and_those_after_it_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(FILES["a.jsonl"], encoding="utf-8")
    settings = DataSettings(files=(str(path),), bad_rows="skip", max_row_bytes=MOST)
    with BadRows(settings, tmp_path) as bad_rows:
        rows = list(read_rows(settings, bad_rows))
    assert [row.where for row in rows] == [f"{path}:1", f"{path}:3"]
    assert bad_rows.count == 1
    assert isinstance(bad_rows.first, BadRowError)
    assert len(bad_rows.first.row) < MOST


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_limit_is_the_row_without_the_end_of_its_line(end, tmp_path):
    path = tmp_path / "a.jsonl"
    text = json.dumps(ROW)
    path.write_bytes((text + end).encode())
    assert read(path, len(text)) == [ROW]
    with pytest.raises(BadRowError):
        read(path, len(text) - 1)


BOMB = """
import resource, sys
from tokensieve.data.readers import file_rows
from tokensieve.data.bad_rows import raise_error
from tokensieve.errors import TokensieveError
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(file_rows(Path(sys.argv[1]), 2**23, raise_error))
except TokensieveError as error:
    print(error.what)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.json.zst", "array.json.zst", "a.csv.zst"])
def test_a_small_archive_that_holds_a_huge_row_is_refused_in_little_memory(name, tmp_path):
    path = tmp_path / name
    begins = {"a.jsonl.zst": b'{"prompt": "', "a.json.zst": b'{"data": "', "array.json.zst": b'[{"prompt": "'}
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(begins.get(name, b"prompt,completion\n"))
        for _ in range(400):
            stream.write(b"x" * 2**20)
    assert path.stat().st_size < 100_000
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True)
    what, used = done.stdout.splitlines()
    assert "more than 8,388,608 bytes" in what
    assert float(used) < 200  # MB, where the row has 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=6),
    block=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
)
def test_an_array_is_the_same_in_blocks_of_any_size(rows, block, indent, ascii_only, tmp_path_factory):
    path = tmp_path_factory.mktemp("array") / "a.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text, encoding="utf-8", newline="", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_values, "_BLOCK", block)
        found = [item.raw for item in json_values.array_items(path, len(text) * 4 + 1)]
    assert found == rows


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('[\n {"a": 1},\n {"a": x}\n]', 3, 8),
        ('[\n {"a": 1} {"a": 2}\n]', 2, 0),
        ('[\n {"a": 1},\n', 3, 1),
        ('[{"a": 1}]\n 5', 2, 0),
        ('[\n {"a": 1}, {"a": 12}, {"a": x}\n]', 2, 29),
    ],
)
@pytest.mark.parametrize("block", [1, 5, 2**20])
def test_an_error_in_an_array_has_its_place(text, line, column, block, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text(text)
    monkeypatch.setattr(json_values, "_BLOCK", block)
    with pytest.raises(TokensieveError, match="not JSON") as error:
        list(json_values.array_items(path, MOST))
    assert error.value.where == f"{path}:{line}"
    assert ("column" in error.value.what) == bool(column)
    assert f"(column {column})" in error.value.what or not column
