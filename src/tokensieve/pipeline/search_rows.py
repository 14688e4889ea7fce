"""The held-out rows of a search: those that it chooses by, and those that confirm what it chose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Bool
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.repeats import UInt64
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import segment_counts
from tokensieve.pipeline.inputs import Inputs
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
    if measure == "held_out":
        assert inputs.held_out is not None
        hashes = _of_answered(inputs.held_out)
    else:
        hashes = np.array(
            [checksum.short(f"{one.prompt}\0{one.answer}".encode()) for one in inputs.evaluation.questions],
            dtype=np.uint64,
        )
    different = len(np.unique(hashes))
    if different < FEWEST_ROWS:
        raise TokensieveError(
            f"a search chooses by one half of the held-out rows and confirms by the other, and there are {different} "
            "different ones",
            where=f"recipe: evaluate.{measure}",
            hint=f"give {FEWEST_ROWS} at least; a few hundred show effects of about 0.02 nats",
        )
    return SearchRows(confirms(hashes), fingerprint.of_value(hashes.tolist()))


def _of_answered(held_out: ExampleStore) -> UInt64:
    """Return the hash of each example that has a response, which are those that an evaluation has."""
    counts = [segment_counts(shard.labels != IGNORE_INDEX, shard.cu_seqlens) for shard in held_out]
    return held_out.hashes[np.concatenate(counts) > 0]
