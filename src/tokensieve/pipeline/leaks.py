"""Examples that a model is evaluated on and trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tokensieve.data.repeats import HashedExamples, shared

HELD_OUT, EXACT_MATCH = "evaluate.held_out", "evaluate.exact_match"
EVALUATED = {HELD_OUT: "held-out examples", EXACT_MATCH: "exact-match questions"}
"""What is compared with the data to train on, by its key in the recipe, and what its examples are called."""


def leaks(sets: Mapping[str, HashedExamples]) -> Iterator[str]:
    """Yield a warning for each data set of evaluation that shares examples with one of training.

    Args:
        sets: the data sets of a recipe, by their keys in it. Rows of exact match are compared as they would be trained
            on, with their answers.
    """
    for evaluated, name in EVALUATED.items():
        if (tested := sets.get(evaluated)) is None:
            continue
        for trained in (key for key in sets if key not in EVALUATED):
            if len(found := shared(tested.hashes, sets[trained].hashes)):
                yield (
                    f"{len(found):,} of {len(tested.hashes):,} {name} are in {trained}.files too, token by token "
                    f"({tested.places(found)}): what is trained on them does better on them; leave them out of one"
                )
