"""The manifest of a folder: which files belong to it, and the checksum of each, verified when it is read.

A file is written whole (`store.atomic`), and then recorded. What a kill leaves between the two is a whole file that the
manifest does not know: readers do not see it, and the next run that writes to the folder takes it up (`adopt`).
"""

from __future__ import annotations

import fnmatch
import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.store import checksum, manifest_text
from tokensieve.store.atomic import atomic_file, locked, remove
from tokensieve.store.checksum import FileRecord
from tokensieve.store.mirror import fetched, files_in, is_mirrored, is_there, names_in, refetched
from tokensieve.store.processes import sweep
from tokensieve.store.records import FileRecords
from tokensieve.store.shards import AGAIN, HINT, mapped, read_shard, record_of

LAYOUT = 4
"""Of everything in a store and below an arm; raised when files change so that they can no longer be read."""
_NAME = "manifest.json"
_OWN = ("layout", manifest_text.FILES, manifest_text.SEAL)
_SHARE = 20  # of the time, one part at most goes into writing a manifest that grows
_REMEMBERED = 10_000  # files that were verified; of more, one that is read again is verified again
_verified: set[tuple[Path, str, int, int]] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Manifest:
    """What a folder holds.

    Attributes:
        folder: the folder.
        files: what was written, by path within the folder; in the order of these.
        about: what else the manifest says.
    """

    folder: Path
    files: FileRecords
    about: Mapping[str, Any]

    def has(self, name: str) -> bool:
        """Whether a file is recorded and there."""
        return name in self.files and is_there(self.folder / name)

    def present(self, folder: str) -> Iterator[str]:
        """Yield the files right in a folder within this one that are recorded and there, by one listing.

        Args:
            folder: path within this one; ``.`` is this one.
        """
        names = names_in(self.folder / folder)
        return (path for name in names if (path := name if folder == "." else f"{folder}/{name}") in self.files)

    @property
    def complete(self) -> bool:
        """Whether every file that is recorded is there."""
        folders = {os.path.dirname(name) or "." for name in self.files}
        return sum(1 for folder in folders for _ in self.present(folder)) == len(self.files)

    def path(self, name: str) -> Path:
        """Return the path of a file after its checksum was verified, as a rule once until the file changes.

        Raises:
            TokensieveError: a file that is missing or damaged.
        """
        self._verify(name)
        return self.folder / name

    def read(self, name: str) -> tuple[Int64, dict[str, NDArray]]:
        """Verify and read a file, as `shards.read_shard` does."""
        return read_shard(self.folder / name, self._verify(name))

    def _verify(self, name: str) -> pa.Buffer:
        """Return the verified bytes of a file, mapped into memory: once for both, as a page takes time to map."""
        path = self.folder / name
        if not self.has(name):
            raise TokensieveError("a file is missing", where=str(path), hint=AGAIN)
        wanted = self.files[name].xxh3_128
        stat = fetched(path).stat()
        key = (path, wanted, stat.st_mtime_ns, stat.st_size)
        data = mapped(path)
        with _lock:
            if key in _verified:
                return data
        whole = checksum.of_bytes(data) == wanted
        if not whole and is_mirrored(path):  # perhaps the copy alone is damaged
            data = mapped(refetched(path))
            whole = checksum.of_bytes(data) == wanted
        if not whole:
            raise TokensieveError("the file is damaged: its checksum is wrong", where=str(path), hint=HINT)
        with _lock:
            if len(_verified) >= _REMEMBERED:
                _verified.clear()
            _verified.add(key)
        return data

    def column(self, name: str, column: str) -> NDArray:
        """Verify a file and read one of its columns."""
        return self.read(name)[1][column]

    def verified(self, folder: str) -> list[Path]:
        """Return the paths of all files of a folder within this one, verified, in the order of their numbers.

        Raises:
            TokensieveError: a file that is missing, damaged, or there and not recorded.
        """
        # A number may have more digits than those before it.
        names = sorted(
            (name for name in self.files if name.startswith(f"{folder}/")), key=lambda name: (len(name), name)
        )
        found = {path.relative_to(self.folder).as_posix() for path in files_in(self.folder / folder, "[!.]*")}
        if extra := sorted(found.difference(names)):
            raise TokensieveError(
                "a file that the manifest of its folder does not know",
                where=str(self.folder / extra[0]),
                hint="remove it: only files that tokensieve wrote belong here",
            )
        return [self.path(name) for name in names]


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest of a folder, and not data of that name."""
    if path.name != _NAME:
        return False
    try:
        return manifest_text.read_values(fetched(path)).keys() >= set(_OWN)
    except (ValueError, AttributeError):
        return False


def has_manifest(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    return (folder / _NAME).is_file()


def is_complete(folder: Path) -> bool:
    """Whether a folder has a manifest, and every file that it records.

    Raises:
        TokensieveError: as `open_manifest`, except where there is none.
    """
    return has_manifest(folder) and open_manifest(folder).complete


def ensure_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Give a folder a manifest without files, where it has none."""
    if not has_manifest(folder):
        with locked(folder / _NAME, briefly=True):
            if not has_manifest(folder):  # another process may have been faster
                write_manifest(folder, {}, about)


