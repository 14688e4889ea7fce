from __future__ import annotations

import csv
import gzip
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tokensieve.data.readers import table_rows
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows, source_fingerprint
from tokensieve.errors import TokensieveError

ROWS = [{"question": f"{n}?", "answer": f"{n}! né\u2028日\x85本\x0b🎉"} for n in range(5)]


def raise_error(error):
    raise error


def read(*files, on_error=raise_error, **options):
    return list(read_rows(DataSettings(files=tuple(map(str, files)), **options), on_error))


def data(*files, **options):
    return [row.data for row in read(*files, **options)]


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_any(path, rows):
    name = path.name
    content = jsonl(rows) if ".jsonl" in name or ".ndjson" in name else json.dumps(rows, indent=1).encode()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        write_csv(path, rows)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(content))
    elif name.endswith(".zst"):
        path.write_bytes(zstandard.compress(content))
    else:
        path.write_bytes(content)


NAMES = [
    "a.json", "a.jsonl", "a.ndjson", "a.parquet", "a.csv", "A.JSONL",
    "a.json.gz", "a.jsonl.gz", "a.jsonl.zst", "a.json.zst",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_file_format_gives_the_same_rows(name, tmp_path):
    path = tmp_path / name
    write_any(path if name.islower() else tmp_path / name.lower(), ROWS)
    if not name.islower():
        (tmp_path / name.lower()).rename(path)
    assert data(path) == ROWS


def test_rows_are_numbered_through_all_files_and_carry_file_and_line(tmp_path):
    write_any(tmp_path / "a.jsonl", ROWS[:2])
    write_any(tmp_path / "b.json", ROWS[2:4])
    write_any(tmp_path / "c.parquet", ROWS[4:])
    rows = read(tmp_path / "a.jsonl", tmp_path / "b.json", tmp_path / "c.parquet")
    assert [row.number for row in rows] == list(range(5))
    assert [row.where for row in rows] == [
        f"{tmp_path}/a.jsonl:1", f"{tmp_path}/a.jsonl:2", f"{tmp_path}/b.json row 0", f"{tmp_path}/b.json row 1",
        f"{tmp_path}/c.parquet row 0",
    ]  # fmt: skip


def test_globs_are_sorted_and_recursive(tmp_path):
    (tmp_path / "deep").mkdir()
    for number, name in enumerate(["deep/c.jsonl", "b.jsonl", "a.jsonl"]):
        write_any(tmp_path / name, [{"text": str(number)}])
    assert data(tmp_path / "*.jsonl") == [{"text": "2"}, {"text": "1"}]
    assert data(tmp_path / "**" / "*.jsonl") == [{"text": "2"}, {"text": "1"}, {"text": "0"}]


def test_a_folder_gives_its_data_files_and_no_hidden_or_other_ones(tmp_path):
    (tmp_path / ".cache").mkdir()
    for name in ("b.json", "a.csv", ".cache/x.jsonl", ".y.jsonl"):
        write_any(tmp_path / name, [{"text": name}])
    (tmp_path / "README.md").write_text("no data")
    assert data(tmp_path) == [{"text": "a.csv"}, {"text": "b.json"}]


def test_json_keyed_by_id_one_object_and_json_lines_in_a_json_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"17": ROWS[0], "18": ROWS[1]}))
    assert [(row.where, row.data) for row in read(path)] == [
        (f"{path} key '17'", ROWS[0]), (f"{path} key '18'", ROWS[1]),
    ]  # fmt: skip
    path.write_text(json.dumps(ROWS[0]))
    assert data(path) == ROWS[:1]
    path.write_bytes(jsonl(ROWS))
    assert data(path) == ROWS


def test_byte_order_mark_blank_lines_and_windows_line_ends(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + jsonl(ROWS[:1]).replace(b"\n", b"\r\n\r\n") + jsonl(ROWS[1:2]))
    rows = read(path)
    assert [row.data for row in rows] == ROWS[:2]
    assert rows[1].where.endswith(":3")


def test_csv_with_line_breaks_and_long_fields(tmp_path):
    rows = [{"question": "a\nb", "answer": "x" * 300_000}, {"question": 'say "hi", twice', "answer": ""}]
    write_csv(tmp_path / "a.csv", rows)
    assert data(tmp_path / "a.csv") == rows


