"""The figures of a file that is imported, in the order of the run's examples."""

from __future__ import annotations

import glob
import hashlib
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Examples, Float32, Int64, segments
from tokensieve.data.bad_rows import raise_error
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row, read_rows
from tokensieve.errors import TokensieveError

SCORES = ("scores", "score")
"""Columns of scores; `score` is what a run itself writes."""
CHOICES = ("labels", "kept", "assistant_masks")
"""Columns of what is kept; the last is that of cleaned data."""


class ImportedValues:
    """The figures of a file in the order of the run's examples, in a file of their own.

    Args:
        store: the run's examples.
        file: what to read.
        scores: whether to read scores; labels or masks otherwise.
        spill: file to create, float64 ``[tokens of the run]``.

    Attributes:
        absent: examples that the file does not have.
    """

    def __init__(self, store: ExampleStore, file: Path, *, scores: bool, spill: Path) -> None:
        self._file, self._starts = file, store.first_examples
        rows = read_rows(DataSettings(files=(glob.escape(str(file)),)), raise_error)
        first = next(rows)  # a file without rows is refused by `read_rows`
        self._column = _value_column(first, scores)
        index = _Index(store, by_row=_has_row_numbers(first))
        self._offsets = index.offsets
        self._values = np.memmap(spill, dtype=np.float64, mode="w+", shape=(int(index.offsets[-1]),))
        self._values[:] = np.nan
        for row in itertools.chain((first,), rows):
            number, values = index.take(row), _numbers(row, self._column)
            start, stop = index.offsets[number : number + 2].tolist()
            if len(values) != stop - start:
                raise TokensieveError(
                    f"{len(values)} {self._column} for the {stop - start} tokens of source row {index.rows[number]}",
                    where=row.where,
                    hint="one figure for each token, the prompt's included, as the run tokenised it",
                )
            self._values[start:stop] = values
        self.absent = int((~index.taken).sum())
        if scores and self.absent:
            missing = index.rows[~index.taken]
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            raise TokensieveError(
                f"{self.absent} of {len(index.rows)} examples have no scores: those of source rows {shown}",
                where=str(file),
                hint="score every example of the run",
            )

    def given(self, number: int, tokens: int) -> NDArray[np.float64]:
        """Return float64 ``[tokens]`` of one shard, as the file has them; NaN for examples that it does not have."""
        start = self._offsets[self._starts[number]]
        return self._values[start : start + tokens]

    def read(self, number: int, examples: Examples) -> Float32:
        """Return float32 ``[tokens]`` of one shard, checked against its tokens: scores, or 1 for what is to be kept."""
        values = self.given(number, len(examples.input_ids))
        trainable = examples.labels != IGNORE_INDEX
        if self._column in SCORES:
            with np.errstate(over="ignore"):  # to infinity
                scores = values.astype(np.float32)
            self._refuse(examples, trainable & ~np.isfinite(scores), "no finite float32 score for")
            return scores
        absent = np.isnan(values)
        if self._column == "labels":
            kept = ~absent & (values != IGNORE_INDEX)
            self._refuse(examples, kept & (values != examples.input_ids), "a label that is neither -100 nor the id of")
        else:
            kept = values == 1
            self._refuse(examples, ~absent & ~kept & (values != 0), "a mask that is neither 0 nor 1 for")
        self._refuse(examples, kept & ~trainable, "it trains what the run does not:")
        return kept.astype(np.float32)

    def _refuse(self, examples: Examples, wrong: NDArray[np.bool_], fault: str) -> None:
        if wrong.any():
            position = int(np.flatnonzero(wrong)[0])
            example = int(np.searchsorted(examples.cu_seqlens, position, side="right")) - 1
            token = position - int(examples.cu_seqlens[example])
            raise TokensieveError(
                f"{fault} token {token} of source row {examples.rows[example]}",
                where=str(self._file),
                hint="tokens count from 0; figures are unshifted, and can only drop tokens",
            )


def _value_column(row: Row, scores: bool) -> str:
    names = SCORES if scores else CHOICES
    for name in names:
        if name in row.data:
            return name
    other = "with --fraction scores are read" if scores else "without --fraction labels or masks are read"
    raise TokensieveError(
        f"the columns are {', '.join(row.data)}, and {other}",
        where=row.where,
        hint=f"a column {' or '.join(map(repr, names))}" + ("" if scores else ", or scores with --fraction"),
    )


