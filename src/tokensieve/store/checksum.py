"""Checksums of files: XXH3 with 128 bits, which reads faster than a disk and finds every accidental change."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a manifest says of a file.

    Attributes:
        rows: examples in the file.
        tokens: of all its examples together.
        xxh3_128: checksum of its bytes, in hexadecimal digits.
    """

    rows: int
    tokens: int
    xxh3_128: str


def of_bytes(data: bytes | pa.Buffer) -> str:
    """Return the checksum of bytes, or of what holds some."""
    return xxhash.xxh3_128_hexdigest(data)


def of_parts(parts: Iterable[bytes]) -> str:
    """Return the checksum of bytes that come in parts."""
    whole = xxhash.xxh3_128()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def short(data: bytes) -> int:
    """Return a hash of 64 bits, which tells apart what is in memory; files have `of_bytes`."""
    return xxhash.xxh3_64_intdigest(data)


def of_file(path: Path) -> str:
    """Return the checksum of a file's bytes."""
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return of_bytes(b"")
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return xxhash.xxh3_128_hexdigest(mapped)


def recorded(path: Path) -> FileRecord:
    """Return what a manifest says of a file that holds no examples."""
    return FileRecord(0, 0, of_file(path))
