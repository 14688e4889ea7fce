from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokensieve.store import digests
from tokensieve.store.digests import digest_of


@pytest.fixture
def read(tmp_path, monkeypatch) -> list[Path]:
    """The files that were read; every file counts as large, and times settle in 0.05 s."""
    monkeypatch.setenv("TOKENSIEVE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(digests, "_LARGE", 1)
    monkeypatch.setattr(digests, "_SETTLED", 5 * 10**7)
    found, original = [], digests._read

    def counted(path):
        found.append(path)
        return original(path)

    monkeypatch.setattr(digests, "_read", counted)
    return found


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    time.sleep(0.1)
    return path


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_a_large_file_is_read_once_for_each_of_its_states(read, weights):
    assert [digest_of(weights) for _ in range(3)] == [sha256(b"old")] * 3
    assert read == [weights]
    link = weights.with_name("link")
    link.symlink_to(weights)
    assert digest_of(link) == sha256(b"old")
    assert read == [weights]


def test_a_change_in_place_with_the_old_size_and_time_is_seen(read, weights):
    before = weights.stat()
    assert digest_of(weights) == sha256(b"old")
    with weights.open("r+b") as handle:
        handle.write(b"new")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert digest_of(weights) == sha256(b"new")


def test_a_file_that_has_just_changed_is_read_each_time(read, weights):
    weights.write_bytes(b"new")
    assert digest_of(weights) == digest_of(weights) == sha256(b"new")
    assert read == [weights, weights]


def test_a_file_that_changes_while_it_is_read_is_not_kept(read, weights, monkeypatch):
    original = digests._read

    def slow(path):
        found = original(path)
        if found == sha256(b"old"):
            path.write_bytes(b"new")
        return found

    monkeypatch.setattr(digests, "_read", slow)
    assert digest_of(weights) == sha256(b"old")
    time.sleep(0.1)
    assert digest_of(weights) == sha256(b"new")


def test_a_small_file_leaves_nothing(read, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_LARGE", 4)
    assert digest_of(weights) == digest_of(weights) == sha256(b"old")
    assert len(read) == 2
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("content", ["", "no hex", "abc", "abcd"])
def test_a_damaged_entry_is_made_again(content, read, weights, tmp_path):
    digest_of(weights)
    (entry,) = (tmp_path / "scratch/digests").glob("*.sha256")
    entry.write_text(content)
    assert digest_of(weights) == digest_of(weights) == sha256(b"old")
    assert read == [weights, weights]


def test_a_scratch_folder_that_cannot_be_made_is_no_error(read, weights, tmp_path):
    (tmp_path / "scratch").write_text("a file")
    assert digest_of(weights) == digest_of(weights) == sha256(b"old")
    assert stat.S_ISREG((tmp_path / "scratch").stat().st_mode)


PROCESS = """
import sys, time
from pathlib import Path
from tokensieve.store import digests
digests._LARGE, digests._SETTLED, original = 1, 5 * 10**7, digests._read
def slow(path):
    print("read", flush=True)
    time.sleep(0.5)
    return original(path)
digests._read = slow
print(digests.digest_of(Path(sys.argv[1])).hex())
"""


def test_processes_that_ask_at_once_read_once(read, weights):
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(weights)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [process.communicate(timeout=60)[0].split() for process in started]
    assert {lines[-1] for lines in told} == {sha256(b"old").hex()}
    assert sum(lines.count("read") for lines in told) == 1
