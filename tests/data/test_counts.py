"""Rows are counted alike, one by one or together."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.containers import IGNORE_INDEX
from tokensieve.data.counts import Tally
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row
from tokensieve.data.tokenize import Encoded

TOKENS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=7)
ROWS = st.lists(st.tuples(TOKENS, st.sampled_from([{"text": "a"}, {"text": "a", "id": 1}, {"tools": [1]}])), max_size=9)


def encoded(tokens: list[tuple[int, bool]]) -> Encoded:
    ids = np.array([token for token, _ in tokens], dtype=np.int32)
    mask = np.array([trained for _, trained in tokens], dtype=bool)
    return Encoded(ids, np.where(mask, ids, np.int32(IGNORE_INDEX)), straddling=1, templated=True)


@given(ROWS, st.sampled_from([None, 3]), st.sampled_from(["keep-start", "keep-end"]))
def test_rows_are_counted_alike_one_by_one_or_together(tiny_encoder, rows, max_length, truncation):
    settings = DataSettings(("f",), max_length=max_length, truncation=truncation)
    batch = [
        (Row(number, f"f:{number}", data, "f", "auto", ()), encoded(tokens))
        for number, (tokens, data) in enumerate(rows)
    ]
    together, alone = Tally(settings, tiny_encoder), Tally(settings, tiny_encoder)
    kept = together.add(batch)
    kept_alone = [alone.add([one])[0] for one in batch]
    assert [one is None for one in kept] == [one is None for one in kept_alone]
    assert asdict(together.counts) == asdict(alone.counts)
    assert together.lengths == alone.lengths
    assert together.hashed.hashes.tolist() == alone.hashed.hashes.tolist()


def test_what_is_counted(tiny_encoder):
    tally = Tally(DataSettings(("f",), max_length=3), tiny_encoder)
    end = tiny_encoder.turn_end_ids[0]
    tokens = [
        [(1, False), (2, True), (end, True)],  # an answer that ends
        [(1, False), (2, True), (end, False)],  # one whose turn end is not trained
        [(1, False), (9, True), (2, True), (3, True)],  # one that is cut
        [(5, False)],
        [(1, False), (1, False), (1, False), (2, True)],
        [],
    ]
    rows = [Row(number, f"f:{number}", {"text": "a"}, "f", "auto", ()) for number in range(len(tokens))]
    kept = tally.add(list(zip(rows, map(encoded, tokens), strict=True)))
    counts = tally.counts
    assert [one is not None for one in kept] == [True, True, True, False, False, False]
    assert (counts.examples, counts.tokens, counts.trainable_tokens) == (3, 9, 5)
    assert (counts.turns, counts.turns_ended, counts.turn_ends_untrained) == (2, 1, 1)
    assert (counts.truncated_examples, counts.tokens_cut, counts.trainable_tokens_cut) == (2, 2, 2)
    assert (counts.rows_cut_empty, counts.rows_without_trainable) == (1, 2)
    largest = max(end, 9)
    assert (counts.largest_id, counts.largest_id_at) == (largest, "f:2" if largest == 9 else "f:0")
