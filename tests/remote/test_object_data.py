"""Rows of object stores and of the Hub's file system: the same rows and the same fingerprint as of local files."""

from __future__ import annotations

import gzip
import json
from typing import NoReturn
from unittest.mock import patch

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tokensieve.data import prepare as prepare_module
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import check_unchanged, places_of, read_rows, source_fingerprint, source_stamps
from tokensieve.errors import TokensieveError
from tokensieve.places import place
from tokensieve.store import remote

ROWS = [{"prompt": f"Count to {number}.", "completion": "1, 2, 3"} for number in range(3)]
TABLE = pa.Table.from_pylist(ROWS)
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()


def written(write) -> bytes:
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue().to_pybytes()


def arrow(sink) -> None:
    with pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)


FILES = {
    "rows.jsonl": LINES,
    "rows.jsonl.gz": gzip.compress(LINES),
    "rows.jsonl.zst": pa.compress(LINES, codec="zstd", asbytes=True),
    "rows.json": json.dumps(ROWS).encode(),
    "rows.csv": written(lambda sink: pyarrow.csv.write_csv(TABLE, sink)),
    "rows.parquet": written(lambda sink: pq.write_table(TABLE, sink)),
    "rows.arrow": written(arrow),
}


def raised(error: Exception) -> None:
    raise error


