"""Spans that a method drops as a whole, in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tokensieve.report.causes import causes
from tokensieve.report.cells import plain_value
from tokensieve.runs.view import ExampleView
from tokensieve.select.selection import Selection

_MOST_ODDS = 10_000  # more are as good as certain


def dropped_spans(names: Sequence[str], example: ExampleView, selection: Selection, arm: str) -> Iterator[str]:
    """Yield a line for each dropped span of an example, with its odds and what it loses; of other methods, none.

    Args:
        names: of the tokens.
        example: the example.
        selection: of the arm.
        arm: the arm.
    """
    for cause in causes(selection, list(example.shard.statistics)):
        if cause["kind"] != "span":
            continue
        dropped, odds = example.trainable & ~example.kept(arm), -example.value(arm, "score")
        losses = [example.value(arm, name) for name in cause["values"]]
        first, second, spans = cause["words"]
        ends = np.flatnonzero(np.diff(dropped, prepend=False, append=False)).reshape(-1, 2)
        for start, stop in ends.tolist():
            own, other = (plain_value(float(loss[start:stop].sum())) for loss in losses)
            size = f"{stop - start:,} tokens, from {names[start]} to {names[stop - 1]}"
            yield (
                f"dropped as a span of {spans}: {size}: {own} nats of {first} against {other} of {second}, "
                f"highest odds of {spans} {_to_one(float(odds[start:stop].max()))}"
            )


def _to_one(log_odds: float) -> str:
    if log_odds > math.log(_MOST_ODDS):
        return f"over {_MOST_ODDS:,} to 1"
    return f"{float(f'{math.exp(log_odds):.2g}'):,.10g} to 1"
