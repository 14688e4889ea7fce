"""Checksums of files: XXH3 with 128 bits, which reads faster than a disk and finds every accidental change."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import xxhash


@dataclass(frozen=True)
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


def of_bytes(data: bytes) -> str:
    """Return the checksum of bytes."""
    return xxhash.xxh3_128_hexdigest(data)


def short(data: bytes) -> int:
    """Return a hash of 64 bits, which tells apart what is in memory; files have `of_bytes`."""
    return xxhash.xxh3_64_intdigest(data)


def of_file(path: Path) -> str:
    """Return the checksum of a file's bytes."""
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return of_bytes(b"")
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return xxhash.xxh3_128_hexdigest(mapped)