def rows_of(*files) -> list[dict]:
    return [row.data for row in read_rows(DataSettings(files=files), raised)]


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read_as_a_local_file(server, bucket, tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    server.put(f"{bucket}/{name}", FILES[name])
    url = f"s3://{bucket}/{name}"
    there, here = (DataSettings(files=(source,)) for source in (url, str(tmp_path / name)))
    rows = list(read_rows(there, raised))
    assert [row.data for row in rows] == [row.data for row in read_rows(here, raised)] == ROWS
    assert rows[0].source == url
    assert rows[0].where.startswith(url)
    assert source_fingerprint(there) == source_fingerprint(here)
    assert not place(url).exists()  # it is streamed


def test_a_folder_and_globs_name_what_they_name_here(server, bucket, tmp_path):
    names = ["a.jsonl", "b.jsonl", "part-1.jsonl", "inner/c.jsonl", ".hidden.jsonl", ".git/d.jsonl", "notes.txt"]
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(LINES)
        server.put(f"{bucket}/data/{name}", LINES)
    for pattern in ("", "/", "/*.jsonl", "/[ab].jsonl", "/[!a].jsonl", "/part-?.jsonl", "/**/*.jsonl", "/*/c.jsonl"):
        found = [
            [str(path).partition("/data/")[2] for path in source_stamps(DataSettings(files=(f"{root}/data{pattern}",)))]
            for root in (f"s3://{bucket}", str(tmp_path))
        ]
        assert found[0] == found[1], pattern
        assert found[0]


def test_a_saved_data_set_is_read(server, bucket, tmp_path):
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        server.put(f"{bucket}/saved/{path.name}", path.read_bytes())
    there, here = (DataSettings(files=(source,)) for source in (f"s3://{bucket}/saved", str(tmp_path / "saved")))
    assert [row.data for row in read_rows(there, raised)] == ROWS
    assert source_fingerprint(there) == source_fingerprint(here)


def test_a_message_names_the_line_of_the_object(server, bucket):
    server.put(f"{bucket}/rows.jsonl", LINES + b"{broken\n")
    with pytest.raises(TokensieveError, match=rf"not JSON.*\n  at: s3://{bucket}/rows.jsonl:4"):
        rows_of(f"s3://{bucket}/rows.jsonl")
    server.put(f"{bucket}/rows.jsonl", LINES)
    assert places_of(DataSettings(files=(f"s3://{bucket}/rows.jsonl",)), [1]) == [f"s3://{bucket}/rows.jsonl:2"]


def test_an_object_that_changes_while_it_is_read_is_refused(server, bucket):
    settings = DataSettings(files=(f"s3://{bucket}/rows.jsonl",))
    server.put(f"{bucket}/rows.jsonl", LINES)
    stamps = source_stamps(settings)
    check_unchanged(settings, stamps)
    server.put(f"{bucket}/rows.jsonl", LINES + LINES)
    with pytest.raises(TokensieveError, match="data changed"):
        check_unchanged(settings, stamps)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("absent.jsonl", None, "no such file, folder or glob"),
        ("*.jsonl", None, "no such file, folder or glob"),
        ("empty.jsonl", b"", "the file is empty"),
        ("rows.txt", LINES, "unknown format"),
        ("cut.jsonl.zst", FILES["rows.jsonl.zst"][:-5], "cannot read the file"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_error(server, bucket, name, data, message):
    if data is not None:
        server.put(f"{bucket}/{name}", data)
    with pytest.raises(TokensieveError, match=message) as raised_error:
        rows_of(f"s3://{bucket}/{name}")
    assert f"s3://{bucket}/" in str(raised_error.value)
    assert "scratch" not in str(raised_error.value)


def test_a_store_that_breaks_off_is_one_error(server, bucket):
    server.put(f"{bucket}/rows.jsonl", LINES)

    def fault(method: str, path: str) -> str | None:
        return "400 Bad Request" if method == "GET" and path.endswith("rows.jsonl") else None

    with server.failing(fault), pytest.raises(TokensieveError, match=rf"cannot read the file.*\n  at: s3://{bucket}"):
        rows_of(f"s3://{bucket}/rows.jsonl")


def test_a_hub_that_does_not_answer_is_one_error():
    with pytest.raises(TokensieveError, match=r"object store .*\n  at: hf://datasets/you/absent/rows.jsonl"):
        rows_of("hf://datasets/you/absent/rows.jsonl")


def test_rows_of_the_hub_come_through_its_file_system(tmp_path, monkeypatch):
    import huggingface_hub
    from fsspec.implementations.dirfs import DirFileSystem

    (tmp_path / "datasets/you/yours").mkdir(parents=True)
    (tmp_path / "datasets/you/yours/rows.jsonl").write_bytes(LINES)
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", lambda: DirFileSystem(str(tmp_path)))
    remote._file_system.cache_clear()
    try:
        assert rows_of("hf://datasets/you/yours/rows.jsonl") == rows_of("hf://datasets/you/yours/*.jsonl") == ROWS
        with pytest.raises(TokensieveError, match="no such file"):
            rows_of("hf://datasets/you/yours/absent.jsonl")
    finally:
        remote._file_system.cache_clear()


class OtherMachine:
    """An engine whose workers have a disk of their own."""

    def map(self, *_: object, **__: object) -> NoReturn:
        """Do nothing that this machine would see."""
        raise AssertionError("the chunks would be on another machine")


def test_chunks_of_objects_give_the_bytes_of_local_files(server, bucket, use_scratch, tmp_path, tiny_encoder):
    """Rows and store in a bucket; each machine has its own chunks, and the second finds the examples of the first."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        server.put(f"{bucket}/rows/{name}", content)
    local, there = (
        DataSettings(files=tuple(f"{root}/{name}" for name in FILES)) for root in (tmp_path, f"s3://{bucket}/rows")
    )
    expected = prepare(local, tiny_encoder, tmp_path / "store", lambda _: None)
    url = f"s3://{bucket}/store"
    with patch.object(prepare_module, "CHUNK_ROWS", 2):
        made = prepare(there, tiny_encoder, place(url), lambda _: None, OtherMachine())
    assert made.fingerprint == expected.fingerprint
    assert made.counts.examples == len(ROWS) * len(FILES)
    assert made.sources == tuple(f"s3://{bucket}/rows/{name}" for name in FILES)
    names = remote.listed(place(url))
    assert not [name for name in names if ".chunks" in name]
    for name in ("shard-00000.arrow", "hashes.arrow"):
        assert remote.read(made.folder / name) == (expected.folder / name).read_bytes()
    use_scratch("second")
    rows: list[int] = []
    assert prepare(there, tiny_encoder, place(url), rows.append).fingerprint == expected.fingerprint
    assert not rows
