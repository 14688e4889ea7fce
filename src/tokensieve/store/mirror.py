"""The copy that this machine has of folders in an object store: what is written goes there, what is read comes from it.

Code works on paths (`tokensieve.places`); nothing here does anything about a path that stands for no URL. The store is
the truth: `sync` lists a folder once, takes away what the store has no longer, and fetches what is small. Shards and
weights are fetched when they are read (`fetched`). Names that begin with a dot are those of this machine alone:
partial files, locks, checkpoints of a training that is not done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from tokensieve.places import remote_of
from tokensieve.store import remote
from tokensieve.store.processes import beside, sweep
from tokensieve.store.remote import Stamp

_LARGE = (".arrow", ".parquet", ".safetensors", ".jsonl", ".npy", ".gz")
_REQUESTS = 8  # at once
_SETTLED = 5  # seconds
UNFINISHED = ".partial"
"""The object in a folder that is being written: until it is gone, nothing of the folder counts."""
_elsewhere: dict[Path, Stamp] = {}  # what a listing told of and was not fetched
_listed: set[Path] = set()  # what this process listed
_lock = threading.Lock()


def is_mirrored(path: Path) -> bool:
    """Whether a path stands for an object, or a folder of objects: not for what this machine keeps to itself."""
    found = remote_of(path)
    return found is not None and not any(part.startswith(".") for part in found.path.split("/"))


def sync(path: Path) -> None:
    """Let a folder, or one file, be on this machine what the store has now, but for large files.

    Raises:
        TokensieveError: no such bucket, or the store refuses or does not answer.
    """
    if not is_mirrored(path):
        return
    # Before the listing: another process may write a file into the same copy after it.
    there = _files(path)
    found = _finished(path, listing) if (listing := remote.listed(path)) else _one(path)
    lacking = {file: stamp for file, stamp in found.items() if file not in there or not _is_current(file, stamp)}
    for file in there:
        if file not in found or (file in lacking and file.suffix in _LARGE):
            _unlink(file, path)
    with _lock:
        for file in _known(path):
            del _elsewhere[file]
        _elsewhere.update(lacking)
        _listed.add(path)
    for folder in {file.parent for file in lacking}:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    _get_all(file for file in lacking if file.suffix not in _LARGE)


def is_there(path: Path) -> bool:
    """Whether a file is there, on this machine or in the store.

    Raises:
        TokensieveError: the store refuses, or does not answer.
    """
    if path in _elsewhere or path.is_file():
        return True
    if is_mirrored(path) and not _is_listed(path):  # a worker's process begins without a listing
        sync(path.parent)
    return path in _elsewhere or path.is_file()


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match a pattern, sorted, whether on this machine or in the store."""
    found = {path for path in folder.glob(pattern) if path.is_file()}
    return sorted(found | {path for path in list(_elsewhere) if folder in path.parents and path.match(pattern)})


def names_in(folder: Path) -> Iterator[str]:
    """Yield the names of the files right in a folder, on this machine or in the store, by one listing."""
    elsewhere = {path.name for path in list(_elsewhere) if path.parent == folder}
    yield from elsewhere
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.is_file() and entry.name not in elsewhere:
                    yield entry.name
    except (FileNotFoundError, NotADirectoryError):
        return


def fetched(path: Path) -> Path:
    """Return the path of a file or a folder after all of it was fetched.

    Raises:
        TokensieveError: the store refuses, or does not answer.
    """
    if not is_mirrored(path) or path.is_file():
        return path
    if not _is_listed(path):
        sync(path)
    _get_all(_known(path))
    return path


def refetched(path: Path) -> Path:
    """Return the path of a file after it was fetched in place of the one that is here."""
    if is_mirrored(path):
        _get(path)
    return path


def publish(partial: Path, path: Path) -> None:
    """Put a file as an object, before it gets its name on this machine.

    Raises:
        TokensieveError: the store refuses, or does not answer.
    """
    if is_mirrored(path):
        _publish(partial, path)


