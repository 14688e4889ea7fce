"""The room that tokenising takes on disk, by the chunks that are done, against what is free."""

from __future__ import annotations

import shutil
from collections.abc import Collection

from tokensieve.data.chunk_worker import Job
from tokensieve.errors import TokensieveError


class NoRoomError(TokensieveError):
    """A disk that is too small for what is left to do; what is done is kept."""


def check_room(job: Job, done: Collection[int]) -> None:
    """Refuse to go on where the disk cannot hold the other chunks, and the shards that are made while all are there.

    Chunks have the same number of rows, and a shard has the bytes of the chunks that it is made of.

    Args:
        job: what is tokenised.
        done: numbers of the chunks that are done; at least one.

    Raises:
        NoRoomError: less is free than they take.
    """
    try:
        written = sum(file.stat().st_size for number in done for file in job.path(number).iterdir())
    except FileNotFoundError:  # another process has made the shards, and has removed the chunks
        return
    chunks = len(job.chunks)
    need = written * (2 * chunks - len(done)) // len(done)
    if need > (free := shutil.disk_usage(job.folder).free):
        raise NoRoomError(
            f"tokenising needs about {need / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free: by {len(done):,} of "
            f"{chunks:,} parts",
            where=str(job.target.parent),
            hint="free some room, or give another `store`; the same command goes on with what is done",
        )
