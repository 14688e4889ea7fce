"""The checks behind ``tokensieve inspect``: what would be trained on, and every problem of the data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tokensieve.containers import IGNORE_INDEX
from tokensieve.data.compare import check_same_ids
from tokensieve.data.counts import Counts, Tally
from tokensieve.data.encode import encode_rows
from tokensieve.data.readers.items import BadRowError
from tokensieve.data.repeats import HashedExamples
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row
from tokensieve.data.tokenize import Encoded, Encoder, truncate
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


@dataclass(frozen=True)
class Inspection:
    """What `inspect_data` found.

    Attributes:
        source: the files, as they were given.
        template: ``own`` for the tokenizer's (or a given) chat template, ``default`` for the built-in one.
        answers_by: how answers are found: the template's ``generation`` blocks, or ``prefixes``.
        turn_ends: the tokens that end an answer.
        unusable: rows (and files) that cannot be used.
        counts: what would become of the other rows.
        previews: the first examples.
        problems: errors first.
        hashed: the examples, to find them again in another data set; not in JSON.
    """

    source: str
    template: Literal["own", "default"]
    answers_by: Literal["generation", "prefixes"]
    turn_ends: list[str]
    unusable: int
    counts: Counts
    previews: list[Preview]
    problems: list[Problem]
    hashed: HashedExamples = field(repr=False)

    @property
    def has_errors(self) -> bool:
        """Whether any problem would stop a run."""
        return any(problem.level == "error" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain dictionaries and lists."""
        return {name: value for name, value in asdict(self).items() if name != "hashed"}


def inspect_data(
    settings: DataSettings, encoder: Encoder, examples: int, compare_with: str | None = None
) -> Inspection:
    """Read and tokenise all rows and collect their problems.

    Args:
        settings: which rows, and how long an example may be.
        encoder: tokenizer and template.
        examples: number of previews.
        compare_with: folder of a second tokenizer that must give the same ids.

    Raises:
        TokensieveError: not one row can be read: the first reason why, such as a missing or an empty file.
    """
    errors, tally = _Errors(settings.bad_rows == "skip"), Tally(settings, encoder)
    source, previews = settings.paths, []
    encoded_rows = 0
    for batch, rows in encode_rows(settings, encoder, errors.add):
        tally.counts.rows += rows
        encoded_rows += len(batch)
        tally.add(batch)
        for row, encoded in batch[: examples - len(previews)]:
            previews.append(_preview(row, truncate(encoded, settings)))
    if not tally.counts.rows and errors.first is not None:
        raise errors.first
    unusable = errors.count
    if encoded_rows or not errors.count:
        errors.catch(tally.finish)
    elif not errors.stops:
        errors.add(TokensieveError("not one row can be used", where=source, hint="see the reasons below"))
    errors.catch(lambda: _check_vocabulary(tally.counts, encoder))
    if compare_with is not None:
        errors.catch(lambda: check_same_ids(settings, encoder, compare_with, on_error=lambda _: None))
    warnings = [Problem("warning", text) for text in tally.counts.warnings()]
    return Inspection(
        source=source,
        template="own" if encoder.own_template else "default",
        answers_by="generation" if encoder.has_generation else "prefixes",
        turn_ends=encoder.tokenizer.convert_ids_to_tokens(list(encoder.turn_end_ids)),
        unusable=unusable,
        counts=tally.counts,
        previews=previews,
        problems=sorted([*errors.problems(), *warnings], key=lambda problem: problem.level),
        hashed=tally.hashed,
    )


@dataclass
class _Errors:
    """Errors by kind, that is without the numbers and quoted names in them, with the first places of each.

    Attributes:
        skip: whether rows that cannot be used are left out, so that they are warnings.
        count: errors in all.
        first: the first of them.
        stops: whether one of them would stop a run.
    """

    skip: bool
    count: int = 0
    first: TokensieveError | None = None
    stops: bool = False
    _kinds: dict[str, tuple[TokensieveError, Literal["error", "warning"], list[str], int]] = field(default_factory=dict)

    def add(self, error: TokensieveError) -> None:
        self.count += 1
        self.first = self.first or error
        level = "warning" if self.skip and isinstance(error, BadRowError) else "error"
        self.stops |= level == "error"
        kind = _VARIABLE.sub("", error.what)
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            kind = ""  # no message is empty: what does not fit in goes here
            error = TokensieveError("further errors of other kinds", where=error.where)
        sample, _, places, count = self._kinds.get(kind, (error, level, [], 0))
        if error.where and len(places) < _PLACES:
            places.append(error.where)
        self._kinds[kind] = (sample, level, places, count + 1)

    def catch(self, check: Callable[[], object]) -> None:
        """Run a check and add the error that it raises."""
        try:
            check()
        except TokensieveError as error:
            self.add(error)

    def problems(self) -> list[Problem]:
        """Return one problem a kind."""
        return [
            Problem(
                level,
                sample.what,
                ", ".join(places) + (f" and {count - len(places):,} more" if count > len(places) else ""),
                sample.hint,
                count,
            )
            for sample, level, places, count in self._kinds.values()
        ]


def _check_vocabulary(counts: Counts, encoder: Encoder) -> None:
    size = len(encoder.tokenizer)
    if counts.largest_id >= size:
        raise TokensieveError(
            f"token id {counts.largest_id} is beyond the tokenizer's vocabulary of {size} tokens",
            where=counts.largest_id_at,
            hint="use the tokenizer that made these ids",
        )


def _preview(row: Row, encoded: Encoded) -> Preview:
    trainable = (encoded.labels != IGNORE_INDEX).tolist()
    marks = [] if encoded.marks is None else (encoded.marks > 0).astype(int).tolist()
    return Preview(row.number, row.where, encoded.input_ids.tolist(), trainable, marks)
