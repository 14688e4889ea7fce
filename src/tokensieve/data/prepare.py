"""Rows to tokenised examples on disk, once for each combination of data, tokenizer and settings."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.data.answers import corrected_answers
from tokensieve.data.bad_rows import BadRows
from tokensieve.data.counts import Counts, Tally
from tokensieve.data.example_store import HASHES, MARKS, ExampleStore, open_examples
from tokensieve.data.file_readers import OnError
from tokensieve.data.formats import Converted, convert
from tokensieve.data.mark_columns import MarkColumns
from tokensieve.data.repeats import HashedExamples
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row, check_unchanged, read_rows, source_fingerprint, source_stamps
from tokensieve.data.tokenize import Encoded, Encoder
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import check_store, is_complete, write_manifest
from tokensieve.store.shards import shard_name, write_shard

SHARD_TOKENS = 2**20
"""Tokens after which a shard is closed: small enough to lose little on a kill, large enough to sort by length."""
_ROWS_AT_ONCE = 1000
_LAYOUT = 5
_MOST_SOURCES = 256
_OTHER = "other sources"


def prepare(settings: DataSettings, encoder: Encoder, store: Path, on_rows: Callable[[int], None]) -> ExampleStore:
    """Tokenise the data into ``store/examples``, or open what an earlier call prepared.

    Args:
        settings: which rows, and how long an example may be.
        encoder: tokenizer and template.
        store: folder shared by runs.
        on_rows: told the number of source rows after each batch.

    Raises:
        TokensieveError: the first row that cannot be used, data with nothing to train on, data that changes while it
            is read, or a store of another version.
    """
    check_store(store)
    stamps = source_stamps(settings)
    identity = {
        "layout": _LAYOUT,
        "shard_tokens": SHARD_TOKENS,
        "source": source_fingerprint(settings),
        "tokenizer": tokenizer_fingerprint(encoder),
        "turn_end_ids": list(encoder.turn_end_ids),
        "max_length": settings.max_length,
        "truncation": settings.truncation,
        "bad_rows": settings.bad_rows,
        "answers": settings.answers,
    }
    folder = store / "examples" / fingerprint.of_value(identity)[:16]
    with locked(folder):
        if is_complete(folder):
            return open_examples(folder)
        with atomic_folder(folder) as partial:
            counts, digest, files, sources, mark_types = _write(settings, encoder, partial, on_rows)
            check_unchanged(settings, stamps)
            encoder.tokenizer.save_pretrained(partial / "tokenizer")
            about = {
                "identity": identity,
                "fingerprint": digest,
                "counts": asdict(counts),
                "turn_end_ids": list(encoder.turn_end_ids),
                "sources": sources,
                "mark_types": mark_types,
                "settings": asdict(settings),
                "versions": fingerprint.versions(),
            }
            write_manifest(partial, files, about)
    return open_examples(folder)


def tokenizer_fingerprint(encoder: Encoder) -> str:
    """Return the fingerprint of what turns text into ids: vocabulary, merges, special tokens and template."""
    tokenizer = encoder.tokenizer
    return fingerprint.of_value([tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, encoder.template])


def encode_rows(
    settings: DataSettings, encoder: Encoder, on_error: OnError
) -> Iterator[tuple[list[tuple[Row, Encoded]], int]]:
    """Yield batches of encoded rows, and how many source rows each batch came from.

    Args:
        settings: which rows.
        encoder: tokenizer and template.
        on_error: called with the error of each row that cannot be used.
    """
    for batch, rows in converted_rows(settings, on_error):
        encoded: list[tuple[Row, Encoded]] = []
        for (row, _), result in zip(batch, encoder.encode([item for _, item in batch]), strict=True):
            if isinstance(result, TokensieveError):
                on_error(row.bad(result))
            else:
                encoded.append((row, result))
        yield encoded, rows


def converted_rows(settings: DataSettings, on_error: OnError) -> Iterator[tuple[list[tuple[Row, Converted]], int]]:
    """Yield batches of rows in one form, and how many source rows each batch came from.

    Args:
        settings: which rows.
        on_error: called with the error of each row that cannot be used.
    """
    iterator = read_rows(settings, on_error)
    while batch := list(itertools.islice(iterator, _ROWS_AT_ONCE)):
        usable: list[tuple[Row, Converted]] = []
        for row in batch:
            try:
                converted = convert(row.data, row.form, row.ignore)
                corrected = corrected_answers(converted) if settings.answers == "corrected" else None
                usable.append((row, corrected or converted))
            except TokensieveError as error:
                on_error(row.bad(error))
        yield usable, len(batch)


def hash_examples(settings: DataSettings, encoder: Encoder) -> HashedExamples:
    """Tokenise rows only to find them again, without those that cannot be used."""
    tally = Tally(settings, encoder)
    for batch, _ in encode_rows(settings, encoder, lambda _: None):
        for row, encoded in batch:
            tally.add(row, encoded)
    return tally.hashed


def raise_error(error: TokensieveError) -> None:
    """Stop at the first row that cannot be used."""
    raise error


def _write(
    settings: DataSettings, encoder: Encoder, folder: Path, on_rows: Callable[[int], None]
) -> tuple[Counts, str, dict[str, FileRecord], list[str], list[str]]:
    tally = Tally(settings, encoder)
    digests = [hashlib.sha256() for _ in range(3)]
    marks = MarkColumns()
    sources: dict[str, int] = {}
    files: dict[str, FileRecord] = {}
    pending: list[_Pending] = []
    tokens = 0

    def close() -> None:
        name = shard_name(len(files))
        files[name] = _write_shard(folder / name, pending, digests, marks)

    with BadRows(settings, folder) as bad_rows:
        for batch, rows in encode_rows(settings, encoder, bad_rows):
            tally.counts.rows += rows
            for row, encoded in batch:
                kept = tally.add(row, encoded)
                if kept is None:
                    continue
                marks.add(row, kept)
                pending.append(_Pending(row.number, _source_number(row, sources), kept))
                tokens += len(kept.input_ids)
                if tokens >= SHARD_TOKENS:
                    close()
                    pending, tokens = [], 0
            on_rows(rows)
    tally.counts.bad_rows = bad_rows.count
    bad_rows.check(tally.counts.examples)
    counts = tally.finish(settings.paths)
    if pending:
        close()
    files |= {HASHES: tally.write_hashes(folder / HASHES), **bad_rows.files()}
    found = [digest.hexdigest() for digest in digests] + marks.digests()
    return counts, fingerprint.of_value(found), files, list(sources), list(marks.types)


@dataclass(frozen=True)
class _Pending:
    """An example to be written: number of its source row, number of its source, and its tokens."""

    row: int
    source: int
    encoded: Encoded


def _source_number(row: Row, sources: dict[str, int]) -> int:
    """Return the number of a row's source: its `source` field where it has one, else the file; notes new ones."""
    named = row.data.get("source")
    name = named if isinstance(named, str) and named else row.source
    # A field that is different in every row, such as a URL, is no grouping.
    return sources.setdefault(name if name in sources or len(sources) < _MOST_SOURCES else _OTHER, len(sources))


def _write_shard(path: Path, pending: list[_Pending], digests: list[Any], marks: MarkColumns) -> FileRecord:
    """Write examples and feed the fingerprint; ids, labels and lengths apart, so that shard size does not matter."""
    cu_seqlens = offsets([len(one.encoded.input_ids) for one in pending])
    input_ids = np.concatenate([one.encoded.input_ids for one in pending])
    labels = np.concatenate([one.encoded.labels for one in pending])
    for digest, values in zip(digests, (input_ids, labels, np.diff(cu_seqlens)), strict=True):
        digest.update(np.ascontiguousarray(values).tobytes())
    rows = {
        "row": np.array([one.row for one in pending], dtype=np.int64),
        "source": np.array([one.source for one in pending], dtype=np.int32),
    }
    columns: dict[str, NDArray[Any]] = {"input_ids": input_ids, "labels": labels}
    if (marked := marks.of_shard([one.encoded for one in pending])) is not None:
        columns[MARKS] = marked
    return write_shard(path, cu_seqlens, columns, rows)
