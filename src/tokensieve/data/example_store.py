"""Tokenised examples on disk."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tokensieve.containers import Examples, Int64, Statistics, UInt8
from tokensieve.data.bad_rows import BAD_ROWS
from tokensieve.data.counts import Counts
from tokensieve.data.repeats import HashedExamples, UInt64
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import turn_end_mask
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.store import fingerprint
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import open_manifest
from tokensieve.store.shards import AGAIN, shard_name

HASHES = "hashes.arrow"
"""The file with the hash and the source row of each example."""
TOKENIZER = "tokenizer"
"""The folder of the tokenizer."""
MARKS = "marks"
"""The column of a shard that has marked tokens."""


@dataclass(frozen=True)
class ExampleStore:
    """Tokenised examples on disk.

    Attributes:
        folder: holds ``manifest.json``, the shards and the tokenizer.
        fingerprint: SHA-256 of the SHA-256 of each example, which covers its length, token ids, labels and marks.
        counts: what became of the source rows.
        turn_end_ids: ids that end an assistant turn.
        shards: how many shard files there are.
        sources: names of where examples came from; empty in a store that was written without them.
        mark_types: types of the marks of tokens, in the order of their numbers from 1; empty where nothing is marked.
    """

    folder: Path
    fingerprint: str
    counts: Counts
    turn_end_ids: tuple[int, ...]
    shards: int
    sources: tuple[str, ...] = ()
    mark_types: tuple[str, ...] = ()

    @property
    def bad_rows_file(self) -> Path | None:
        """The rows that were left out, each with its reason; None where there is none."""
        return self.folder / BAD_ROWS if self.counts.bad_rows else None

    def warnings(self) -> list[str]:
        """Return what a user should know before training on these examples."""
        if self.bad_rows_file is None:
            return self.counts.warnings()
        left_out = (
            f"{self.counts.bad_rows:,} rows cannot be used and were left out: {self.bad_rows_file} has the reasons"
        )
        return [left_out, *self.counts.warnings()]

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer, whose files are verified.

        Raises:
            TokensieveError: a file of it is missing or damaged.
        """
        open_manifest(self.folder).verified(TOKENIZER)
        return self.folder / TOKENIZER

    @property
    def hashes(self) -> UInt64:
        """uint64 ``[examples]``, the hash of each example's token ids."""
        return open_manifest(self.folder).column(HASHES, "hash")

    def hashed(self, settings: DataSettings) -> HashedExamples:
        """Read what finds examples again; the settings say where their rows are."""
        return HashedExamples(settings, self.hashes, open_manifest(self.folder).column(HASHES, "row"))

    def read(self, number: int) -> Examples:
        """Read one shard."""
        cu_seqlens, columns = open_manifest(self.folder).read(shard_name(number))
        return Examples(columns["input_ids"], columns["labels"], cu_seqlens, columns["row"], columns.get(MARKS))

    def marks(self, number: int) -> UInt8:
        """Read the marks of a shard: uint8 ``[tokens]``, 0 where none is, else the number from 1 in `mark_types`."""
        examples = self.read(number)
        return np.zeros(len(examples.labels), dtype=np.uint8) if examples.marks is None else examples.marks

    def source_numbers(self, number: int) -> NDArray[np.int32]:
        """Read the place in `sources` of each example of a shard: int32 ``[examples]``."""
        columns = open_manifest(self.folder).read(shard_name(number))[1]
        return columns["source"] if self.sources else np.zeros(len(columns["row"]), dtype=np.int32)

    def __iter__(self) -> Iterator[Examples]:
        return (self.read(number) for number in range(self.shards))

    @cached_property
    def starts(self) -> Int64:
        """int64 ``[shards + 1]``, number of the first token of each shard, and of all tokens."""
        return offsets(np.fromiter((record.tokens for record in self._records), np.int64, self.shards))

    @cached_property
    def first_examples(self) -> Int64:
        """int64 ``[shards + 1]``, number of the first example of each shard, and of all examples."""
        return offsets(np.fromiter((record.rows for record in self._records), np.int64, self.shards))

    @property
    def cut(self) -> str:
        """Fingerprint of where the examples are cut into shards, which `fingerprint` does not depend on."""
        return fingerprint.of_numbers(self.starts)

    @property
    def _records(self) -> Iterator[FileRecord]:
        files = open_manifest(self.folder).files
        return (files[shard_name(number)] for number in range(self.shards))

    def statistics(self, examples: Examples, values: dict[tuple[str, str], Any], first_token: int) -> Statistics:
        """Join a shard's labels with its figures."""
        turn_end = turn_end_mask(examples.input_ids, examples.labels, examples.cu_seqlens, self.turn_end_ids)
        marks = examples.marks
        if marks is None and self.mark_types:
            marks = np.zeros(len(examples.labels), dtype=np.uint8)
        return Statistics(examples.cu_seqlens, examples.labels, values, turn_end, first_token, marks, self.mark_types)


def open_examples(folder: Path) -> ExampleStore:
    """Open tokenised examples.

    Raises:
        TokensieveError: nothing was prepared in this folder, or by a version that wrote other files, or its manifest
            does not describe examples.
    """
    manifest = open_manifest(folder)
    shards = sum(name.startswith("shard-") for name in manifest.files)
    try:
        store = _types().validate_python({**manifest.about, "folder": folder, "shards": shards})
    except ValidationError as error:
        first = error.errors()[0]
        raise _no_examples(folder, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if not manifest.files.keys() >= {shard_name(number) for number in range(shards)}:
        raise _no_examples(folder, "shards are not numbered from 0")
    return store


@functools.cache
def _types() -> TypeAdapter[ExampleStore]:
    return TypeAdapter(ExampleStore)


def _no_examples(folder: Path, why: str) -> TokensieveError:
    return TokensieveError(
        f"the manifest of this folder does not describe examples: {why}",
        where=str(folder),
        hint=f"delete the folder and {AGAIN}: it is made again",
    )
