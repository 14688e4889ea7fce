from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics, segments
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction

LABELS = [-100, 11, 12, 13, -100, 15, 16]
HISTORY = [9.0, 3.0, 2.0, 1.0, 9.0, 2.0, 0.5]
CURRENT = [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.5]  # learned: 2, 0, -1 and 1, -2
ATTENTION = [1.0, 0.25, 0.75, 1.0, 1.0, 0.5, 0.25]


def figures(history, current, attention, labels, cu_seqlens) -> Statistics:
    values = {
        ("history", "loss"): np.asarray(history, dtype=np.float32),
        ("current", "loss"): np.asarray(current, dtype=np.float32),
        ("current", "attention_to_prompt"): np.asarray(attention, dtype=np.float32),
    }
    return Statistics(np.asarray(cu_seqlens), np.asarray(labels), values)


def by_hand() -> Statistics:
    return figures(HISTORY, CURRENT, ATTENTION, LABELS, [0, 4, 7])


def test_by_hand():
    # normed within the example: 1, 1/3, 0 and 1, 0
    trainable = by_hand().trainable
    expected = [(1 + 0.25) / 2, (1 / 3 + 0.75) / 2, (0 + 1) / 2, (1 + 0.5) / 2, (0 + 0.25) / 2]
    np.testing.assert_allclose(get_method("sstoken").score(by_hand())[trainable], expected, rtol=1e-6)
    # ceil(3 * 0.6) = 2 of the first example, ceil(2 * 0.6) = 2 of the second
    assert get_method("sstoken").select(by_hand()).tolist() == [-100, 11, 12, -100, -100, 15, 16]


def test_the_parts_of_a_score_are_what_it_is_the_sum_of():
    method, trainable = get_method("sstoken", gamma=0.25), by_hand().trainable
    parts = method.parts(by_hand())
    np.testing.assert_allclose(parts["learned"][trainable], [0.25, 0.25 / 3, 0, 0.25, 0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(parts["attention"], 0.75 * np.array(ATTENTION), rtol=1e-6)
    np.testing.assert_array_equal(parts["learned"] + parts["attention"], method.score(by_hand()))


def test_gamma_weighs_the_two_parts():
    attention_alone = get_method("sstoken", gamma=0, fraction=0.3).select(by_hand())
    assert attention_alone.tolist() == [-100, -100, -100, 13, -100, 15, -100]
    loss_alone = get_method("sstoken", gamma=1, fraction=0.3).select(by_hand())
    assert loss_alone.tolist() == [-100, 11, -100, -100, -100, 15, -100]


def test_equals_a_loop_over_random_figures():
    generator = np.random.default_rng(0)
    cu_seqlens = [0, 30, 30, 31, 100]
    labels = np.where(generator.random(100) < 0.6, 1, -100)
    history, current, attention = (generator.random(100).astype(np.float32) for _ in range(3))
    statistics = figures(history, current, attention, labels, cu_seqlens)
    score = get_method("sstoken", gamma=0.3).score(statistics)
    for span in segments(statistics.cu_seqlens):
        positions = [t for t in range(100)[span] if labels[t] != -100]
        gain = {t: float(history[t]) - float(current[t]) for t in positions}
        for t in positions:
            normed = (gain[t] - min(gain.values())) / (max(gain.values()) - min(gain.values()) + 1e-8)
            assert math.isclose(score[t], 0.3 * normed + 0.7 * float(attention[t]), rel_tol=1e-5, abs_tol=1e-6)


def test_an_example_that_learned_the_same_everywhere_is_ranked_by_attention():
    statistics = figures([0, 2, 2, 2], [0, 1, 1, 1], [0, 0.2, 0.9, 0.5], [-100, 1, 2, 3], [0, 4])
    assert get_method("sstoken").score(statistics)[1:].tolist() == pytest.approx([0.1, 0.45, 0.25])


@pytest.mark.parametrize("loss", [0.01, 3.5, 12.0])
def test_rounding_is_no_gain(loss):
    """Before the first step history and current model are one, and two passes differ by rounding alone."""
    generator = np.random.default_rng(1)
    current = (loss * generator.uniform(0.5, 1, 40)).astype(np.float32)
    noise = np.spacing(np.float32(max(loss, 1))) * generator.integers(-20, 21, 40)
    attention = generator.random(40).astype(np.float32)
    statistics = figures(current + noise, current, attention, [-100] + [1] * 39, [0, 40])
    assert np.ptp(statistics.values["history", "loss"] - current) > 0
    np.testing.assert_array_equal(get_method("sstoken").score(statistics), np.float32(0.5) * attention)
    # A gain of a ten-thousandth is one.
    small = statistics.values["current", "loss"] * np.float32(1e-4) * np.arange(40, dtype=np.float32)
    real = figures(current + small + np.float32(1e-3), current, attention, [-100] + [1] * 39, [0, 40])
    assert np.ptp(get_method("sstoken", gamma=1).score(real)[1:]) == pytest.approx(1, abs=1e-3)


def test_what_is_measured_and_when():
    method = get_method("sstoken", layer=3, heads="max")
    assert method.online
    assert method.rule == TopFraction(0.6, "example", "ceil")
    assert method.needs == {("history", "loss"), ("current", "loss"), ("current", "attention_to_prompt")}
    assert method.options("attention_to_prompt") == {"layer": 3, "heads": "max"}
    assert method.options("loss") == {}
    assert get_method("sstoken").options("attention_to_prompt") == {"layer": -1, "heads": "mean"}
    assert method.divide_by == "kept"
    assert not method.weighted


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("gamma", value) for value in (-0.1, 1.1, math.nan, True, "0.5")),
        ("layer", 1.5),
        ("heads", "min"),
        ("history", "current"),
        *(("ema_decay", value) for value in (-0.1, 1, 1.0)),
        *(("warmup_examples", value) for value in (-1, 0.5, math.inf)),
    ],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("sstoken", **{parameter: value})
