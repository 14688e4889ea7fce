"""The published code's own selections and thresholds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.methods import get_method
from tokensieve.methods.xtf import Xtf, _multi_otsu

FILE = Path(__file__).with_name("xtf_filter.npz")
EXAMPLES = [f"x{number}" for number in range(16)]
CAPS = ["0.05-0.05-0.05", "0.05-0.1-0.05", "0.1-0.1-0.1"]
ON = {
    "100": ["importance"],
    "010": ["novelty"],
    "001": ["relevance"],
    "111": ["importance", "novelty", "relevance"],
}


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as archive:
        return dict(archive)


def statistics_of(golden, examples) -> Statistics:
    ids = [golden[f"{x}_input_ids"] for x in examples]
    prompts = [golden[f"{x}_prompt_len"] for x in examples]
    labels = [np.where(np.arange(len(i)) < prompt, -100, i) for prompt, i in zip(prompts, ids, strict=True)]
    values = {
        ("base", "attention_row_mean"): [golden[f"{x}_attention"] for x in examples],
        ("base", "loss"): [-np.log(golden[f"{x}_probability"]) for x in examples],
        ("base", "relevance"): [golden[f"{x}_relevance"] for x in examples],
    }
    return Statistics(
        np.cumsum([0, *(len(i) for i in ids)]),
        np.concatenate(labels),
        {key: np.concatenate(parts).astype(np.float32) for key, parts in values.items()},
    )


def method_of(golden, example, caps, bits):
    ri, kn, tr = map(float, caps.split("-"))
    threshold = float(golden[f"{example}_relevance_threshold"])
    return get_method(
        "xtf", mode="official", ri_cap=ri, kn_cap=kn, tr_cap=tr, on=ON[bits], relevance_threshold=threshold
    )


def test_every_case_is_tested(golden):
    tested = {f"{x}_pct{caps}_on{bits}_labels" for x in EXAMPLES for caps in CAPS for bits in ON}
    assert tested == {name for name in golden if re.search("_on..._labels$", name)}


@pytest.mark.parametrize("bits", ON)
@pytest.mark.parametrize("caps", CAPS)
def test_labels_are_exactly_theirs(caps, bits, golden):
    dropped = 0
    for example in EXAMPLES:
        statistics = statistics_of(golden, [example])
        selected = method_of(golden, example, caps, bits).select(statistics)
        expected = golden[f"{example}_pct{caps}_on{bits}_labels"]
        assert np.array_equal(selected, expected), example
        dropped += (selected != statistics.labels).sum()
    # The inattentive tokens of these figures tie: the strict bound of the smaller cap is their own value.
    assert (dropped > 0) == (bits != "100" or caps.startswith("0.1"))


@pytest.mark.parametrize("bits", ["100", "010"])
@pytest.mark.parametrize("caps", CAPS)
def test_many_examples_at_once_give_the_same(caps, bits, golden):
    selected = method_of(golden, "x0", caps, bits).select(statistics_of(golden, EXAMPLES))
    expected = np.concatenate([golden[f"{x}_pct{caps}_on{bits}_labels"] for x in EXAMPLES])
    assert np.array_equal(selected, expected)


@pytest.mark.parametrize("example", ["x0", *(pytest.param(x, marks=pytest.mark.slow) for x in EXAMPLES[1:])])
def test_thresholds_of_the_relevance(example, golden):
    relevance = golden[f"{example}_corpus_relevance"].astype(np.float32)
    size = len(relevance)
    statistics = Statistics(np.array([0, size]), np.zeros(size, dtype=np.int64), {("base", "relevance"): relevance})
    thresholds = golden[f"{example}_multiotsu_thresholds"]
    ours = _multi_otsu(lambda: [statistics])
    assert ours is not None
    np.testing.assert_allclose(ours, thresholds, rtol=1e-5)
    fitted = Xtf(on=("relevance",)).fit(lambda: [statistics])
    assert fitted.relevance_threshold is not None
    np.testing.assert_allclose(fitted.relevance_threshold, golden[f"{example}_relevance_threshold"], rtol=1e-5)