def write_manifest(folder: Path, files: Mapping[str, FileRecord], about: Mapping[str, Any] | None = None) -> None:
    """Write the manifest of a folder, atomically.

    Args:
        folder: the folder.
        files: what is in it, by path within the folder.
        about: what else to say, as JSON values.
    """
    files = files if isinstance(files, FileRecords) else FileRecords(files)
    sweep(folder, _NAME)
    with atomic_file(folder / _NAME) as partial, partial.open("w", encoding="utf-8") as handle:
        manifest_text.write(handle, {"layout": LAYOUT, **(about or {})}, files)
    _parse.cache_clear()


def record(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Add files to the manifest of a folder, to which other processes may add at the same time."""
    with locked(folder / _NAME, briefly=True):
        manifest = open_manifest(folder)
        every = FileRecords(manifest.files)
        every.add(files)
        write_manifest(folder, every, manifest.about)


class Recorder:
    """Adds files to the manifest of a folder now and then, and at the end of the block.

    Writing a manifest for each of a million files would take longer than the files, and the more files there are, the
    longer one takes: the next then waits longer too. What a kill prevents is recorded by `adopt`.

    Args:
        folder: the folder, which has a manifest.
        seconds: between two writes at least.
    """

    def __init__(self, folder: Path, seconds: float = 5) -> None:
        self._folder, self._seconds = folder, seconds
        self._files = FileRecords()
        self._written_at, self._took = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, files: Mapping[str, FileRecord]) -> None:
        """Take files, and write the manifest where the last time is long enough ago."""
        self._files.add(files)
        if time.monotonic() - self._written_at >= max(self._seconds, _SHARE * self._took):
            self._write()

    def _write(self) -> None:
        start = time.monotonic()
        if self._files:
            record(self._folder, self._files)
        self._files, self._written_at = FileRecords(), time.monotonic()
        self._took = self._written_at - start


def adopt(folder: Path, pattern: str) -> None:
    """Record whole files that a killed run did not get to record; remove those that cannot be read.

    Args:
        folder: has the manifest.
        pattern: which names, in the folders right in this one, are those of such files.
    """
    known, found = open_manifest(folder).files, FileRecords()
    for inner in [path for path in folder.iterdir() if path.is_dir()]:
        names = (f"{inner.name}/{name}" for name in names_in(inner) if fnmatch.fnmatchcase(name, pattern))
        for name in [name for name in names if name not in known]:
            fetched(folder / name)  # a store that fails says nothing about the file
            try:
                found[name] = record_of(folder / name)
            except TokensieveError:
                remove(folder / name)
    if found:
        record(folder, found)


def open_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        TokensieveError: there is none, it is damaged, or an earlier version wrote the folder.
    """
    path = folder / _NAME
    try:
        stat = fetched(path).stat()
    except FileNotFoundError as error:
        raise TokensieveError(
            "this folder lacks its manifest: it was not finished, or an earlier version of tokensieve wrote it",
            where=str(folder),
            hint="run the recipe again; where the folder is that of an earlier version, give another output and store",
        ) from error
    return _parse(path, stat.st_mtime_ns, stat.st_ino, stat.st_size)


def check_layout(found: int | None, where: Path) -> None:
    """Raise ``TokensieveError`` unless files are laid out as this version reads them."""
    if found != LAYOUT:
        raise TokensieveError(
            f"written in {'no known layout' if found is None else f'layout {found}'} by another version of tokensieve; "
            f"this one reads layout {LAYOUT}",
            where=str(where),
            hint="give another output and store, or delete this folder: the recipe makes everything again",
        )


def check_store(store: Path) -> None:
    """Refuse a store that holds examples of another layout.

    Raises:
        TokensieveError: it was written by another version.
    """
    for path in store.glob(f"examples/*/{_NAME}"):
        try:
            layout = manifest_text.read_values(fetched(path)).get("layout")
        except (ValueError, AttributeError):
            continue  # damaged: an error where it is used
        check_layout(layout, store)


@functools.lru_cache(maxsize=64)
def _parse(path: Path, *_stat: int) -> Manifest:
    """Read a manifest; the arguments behind the path change when the file does."""
    try:
        value, files = manifest_text.read(path)
        layout, given = value.get("layout"), value.pop(manifest_text.SEAL, None)
        about = {name: one for name, one in value.items() if name not in _OWN}
        whole = given is None or files is None or given == manifest_text.seal({"layout": layout, **about}, files)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)
    check_layout(layout, path.parent)
    if given is None or files is None:
        raise _damaged(path)
    return Manifest(path.parent, files, about)


def _damaged(path: Path) -> TokensieveError:
    return TokensieveError("the manifest of this folder is damaged", where=str(path), hint=HINT)
