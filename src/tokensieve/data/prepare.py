"""Rows to tokenised examples on disk, once for each combination of data, tokenizer and settings.

This is the driver: it cuts the rows into chunks (`data.chunks`), has an engine map workers over them
(`data.chunk_worker`), and makes the shards from what they leave (`data.chunk_merge`). Several drivers may do so at the
same time: each takes chunks that nobody holds, and whoever gets the lock of the folder first makes the shards.

The folder of the chunks has a name that begins with a dot. So, where the store is one of objects, chunks stay on the
machine that made them (`store.mirror`): each machine tokenises by itself, without the workers of other machines, and
one puts the shards.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tokensieve.data.chunk_merge import merge
from tokensieve.data.chunk_room import NoRoomError, check_room
from tokensieve.data.chunk_worker import Fault, Job, Worker
from tokensieve.data.chunks import cut
from tokensieve.data.example_store import TOKENIZER, ExampleStore, open_examples
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import check_unchanged, source_fingerprint, source_stamps
from tokensieve.data.tokenize import Encoder, tokenizer_fingerprint
from tokensieve.engines import Engine, OnTokens
from tokensieve.engines.local import LOCAL
from tokensieve.errors import TokensieveError
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked, locked_if_free
from tokensieve.store.checksum import recorded
from tokensieve.store.manifest import check_store, is_complete, write_manifest
from tokensieve.store.mirror import is_mirrored

SHARD_TOKENS = 2**20
"""Tokens after which a shard is closed: small enough to lose little on a kill, large enough to sort by length."""
CHUNK_ROWS = 8192
"""Source rows that are tokenised together: what a kill loses. The result does not depend on it."""
_LAYOUT = 7
_PAUSE = 0.2
"""Seconds between looks at chunks that others hold."""


def prepare(
    settings: DataSettings, encoder: Encoder, store: Path, on_rows: OnTokens, engine: Engine | None = None
) -> ExampleStore:
    """Tokenise the data into ``store/examples``, or open what an earlier call prepared.

    Args:
        settings: which rows, and how long an example may be.
        encoder: tokenizer and template.
        store: folder shared by runs, and by processes that do the same at the same time.
        on_rows: told the number of source rows after each batch, also of those that others tokenised.
        engine: maps workers over chunks of rows; in this process where None, or where the store is one of objects.

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
        "max_row_bytes": settings.max_row_bytes,
        "answers": settings.answers,
    }
    folder = store / "examples" / fingerprint.of_value(identity)[:16]
    chunks = folder.with_name(f".{folder.name}.{CHUNK_ROWS}.chunks")
    if engine is None or is_mirrored(folder):  # no other machine sees chunks of a store of objects
        engine = LOCAL
    with locked(folder):  # what a store of objects has is then here
        complete = is_complete(folder)
    if not complete:
        rows = cut(settings, CHUNK_ROWS)
        job = Job(settings, encoder, rows.chunks, chunks, folder, stamps, fingerprint.versions())
        with _chunks_of_bad_data_are_removed(job):
            if error := _tokenise(job, engine, on_rows) or rows.error:
                raise error
        while not _finish(job, identity):
            _tokenise(job, engine, lambda _: None)
    shutil.rmtree(chunks, ignore_errors=True)
    return open_examples(folder)


def _tokenise(job: Job, engine: Engine, on_rows: OnTokens) -> TokensieveError | None:
    """Have every chunk tokenised, here or by others; return the first error, in the order of the rows.

    Raises:
        NoRoomError: the disk cannot hold them.
    """
    left, faults = set(range(len(job.chunks))), dict[int, Fault]()
    first_round, checked = True, False
    while left and not is_complete(job.target):
        for number in sorted(left - faults.keys()):
            if (manifest := job.done(number)) is not None:
                on_rows(manifest.about["counts"]["rows"])
                left.discard(number)
        if faults and min(left) in faults:
            return faults[min(left)].error()
        todo = [number for number in sorted(left) if not faults or number < min(faults)]
        if not first_round and not (todo := [number for number in todo if _is_free(job.path(number))]):
            time.sleep(_PAUSE)
        first_round = False
        make = partial(Worker, job)
        for done in engine.map(make, todo, on_rows, holds_model=False, one_at_a_time=True) if todo else ():
            if isinstance(done.value, Fault):
                faults[done.shard] = done.value
            elif done.value:
                left.discard(done.shard)
                if not checked:
                    check_room(job, [done.shard])
                    checked = True
            if faults and min(left) in faults:
                return faults[min(left)].error()
    return None


def _is_free(path: Path) -> bool:
    with locked_if_free(path) as free:
        return free


@contextmanager
def _chunks_of_bad_data_are_removed(job: Job) -> Iterator[None]:
    """Remove what was tokenised where the block finds that the data cannot be used, or has changed.

    Where the disk is full it stays, and the same command goes on.
    """
    try:
        yield
    except NoRoomError:
        raise
    except TokensieveError:
        shutil.rmtree(job.folder, ignore_errors=True)
        check_unchanged(job.settings, job.stamps)  # which would explain whatever was found
        raise


def _finish(job: Job, identity: dict[str, Any]) -> bool:
    """Make the shards, where no other process has; return whether they are there: else a chunk is lacking.

    Raises:
        TokensieveError: data that cannot be used, or that changed since it got its fingerprint.
    """
    with locked(job.target):
        if is_complete(job.target):
            return True
        if any(job.done(number) is None for number in range(len(job.chunks))):
            return False
        check_room(job, range(len(job.chunks)))
        with atomic_folder(job.target) as folder:
            with _chunks_of_bad_data_are_removed(job):
                merged = merge(job, folder, SHARD_TOKENS)
                check_unchanged(job.settings, job.stamps)
            job.encoder.tokenizer.save_pretrained(folder / TOKENIZER)
            files = dict(merged.files)
            for path in sorted((folder / TOKENIZER).iterdir()):
                files[f"{TOKENIZER}/{path.name}"] = recorded(path)
            about = {
                "identity": identity,
                "fingerprint": merged.fingerprint,
                "counts": asdict(merged.counts),
                "turn_end_ids": list(job.encoder.turn_end_ids),
                "sources": merged.sources,
                "mark_types": merged.mark_types,
                "settings": asdict(job.settings),
                "versions": dict(job.versions),
            }
            write_manifest(folder, files, about)
    return True
