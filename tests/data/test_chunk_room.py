"""A disk that is too small for the chunks, or for the shards beside them, is told, and what is done is kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tokensieve.data import chunk_room
from tokensieve.data import prepare as prepare_module
from tokensieve.data.chunk_room import NoRoomError
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings


@pytest.fixture
def data(write_jsonl, monkeypatch):
    monkeypatch.setattr(prepare_module, "CHUNK_ROWS", 8)
    return DataSettings((str(write_jsonl(*({"question": f"{n}?", "answer": f"It is {n}."} for n in range(32)))),))


def written(store):
    return {path.relative_to(store): path.read_bytes() for path in store.rglob("*.arrow")}


@pytest.mark.parametrize("asked", [1, 2], ids=["after the first chunk", "before the shards are made"])
def test_what_is_done_is_kept_when_the_disk_is_too_small(asked, data, tiny_encoder, tmp_path, monkeypatch):
    chunk = 0
    times = []

    def usage(folder):
        nonlocal chunk
        times.append(folder)
        chunk = chunk or sum(path.stat().st_size for path in folder.rglob("chunk-00000/*"))
        # After one of four chunks three are to come, and then as many bytes of shards as of chunks.
        return SimpleNamespace(free=int(chunk * (6.9 if len(times) == 1 else 0.5)) if len(times) == asked else 10**12)

    monkeypatch.setattr(chunk_room.shutil, "disk_usage", usage)
    store, other = tmp_path / "store", tmp_path / "other"
    with pytest.raises(NoRoomError, match=rf"(?s)GB more.*by {[1, 4][asked - 1]} of 4 parts.*goes on"):
        prepare(data, tiny_encoder, store, lambda _: None)
    left = [path.name for path in store.rglob("chunk-*") if path.is_dir()]
    assert len(left) == [1, 4][asked - 1]
    told = []
    prepare(data, tiny_encoder, store, told.append)
    assert sum(told) == 32
    prepare(data, tiny_encoder, other, lambda _: None)
    assert written(store) == written(other)


def test_a_disk_with_just_enough_room_is_enough(data, tiny_encoder, tmp_path, monkeypatch):
    def usage(folder):
        done = [path.stat().st_size for path in folder.rglob("chunk-*/*")]
        chunks = len(list(folder.glob("chunk-?????")))
        return SimpleNamespace(free=sum(done) * (8 - chunks) // chunks)

    monkeypatch.setattr(chunk_room.shutil, "disk_usage", usage)
    assert prepare(data, tiny_encoder, tmp_path / "store", lambda _: None).counts.rows == 32