def test_csv_with_a_field_too_many_names_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("text\nfine\ntwo,fields\nfine\n")
    errors = []
    assert data(tmp_path / "a.csv", on_error=errors.append) == [{"text": "fine"}] * 2
    assert [error.where for error in errors] == [f"{tmp_path}/a.csv:3"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_saved_dataset_and_split_of_a_saved_dict(split, tmp_path):
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "one")
    assert data(tmp_path / "one") == ROWS
    both = datasets.DatasetDict({"train": dataset, "test": dataset.select([3])})
    both.save_to_disk(tmp_path / "dict")
    assert data(tmp_path / "dict", split=split) == (ROWS if split == "train" else ROWS[3:4])
    with pytest.raises(TokensieveError, match=r"no split 'dev'[\s\S]*train, test"):
        data(tmp_path / "dict", split="dev")


def test_saved_dataset_with_a_format_gives_lists(tmp_path):
    dataset = datasets.Dataset.from_list([{"input_ids": [1, 2], "labels": [-100, 2]}]).with_format("numpy")
    dataset.save_to_disk(tmp_path / "one")
    assert data(tmp_path / "one") == [{"input_ids": [1, 2], "labels": [-100, 2]}]


def test_a_broken_saved_dataset_is_one_error(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    next((tmp_path / "one").glob("*.arrow")).unlink()
    with pytest.raises(TokensieveError, match="not a data set") as error:
        read(tmp_path / "one")
    assert error.value.where == str(tmp_path / "one")


def test_arrow_does_not_add_the_keys_of_other_dictionaries(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    other = {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "g", "arguments": {"y": 2}}}]}
    pq.write_table(pa.Table.from_pylist([{"messages": [call]}, {"messages": [other]}]), tmp_path / "a.parquet")
    calls = [row["messages"][0]["tool_calls"][0]["function"]["arguments"] for row in data(tmp_path / "a.parquet")]
    assert calls == [{"x": 1}, {"y": 2}]


def test_columns_are_renamed_and_replace_a_column_of_that_name(tmp_path):
    write_any(tmp_path / "a.jsonl", [{"question": "q", "prompt": "old", "answer": "a"}])
    renamed = {"question": "prompt", "answer": "completion"}
    assert data(tmp_path / "a.jsonl", columns=renamed) == [{"prompt": "q", "completion": "a"}]


def test_limit_stops_reading(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS[:3]) + b"not JSON\n")
    assert data(tmp_path / "a.jsonl", limit=3) == ROWS[:3]


def test_a_bad_line_is_named_and_the_others_are_still_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(ROWS[:1]) + b'{"a": 1,}\n[1]\n' + jsonl(ROWS[1:2]))
    errors = []
    assert data(path, on_error=errors.append) == ROWS[:2]
    assert [error.where for error in errors] == [f"{path}:2", f"{path}:3"]
    assert "not JSON" in errors[0].what
    assert "list" in errors[1].what
    with pytest.raises(TokensieveError, match="not JSON"):
        read(path)


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    write_any(tmp_path / "a.jsonl", ROWS[:1])
    (tmp_path / "b.jsonl").touch()
    (tmp_path / "c.json").write_text("[")
    write_any(tmp_path / "d.jsonl", ROWS[1:2])
    errors = []
    found = data(tmp_path / "*.json*", tmp_path / "missing.jsonl", tmp_path / "a.jsonl", on_error=errors.append)
    assert found == [*ROWS[:2], ROWS[0]]
    assert [error.where for error in errors] == [
        f"{tmp_path}/b.jsonl", f"{tmp_path}/c.json:1", f"{tmp_path}/missing.jsonl",
    ]  # fmt: skip
    with pytest.raises(TokensieveError, match="the file is empty"):
        data(tmp_path / "*.json*")


def truncated(content: bytes) -> bytes:
    return content[:-20]


def corrupt(content: bytes) -> bytes:
    return content[:15] + b"\xff\xff\xff\xff" + content[19:]


@pytest.mark.parametrize("harm", [truncated, corrupt])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_damaged_compressed_file_is_refused(compress, harm, tmp_path):
    path = tmp_path / ("a.jsonl.gz" if compress is gzip.compress else "a.jsonl.zst")
    path.write_bytes(harm(compress(jsonl(ROWS * 200))))
    with pytest.raises(TokensieveError) as error:
        read(path)
    assert str(path) in error.value.where


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_all_members_of_a_compressed_file_are_read(compress, tmp_path):
    path = tmp_path / ("a.jsonl.gz" if compress is gzip.compress else "a.jsonl.zst")
    path.write_bytes(compress(jsonl(ROWS[:2])) + compress(jsonl(ROWS[2:])))
    assert data(path) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n \n", "no rows"),
        ("a.json", b"[]", "no rows"),
        ("a.csv", b"question,answer\n", "no rows"),
        ("a.json", b"[{", "not JSON"),
        ("a.json", b"3", "a JSON int, not rows"),
        ("a.jsonl", b'{"text": "\xff\xfe"}\n', "cannot read the file"),
        ("a.parquet", b"no Parquet here", "not a Parquet file"),
        ("a.txt", b"hello", "unknown format '.txt'"),
        ("a.jsonl.gz", b"plain", "cannot read the file"),
    ],
)
def test_files_that_cannot_be_used(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TokensieveError, match=message) as error:
        read(path)
    assert str(path) in error.value.where


