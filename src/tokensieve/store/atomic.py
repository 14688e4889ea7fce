"""Files that appear whole or not at all: write beside, fsync, rename.

What is written beside carries the host, the process and a random number in its name, so that two writers never share
it, and `processes.sweep` can tell what a dead one left. Within an unfinished folder (`atomic_folder`) files are not
forced to the disk one by one: the folder gets its name when all of them are on the disk. What stands for an object of a
store (`store.mirror`) is put there before it gets its name here.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tokensieve import json_text
from tokensieve.errors import TokensieveError
from tokensieve.places import remote_of
from tokensieve.store import mirror
from tokensieve.store.ahead import map_ahead
from tokensieve.store.claims import claimed
from tokensieve.store.paths import check_folder_path, check_local
from tokensieve.store.processes import beside, holder, sweep
from tokensieve.store.waiting import Wait, longest_wait

_SYNCS = 8  # at once: the disk writes them together
_unfinished: set[Path] = set()
_partial: set[Path] = set()
_PATIENCE = 1  # seconds to wait for a lock without a word


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; rename it to ``path`` when the block ends without an error.

    Raises:
        TokensieveError: a folder is there, or the folder of the file cannot be made or written to.
    """
    if path.is_dir():
        raise TokensieveError(
            "a folder is there, and a file is needed", where=str(path), hint="give the path of a file"
        )
    _make_folder(path.parent)
    partial = beside(path)
    alone = _unfinished.isdisjoint(path.parents)
    _partial.add(partial)
    try:
        yield partial
        if alone:
            sync(partial)
            mirror.publish(partial, path)
        partial.replace(path)
        if alone:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
        _partial.discard(partial)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write to; it replaces ``folder`` when the block ends without an error.

    An error removes what was written; what a killed attempt left behind is removed by the next one. Hold
    `locked` around it.
    """
    _make_folder(folder.parent)
    sweep(folder.parent, folder.name)
    partial = beside(folder)
    _unfinished.add(partial)
    try:
        partial.mkdir()
        yield partial
        with ThreadPoolExecutor(_SYNCS) as pool:
            for _ in map_ahead(lambda path: pool.submit(sync, path), _within(partial), _SYNCS):
                pass
        sync(partial)
        if _unfinished.isdisjoint(folder.parents):
            mirror.publish_folder(partial, folder)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # is the folder by now, but for an error
        _unfinished.discard(partial)
    sync(folder.parent)


def _within(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder, at any depth; there may be a million files."""
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from _within(Path(entry.path))
            yield Path(entry.path)


def remove_unfinished() -> None:
    """Remove what this process was writing when it was interrupted, for the end of the process."""
    for path in (*_partial, *_unfinished):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, which may be gone already."""
    mirror.remove(path)
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Let a file stand in a second place: a hard link, or a copy where the file system gives none.

    Files that stand for objects are copied, as each has the time of its own object.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if remote_of(source) or remote_of(target):
            raise OSError
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def gives_links(folder: Path) -> bool:
    """Whether the files of a folder can be linked (`link`), tried in the folder itself."""
    if remote_of(folder):
        return False
    with tempfile.TemporaryDirectory(dir=folder) as tried:
        there = Path(tried) / "there"
        there.touch()
        try:
            os.link(there, there.with_name("here"))
        except OSError:
            return False
    return True


@contextmanager
def locked(path: Path, *, briefly: bool = False) -> Iterator[None]:
    """Hold ``path`` for this process alone, so that two runs never write one place at once.

    The lock goes with the process that holds it, however that ends; that of a store of objects some time after it
    (`store.claims`). Who waits is told who holds it. What stands for objects is then here as the store has it.

    Args:
        path: what is locked.
        briefly: nobody holds this lock for longer than a write takes, so that `waiting_at_most` sets no limit.

    Raises:
        TokensieveError: another process holds the lock for longer than `waiting_at_most` says.
    """
    _make_folder(path.parent)
    path = path.resolve()  # two spellings of a path are one place
    lock, note = (path.with_name(f".{path.name}.{kind}") for kind in ("lock", "holder"))
    wait = Wait(path, None if briefly else longest_wait())
    held = FileLock(lock)
    while not held.is_locked:
        try:
            held.acquire(timeout=_PATIENCE if wait.left is None else min(_PATIENCE, wait.left))
        except Timeout:
            if who := _holder(note):
                wait(who)
            elif wait.left == 0:
                wait("another process")
    try:
        note.write_text(holder(), encoding="utf-8")
        with claimed(path, wait) if mirror.is_mirrored(path) else nullcontext():
            mirror.sync(path)
            yield
    finally:
        note.unlink(missing_ok=True)
        held.release()


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold ``path`` for this process alone where nobody else does, and give whether it is held here.

    The lock goes with the process that holds it, however that ends.
    """
    _make_folder(path.parent)
    held = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        held.acquire(blocking=False)
    except (Timeout, FileNotFoundError):  # whoever needs the folder no more has removed it
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def _holder(path: Path) -> str:
    """Return who holds a lock, in words; nothing while they have just got it, or let go of it."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError:
        return "another process"


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8, and remove what a killed attempt left beside it."""
    sweep(path.parent, path.name)
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; keys keep their order, so equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json_text.parse(mirror.fetched(path).read_text(encoding="utf-8"))


def read_object(path: Path, missing: str, hint: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: its file.
        missing: what to say when there is no such file.
        hint: what the user can do when it cannot be read.

    Raises:
        TokensieveError: the file is missing or holds no JSON object.
    """
    if not path.is_file():
        raise TokensieveError(missing, where=str(path), hint=hint)
    try:
        found = read_json(path)
    except ValueError as error:  # not JSON, or not UTF-8
        raise TokensieveError(f"not JSON: {error}", where=str(path), hint=hint) from error
    if not isinstance(found, dict):
        raise TokensieveError("not a JSON object", where=str(path), hint=hint)
    return found


def _make_folder(folder: Path) -> None:
    check_local(folder)
    check_folder_path(folder, str(folder))
    folder.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Force a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
