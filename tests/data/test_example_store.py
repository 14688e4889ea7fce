"""Manifests with a right checksum that do not describe examples."""

from __future__ import annotations

from typing import Any

import pytest

from tokensieve.data.counts import Counts
from tokensieve.data.example_store import open_examples
from tokensieve.errors import TokensieveError
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import write_manifest

ABOUT: dict[str, Any] = {
    "fingerprint": "f", "counts": {"rows": 3, "examples": 2}, "turn_end_ids": [5], "sources": ["a"],
    "mark_types": ["x"], "versions": {"torch": "2"},
}  # fmt: skip
FILES = {"shard-00000.arrow": FileRecord(2, 9, "0" * 32), "hashes.arrow": FileRecord(2, 0, "0" * 32)}


def test_a_manifest_of_examples_is_opened(tmp_path):
    write_manifest(tmp_path, FILES, ABOUT)
    store = open_examples(tmp_path)
    assert (store.folder, store.fingerprint, store.shards) == (tmp_path, "f", 1)
    assert store.counts == Counts(rows=3, examples=2)
    assert (store.turn_end_ids, store.sources, store.mark_types) == ((5,), ("a",), ("x",))
    assert store.starts.tolist() == [0, 9]


@pytest.mark.parametrize("key", ["fingerprint", "counts", "turn_end_ids"])
@pytest.mark.parametrize("value", ["missing", None, 5.5, [None], {"rows": []}])
def test_a_field_that_is_missing_or_of_another_type_is_named(key, value, tmp_path):
    about = {name: one for name, one in ABOUT.items() if name != key}
    write_manifest(tmp_path, FILES, about if value == "missing" else {**about, key: value})
    with pytest.raises(TokensieveError, match=f"does not describe examples: {key}") as error:
        open_examples(tmp_path)
    assert error.value.where == str(tmp_path)
    assert "delete the folder" in error.value.hint


def test_shards_that_are_not_numbered_from_0_are_refused(tmp_path):
    write_manifest(tmp_path, {"shard-00001.arrow": FileRecord(1, 1, "0" * 32)}, ABOUT)
    with pytest.raises(TokensieveError, match="shards are not numbered from 0"):
        open_examples(tmp_path)
