"""The pools of `benchmarks/quality/pools.py`: what is marked is exactly what was added."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def pools(load_benchmark) -> ModuleType:
    return load_benchmark("pools")


ANSWERS = ["It is red. So is this. And that!", "No end here", "Why? Because. It is so."]


@given(st.integers(0, 1000), st.sampled_from(["append", "insert"]), st.floats(0.05, 0.6))
@settings(deadline=None)
def test_an_answer_without_what_is_marked_is_the_clean_one(pools, seed, place, share):
    rows = [{"prompt": str(number), "response": answer} for number, answer in enumerate(ANSWERS * 4)]
    texts = [f"Noise number {number} stands here." for number in range(60)]
    made = pools.plant(rows, texts, share, place, np.random.default_rng(seed))
    assert [row["corrected"] for row in made] == [row["response"] for row in rows]
    marked = words = 0
    for row in made:
        clean = row["response"]
        for start, stop in reversed(row["spans"]):
            assert clean[start:stop] in texts
            clean = clean[: start - 1] + clean[stop:]
        assert clean == row["corrected"]
        found = pools._words(row)
        marked, words = marked + found[0], words + found[1]
    longest = 5 / words  # one text more or less
    assert abs(marked / words - share) <= longest


def test_too_few_texts_are_refused(pools):
    rows = [{"prompt": "", "response": ANSWERS[0]}] * 4
    with pytest.raises(ValueError, match=r"1 texts are too few for a share of 0\.5 of 4 answers"):
        pools.plant(rows, ["Noise."], 0.5, "append", np.random.default_rng(0))