def write_arrow(path, table):
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def test_an_arrow_file_whose_offsets_lead_out_of_it_is_refused(tmp_path):
    path, offsets = tmp_path / "a.arrow", np.array([0, 1234], "<i4").tobytes()
    write_arrow(path, pa.table({"text": ["a" * 1234]}))
    before, found, after = path.read_bytes().rpartition(offsets)
    assert found
    path.write_bytes(before + np.array([0, 2**31 - 8], "<i4").tobytes() + after)
    with pytest.raises(TokensieveError, match="not an Arrow file") as error:
        read(path)
    assert error.value.where == str(path)


def test_a_table_that_says_that_it_has_more_rows_than_it_has_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), path)
    before, said, after = path.read_bytes().partition(b"\x16\x06\x19")  # an int64 of 3, then a list: of row groups
    assert said
    path.write_bytes(before + b"\x16\x08\x19" + after)
    with pytest.raises(TokensieveError, match="the footer says 4 rows") as error:
        table_rows(path)
    assert error.value.where == str(path)


def test_a_table_of_more_rows_than_can_be_cut_is_refused(tmp_path):
    path = tmp_path / "a.arrow"
    write_arrow(path, pa.table({"text": pa.chunked_array(3 * [pa.nulls(2**31 - 1)])}))
    with pytest.raises(TokensieveError, match="the file says that it has 6,442,450,941 rows"):
        table_rows(path)


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.duration("s"), pa.timestamp("s", "Mars/Olympus")])
def test_values_that_python_cannot_hold_are_refused(kind, tmp_path):
    path = tmp_path / "a.arrow"
    number = 2**62 if getattr(kind, "tz", None) is None else 0
    write_arrow(path, pa.table({"text": ["a"], "at": pa.array([number]).view(kind)}))
    with pytest.raises(TokensieveError, match="not an Arrow file") as error:
        read(path)
    assert error.value.where == str(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "missing/*.jsonl", "./missing", "a/b/c"])
def test_missing_sources(name, tmp_path):
    with pytest.raises(TokensieveError, match="no such file, folder or glob"):
        read(tmp_path / name if not name.startswith(".") else name)


def test_no_source_and_folder_without_data(tmp_path):
    with pytest.raises(TokensieveError, match="no data given"):
        read()
    with pytest.raises(TokensieveError, match="no data files in this folder"):
        read(tmp_path)


def test_what_looks_like_a_hub_id_and_cannot_be_loaded(monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(TokensieveError, match="neither a file here nor a data set that the Hub gives: offline"):
        read("nobody/nothing")


def test_a_hub_data_set_is_loaded_with_name_split_and_revision(monkeypatch):
    calls = []

    def load(*arguments, **options):
        calls.append((arguments, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    settings = {"name": "main", "split": "test", "revision": "abc"}
    rows = read("openai/gsm8k", **settings)
    assert [row.data for row in rows] == ROWS
    assert rows[1].where == "openai/gsm8k row 1"
    assert calls == [(("openai/gsm8k", "main"), {"split": "test", "revision": "abc"})]


def test_the_source_fingerprint_follows_content_and_choice_of_rows_but_not_the_path(tmp_path):
    def of(name, rows, **options):
        path = tmp_path / name
        write_any(path, rows)
        return source_fingerprint(DataSettings(files=(str(path),), **options))

    same = of("a.jsonl", ROWS)
    assert of("b.jsonl", ROWS) == same
    others = [
        of("c.jsonl", ROWS[::-1]),
        of("d.jsonl", ROWS, limit=2),
        of("e.jsonl", ROWS, form="question-answer"),
        of("f.jsonl", ROWS, columns={"question": "prompt"}),
    ]
    assert len({same, *others}) == 5


def test_the_source_fingerprint_of_a_saved_dataset_follows_its_content(tmp_path):
    prints = []
    for name, rows in (("a", ROWS), ("b", ROWS), ("c", ROWS[1:])):
        datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / name)
        prints.append(source_fingerprint(DataSettings(files=(str(tmp_path / name),))))
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(("field", "value"), [("max_length", 1), ("max_length", -5), ("limit", 0)])
def test_settings_out_of_range(field, value):
    with pytest.raises(TokensieveError, match=f"{field} is {value}") as error:
        DataSettings(**{field: value})
    assert error.value.where == f"data.{field}"
