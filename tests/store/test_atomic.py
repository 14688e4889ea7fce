from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from filelock import FileLock

from tokensieve.errors import TokensieveError
from tokensieve.store import atomic, processes, waiting
from tokensieve.store.atomic import (
    atomic_file,
    atomic_folder,
    locked,
    read_json,
    remove_unfinished,
    write_json,
    write_text,
)
from tokensieve.store.waiting import waiting_at_most


def break_off(path):
    path.write_text("half")
    raise KeyboardInterrupt


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert not path.exists()
        assert partial.name.startswith(".")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as partial:
        break_off(partial)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_another_when_the_block_ends(tmp_path):
    folder = tmp_path / "deep" / "a"
    for text in ("old", "new"):
        with atomic_folder(folder) as partial:
            assert list(partial.iterdir()) == []
            (partial / "sub").mkdir()
            (partial / "sub" / f"{text}.txt").write_text(text)
            assert folder.exists() == (text == "new")
    assert [path.name for path in (folder / "sub").iterdir()] == ["new.txt"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_error_leaves_the_old_folder_alone_and_nothing_beside_it(tmp_path):
    folder = tmp_path / "a"
    with atomic_folder(folder) as partial:
        (partial / "old.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as partial:
        break_off(partial / "new.txt")
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_attempt_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = processes.beside(tmp_path / "a")
    left = left.with_name(left.name.replace(f".{os.getpid()}.", f".{dead.pid}."))
    left.mkdir()
    (left / "half.txt").write_text("half")
    with atomic_folder(tmp_path / "a") as partial:
        (partial / "whole.txt").write_text("whole")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["whole.txt"]
    assert not left.exists()


@pytest.fixture
def synced(monkeypatch):
    """What was forced to the disk, in order."""
    found = []
    monkeypatch.setattr(atomic, "sync", found.append)
    return found


def test_a_folder_gets_its_name_when_everything_in_it_is_on_the_disk(tmp_path, synced, monkeypatch):
    folder = tmp_path / "a"
    names = ["", "one.txt", "deep", "deep/two.json"]
    real, renamed = Path.replace, []

    def replace(path, target):
        if path.suffix == ".partial" and path.is_dir():
            renamed.append((path, set(synced)))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with atomic_folder(folder) as given:
        write_text(given / "one.txt", "1")
        write_json(given / "deep" / "two.json", 2)
        assert synced == []  # nobody sees the folder yet: once is enough
    assert renamed == [(given, {given / name for name in names})]
    assert synced[-1] == tmp_path
    assert len(synced) == len(names) + 1


def test_a_file_by_itself_is_on_the_disk_before_it_gets_its_name(tmp_path, synced):
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "b") as partial:
        break_off(partial / "c.txt")
    for path in (tmp_path / "a.txt", tmp_path / ".b.partial" / "c.txt"):  # no folder is unfinished any more
        synced.clear()
        write_text(path, "new")
        assert [one.suffix for one in synced] == [".partial", path.parent.suffix]
        assert synced[1] == path.parent


def test_json_keeps_the_order_of_keys_and_any_text(tmp_path):
    value = {"b": 1, "a": ["日本", None, 1.5], "c": {}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert list(read_json(tmp_path / "a.json")) == ["b", "a", "c"]
    assert "日本" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_lock_lets_in_one_at_a_time_and_says_who_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_PATIENCE", 0.01)
    inside, together = [], []

    def enter(number):
        with locked(tmp_path / "deep" / "a"):
            inside.append(number)
            together.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert together == [1, 1, 1, 1]
    [message] = {str(one.message) for one in said}
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}/deep/a is in use by process {os.getpid()} on \S+ since "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; waiting for it",
        message,
    )
    assert not list(tmp_path.rglob("*.holder"))