def _has_row_numbers(row: Row) -> bool:
    if "row" in row.data or "input_ids" in row.data:
        return "row" in row.data
    raise TokensieveError(
        f"the columns {', '.join(row.data)} do not say which example a row belongs to",
        where=row.where,
        hint="a column 'row' with the number of the source row, or 'input_ids'",
    )


def _numbers(row: Row, column: str) -> NDArray[np.float64]:
    """Return float64 ``[tokens]``; a score that is null becomes NaN."""
    given = row.data.get(column)
    kinds: set[type] = {int, float, type(None)} if column in SCORES else {int, float, bool}
    if not isinstance(given, list) or not set(map(type, given)) <= kinds:
        raise TokensieveError(
            f"'{column}' is no list of numbers: {given!r:.60}",
            where=row.where,
            hint="one number for each token, trainable or not",
        )
    try:
        values = np.array(given, dtype=np.float64)
    except OverflowError as error:
        raise TokensieveError(
            f"'{column}' holds a number beyond float64", where=row.where, hint="give every token a finite number"
        ) from error
    if column in CHOICES and np.isnan(values).any():
        raise TokensieveError(f"'{column}' holds NaN", where=row.where, hint="give every token a number")
    return values


def _token_ids(row: Row) -> NDArray[np.int32]:
    """Return int32 ``[tokens]``."""
    given = row.data["input_ids"]
    if not isinstance(given, list) or not all(type(token) is int and 0 <= token < 2**31 for token in given):
        raise TokensieveError(
            f"'input_ids' is no list of token ids: {given!r:.60}",
            where=row.where,
            hint="the ids of the run's tokenizer, such as [1, 42]",
        )
    return np.array(given, dtype=np.int32)


class _Index:
    """Which example of the run a row belongs to.

    Args:
        store: the run's examples.
        by_row: whether rows are found by the number of the source row; by their token ids otherwise.

    Attributes:
        offsets: int64 ``[examples + 1]``, where each example's tokens start.
        rows: int64 ``[examples]``, source rows.
        taken: bool ``[examples]``, those that `take` gave.
    """

    def __init__(self, store: ExampleStore, *, by_row: bool) -> None:
        lengths, rows, digests = [], [], []
        for examples in store:
            lengths.append(examples.lengths)
            rows.append(examples.rows)
            digests.append(np.array([ids_digest(examples.input_ids[span]) for span in segments(examples.cu_seqlens)]))
        self.offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        self.rows: Int64 = np.concatenate(rows)
        self.taken = np.zeros(len(self.rows), dtype=bool)
        self._by_row, self._digests = by_row, np.concatenate(digests)
        keys = self.rows if by_row else self._digests
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def take(self, row: Row) -> int:
        """Return the number of the example that a row is for; the next one where several are alike."""
        digest = ids_digest(_token_ids(row)) if "input_ids" in row.data else None
        key = row.data.get("row") if self._by_row else digest
        what = f"source row {key}" if self._by_row else "these token ids"
        if not isinstance(key, int | np.integer) or isinstance(key, bool):
            column = "row" if self._by_row else "input_ids"
            raise TokensieveError(
                f"'{column}' is missing, or is not what it is in the first row",
                where=row.where,
                hint="give it in every row",
            )
        first, last = (int(np.searchsorted(self._keys, key, side=side)) for side in ("left", "right"))
        if first == last:
            raise TokensieveError(
                f"no example of the run is of {what}",
                where=row.where,
                hint="rows count from 0; rows with nothing to train on were dropped, and others may be truncated",
            )
        free = self._order[first:last][~self.taken[self._order[first:last]]]
        if not len(free):
            raise TokensieveError(
                f"{what} came before, more often than in the run", where=row.where, hint="one row an example"
            )
        number = int(free[0])
        if digest is not None and digest != self._digests[number]:
            raise TokensieveError(
                f"the token ids are not those of {what} in this run",
                where=row.where,
                hint="tokenise with the run's tokenizer, chat template and max_length",
            )
        self.taken[number] = True
        return number


def ids_digest(ids: NDArray[np.int32]) -> np.uint64:
    """Return 64 bits that tell token ids apart."""
    return np.frombuffer(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), dtype=np.uint64)[0]
