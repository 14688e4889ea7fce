from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters import threshold_multiotsu

from tokensieve.containers import Statistics, segments
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods.xtf import Xtf
from tokensieve.ops.attention import attention_mass
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import Threshold

ALL = ("importance", "novelty", "relevance")
PROMPT = 2
# One example: two prompt tokens and twelve of an answer, in which every figure below is told by its position.
ATTENTION = [0.5, 0.5, 0.01, 0.02, 0.40, 0.41, 0.42, 0.43, 0.44, 0.45, 0.46, 0.47, 0.48, 0.49]
PROBABILITY = [0.5, 0.5, 0.30, 0.99, 0.97, 0.96, 0.98, 0.10, 0.20, 0.40, 0.50, 0.60, 0.70, 0.80]
RELEVANCE = [0.0, 0.0, 0.90, 0.80, 0.05, 0.15, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60]


def by_hand(attention="attention_received", **changes) -> Statistics:
    values = {
        ("base", attention): np.array(ATTENTION),
        ("base", "loss"): -np.log(PROBABILITY),
        ("base", "relevance"): np.array(RELEVANCE),
    }
    labels = [-100] * PROMPT + list(range(10, 22))
    return Statistics(np.array([0, 14]), np.array(labels), values, **changes)


def random_statistics(seed=0, lengths=(40, 0, 1, 90, 13, 2, 260), attention="attention_received") -> Statistics:
    generator = np.random.default_rng(seed)
    cu_seqlens = offsets(lengths)
    size = int(cu_seqlens[-1])
    labels = np.where(generator.random(size) < 0.7, generator.integers(0, 50, size), -100)
    values = {
        ("base", attention): np.exp(generator.normal(-5, 0.3, size) * (1 + (generator.random(size) < 0.1))),
        ("base", "loss"): generator.integers(0, 40, size) * 0.01,  # ties
        ("base", "relevance"): np.round(generator.normal(0.3, 0.2, size), 2),  # ties
    }
    return Statistics(cu_seqlens, labels, {key: value.astype(np.float32) for key, value in values.items()})


def parts(statistics: Statistics, cuts) -> list[Statistics]:
    """Shards of the examples up to each cut."""
    shards = []
    for start, stop in zip([0, *cuts], [*cuts, len(statistics)], strict=True):
        tokens = slice(int(statistics.cu_seqlens[start]), int(statistics.cu_seqlens[stop]))
        values = {key: value[tokens] for key, value in statistics.values.items()}
        cu_seqlens = statistics.cu_seqlens[start : stop + 1] - tokens.start
        shards.append(Statistics(cu_seqlens, statistics.labels[tokens], values))
    return shards


def naive_reasons(method, statistics: Statistics, threshold: float, floor: float) -> list[int]:
    """The formulas of the module, token by token."""
    official, paper = method.mode == "official", method.mode == "paper"
    name = "attention_row_mean" if official else "attention_received"
    bits = [0] * len(statistics.labels)
    for example in segments(statistics.cu_seqlens):
        positions = [t for t in range(example.start, example.stop) if statistics.labels[t] != -100]
        n = len(positions)
        if n == 0:
            continue
        attention, loss, relevance = (
            [float(statistics.values["base", key][t]) for t in positions] for key in (name, "loss", "relevance")
        )
        probability = [np.exp(-value) for value in loss]
        q1, q3 = np.quantile(attention, [0.25, 0.75])
        for i, t in enumerate(positions):
            unimportant = attention[i] < q1 - 1.5 * (q3 - q1)
            known = probability[i] > 0.95
            off_task = floor <= relevance[i] < threshold
            if not paper:
                unimportant &= attention[i] < sorted(attention)[min(int(n * method.ri_cap), n - 1)]
                known &= probability[i] > sorted(probability)[min(int(n * (1 - method.kn_cap)), n - 1)]
                off_task &= relevance[i] < sorted(relevance)[min(int(n * method.tr_cap), n - 1)]
            for bit, (attribute, lacks) in enumerate(zip(ALL, (unimportant, known, off_task), strict=True)):
                bits[t] |= int(lacks and attribute in method.on) << bit
    return bits


