"""The held-out rows of a search: those that it chooses by, and those that confirm what it chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Bool, Examples, segments
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.repeats import UInt64
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.exact_match import Question
from tokensieve.ops.ragged import segment_counts
from tokensieve.pipeline.inputs import Inputs
from tokensieve.runs.outcomes import MEASURES
from tokensieve.search.search import FEWEST_ROWS, confirms
from tokensieve.store import checksum, fingerprint


@dataclass(frozen=True, eq=False)
class SearchRows:
    """Held-out rows in the order in which an evaluation has them.

    Attributes:
        confirming: bool ``[rows]``, those that confirm the winner.
        fingerprint: of their content.
    """

    confirming: Bool
    fingerprint: str


def search_rows(inputs: Inputs, measure: str) -> SearchRows:
    """Part the rows of a measure by their content.

    Raises:
        TokensieveError: too few different rows.
    """
    hashes = _hashes(inputs, measure)
    different = len(np.unique(hashes))
    if different < FEWEST_ROWS:
        raise TokensieveError(
            f"a search chooses by one half of the held-out rows and confirms by the other, and there are {different} "
            "different ones",
            where=f"recipe: evaluate.{MEASURES[measure].section(measure)}",
            hint=f"give {FEWEST_ROWS} at least; a few hundred show effects of about 0.02 nats",
        )
    return SearchRows(confirms(hashes), fingerprint.of_value(hashes.tolist()))


def _hashes(inputs: Inputs, measure: str) -> UInt64:
    """Return uint64 ``[rows]``, the hash of the content of each row in the order of the measure's results.

    Raises:
        TokensieveError: no unwanted text has a complete good answer, so that nothing tells whether the model would
            stop.
    """
    data = inputs.evaluation
    if measure == "held_out":
        assert data.held_out is not None
        return _of_answered(data.held_out)
    if measure == "exact_match":
        return _of_questions(data.questions)
    if MEASURES[measure].data == "corrected":
        assert data.corrected is not None
        return _of_examples(data.corrected.corrections)
    assert data.unwanted is not None
    if measure == "unwanted_answers":
        return _of_questions(data.unwanted.questions)
    if measure == "unwanted":
        return _of_examples(data.unwanted.texts)
    if data.unwanted.begins is None:
        raise TokensieveError(
            "no unwanted text has a good answer that ends with a turn end, after which a model could stop",
            where="recipe: search.measure",
            hint="give evaluate.held_out rows with answers, and texts without prompts; or rows with prompts a "
            "`corrected` answer; or search.measure: unwanted",
        )
    return _of_examples(data.unwanted.begins)


def _of_questions(questions: Sequence[Question]) -> UInt64:
    return np.array([checksum.short(f"{one.prompt}\0{one.answer}".encode()) for one in questions], dtype=np.uint64)


def _of_examples(examples: Examples) -> UInt64:
    ids = (examples.input_ids[one] for one in segments(examples.cu_seqlens))
    return np.array([checksum.short(one.tobytes()) for one in ids], dtype=np.uint64)


def _of_answered(held_out: ExampleStore) -> UInt64:
    """Return the hash of each example that has a response, which are those that an evaluation has."""
    counts = [segment_counts(shard.labels != IGNORE_INDEX, shard.cu_seqlens) for shard in held_out]
    return held_out.hashes[np.concatenate(counts) > 0]
