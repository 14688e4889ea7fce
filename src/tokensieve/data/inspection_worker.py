"""What `tokensieve inspect` finds in some of the rows, and in several such parts together.

An engine (`engines`) maps the worker over chunks of rows. What it finds is plain data, which travels between processes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np

from tokensieve.containers import IGNORE_INDEX
from tokensieve.data.chunk_worker import Fault
from tokensieve.data.chunks import Chunk, ChunkReader
from tokensieve.data.counts import Counts, Tally, add_counts
from tokensieve.data.encode import ReadRows, encode_rows
from tokensieve.data.garbage import rare_collections
from tokensieve.data.readers.items import BadRowError, OnError
from tokensieve.data.repeats import HashedExamples
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row
from tokensieve.data.tokenize import Encoded, Encoder, truncate
from tokensieve.engines import Done, OnTokens
from tokensieve.errors import TokensieveError

_PLACES = 5
_KINDS = 20
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


@dataclass(frozen=True)
class Problem:
    """A fault of the data, once for all rows that have it.

    Attributes:
        level: an ``error`` stops a run, a ``warning`` does not, such as a row that `data.bad_rows: skip` leaves out.
        message: what is wrong; in the first of the rows where they differ in a number or a name.
        where: the first places, and how many more there are.
        hint: what the user can do.
        count: rows that have it; 1 where it concerns the data as a whole.
    """

    level: Literal["error", "warning"]
    message: str
    where: str = ""
    hint: str = ""
    count: int = 1


@dataclass(frozen=True)
class Preview:
    """One example as it would be trained on, after truncation.

    Attributes:
        row: number of the source row.
        where: its file and line.
        token_ids: ids of its tokens.
        trainable: for each token whether it is trained on.
        marks: for each token 0, or 1 where it is marked; empty where none is.
    """

    row: int
    where: str
    token_ids: list[int]
    trainable: list[bool]
    marks: list[int] = field(default_factory=list)


@dataclass
class _Kind:
    """Errors that differ in no more than numbers and quoted names."""

    first: Fault
    level: Literal["error", "warning"]
    places: list[str]
    count: int

    def join(self, other: _Kind) -> None:
        self.places = (self.places + other.places)[:_PLACES]
        self.count += other.count


@dataclass
class Errors:
    """Errors by kind, with the first places of each.

    Attributes:
        skip: whether rows that cannot be used are left out, so that they are warnings.
        count: errors in all.
        first: the first of them.
        stops: whether one of them would stop a run.
    """

    skip: bool
    count: int = 0
    first: Fault | None = None
    stops: bool = False
    _kinds: dict[str, _Kind] = field(default_factory=dict)

    def add(self, error: TokensieveError) -> None:
        """Add an error."""
        fault = Fault.of(error)
        level = "warning" if self.skip and isinstance(error, BadRowError) else "error"
        self._count(fault, 1, level == "error")
        self._put(_VARIABLE.sub("", error.what), _Kind(fault, level, [error.where] if error.where else [], 1))

    def catch(self, check: Callable[[], object]) -> None:
        """Run a check and add the error that it raises."""
        try:
            check()
        except TokensieveError as error:
            self.add(error)

    def join(self, later: Errors) -> None:
        """Add the errors of later rows."""
        self._count(later.first, later.count, later.stops)
        for name, kind in later._kinds.items():
            self._put(name, kind)

    def problems(self) -> list[Problem]:
        """Return one problem a kind."""
        return [
            Problem(
                kind.level,
                kind.first.what,
                ", ".join(kind.places) + (f" and {more:,} more" if (more := kind.count - len(kind.places)) > 0 else ""),
                kind.first.hint,
                kind.count,
            )
            for kind in self._kinds.values()
        ]

    def _count(self, first: Fault | None, count: int, stops: bool) -> None:
        self.first = self.first or first
        self.count += count
        self.stops |= stops

    def _put(self, name: str, kind: _Kind) -> None:
        if name not in self._kinds and len(self._kinds) >= _KINDS:
            name = ""  # no message is empty: what does not fit in goes here
            kind = replace(kind, first=Fault("further errors of other kinds", kind.first.where, ""))
        if name in self._kinds:
            self._kinds[name].join(kind)
        else:
            self._kinds[name] = kind


@dataclass
class Part:
    """What is found in rows that follow each other.

    Attributes:
        counts: what would become of them.
        lengths: number of examples by their tokens.
        hashed: the examples; their rows count from the first row of the part.
        encoded: rows that can be tokenised.
        errors: of those that cannot be used.
        previews: the first examples.
    """

    counts: Counts
    lengths: Counter[int]
    hashed: HashedExamples
    encoded: int
    errors: Errors
    previews: list[Preview]


def joined(parts: Sequence[Part]) -> Part:
    """Return what parts that follow each other are together.

    Args:
        parts: in the order of their rows, at least one.
    """
    firsts = np.cumsum([0, *(part.counts.rows for part in parts)]).tolist()
    whole = Part(Counts(), Counter(), parts[0].hashed, 0, Errors(parts[0].errors.skip), [])
    for first, part in zip(firsts, parts, strict=False):
        add_counts(whole.counts, part.counts)
        whole.lengths.update(part.lengths)
        whole.encoded += part.encoded
        whole.errors.join(part.errors)
        whole.previews += [replace(one, row=first + one.row) for one in part.previews]
    whole.hashed = HashedExamples(
        parts[0].hashed.settings,
        np.concatenate([part.hashed.hashes for part in parts]),
        np.concatenate([first + part.hashed.rows for first, part in zip(firsts, parts, strict=False)]),
    )
    return whole


@rare_collections()
def look(settings: DataSettings, encoder: Encoder, examples: int, read: ReadRows, on_rows: OnTokens) -> Part:
    """Tokenise rows and collect what is to be said of them.

    Args:
        settings: which rows, and how long an example may be.
        encoder: tokenizer and template.
        examples: number of previews at most.
        read: gives the rows.
        on_rows: told the number of rows after each batch.
    """
    errors, tally = Errors(settings.bad_rows == "skip"), Tally(settings, encoder)
    encoded, previews = 0, list[Preview]()
    for batch, rows in encode_rows(settings, encoder, errors.add, read):
        tally.counts.rows += rows
        encoded += len(batch)
        tally.add(batch)
        previews += [_preview(row, truncate(one, settings)) for row, one in batch[: examples - len(previews)]]
        on_rows(rows)
    return Part(tally.counts, tally.lengths, tally.hashed, encoded, errors, previews)


@dataclass
class Worker:
    """Looks at chunks; see `look`."""

    settings: DataSettings
    encoder: Encoder
    examples: int
    chunks: tuple[Chunk, ...]

    def __enter__(self) -> Self:
        self._reader = ChunkReader(self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        """Look at a chunk, and tell ``on_tokens`` of its rows; the value is a `Part`."""

        def read(_: DataSettings, on_error: OnError) -> Iterator[Row]:
            return self._reader.rows(self.chunks[shard], on_error)

        part = look(self.settings, self.encoder, self.examples, read, on_tokens)
        return Done(shard, part.counts.rows, {}, part)


def _preview(row: Row, encoded: Encoded) -> Preview:
    trainable = (encoded.labels != IGNORE_INDEX).tolist()
    marks = [] if encoded.marks is None else (encoded.marks > 0).astype(int).tolist()
    return Preview(row.number, row.where, encoded.input_ids.tolist(), trainable, marks)
