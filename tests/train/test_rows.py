from __future__ import annotations

import os

import datasets.config
import numpy as np
import pytest

from tokensieve.ops.ragged import offsets
from tokensieve.store.shards import write_parquet
from tokensieve.train.rows import read_rows


def write(path, ids, **further):
    lengths = [len(row) for row in ids]
    flat = np.concatenate(ids).astype(np.int32)
    write_parquet(path, offsets(lengths), {"input_ids": flat, "labels": flat, **further})
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["run[1]", "r*", "r?n1", "$HOME", "~", "a b", "run%201", "{run1,run2}", "**"])
def test_a_path_is_a_path_and_no_pattern(name, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "run1/train.parquet", [[1, 1]])
    write(tmp_path / "run2/train.parquet", [[2, 2]])
    mine = write(tmp_path / name / "train.parquet", [[3, 4], [5]])
    rows = read_rows([mine])
    assert rows["input_ids"] == [[3, 4], [5]]
    monkeypatch.chdir(tmp_path)
    assert read_rows([mine.relative_to(tmp_path)])["labels"] == [[3, 4], [5]]
    assert not cache.exists()


def test_files_of_one_time_are_not_mistaken_for_each_other(cache, tmp_path):
    path = write(tmp_path / "train.parquet", [[1, 2, 3]])
    before = os.stat(path)
    assert read_rows([path])["input_ids"] == [[1, 2, 3]]
    write(path, [[4, 5, 6]])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    rows = read_rows([path])
    assert rows["input_ids"] == [[4, 5, 6]]
    assert rows.cache_files == []
    assert not cache.exists()


def test_only_the_columns_that_are_asked_for(tmp_path):
    more = {"kept": np.array([True, False, True]), "score": np.zeros(3, dtype=np.float32)}
    files = [write(tmp_path / f"{number}.parquet", [[number, 2], [3]], **more) for number in range(2)]
    assert read_rows(files).column_names == ["input_ids", "labels"]
    rows = read_rows(files, {"kept", "weights"})
    assert rows.column_names == ["input_ids", "labels", "kept"]
    assert rows["input_ids"] == [[0, 2], [3], [1, 2], [3]]
    assert rows["kept"] == [[True, False], [True], [True, False], [True]]
