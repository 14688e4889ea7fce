"""The checks behind ``tokensieve inspect``: what would be trained on, and every problem of the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Literal

from tokensieve.data.chunks import cut
from tokensieve.data.compare import check_same_ids
from tokensieve.data.counts import Counts, finish_counts
from tokensieve.data.inspection_worker import Part, Preview, Problem, Worker, joined, look
from tokensieve.data.prepare import CHUNK_ROWS
from tokensieve.data.repeats import HashedExamples, repeats
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows
from tokensieve.data.tokenize import Encoder
from tokensieve.engines import OnTokens, unseen
from tokensieve.engines.local import LOCAL
from tokensieve.errors import TokensieveError


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
    settings: DataSettings,
    encoder: Encoder,
    examples: int,
    compare_with: str | None = None,
    on_rows: OnTokens = unseen,
) -> Inspection:
    """Read and tokenise all rows, on all cores where they are many, and collect their problems.

    Args:
        settings: which rows, and how long an example may be.
        encoder: tokenizer and template.
        examples: number of previews.
        compare_with: folder of a second tokenizer that must give the same ids.
        on_rows: told of the rows that were read.

    Raises:
        TokensieveError: not one row can be read: the first reason why, such as a missing or an empty file.
    """
    found = joined(_parts(settings, encoder, examples, on_rows))
    counts, errors = found.counts, found.errors
    if not counts.rows and errors.first is not None:
        raise errors.first.error()
    unusable = errors.count
    if found.encoded or not errors.count:
        errors.catch(lambda: finish_counts(counts, found.lengths, settings))
        if len(repeated := repeats(found.hashed.hashes)):
            counts.repeated_examples, counts.repeated_rows = len(repeated), found.hashed.places(repeated)
    elif not errors.stops:
        errors.add(TokensieveError("not one row can be used", where=settings.paths, hint="see the reasons below"))
    errors.catch(lambda: _check_vocabulary(counts, encoder))
    if compare_with is not None:
        errors.catch(lambda: check_same_ids(settings, encoder, compare_with, on_error=lambda _: None))
    warnings = [Problem("warning", text) for text in counts.warnings()]
    return Inspection(
        source=settings.paths,
        template="own" if encoder.own_template else "default",
        answers_by="generation" if encoder.has_generation else "prefixes",
        turn_ends=encoder.tokenizer.convert_ids_to_tokens(list(encoder.turn_end_ids)),
        unusable=unusable,
        counts=counts,
        previews=found.previews[:examples],
        problems=sorted([*errors.problems(), *warnings], key=lambda problem: problem.level),
        hashed=found.hashed,
    )


def _parts(settings: DataSettings, encoder: Encoder, examples: int, on_rows: OnTokens) -> list[Part]:
    """Return what is found in the rows, chunk by chunk; in one part where something cannot be read."""
    rows = cut(settings, CHUNK_ROWS)
    if rows.error is not None:  # what follows it is read as well
        return [look(settings, encoder, examples, read_rows, on_rows)]
    make = partial(Worker, settings, encoder, examples, rows.chunks)
    found = LOCAL.map(make, range(len(rows.chunks)), on_rows, holds_model=False, one_at_a_time=True)
    return [done.value for done in sorted(found, key=attrgetter("shard"))]


def _check_vocabulary(counts: Counts, encoder: Encoder) -> None:
    size = len(encoder.tokenizer)
    if counts.largest_id >= size:
        raise TokensieveError(
            f"token id {counts.largest_id} is beyond the tokenizer's vocabulary of {size} tokens",
            where=counts.largest_id_at,
            hint="use the tokenizer that made these ids",
        )
