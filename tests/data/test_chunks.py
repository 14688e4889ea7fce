"""Chunks of source rows: however they are cut, ordered, shared and interrupted, the examples are the same bytes."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tokensieve.data import prepare as prepare_module
from tokensieve.data.chunks import ChunkReader, cut
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings, FileSettings
from tokensieve.data.sources import read_rows
from tokensieve.engines import Done, MakeWorker, OnTokens
from tokensieve.errors import TokensieveError

ROWS = [{"prompt": f"Question {n % 17}?", "completion": f"A\u2028{n}.", "source": f"s{n % 5}"} for n in range(23)]


class Killed(BaseException):
    """Stands for a kill."""


class Disordered:
    """An engine with an order of its own, which ends after some chunks."""

    def __init__(self, order: Sequence[int], most: int | None = None) -> None:
        self._order, self._most = order, most

    def map(
        self,
        make: MakeWorker,
        shards: Sequence[int],
        on_tokens: OnTokens,
        *,
        holds_model: bool = True,
        one_at_a_time: bool = False,
    ) -> Iterator[Done]:
        """Do the shards in this order."""
        assert one_at_a_time
        assert not holds_model
        with make() as worker:
            for count, shard in enumerate(sorted(shards, key=lambda one: self._order[one % len(self._order)])):
                if count == self._most:
                    raise Killed
                yield worker.do(shard, on_tokens)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """Return files of every kind, with rows that cannot be used in those that may have them."""
    folder = tmp_path_factory.mktemp("files")
    marked = {"prompt": "q", "completion": "wrong", "completion_spans": []}
    lines = [json.dumps(row) for row in ROWS]
    lines[3:3] = ["", "not JSON", "[1]", json.dumps({"foo": 1})]
    (folder / "a.jsonl").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    (folder / "b.jsonl").write_text("\r\n".join([*lines[::-1], json.dumps(marked)]), encoding="utf-8", newline="")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (folder / "d.json").write_text(json.dumps([*ROWS[:7], 5, *ROWS[7:]]))
    (folder / "e.csv").write_text("prompt,completion\n" + "".join(f"q{n},a{n}\n" for n in range(9)) + "q\n")
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, folder / "f.parquet", row_group_size=5)
    with pa.OSFile(str(folder / "g.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    (folder / "h.jsonl").write_text("\r".join(lines), encoding="utf-8", newline="")
    return [str(path) for path in sorted(folder.iterdir())]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of a folder's files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.integers(1, 60), st.integers(0, 40), st.integers(0, 200))
@limits(max_examples=40, deadline=None)
def test_chunks_hold_the_rows_of_the_sources(files, size, file_limit, limit):
    entries = tuple(FileSettings(file, limit=file_limit or None) for file in files)
    settings = DataSettings(entries, limit=limit or None)
    errors: list[str] = []
    expected = list(read_rows(settings, lambda error: errors.append(str(error))))
    found, found_errors, reader = [], list[str](), ChunkReader(settings)
    made = cut(settings, size)
    assert made.error is None
    assert all(sum(piece.items for piece in chunk) == size for chunk in made.chunks[:-1])
    for chunk in made.chunks:
        found += reader.rows(chunk, lambda error: found_errors.append(str(error)))
    reader.close()
    assert [(row.where, row.data, row.source) for row in found] == [(r.where, r.data, r.source) for r in expected]
    assert found_errors == errors
    alone = [
        row for chunk in made.chunks[::-1] for row in list(ChunkReader(settings).rows(chunk, lambda _: None))[::-1]
    ]
    assert [row.where for row in alone[::-1]] == [row.where for row in expected]


@given(st.integers(1, 60), st.permutations(range(7)), st.integers(0, 8))
@limits(max_examples=12, deadline=None)
def test_any_cut_order_and_kill_gives_the_same_bytes(files, tiny_encoder, size, order, kill):
    settings = DataSettings(tuple(files), bad_rows="skip", max_length=16)
    with tempfile.TemporaryDirectory() as folder, patch.object(prepare_module, "SHARD_TOKENS", 200):
        store = partial(prepare, settings, tiny_encoder, on_rows=lambda _: None)
        whole = store(Path(folder, "whole"))
        with patch.object(prepare_module, "CHUNK_ROWS", size):
            try:
                store(Path(folder, "again"), engine=Disordered(order, kill))
            except Killed:
                assert len(list(Path(folder, "again").glob("examples/.*/chunk-*/manifest.json"))) == kill
            again = store(Path(folder, "again"), engine=Disordered(order[::-1]))
        assert whole.shards > 5
        assert contents(again.folder) == contents(whole.folder)
        assert [path.name for path in Path(folder, "again/examples").glob("*") if path.is_dir()] == [again.folder.name]


@given(st.integers(1, 30), st.permutations(range(5)))
@limits(max_examples=12, deadline=None)
def test_the_first_bad_row_is_the_error_whatever_the_order(files, tiny_encoder, size, order):
    """A row of no known form comes before one that is not JSON, although reading finds the second first."""
    with tempfile.TemporaryDirectory() as folder, patch.object(prepare_module, "CHUNK_ROWS", size):
        lines = [json.dumps(row) for row in ROWS]
        lines[9], lines[11], lines[20] = json.dumps({"foo": 1}), "not JSON", json.dumps({"messages": []})
        path = Path(folder, "rows.jsonl")
        path.write_text("\n".join(lines))
        with pytest.raises(TokensieveError, match="of no known form") as error:
            prepare(DataSettings((str(path),)), tiny_encoder, Path(folder, "store"), lambda _: None, Disordered(order))
        assert error.value.where == f"{path}:10"
        assert not [one for one in Path(folder, "store/examples").glob("*") if one.is_dir()]


@pytest.mark.parametrize("bad_rows", ["skip", "error"])
def test_a_file_without_one_row_is_refused(bad_rows, write_jsonl, tmp_path, tiny_encoder):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("[1]\n[2]\n")
    settings = DataSettings((str(write_jsonl(*ROWS)), str(bad)), bad_rows=bad_rows)
    with pytest.raises(TokensieveError, match="the file has no rows" if bad_rows == "skip" else "not an object") as one:
        prepare(settings, tiny_encoder, tmp_path / "store", lambda _: None)
    assert one.value.where == (str(bad) if bad_rows == "skip" else f"{bad}:1")
