"""Each part of the inside of `datasets` that is used, by name, so that a new version says what it has changed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import datasets
import pytest
from datasets import config

from tokensieve.data import datasets_private
from tokensieve.errors import TokensieveError


def test_a_data_set_of_the_hub_is_found_where_the_library_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)
    assert not datasets_private.is_cached("owner/MyData")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    builder = datasets.load_dataset_builder("json", data_files=str(tmp_path / "rows.jsonl"))
    builder.repo_id, builder.dataset_name = "owner/MyData", "my_data"
    folder = Path(builder._relative_data_dir()).parts[0]
    assert folder == "owner___my_data"
    (tmp_path / folder).mkdir()
    assert datasets_private.is_cached("owner/MyData")


def test_a_relative_cache_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", "cache")
    datasets_private.fix_cache_folder()
    assert Path(config.HF_DATASETS_CACHE) == tmp_path / "cache"


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.0")
    with pytest.raises(TokensieveError, match=r"datasets 9\.0 is installed.*\n  hint: pip install 'datasets>=4\.0,<6'"):
        datasets_private.is_cached("owner/data")
