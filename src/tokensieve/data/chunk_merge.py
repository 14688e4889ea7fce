"""From chunks that are tokenised to the shards of a data set, in the order of its rows.

One process does this, chunk after chunk; memory holds a shard, a chunk, and 16 bytes of each example, about 40 while
repeated ones are looked for.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.data.bad_rows import BAD_ROWS, check_usable
from tokensieve.data.chunk_worker import DIGESTS, EXAMPLES, Fault, Job
from tokensieve.data.chunks import ChunkReader
from tokensieve.data.counts import Counts, add_counts, finish_counts
from tokensieve.data.example_store import HASHES, MARKS
from tokensieve.data.mark_columns import MarkTypes
from tokensieve.data.readers.items import no_rows
from tokensieve.data.repeats import UInt64, first_places, repeats
from tokensieve.ops.ragged import offsets
from tokensieve.store import checksum
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import Manifest, open_manifest
from tokensieve.store.shards import shard_name, write_shard

_MOST_SOURCES = 256
_OTHER = "other sources"


@dataclass
class Merged:
    """What the chunks are together.

    Attributes:
        counts: what became of the rows.
        fingerprint: SHA-256 of the digests of all examples, in order.
        files: what was written.
        sources: names of where examples came from.
        mark_types: types of marks, in the order of their numbers from 1.
    """

    counts: Counts
    fingerprint: str
    files: dict[str, FileRecord]
    sources: list[str]
    mark_types: list[str]


def merge(job: Job, folder: Path, shard_tokens: int) -> Merged:
    """Write the shards, hashes and bad rows of a data set.

    Args:
        job: whose chunks are all done.
        folder: gets the files.
        shard_tokens: tokens after which a shard is closed.

    Raises:
        TokensieveError: no row has anything to train on, or can be used; marks of too many types.
    """
    digest, marks, sources = hashlib.sha256(), MarkTypes(), _Sources()
    counts, lengths, files_read = Counts(), Counter[int](), Counter[str]()
    shards, first_bad = _Shards(folder, shard_tokens), None
    hashes: list[UInt64] = []
    rows: list[Int64] = []
    firsts = [0]
    for number in range(len(job.chunks)):
        manifest = open_manifest(job.path(number))
        about = manifest.about
        source_numbers, mark_numbers = sources.add(about["sources"]), marks.add(about["mark_types"])
        if EXAMPLES in manifest.files:
            part = _read(manifest, firsts[-1], source_numbers, mark_numbers)
            hashes.append(part.scalars.pop("hash"))
            rows.append(part.scalars["row"])
            shards.add(part)
            digest.update(manifest.path(DIGESTS).read_bytes())
        if BAD_ROWS in manifest.files:
            with (folder / BAD_ROWS).open("ab") as file, manifest.path(BAD_ROWS).open("rb") as found:
                shutil.copyfileobj(found, file)
        first_bad = first_bad or about["first_bad"]
        files_read.update(about["rows_read"])
        lengths.update(dict(about["lengths"]))
        add_counts(counts, Counts(**about["counts"]))
        firsts.append(counts.rows)
    for path, count in files_read.items():
        if not count:
            raise no_rows(path)
    if first_bad is not None:
        check_usable(counts.examples, counts.bad_rows, Fault(**first_bad).error())
    finish_counts(counts, lengths, job.settings)
    all_hashes, all_rows = _joined(hashes), _joined(rows)
    if len(repeated := repeats(all_hashes)):
        counts.repeated_examples = len(repeated)
        counts.repeated_rows = first_places(places_of_rows(job, np.array(firsts), all_rows[repeated]), len(repeated))
    shards.close()
    files = dict(shards.files)
    files[HASHES] = write_shard(folder / HASHES, offsets([len(all_rows)]), {"hash": all_hashes, "row": all_rows})
    if counts.bad_rows:
        files[BAD_ROWS] = FileRecord(counts.bad_rows, 0, checksum.of_file(folder / BAD_ROWS))
    return Merged(counts, digest.hexdigest(), files, list(sources.names), list(marks.names))


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays as one, and let go of them."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def places_of_rows(job: Job, firsts: Int64, rows: Int64) -> Iterator[str]:
    """Yield file and line of rows, each from its chunk.

    Args:
        job: how chunks are read.
        firsts: int64 ``[chunks + 1]``, number of the first row of each chunk, and of all rows.
        rows: int64 ``[n]``, their numbers.
    """
    for row in rows.tolist():
        number = int(np.searchsorted(firsts, row, side="right")) - 1
        reader = ChunkReader(job.settings)
        yield next(islice(reader.rows(job.chunks[number], lambda _: None), row - int(firsts[number]), None)).where
        reader.close()


@dataclass(frozen=True)
class _Part:
    """Examples: offsets int64 ``[examples + 1]``, columns ``[tokens]`` and columns ``[examples]``."""

    cu_seqlens: Int64
    columns: Mapping[str, NDArray[Any]]
    scalars: dict[str, NDArray[Any]]

    def cut(self, start: int, stop: int) -> _Part:
        """Return some of the examples."""
        cu_seqlens = self.cu_seqlens[start : stop + 1]
        tokens = slice(cu_seqlens[0], cu_seqlens[-1])
        columns = {name: values[tokens] for name, values in self.columns.items()}
        return _Part(cu_seqlens, columns, {name: values[start:stop] for name, values in self.scalars.items()})


def _read(manifest: Manifest, first_row: int, sources: NDArray[np.int32], marks: NDArray[np.uint8]) -> _Part:
    """Read a chunk, with the numbers of rows, sources and types of marks of the whole data set."""
    cu_seqlens, found = manifest.read(EXAMPLES)
    columns = {name: found[name] for name in ("input_ids", "labels")}
    columns[MARKS] = marks[found["marks"]] if "marks" in found else np.zeros(len(found["labels"]), dtype=np.uint8)
    scalars = {"row": found["row"] + first_row, "source": sources[found["source"]], "hash": found["hash"]}
    return _Part(cu_seqlens, columns, scalars)


@dataclass
class _Shards:
    """Cuts examples into shards.

    Attributes:
        files: what was written.
    """

    folder: Path
    tokens: int
    files: dict[str, FileRecord] = field(default_factory=dict)
    _pending: list[_Part] = field(default_factory=list)
    _held: int = 0

    def add(self, part: _Part) -> None:
        """Take examples; a shard is closed after the example with which it has enough tokens."""
        start, count = 0, len(part.cu_seqlens) - 1
        while start < count:
            wanted = part.cu_seqlens[start] + self.tokens - self._held
            stop = min(int(np.searchsorted(part.cu_seqlens, wanted)), count)
            self._pending.append(part.cut(start, stop))
            self._held += int(part.cu_seqlens[stop] - part.cu_seqlens[start])
            if self._held >= self.tokens:
                self.close()
            start = stop

    def close(self) -> None:
        """Write the examples that are not in a shard yet."""
        if not self._pending:
            return
        joined = {
            name: np.concatenate([part.columns[name] for part in self._pending]) for name in self._pending[0].columns
        }
        scalars = {name: np.concatenate([part.scalars[name] for part in self._pending]) for name in ("row", "source")}
        if not joined[MARKS].any():
            del joined[MARKS]
        cu_seqlens = offsets(np.concatenate([np.diff(part.cu_seqlens) for part in self._pending]))
        name = shard_name(len(self.files))
        self.files[name] = write_shard(self.folder / name, cu_seqlens, joined, scalars)
        self._pending, self._held = [], 0


class _Sources:
    """Numbers sources by first appearance.

    Attributes:
        names: number by name.
    """

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def add(self, names: list[str]) -> NDArray[np.int32]:
        """Return int32 ``[sources]``, the numbers of the sources of a chunk."""
        return np.array([self._number(name) for name in names], dtype=np.int32)

    def _number(self, name: str) -> int:
        # A field that is different in every row, such as a URL, is no grouping.
        known = name in self.names or len(self.names) < _MOST_SOURCES
        return self.names.setdefault(name if known else _OTHER, len(self.names))