def test_by_hand():
    # 12 tokens. Importance: Q1 0.4075 (between 0.40 and 0.41), Q3 0.4625, bound 0.325; int(12 * 0.1) = 1 gives 0.02,
    # and 0.01 alone is less. Novelty: int(12 * 0.75) = 9 gives 0.97; 0.98 and 0.99 are more.
    # Relevance: int(12 * 0.25) = 3 gives 0.30; less than the threshold 0.2 are 0.05 and 0.15.
    method = get_method("xtf", ri_cap=0.1, kn_cap=0.25, tr_cap=0.25, relevance_threshold=0.2)
    reasons = method.reasons(by_hand())
    assert reasons is not None
    assert reasons.dtype == np.uint8
    assert reasons.tolist() == [0, 0, 1, 2, 4, 4, 2, 0, 0, 0, 0, 0, 0, 0]
    assert method.score(by_hand()).tolist() == [0, 0, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0]
    assert method.select(by_hand()).tolist() == [-100] * 7 + [15, 16, 17, 18, 19, 20, 21]


def test_a_token_may_lack_more_than_one_attribute():
    values = {**by_hand().values, ("base", "relevance"): np.array([0.0, 0.0, -0.5, -0.4, *RELEVANCE[4:]])}
    statistics = Statistics(np.array([0, 14]), by_hand().labels, values)
    method = get_method("xtf", mode="paper", relevance_threshold=0.0)
    reasons = method.reasons(statistics)
    assert reasons is not None
    assert reasons.tolist() == [0, 0, 1 + 4, 1 + 2 + 4, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0]
    assert method.score(statistics).tolist() == [0, 0, -2, -3, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("attribute", "kept", "bit"),
    [
        ("importance", [False, True, True, True, True], 1),
        ("novelty", [True, False, True, True, False], 2),
        ("relevance", [True, True, False, False, True], 4),
    ],
)
def test_each_attribute_alone_reads_its_own_statistic_alone(attribute, kept, bit):
    method = get_method(
        "xtf", on=[attribute], ri_cap=0.1, kn_cap=0.25, tr_cap=0.25, relevance_threshold=0.2
    )  # the figures of test_by_hand
    (need,) = method.needs
    statistics = by_hand()
    alone = Statistics(statistics.cu_seqlens, statistics.labels, {need: statistics.values[need]})
    assert (method.select(alone)[2:7] != -100).tolist() == kept
    assert (method.select(alone)[7:] != -100).all()
    reasons = method.reasons(alone)
    assert reasons is not None
    assert set(reasons.tolist()) == {0, bit}


def test_the_paper_has_no_caps_and_spares_the_lowest_class():
    method = get_method("xtf", mode="paper", relevance_threshold=0.28, relevance_floor=0.1)
    reasons = method.reasons(by_hand())
    assert reasons is not None
    # 0.05 is below the floor, 0.15 and 0.25 are between; all of 0.99, 0.97, 0.96 and 0.98 are known
    assert reasons.tolist() == [0, 0, 1, 1 + 2, 2, 2 + 4, 2 + 4, 0, 0, 0, 0, 0, 0, 0]


def test_official_is_corrected_with_another_attention():
    settings = {"ri_cap": 0.1, "kn_cap": 0.25, "tr_cap": 0.25, "relevance_threshold": 0.2}
    official = get_method("xtf", mode="official", **settings)
    assert official.needs == {("base", "attention_row_mean"), ("base", "loss"), ("base", "relevance")}
    corrected = get_method("xtf", **settings)
    assert np.array_equal(
        official.select(by_hand("attention_row_mean")), corrected.select(by_hand("attention_received"))
    )


