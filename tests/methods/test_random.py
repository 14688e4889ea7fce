from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

MASK = 2**64 - 1


def statistics_of(size: int, first_token: int = 0) -> Statistics:
    return Statistics(np.array([0, size]), np.zeros(size, dtype=np.int64), first_token=first_token)


def splitmix64(state: int) -> int:
    """SplitMix64 on Python's integers."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_the_generator_gives_the_published_numbers():
    # the first outputs of SplitMix64 with seed 1234567, as in its reference implementation's tests
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state = (state + 0x9E3779B97F4A7C15) & MASK
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(-(2**40), 2**70), st.integers(0, 2**40))
def test_equals_a_loop(seed, first):
    start = splitmix64(seed % 2**64)
    expected = [(splitmix64((first + t + start) & MASK) >> 40) / 2**24 for t in range(5)]
    assert get_method("random", seed=seed).score(statistics_of(5, first)).tolist() == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 100))
def test_the_same_whatever_the_shards(lengths, seed):
    method = get_method("random", seed=seed)
    starts = np.cumsum([0, *lengths])
    parts = [method.score(statistics_of(n, int(start))) for n, start in zip(lengths, starts[:-1], strict=True)]
    assert np.array_equal(np.concatenate(parts), method.score(statistics_of(int(starts[-1]))))


def test_uniform_and_unrelated_between_seeds_and_positions():
    size = 200_000
    scores = [get_method("random", seed=seed).score(statistics_of(size)) for seed in range(3)]
    for values in scores:
        assert values.min() >= 0
        assert values.max() < 1
        counts = np.histogram(values, bins=50, range=(0, 1))[0]
        chi_square = ((counts - size / 50) ** 2 / (size / 50)).sum()
        assert chi_square < 100  # 49 degrees of freedom: above 100 once in 50,000
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(scores[0], scores[1])[0, 1]) < 0.01
    assert abs(np.corrcoef(scores[1][1:], scores[2][:-1])[0, 1]) < 0.01


def test_the_count_is_that_of_the_fraction():
    statistics = statistics_of(1000)
    kept = get_method("random", fraction=0.29).select(statistics) != -100
    assert kept.sum() == int(1000 * 0.29)
    other = get_method("random", fraction=0.29, seed=1).select(statistics) != -100
    assert 0.15 < (kept & other).sum() / kept.sum() < 0.45


def test_examples_are_drawn_from_a_batch_in_place_of_tokens():
    statistics = Statistics(np.array([0, 2, 5, 6, 9]), np.zeros(9, dtype=np.int64))
    method = get_method("random", examples=2)
    assert method.online
    spans = [range(0, 2), range(2, 5), range(5, 6), range(6, 9)]
    drawn = set()
    for examples in range(0, 400, 4):
        kept = method.at(examples).select(statistics) != -100
        whole = [kept[list(span)].all() for span in spans]
        assert sum(whole) == sum(kept[list(span)].any() for span in spans) == 2
        drawn.add(tuple(whole))
    assert len(drawn) == 6, "every pair is drawn"


@given(st.lists(st.floats(0, 5, width=32), min_size=2, max_size=40), st.integers(0, 99), st.data())
def test_as_many_as_a_threshold_keeps(losses, seed, data):
    """A loop: how many have the probability, and the tokens with so many of the highest scores; turn ends first."""
    labels = np.array([-100, *data.draw(st.lists(st.sampled_from([-100, 1]), min_size=len(losses) - 1,
                                                 max_size=len(losses) - 1))])  # fmt: skip
    ends = np.zeros(len(losses), dtype=bool)
    ends[-1] = labels[-1] == 1
    values = {("current", "loss"): np.array(losses, dtype=np.float32)}
    statistics = Statistics(np.array([0, len(losses)]), labels, values, ends)
    method = get_method("random", seed=seed, as_many_as={"name": "profit", "probability": 0.2})
    assert method.online
    assert method.needs == {("current", "loss")}
    kept = method.select(statistics) != -100
    probability = np.exp(-np.array(losses, dtype=np.float32))
    wanted = sum(label == 1 and (p >= np.float32(0.2) or end)
                 for label, p, end in zip(labels, probability, ends, strict=True))  # fmt: skip
    assert kept.sum() == wanted
    assert not (kept & (labels == -100)).any()
    assert not (ends & ~kept).any()
    uniform = get_method("random", seed=seed).score(statistics)
    free = (labels == 1) & ~ends
    assert not (kept & free).any() or uniform[kept & free].min() >= uniform[free & ~kept].max(initial=0)


@pytest.mark.parametrize("given", ["profit", {"name": "uds"}, {"name": "loss"}, {}, {"name": "profit", "p": 1}])
def test_what_gives_no_number_is_refused(given):
    with pytest.raises(TokensieveError, match=r"as_many_as|unknown method|no hyper-parameter"):
        get_method("random", as_many_as=given)