def test_who_waits_is_told_who_holds_the_lock_even_where_they_have_just_got_it(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_PATIENCE", 0.01)
    lock = FileLock(tmp_path / ".a.lock", thread_local=False)
    said = []

    def say(message, **_):
        said.append(message)
        lock.release()

    def sign():
        time.sleep(0.1)
        (tmp_path / ".a.holder").write_text("process 7 on elsewhere", encoding="utf-8")

    monkeypatch.setattr(waiting.warnings, "warn", say)
    lock.acquire()
    holder = threading.Thread(target=sign)
    holder.start()
    with locked(tmp_path / "a"):
        assert said == [f"{tmp_path / 'a'} is in use by process 7 on elsewhere; waiting for it"]
    holder.join()


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_who_is_not_to_wait_longer_is_told_who_holds_the_lock(seconds, tmp_path):
    lock = FileLock(tmp_path / ".a.lock")
    (tmp_path / ".a.holder").write_text("process 7 on elsewhere since 2026-01-02 03:04:05", encoding="utf-8")
    with lock, waiting_at_most(seconds), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        start = time.monotonic()
        with pytest.raises(TokensieveError, match="a is in use by process 7 on elsewhere since 2026-01-02 03:04:05"):
            locked(tmp_path / "a").__enter__()
        assert seconds <= time.monotonic() - start < seconds + 1
    assert said == []
    with waiting_at_most(0), locked(tmp_path / "a"):
        assert (tmp_path / ".a.holder").is_file()


def test_a_lock_that_is_held_for_a_moment_is_waited_for_in_any_case(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_PATIENCE", 0.01)
    lock = FileLock(tmp_path / ".a.lock", thread_local=False)
    lock.acquire()
    release = threading.Timer(0.2, lock.release)
    release.start()
    with waiting_at_most(0), locked(tmp_path / "a", briefly=True):
        assert not lock.is_locked
    release.join()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_nobody_waits_less_than_nothing(seconds):
    with pytest.raises(TokensieveError, match="must be at least 0"):
        waiting_at_most(seconds).__enter__()


@pytest.mark.parametrize("make", [atomic_file, atomic_folder])
def test_a_second_interrupt_while_the_first_one_cleans_up_leaves_nothing(make, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        writing = make(tmp_path / "a")
        partial = writing.__enter__()
        if make is atomic_file:
            partial.write_text("half")
        patch.setattr("shutil.rmtree", interrupted)
        patch.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    remove_unfinished()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_taken_over_from_the_dead_and_not_held_through_another_spelling(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "real")
    code = (
        "import os, pathlib, signal, sys\n"
        "from tokensieve.store.atomic import locked\n"
        "with locked(pathlib.Path(sys.argv[1]) / 'run'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "real")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        killer = threading.Timer(2, holder.kill)
        killer.start()
        with locked(tmp_path / "other" / "run"):
            assert holder.wait(timeout=10) == -signal.SIGKILL
    holder.communicate()
    assert f"in use by process {holder.pid} on" in str(said[0].message)


def test_half_written_files_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = processes.beside(tmp_path / "x").name.split(".")[2]
    names = {
        f".a.arrow.{host}.{dead.pid}.0123abcd.partial": False,
        f".b.{host}.{dead.pid}.0123abcd.partial": False,
        f".a.arrow.{host}.{os.getpid()}.0123abcd.partial": True,
        f".a.arrow.elsewhere.{dead.pid}.0123abcd.partial": True,
        f".old.elsewhere.{dead.pid}.0123abcd.partial": False,
        ".of-an-earlier-version.17.partial": True,
        "mine.partial": True,
    }
    for name in names:
        (tmp_path / name).mkdir() if name.startswith(".b") else (tmp_path / name).touch()
    a_week_ago = time.time() - 7 * 24 * 60 * 60
    os.utime(tmp_path / f".old.elsewhere.{dead.pid}.0123abcd.partial", (a_week_ago, a_week_ago))
    processes.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name for name, stays in names.items() if stays}


def test_two_writers_of_one_file_never_share_what_they_write_to(tmp_path):
    with atomic_file(tmp_path / "a") as one, atomic_file(tmp_path / "a") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one", "the last to finish, whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("make", [atomic_file, atomic_folder, locked])
def test_a_place_below_a_file_is_refused(make, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TokensieveError, match="is a file, and a folder is needed"), make(tmp_path / "file/sub/x"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_is_not_written_where_a_folder_is(tmp_path):
    with pytest.raises(TokensieveError, match="a folder is there"), atomic_file(tmp_path):
        pass