@pytest.mark.parametrize("cap", [0.0, 0.03, 0.1, 0.29, 1.0])
@pytest.mark.parametrize("mode", ["corrected", "official", "paper"])
def test_equals_a_loop_over_random_figures(mode, cap):
    attention = "attention_row_mean" if mode == "official" else "attention_received"
    statistics = random_statistics(attention=attention)
    method = get_method(
        "xtf", mode=mode, ri_cap=cap, kn_cap=cap, tr_cap=cap, relevance_threshold=0.2, relevance_floor=-0.1
    )
    reasons = method.reasons(statistics)
    assert reasons is not None
    expected = naive_reasons(method, statistics, 0.2, -0.1)
    assert reasons.tolist() == expected
    assert method.score(statistics).tolist() == [-float(bits.bit_count()) for bits in expected]
    if mode == "paper" or cap >= 0.1:
        assert all(any(bits >> bit & 1 for bits in expected) for bit in range(3))


def test_caps_bound_what_an_attribute_drops():
    statistics = random_statistics(lengths=(200,))
    trainable = int(statistics.trainable.sum())
    for attribute, cap in zip(ALL, ("ri_cap", "kn_cap", "tr_cap"), strict=True):
        dropped = []
        for share in (0.0, 0.02, 0.05, 0.5):
            labels = get_method("xtf", on=[attribute], relevance_threshold=0.25, **{cap: share}).select(statistics)
            dropped.append(int(((labels == -100) & statistics.trainable).sum()))
            assert dropped[-1] <= trainable * share + 1e-9
        assert dropped == sorted(dropped)
        assert dropped[0] == 0 < dropped[-1]


def test_turn_ends_stay_and_the_reason_is_told_all_the_same():
    turn_end = np.zeros(14, dtype=bool)
    turn_end[3] = True
    method = get_method("xtf", on=["novelty"], kn_cap=0.25)
    statistics = by_hand(turn_end=turn_end)
    reasons = method.reasons(statistics)
    assert reasons is not None
    assert reasons[3] == 2
    assert method.select(statistics)[3] == 11


def test_fit_over_shards_is_fit_over_all_and_what_scikit_image_says():
    statistics = random_statistics(3, lengths=(40, 0, 300, 1, 90))
    relevance = statistics.values["base", "relevance"][statistics.trainable]
    thresholds = threshold_multiotsu(relevance, classes=5, nbins=256)
    method = get_method("xtf")
    fitted = method.fit(lambda: iter([statistics]))
    assert isinstance(fitted, Xtf)
    assert fitted.relevance_threshold == float(thresholds[0])
    assert fitted.relevance_floor is None
    for cuts in ([1], [2, 3], [0, 1, 2, 5]):
        assert method.fit(lambda cuts=cuts: iter(parts(statistics, cuts))) == fitted
    paper = get_method("xtf", mode="paper").fit(lambda: [statistics])
    assert isinstance(paper, Xtf)
    assert (paper.relevance_floor, paper.relevance_threshold) == (float(thresholds[0]), float(thresholds[1]))
    # a method that was not fitted takes what it is given for the whole
    assert np.array_equal(method.select(statistics), fitted.select(statistics))
    assert fitted.fit(lambda: pytest.fail("a threshold that is known is not computed again")) is fitted


def test_nothing_is_fitted_where_relevance_does_not_count():
    method = get_method("xtf", on=["novelty", "importance"])
    assert method.fit(lambda: pytest.fail("nothing to know")) is method


@pytest.mark.parametrize("mode", ["corrected", "paper"])
@pytest.mark.parametrize("distinct", [0, 1, 4])
def test_nothing_is_off_task_where_there_are_fewer_than_five_values(distinct, mode):
    size = 20 * distinct
    relevance = np.tile(np.arange(distinct) * 0.25 - 0.5, 20)
    statistics = Statistics(np.array([0, size]), np.ones(size, dtype=int), {("base", "relevance"): relevance})
    method = get_method("xtf", on=["relevance"], mode=mode, tr_cap=1.0)
    assert (method.select(statistics) == 1).all()


def test_five_values_are_five_classes():
    relevance = np.tile(np.arange(5) * 0.25 - 0.5, 20)
    statistics = Statistics(np.array([0, 100]), np.ones(100, dtype=int), {("base", "relevance"): relevance})
    for mode, dropped in (("corrected", -0.5), ("paper", -0.25)):
        labels = get_method("xtf", on=["relevance"], mode=mode, tr_cap=1.0).select(statistics)
        # the class of a bin is what lies below its centre, and these values lie on the edges of bins
        assert (labels == -100).sum() in (20, 40)
        assert (labels[relevance == dropped] == -100).all()


