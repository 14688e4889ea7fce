"""What tokenises chunks: a job that is plain data, and the worker that does it chunk by chunk.

An engine (`engines`) maps the worker over the numbers of chunks, in this process or in others; several drivers may do
so at the same time. A chunk belongs to whoever holds its lock, which goes with the process. What is made of it is a
folder that appears whole: tokens, the digest of each example, rows that were left out, and, in its manifest, counts.
`data.chunk_merge` makes the shards from these folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tokensieve.data.bad_rows import BadRows
from tokensieve.data.chunks import Chunk, ChunkReader
from tokensieve.data.counts import Tally
from tokensieve.data.encode import encode_rows
from tokensieve.data.garbage import rare_collections
from tokensieve.data.mark_columns import ChunkMarks, marks_as_bytes
from tokensieve.data.readers.items import OnError
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row, Stamp, check_same_stamps, stamps_of
from tokensieve.data.tokenize import Encoded, Encoder
from tokensieve.engines import Done, OnTokens
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.places import told
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked_if_free
from tokensieve.store.checksum import FileRecord, of_file
from tokensieve.store.manifest import Manifest, has_manifest, is_complete, open_manifest, write_manifest
from tokensieve.store.shards import write_shard

EXAMPLES, DIGESTS = "examples.arrow", "digests"


@dataclass(frozen=True)
class Fault:
    """Why a chunk cannot be used: a `TokensieveError` as plain data, which travels between processes."""

    what: str
    where: str
    hint: str

    @classmethod
    def of(cls, error: TokensieveError) -> Fault:
        """Return an error as plain data."""
        return cls(error.what, error.where, error.hint)

    def error(self) -> TokensieveError:
        """Return the error."""
        return TokensieveError(self.what, where=self.where, hint=self.hint)


@dataclass(frozen=True)
class Job:
    """What a worker is to tokenise: plain data, so that a worker can be made from it in any process.

    Attributes:
        settings: how rows are read, and how long an example may be.
        encoder: tokenizer and template.
        chunks: the rows.
        folder: gets a folder for each chunk.
        target: the folder of the examples, for which all of this is done.
        stamps: of the local files when the data got its fingerprint.
        versions: of the libraries.
    """

    settings: DataSettings
    encoder: Encoder
    chunks: tuple[Chunk, ...]
    folder: Path
    target: Path
    stamps: Mapping[Path, Stamp]
    versions: Mapping[str, str]

    def path(self, number: int) -> Path:
        """Return the folder of a chunk."""
        return self.folder / f"chunk-{number:05d}"

    def done(self, number: int) -> Manifest | None:
        """Return the manifest of a chunk; None where it is not done, or by other versions of the libraries."""
        try:
            manifest = open_manifest(self.path(number)) if has_manifest(self.path(number)) else None
        except TokensieveError:  # of another layout; made again
            return None
        return manifest if manifest is not None and manifest.about["versions"] == dict(self.versions) else None


class Worker:
    """Tokenises chunks.

    Args:
        job: what to tokenise.

    Raises:
        TokensieveError: libraries of other versions than the job's.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def __enter__(self) -> Self:
        fingerprint.check_same(
            dict(self._job.versions),
            fingerprint.versions(),
            where=str(self._job.target),
            hint="install the same versions wherever data is tokenised",
        )
        self._reader = ChunkReader(self._job.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        """Tokenise a chunk, where nobody else does or has; ``on_tokens`` is told of its source rows.

        Returns:
            The number of its rows; the value is True for a chunk that was done here, a `Fault` for one that cannot be
            used, and None for one that others do or did.
        """
        job = self._job
        with locked_if_free(job.path(shard)) as free:
            if not free or job.done(shard) is not None or is_complete(job.target):
                return Done(shard, 0, {})
            try:
                with atomic_folder(job.path(shard)) as partial:
                    rows = self._write(job.chunks[shard], partial, on_tokens)
            except TokensieveError as error:
                return Done(shard, 0, {}, Fault.of(error))
            return Done(shard, rows, {}, True)

    @rare_collections()
    def _write(self, chunk: Chunk, folder: Path, on_rows: OnTokens) -> int:
        job, made = self._job, _Made(self._job)
        files = dict.fromkeys((told(piece.path) for piece in chunk if piece.path is not None), 0)

        def read(_: DataSettings, on_error: OnError) -> Iterator[Row]:
            for row in self._reader.rows(chunk, on_error):
                files[row.source] = files.get(row.source, 0) + 1
                yield row

        with BadRows(job.settings, folder) as bad_rows:
            for batch, rows in encode_rows(job.settings, job.encoder, bad_rows, read):
                made.tally.counts.rows += rows
                made.add(batch)
                on_rows(rows)
        made.tally.counts.bad_rows = bad_rows.count
        written = made.write(folder) | bad_rows.files()
        first = Fault.of(bad_rows.first) if bad_rows.first is not None else None
        # What was read of a file that changed is not what the fingerprint of the data says.
        of_datasets = any(piece.path is None for piece in chunk)
        before = {path: stamp for path, stamp in job.stamps.items() if of_datasets or told(path) in files}
        check_same_stamps(before, stamps_of(before))
        about = {"versions": dict(job.versions), "first_bad": first and asdict(first), "rows_read": files}
        write_manifest(folder, written, {**about, **made.about()})
        return made.tally.counts.rows


class _Made:
    """What is made of a chunk."""

    def __init__(self, job: Job) -> None:
        self.tally = Tally(job.settings, job.encoder)
        self._marks = ChunkMarks()
        self._sources: dict[str, int] = {}
        self._kept: list[tuple[int, int, Encoded, NDArray[np.int32] | None]] = []
        self._digests = bytearray()

    def add(self, batch: list[tuple[Row, Encoded]]) -> None:
        """Truncate and count rows, and keep those where there is anything to train on."""
        for (row, _), kept in zip(batch, self.tally.add(batch), strict=True):
            if kept is None:
                continue
            named = row.data.get("source")
            source = named if isinstance(named, str) and named else row.source
            number = self._sources.setdefault(source, len(self._sources))
            self._kept.append((row.number, number, kept, self._marks.column(row, kept)))
            self._digests += digest(kept)

    def about(self) -> dict[str, Any]:
        """Return what the manifest is to say."""
        return {
            "counts": asdict(self.tally.counts),
            "lengths": sorted(self.tally.lengths.items()),
            "sources": list(self._sources),
            "mark_types": self._marks.types,
        }

    def write(self, folder: Path) -> dict[str, FileRecord]:
        """Write the examples and their digests; nothing where there are none."""
        if not self._kept:
            return {}
        cu_seqlens = offsets([len(one.input_ids) for _, _, one, _ in self._kept])
        columns: dict[str, NDArray[Any]] = {
            "input_ids": np.concatenate([one.input_ids for _, _, one, _ in self._kept]),
            "labels": np.concatenate([one.labels for _, _, one, _ in self._kept]),
        }
        if self._marks.types:
            blank = np.zeros(int(np.diff(cu_seqlens).max()), dtype=np.int32)
            columns["marks"] = np.concatenate(
                [blank[: len(one.input_ids)] if marks is None else marks for *_, one, marks in self._kept]
            )
        rows = {
            "row": np.array([row for row, *_ in self._kept], dtype=np.int64),
            "source": np.array([source for _, source, *_ in self._kept], dtype=np.int32),
            "hash": self.tally.hashed.hashes,
        }
        examples = write_shard(folder / EXAMPLES, cu_seqlens, columns, rows)
        (folder / DIGESTS).write_bytes(self._digests)
        return {EXAMPLES: examples, DIGESTS: FileRecord(examples.rows, 0, of_file(folder / DIGESTS))}


def digest(encoded: Encoded) -> bytes:
    """Return the SHA-256 of an example: its length, token ids, labels and marks."""
    length = len(encoded.input_ids).to_bytes(8, "little")
    ids, labels = encoded.input_ids.tobytes(), encoded.labels.tobytes()
    return hashlib.sha256(b"".join([length, ids, labels, marks_as_bytes(encoded)])).digest()