def publish_folder(partial: Path, folder: Path) -> None:
    """Put the files of a folder, in place of all that is there, before it gets its name on this machine.

    Raises:
        TokensieveError: the store refuses, or does not answer; the folder does not count then.
    """
    if not is_mirrored(folder):
        return
    remote.put(pa.py_buffer(b"unfinished"), folder / UNFINISHED)
    files = {folder / file.relative_to(partial): file for file in _files(partial)}
    old = [folder / name for name in remote.listed(folder) if name != UNFINISHED and folder / name not in files]
    last = [path for path in files if path == folder / "manifest.json"]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(remote.delete, old))
        list(pool.map(lambda path: _publish(files[path], path), (path for path in files if path not in last)))
    for path in last:
        _publish(files[path], path)
    remote.delete(folder / UNFINISHED)
    with _lock:
        for path in _known(folder):
            del _elsewhere[path]


def remove(path: Path) -> None:
    """Delete the object of a file, or all objects of a folder."""
    if not is_mirrored(path):
        return
    remote.delete_folder(path) if path.is_dir() else remote.delete(path)
    with _lock:
        for file in _known(path):
            del _elsewhere[file]


def _known(path: Path) -> list[Path]:
    """Return the files at or below a path that a listing told of and that were not fetched."""
    if path in _elsewhere or path.is_file():
        return [path] if path in _elsewhere else []
    return [one for one in list(_elsewhere) if str(one).startswith(f"{path}/")]


def _is_listed(path: Path) -> bool:
    return any(one in _listed for one in (path, *path.parents))


def _publish(partial: Path, path: Path) -> None:
    size = partial.stat().st_size  # an empty file cannot be mapped
    stamp = remote.put(pa.memory_map(str(partial)).read_buffer() if size else pa.py_buffer(b""), path)
    os.utime(partial, (stamp.seconds, stamp.seconds))
    with _lock:
        _elsewhere.pop(path, None)


def _one(path: Path) -> dict[Path, Stamp]:
    """Return the object of a path that is no folder, if there is one."""
    stamp = remote.stamp_of(path)
    return {} if stamp is None else {path: stamp}


def _finished(folder: Path, listing: dict[str, Stamp]) -> dict[Path, Stamp]:
    """Return the objects of a listing that count: none of an unfinished folder, and none with a dot."""
    unfinished = tuple(
        name.removesuffix(UNFINISHED) for name in listing if name == UNFINISHED or name.endswith(f"/{UNFINISHED}")
    )
    return {
        folder / name: stamp
        for name, stamp in listing.items()
        if not any(part.startswith(".") for part in name.split("/")) and not name.startswith(unfinished)
    }


def _files(path: Path) -> set[Path]:
    """Return a file, or the files of a folder that stand for objects."""
    if path.is_file():
        return {path}
    found: set[Path] = set()
    for root, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.update(Path(root, name) for name in names if not name.startswith("."))
    return found


def _unlink(file: Path, root: Path) -> None:
    """Remove a file, and the folders up to a root that it leaves empty: the store has no such thing."""
    file.unlink(missing_ok=True)
    for folder in file.parents:
        if not folder.is_relative_to(root) or any(folder.iterdir()):
            return
        folder.rmdir()


def _is_current(file: Path, stamp: Stamp) -> bool:
    """Whether a copy is what the store has.

    A store tells whole seconds. So a copy that was taken soon after the object changed does not count, as the object
    may have changed once more; but for shards and weights, which are not written twice with other bytes.
    """
    try:
        stat = file.stat()
    except FileNotFoundError:
        return False
    if Stamp(stat.st_size, int(stat.st_mtime)) != stamp:
        return False
    return file.suffix in _LARGE or stat.st_ctime - stamp.seconds > _SETTLED


def _get_all(paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(_get, paths))


def _get(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    try:
        stamp = remote.get(path, partial)
        if stamp is not None:
            os.utime(partial, (stamp.seconds, stamp.seconds))
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    with _lock:
        _elsewhere.pop(path, None)
