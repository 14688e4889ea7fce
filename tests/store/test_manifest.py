from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.store import checksum
from tokensieve.store.atomic import write_json
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import (
    LAYOUT,
    adopt,
    check_store,
    has_manifest,
    is_complete,
    is_manifest,
    open_manifest,
    record,
    write_manifest,
)
from tokensieve.store.shards import write_parquet, write_shard

NAMES = ("a.arrow", "deep/b.arrow", "deep/c.parquet")


@pytest.fixture
def folder(tmp_path):
    generator, files = np.random.default_rng(0), {}
    for name in NAMES:
        write = write_parquet if name.endswith("parquet") else write_shard
        values = {"x": generator.random(40).astype(np.float32), "kept": generator.random(40) < 0.5}
        files[name] = write(tmp_path / "made" / name, offsets([10, 30]), values)
    write_manifest(tmp_path / "made", files, {"what": "three files"})
    return tmp_path / "made"


def flip(path, bit):
    """Turn one bit around; the time of the change is set, since a test is faster than a file system's clock."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(bit, bit))


def error_of(folder):
    """Return the error with which reading everything in a folder ends, or None."""
    try:
        for one in NAMES:
            open_manifest(folder).read(one)
    except TokensieveError as error:
        return error
    return None


def test_what_was_written_is_read(folder):
    manifest = open_manifest(folder)
    assert (manifest.complete, manifest.about) == (True, {"what": "three files"})
    assert list(manifest.files) == list(NAMES)
    assert {(one.rows, one.tokens) for one in manifest.files.values()} == {(2, 40)}
    for name in NAMES:
        cu_seqlens, columns = manifest.read(name)
        assert cu_seqlens.tolist() == [0, 10, 40]
        np.testing.assert_array_equal(manifest.column(name, "kept"), columns["kept"])
    assert manifest.verified("deep") == [folder / "deep/b.arrow", folder / "deep/c.parquet"]


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
def test_no_flipped_bit_is_read_silently(folder, name):
    path = folder / name
    size = 8 * path.stat().st_size
    whole, said = path.read_bytes(), open_manifest(folder)
    expected = {one: said.read(one) for one in NAMES}
    for bit in np.random.default_rng(1).choice(size, 250, replace=False).tolist():
        flip(path, bit)
        if (error := error_of(folder)) is not None:
            assert str(path) in f"{error.where}/manifest.json"
            assert error.hint
        else:  # a manifest says the same in other words, such as with another blank between two of them
            assert name == "manifest.json"
            assert (open_manifest(folder).files, open_manifest(folder).about) == (said.files, said.about)
        path.write_bytes(whole)
    for one in NAMES:
        np.testing.assert_equal(open_manifest(folder).read(one), expected[one])


def test_a_damaged_file_is_named_with_what_to_do(folder):
    flip(folder / "deep/b.arrow", 4000)
    manifest = open_manifest(folder)
    manifest.read("a.arrow")
    with pytest.raises(TokensieveError, match="damaged: its checksum is wrong") as error:
        manifest.read("deep/b.arrow")
    assert error.value.where == str(folder / "deep/b.arrow")
    assert "delete the file and run the same command again" in error.value.hint
    (folder / "deep/b.arrow").unlink()
    assert not is_complete(folder)
    assert not manifest.has("deep/b.arrow")
    with pytest.raises(TokensieveError, match="a file is missing") as error:
        manifest.read("deep/b.arrow")
    assert "run the same command again" in error.value.hint


def test_a_file_is_hashed_once_until_it_changes(folder, monkeypatch):
    from tokensieve.store import checksum

    manifest, hashed, of_bytes = open_manifest(folder), [], checksum.of_bytes
    monkeypatch.setattr(checksum, "of_bytes", lambda data: hashed.append(len(data)) or of_bytes(data))
    for _ in range(3):
        manifest.read("a.arrow")
        manifest.path("a.arrow")
    assert hashed == [(folder / "a.arrow").stat().st_size]
    flip(folder / "a.arrow", 4000)
    with pytest.raises(TokensieveError, match="damaged"):
        open_manifest(folder).read("a.arrow")


def test_a_file_that_is_not_recorded_is_refused_among_those_that_are(folder):
    write_shard(folder / "deep/d.arrow", offsets([1]), {"x": np.zeros(1, np.float32)})
    with pytest.raises(TokensieveError, match="does not know") as error:
        open_manifest(folder).verified("deep")
    assert error.value.where == str(folder / "deep/d.arrow")
    with pytest.raises(TokensieveError, match="missing"):
        open_manifest(folder).read("deep/d.arrow")


def test_files_of_a_killed_run_are_adopted_and_others_left_alone(folder):
    stamp = (folder / "a.arrow").stat().st_mtime_ns
    found = write_shard(folder / "deep/d.arrow", offsets([1, 2]), {"x": np.arange(3, dtype=np.float32)})
    (folder / "deep/half.arrow").write_bytes(b"ARROW1 and no more")
    adopt(folder, "*.arrow")
    manifest = open_manifest(folder)
    assert manifest.files["deep/d.arrow"] == found
    assert manifest.read("deep/d.arrow")[1]["x"].tolist() == [0, 1, 2]
    assert manifest.about == {"what": "three files"}
    assert not (folder / "deep/half.arrow").exists()
    assert (folder / "a.arrow").stat().st_mtime_ns == stamp


def test_adopting_takes_no_damage_for_new(folder):
    flip(folder / "deep/b.arrow", 4000)
    adopt(folder, "*.arrow")
    with pytest.raises(TokensieveError, match="damaged"):
        open_manifest(folder).read("deep/b.arrow")


def test_records_add_up(folder):
    name = "e.arrow"
    added = write_shard(folder / name, offsets([3]), {"x": np.zeros(3, np.float32)})
    record(folder, {name: added})
    assert list(open_manifest(folder).files) == [*NAMES, name]
    assert open_manifest(folder).files[name] == added


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    assert not has_manifest(tmp_path)
    with pytest.raises(TokensieveError, match="lacks its manifest") as error:
        open_manifest(tmp_path)
    assert "give another output and store" in error.value.hint


@pytest.mark.parametrize(
    "old",
    [
        {"fingerprint": "f", "shards": 2},
        {"layout": LAYOUT - 1, "files": {}},
        {"layout": LAYOUT - 1, "files": {"a": {"rows": 1}, "b": {"rows": 2}}, "xxh3_128": "0"},
    ],
)
def test_a_manifest_of_another_layout_is_refused_with_the_way_out(tmp_path, old):
    write_json(tmp_path / "manifest.json", old)
    with pytest.raises(TokensieveError, match=f"this one reads layout {LAYOUT}") as error:
        open_manifest(tmp_path)
    assert "give another output and store" in error.value.hint


@pytest.mark.parametrize(
    "value",
    [
        {"files": {"a.arrow": {"rows": 1, "tokens": 1, "xxh3_128": "\ud800"}}},
        {"files": {}, "about": {"rows": 1, "tokens": 1, "xxh3_128": "0"}},
    ],
    ids=["half of a surrogate pair for a checksum", "what looks like a record elsewhere"],
)
def test_a_manifest_that_has_no_checksum_is_damaged(value, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"layout": LAYOUT, **value, "xxh3_128": "0"}))
    with pytest.raises(TokensieveError, match="the manifest of this folder is damaged") as error:
        open_manifest(tmp_path)
    assert error.value.where == str(tmp_path / "manifest.json")


def test_a_manifest_is_told_from_data_of_that_name(folder, tmp_path):
    assert is_manifest(folder / "manifest.json")
    for text in (json.dumps([{"audio": "a.wav"}]), json.dumps({"files": []}), "{"):
        (tmp_path / "manifest.json").write_text(text)
        assert not is_manifest(tmp_path / "manifest.json")
    assert not is_manifest(folder / "a.arrow")


def test_a_store_with_examples_of_another_layout_is_refused(tmp_path):
    check_store(tmp_path / "new")
    write_manifest(tmp_path / "store/examples/a", {})
    check_store(tmp_path / "store")
    (tmp_path / "store/examples/damaged").mkdir()
    for text in ("[]", "{"):
        (tmp_path / "store/examples/damaged/manifest.json").write_text(text)
        check_store(tmp_path / "store")
    write_json(tmp_path / "store/examples/b/manifest.json", {"fingerprint": "f", "shards": 1})
    with pytest.raises(TokensieveError, match=f"no known layout.*this one reads layout {LAYOUT}") as error:
        check_store(tmp_path / "store")
    assert error.value.where == str(tmp_path / "store")


def test_what_is_there_is_known_by_one_listing_of_each_folder(folder, monkeypatch):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: pytest.fail("looked at a single file"))
    manifest = open_manifest(folder)
    (folder / "deep/extra").touch()
    assert set(manifest.present("deep")) == {"deep/b.arrow", "deep/c.parquet"}
    assert list(manifest.present(".")) == ["a.arrow"]
    assert list(manifest.present("nowhere")) == []
    listed.clear()
    assert manifest.complete
    assert len(listed) == 2
    (folder / "deep/b.arrow").unlink()
    assert not manifest.complete
    assert list(manifest.present("deep")) == ["deep/c.parquet"]


@pytest.mark.parametrize("names", [(), ('ä "b".arrow', "a.arrow", "deep/c")])
def test_a_manifest_is_the_json_of_its_values(names, tmp_path):
    files = {name: FileRecord(place, 2**40, f"{place:032x}") for place, name in enumerate(names)}
    about = {"settings": {"files": {}, "ö": None}, "aaa": [1, {"files": {}}]}
    write_manifest(tmp_path, files, about)
    written = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    value = json.loads(written)
    assert written == json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert list(value) == ["layout", "settings", "aaa", "files", "xxh3_128"]
    given = value.pop("xxh3_128")
    assert given == checksum.of_bytes(json.dumps(value, sort_keys=True).encode())
    assert open_manifest(tmp_path).files == files
    assert list(open_manifest(tmp_path).files) == sorted(names)


def test_files_in_another_order_are_the_same_manifest(folder):
    path, said = folder / "manifest.json", open_manifest(folder)
    value = json.loads(path.read_text())
    value["files"] = dict(reversed(value["files"].items()))
    write_json(path, value)
    assert open_manifest(folder).files == said.files


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files["a.arrow"].pop("rows"),
        lambda files: files["a.arrow"].update(tokens=-1),
        lambda files: files["a.arrow"].update(xxh3_128="00"),
        lambda files: files.pop("a.arrow"),
    ],
)
def test_files_that_no_manifest_says_are_damage(change, folder):
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value["files"])
    write_json(path, value)
    with pytest.raises(TokensieveError, match="the manifest of this folder is damaged") as error:
        open_manifest(folder)
    assert error.value.where == str(path)


def test_files_of_a_data_set_come_in_the_order_of_their_numbers(tmp_path):
    files = {}
    for number in (99_999, 100_000, 1):
        name = f"data/train-{number:05d}-of-100001.parquet"
        files[name] = write_parquet(tmp_path / name, offsets([1]), {"x": np.zeros(1, np.float32)})
    write_manifest(tmp_path, files)
    found = [path.name[6:].partition("-")[0] for path in open_manifest(tmp_path).verified("data")]
    assert found == ["00001", "99999", "100000"]
