"""The rows of a data set cut into chunks, each of which any process can read by itself.

A chunk is a number of items of the sources, in order and across files: what a file has for one row, be it one or not.
The cut takes one pass over the sources that parses no more than it must: lines are counted, and tables tell how many
rows they have. A worker begins in the middle of a table or of a file of lines. Where a file can only be read from its
beginning (compressed lines, CSV, one JSON array, lines in a store of objects), it passes over the items of others, once
for all its chunks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

from tokensieve.data.readers import file_items, line_starts, table_rows
from tokensieve.data.readers.items import BEGINNING, BadRowError, Item, OnError, Start, no_rows
from tokensieve.data.settings import DataSettings, FileSettings
from tokensieve.data.sources import Row, dataset_rows, parts_of, reported, row_of, teller
from tokensieve.errors import TokensieveError
from tokensieve.places import told


@dataclass(frozen=True)
class Piece:
    """Items of one file, or rows of one data set.

    Attributes:
        entry: number of its entry in `data.files`.
        path: of the file; None for a data set of `datasets`.
        start: where the first of them begins.
        items: how many there are.
    """

    entry: int
    path: Path | None
    start: Start
    items: int


Chunk = tuple[Piece, ...]


@dataclass(frozen=True)
class Cut:
    """The chunks of a data set.

    Attributes:
        chunks: what can be read, in order.
        error: what ends it before its end; None where all of it can be read.
    """

    chunks: tuple[Chunk, ...]
    error: TokensieveError | None = None


def cut(settings: DataSettings, size: int) -> Cut:
    """Cut the rows of every source into chunks.

    Args:
        settings: what to read.
        size: items of each chunk but the last.

    Raises:
        TokensieveError: no source given.
    """
    if not settings.files:
        raise TokensieveError("no data given", where="recipe: data.files", hint="data: {files: [train.jsonl]}")
    cutter = _Cutter(settings, size)
    try:
        cutter.run()
    except TokensieveError as error:
        return Cut(cutter.chunks(), error)
    return Cut(cutter.chunks())


class _Cutter:
    def __init__(self, settings: DataSettings, size: int) -> None:
        self._settings, self._size = settings, size
        self._done: list[Chunk] = []
        self._pieces: list[Piece] = []
        self._room = size

    def chunks(self) -> tuple[Chunk, ...]:
        return (*self._done, *([tuple(self._pieces)] if self._pieces else []))

    def run(self) -> None:
        left = self._settings.limit
        for number, entry in enumerate(self._settings.entries):
            limit = _least(left, entry.limit)
            for part in parts_of(entry):
                read = self._part(number, part, limit)
                limit = None if limit is None else limit - read
                left = None if left is None else left - read
                if limit == 0:
                    break
            if left == 0:
                break

    def _part(self, entry: int, part: Any, limit: int | None) -> int:
        """Add what a file or a data set has, and return how many rows that is where there is a limit, else 0."""
        if not isinstance(part, Path):
            return self._table(entry, None, len(part), limit)
        if (known := table_rows(part)) is not None:
            if not known:
                raise no_rows(part)
            return self._table(entry, part, known, limit)
        read = 0
        if limit is None and (found := line_starts(part, self._sizes(), self._settings.max_row_bytes)) is not None:
            for start, items in found:
                self._add(Piece(entry, part, start, items))
                read += items
        else:
            read = self._one_by_one(entry, part, limit)
        if not read:
            raise no_rows(part)
        return read

    def _table(self, entry: int, path: Path | None, known: int, limit: int | None) -> int:
        """Add what tells how many rows it has."""
        count, first = known if limit is None else min(limit, known), 0
        for size in self._sizes():
            if first == count:
                break
            items = min(size, count - first)
            self._add(Piece(entry, path, Start(first), items))
            first += items
        return count

    def _one_by_one(self, entry: int, path: Path, limit: int | None) -> int:
        """Add items of a file that has to be read; those that are no rows do not count where there is a limit."""
        first = items = read = 0
        try:
            for item in file_items(path, self._settings.max_row_bytes):
                items += 1
                read += limit is None or _is_row(item)
                if items == self._room:
                    self._add(Piece(entry, path, Start(first, first == 0), items))
                    first, items = first + items, 0
                if read == limit:
                    break
        finally:
            if items:
                self._add(Piece(entry, path, Start(first, first == 0), items))
        return read

    def _sizes(self) -> Iterator[int]:
        return chain([self._room], repeat(self._size))

    def _add(self, piece: Piece) -> None:
        if piece.items:
            self._pieces.append(piece)
            self._room -= piece.items
        if not self._room:
            self._done.append(tuple(self._pieces))
            self._pieces, self._room = [], self._size


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _is_row(item: Item) -> bool:
    try:
        item.row()
    except BadRowError:
        return False
    return True


class ChunkReader:
    """Reads chunks; what follows each other in one file is one pass over it.

    Args:
        settings: what to read.
    """

    def __init__(self, settings: DataSettings) -> None:
        self._entries, self._most = settings.entries, settings.max_row_bytes
        self._datasets: dict[int, Any] = {}
        self._path: Path | None = None
        self._items: Iterator[Item] = iter(())
        self._next = 0

    def close(self) -> None:
        """Let go of the file that is being read."""
        if isinstance(self._items, Generator):
            self._items.close()
        self._path, self._items = None, iter(())

    def rows(self, chunk: Chunk, on_error: OnError) -> Iterator[Row]:
        """Yield the rows of a chunk, numbered from 0.

        Args:
            chunk: which.
            on_error: called with the error of each item that is no row, and of what ends the reading of a file; raise
                in it to stop at the first.
        """
        number = 0
        for piece in chunk:
            entry = self._entries[piece.entry]
            source = entry.path if piece.path is None else told(piece.path)
            where_told = str if piece.path is None else teller(piece.path)
            rows = self._of_dataset(piece, entry) if piece.path is None else self._of_file(piece, on_error)
            for where, row in reported(rows, on_error):
                yield row_of(number, where_told(where), row, source, entry)
                number += 1

    def _of_dataset(self, piece: Piece, entry: FileSettings) -> Iterator[tuple[str, dict[str, Any]]]:
        if piece.entry not in self._datasets:
            self._datasets[piece.entry] = next(iter(parts_of(entry)))
        return islice(dataset_rows(self._datasets[piece.entry], entry.path, piece.start.item), piece.items)

    def _of_file(self, piece: Piece, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in self._items_of(piece):
            try:
                row = item.row()
            except BadRowError as error:
                on_error(error)
                continue
            yield item.where, row

    def _items_of(self, piece: Piece) -> Iterator[Item]:
        assert piece.path is not None
        start = piece.start
        goes_on = piece.path == self._path and (self._next == start.item if start.direct else self._next <= start.item)
        if not goes_on:
            self.close()
            self._items = file_items(piece.path, self._most, start if start.direct else BEGINNING)
            self._path, self._next = piece.path, start.item if start.direct else 0
        skipped, self._next = start.item - self._next, start.item + piece.items
        yield from islice(self._items, skipped, skipped + piece.items)