def test_the_published_attention_is_one_over_the_length_and_drops_nothing_while_the_received_does():
    torch.manual_seed(0)
    lengths, ignored = [64, 37], [50, 30]
    query, key = torch.ones(2, 4, 64, 8), 0.1 * torch.randn(2, 4, 64, 8)
    for row, token in enumerate(ignored):
        key[row, :, token] = -5.0  # a token that nothing attends to
    names = ("attention_row_mean", "attention_received")
    prompt = torch.zeros(2, 64, dtype=torch.bool)
    mass = attention_mass(query, key, prompt, lengths=torch.tensor(lengths), scale=8**-0.5, names=names)
    row_mean, received = (np.concatenate([mass[name][i, :n].numpy() for i, n in enumerate(lengths)]) for name in names)
    one_over = np.repeat([1 / n for n in lengths], lengths)
    np.testing.assert_allclose(row_mean, one_over, rtol=1e-5)

    # the prompts are long: what comes early is seen by more rows that see little
    labels = np.concatenate([np.where(np.arange(n) < n - 20, -100, 1) for n in lengths])
    # without the rounding of the softmax, of which an interquartile range makes outliers
    published = Statistics(offsets(lengths), labels, {("base", "attention_row_mean"): one_over})
    official = get_method("xtf", mode="official", on=["importance"], ri_cap=1.0)
    assert np.array_equal(official.select(published), labels)
    corrected = get_method("xtf", on=["importance"], ri_cap=1.0)
    selected = corrected.select(Statistics(offsets(lengths), labels, {("base", "attention_received"): received}))
    assert np.flatnonzero(selected != labels).tolist() == [50, 64 + 30]


def test_how_its_statistics_are_measured():
    method = get_method("xtf", layer=-2, heads="max", domain_words=["sum", "price"], vector="embedding")
    assert method.options("attention_received") == {"layer": -2, "heads": "max"}
    assert method.options("attention_row_mean") == {"layer": -2, "heads": "max"}
    assert method.options("relevance") == {"domain_words": ("sum", "price"), "vector": "embedding"}
    assert method.options("loss") == {}


def test_defaults():
    method = get_method("xtf")
    assert isinstance(method, Xtf)
    assert (method.mode, method.ri_cap, method.kn_cap, method.tr_cap) == ("corrected", 0.05, 0.10, 0.05)
    assert (method.layer, method.heads, method.vector, method.on) == (0, "mean", "hidden", ALL)
    assert method.rule == Threshold(0.0)
    assert method.needs == {("base", "attention_received"), ("base", "loss"), ("base", "relevance")}
    assert len(method.reason_names) == 3
    assert not method.online


def test_lists_and_single_words_become_tuples_in_one_order():
    method = get_method("xtf", on=["relevance", "importance", "relevance"], domain_words="price")
    assert method == get_method("xtf", on=("importance", "relevance"), domain_words=("price",))
    assert hash(method) == hash(get_method("xtf", on=("importance", "relevance"), domain_words=["price"]))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"on": ["novelty", "relevants"]}, "on is 'relevants', it must be one of importance, novelty, relevance"),
        ({"on": []}, "on is empty"),
        ({"mode": "published"}, "mode is 'published'"),
        ({"heads": "min"}, "heads is 'min'"),
        ({"vector": "output"}, "vector is 'output'"),
        ({"layer": 0.5}, "layer is 0.5"),
        ({"ri_cap": 1.5}, "ri_cap is 1.5"),
        ({"kn_cap": -0.1}, "kn_cap is -0.1"),
        ({"tr_cap": True}, "tr_cap is True"),
        ({"relevance_threshold": float("nan")}, "relevance_threshold is nan"),
        ({"relevance_floor": "low"}, "relevance_floor is 'low'"),
        ({"domain_words": ["sum", " "]}, "domain_words contains ' ', which is not a word"),
    ],
)
def test_bad_settings_are_refused(settings, told):
    with pytest.raises(TokensieveError, match=told):
        get_method("xtf", **settings)
