"""The figures of `benchmarks/quality/detection.py` and `spans.py`, against naive loops and hand-computed numbers."""

from __future__ import annotations

import json
import math
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra bench)")

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from tokensieve import json_text


@pytest.fixture(scope="module")
def detection(load_benchmark) -> ModuleType:
    return load_benchmark("detection")


def table_of(detection, row, marked, text=None, **scores):
    arrays = {name: np.array(values, dtype=np.float64) for name, values in scores.items()}
    words = ["word"] * len(row) if text is None else text
    return detection.WordTable(np.array(row, dtype=np.int64), np.array(marked, dtype=bool), tuple(words), arrays)


@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_auroc_is_the_share_of_pairs_in_order_with_ties_as_halves(detection, levels):
    generator = np.random.default_rng(levels)
    values, marked = generator.integers(0, levels, 90) / levels, generator.random(90) < 0.3
    pairs = [(bad < good) + (bad == good) / 2 for bad in values[marked] for good in values[~marked]]
    found = detection.auroc_of(values, marked)
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
    assert found == pytest.approx(roc_auc_score(~marked, values), abs=1e-12)


def test_a_score_is_judged_over_all_words_and_within_answers(detection):
    table = table_of(detection, [0, 0, 0, 1, 1, 2], [1, 0, 0, 1, 0, 0])
    values = np.array([1.0, 2.0, 3.0, 5.0, 5.0, 0.0])
    found = detection.judge("by hand", values, table)
    assert found.score == "by hand"
    assert found.auroc == pytest.approx((3 + 0.5) / 8)  # 1 is below 2, 3 and 5; 5 ties with 5
    assert found.within == pytest.approx((2 * 1 + 1 * 0.5) / 3)  # two pairs in one answer, one in the other
    # Dropped from 0 up: half of the marked words with 1, where one of two is right; the rest with both fives.
    assert found.ap == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 6)
    assert 0 <= found.low <= found.auroc <= found.high <= 1


def test_without_an_answer_that_has_both_kinds_there_is_no_figure_within(detection):
    found = detection.judge("apart", np.array([1.0, 2.0, 0.0]), table_of(detection, [0, 0, 1], [1, 1, 0]))
    assert found.auroc == 0
    assert math.isnan(found.within)


def test_the_interval_resamples_answers_and_not_words(detection):
    generator = np.random.default_rng(0)
    row, marked = np.repeat(np.arange(40), 6), generator.random(240) < 0.4
    values = generator.normal(size=240) - 0.5 * marked
    once = detection.judge("once", values, table_of(detection, row, marked))
    often = detection.judge("often", values.repeat(9), table_of(detection, row.repeat(9), marked.repeat(9)))
    assert once.low < once.auroc < once.high
    # As many answers are behind both, though one has nine times the words.
    assert (often.low, often.auroc, often.high) == pytest.approx((once.low, once.auroc, once.high), abs=1e-9)
    draws = [detection.auroc_of(*_resampled(generator, row, values, marked)) for _ in range(400)]
    assert (once.high - once.low) / np.subtract(*np.percentile(draws, [97.5, 2.5])) == pytest.approx(1, abs=0.25)


def _resampled(generator, row, values, marked):
    taken = np.concatenate([np.flatnonzero(row == one) for one in generator.integers(0, 40, 40)])
    return values[taken], marked[taken]


@pytest.mark.parametrize("side", [1, 2, 7])
def test_a_mean_over_neighbours_stays_in_the_answer(detection, side):
    generator = np.random.default_rng(side)
    row = np.repeat([0, 2, 3, 9], [1, 5, 2, 20])
    values = generator.normal(size=len(row))
    naive = [
        np.mean([values[other] for other in range(len(row)) if row[other] == row[at] and abs(other - at) <= side])
        for at in range(len(row))
    ]
    np.testing.assert_allclose(detection.smoothed(values, row, side), naive, rtol=0, atol=1e-12)


CLEAN = ["a b", "A b c", "c b"]


def test_the_trigram_model_by_hand(detection):
    table = table_of(detection, [0] * 6 + [1], [0] * 7, ["A", "b", "c", "b", "x", "a", "b"])
    # Seven words of three kinds, and one kind for all others: (count + 1) / (7 + 4).
    wanted = [
        0.1 * 3 / 11 + 0.3 * 2 / 3 + 0.6 * 2 / 3,  # two of three answers begin with "a"
        0.1 * 4 / 11 + 0.3 * 2 / 2 + 0.6 * 2 / 2,  # and go on with "b"
        0.1 * 3 / 11 + 0.3 * 1 / 1 + 0.6 * 1 / 1,  # "c" follows "b" and "a b" wherever another word does
        0.1 * 4 / 11 + 0.3 * 1 / 1,  # "b" follows "c", and nothing follows "b c"
        0.1 * 1 / 11,  # never seen
        0.1 * 3 / 11,  # never seen behind "x"
        0.1 * 4 / 11,  # never seen at the beginning, where the answer before does not count
    ]
    np.testing.assert_allclose(np.exp(detection._trigrams(table, CLEAN)), wanted, rtol=1e-12)


def test_the_scores_without_a_model_by_hand(detection):
    table = table_of(detection, [0, 0, 0, 4], [0] * 4, ["A", "bb", "c", "b"])
    found = detection.without_a_model(table, CLEAN)
    assert tuple(found) == detection.NO_MODEL
    np.testing.assert_allclose(found["rare words"], np.log([3, 1, 3, 4]))
    np.testing.assert_array_equal(found["long words"], [-1, -2, -1, -1])
    np.testing.assert_allclose(found["late words"], [0, -1 / 3, -2 / 3, 0])
    np.testing.assert_array_equal(found["trigram model"], detection._trigrams(table, CLEAN))
    assert len(set(found["random numbers"])) == 4


def test_the_ceiling_never_trains_on_a_row_that_it_scores(detection):
    generator = np.random.default_rng(0)
    row = np.repeat(np.arange(60), 25)
    marked = generator.permutation(np.arange(60) % 2 == 0)[row]
    table = table_of(detection, row, marked, number=row)  # tells a row, and nothing of other rows
    memorised = HistGradientBoostingClassifier(random_state=0).fit(row[:, None], marked).predict_proba(row[:, None])
    assert roc_auc_score(marked, memorised[:, 1]) > 0.95
    assert detection.auroc_of(detection.supervised(table), marked) == pytest.approx(0.5, abs=0.15)


def test_the_ceiling_learns_what_holds_in_other_rows(detection):
    generator = np.random.default_rng(0)
    row, score = np.repeat(np.arange(20), 30), generator.normal(size=600)
    found = detection.supervised(table_of(detection, row, abs(score) > 1, score=score))
    assert detection.auroc_of(score, abs(score) > 1) == pytest.approx(0.5, abs=0.1)
    assert detection.auroc_of(found, abs(score) > 1) > 0.95
    assert ((found >= 0) & (found <= 1)).all()


def test_a_score_that_several_methods_have_is_judged_once(detection):
    one, other = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    found = detection.distinct({"rho-1": one, "base.loss": other, "token-cleaning": one.copy(), "entropy": other})
    assert list(found) == ["rho-1, token-cleaning", "entropy"]
    np.testing.assert_array_equal(found["entropy"], other)


def test_the_rows_of_the_reference_are_clean_and_not_those_that_are_judged(detection, tmp_path):
    rows = [
        {
            "prompt": str(n),
            "response": f"answer\u2028{n}",
            "spans": [[0, 6]] if n % 2 else [],
            "clean": "good" * (n % 4 > 1),
        }
        for n in range(20)
    ]
    rows.append({"prompt": "empty", "response": " ", "spans": []})
    (tmp_path / "marked").mkdir()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "marked/toxic_spans.jsonl").write_text(text)
    detection.lay_out(tmp_path, "comments", 50, tmp_path / "out")
    pool, clean = (json_text.parse_lines((tmp_path / f"out/{name}.jsonl").read_bytes()) for name in ("pool", "clean"))
    assert len(pool) == 10
    assert not {row["prompt"] for row in pool} & {row["prompt"] for row in clean}
    others = set(range(20)) - {int(row["prompt"]) for row in pool}
    wanted = {(n, "good" if n % 4 > 1 else f"answer\u2028{n}") for n in others if n % 4 != 1}
    assert {(int(row["prompt"]), row["response"]) for row in clean} == wanted


def test_the_lines_of_a_page_are_sorted_by_what_they_find(detection):
    table = table_of(detection, [0, 0, 1], [1, 0, 0])
    found = [detection.Found(name, auroc, 0.1, 0.9, 0.6, 0.4) for name, auroc in (("a, b", 0.3), ("loss", 0.7))]
    lines = detection.markdown("Rows", table, found)
    assert "2 answers, 3 words, 33.3% of them marked (the AP of chance)." in lines
    assert [line for line in lines if "to 0.90" in line] == [
        "| `loss` | 0.70 (0.10 to 0.90) | 0.60 | 0.40 |",
        "| a, b | 0.30 (0.10 to 0.90) | 0.60 | 0.40 |",
    ]


def test_the_average_precision_is_that_of_dropping_low_scores(detection):
    generator = np.random.default_rng(0)
    marked, values = generator.random(50) < 0.3, generator.integers(0, 9, 50).astype(float)
    found = detection.judge("x", values, table_of(detection, np.repeat(np.arange(5), 10), marked))
    assert found.ap == pytest.approx(average_precision_score(marked, -values))


def test_scores_of_spans_are_low_for_what_is_dropped(load_benchmark, detection):
    spans = load_benchmark("spans")
    losses = {"base.loss": [1, 2, 6], "reference.loss": [5, 1, 1], "pool.loss": [2, 1, 3]}
    table = table_of(detection, [0, 0, 1], [1, 0, 0], **losses, **{"span-ratio": [-3, 2, 1]})
    found = spans.scores_of(table).scores
    wanted = {
        "loss of the base": [-1, -2, -6],
        "loss of the reference": [-5, -1, -1],
        "excess loss (`token-cleaning`)": [-4, 1, 5],
        "loss of the reference minus that of the pool": [-3, 0, 2],
    }
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
        for words in (15, 31):
            mean = (values[0] + values[1]) / 2
            np.testing.assert_allclose(found[f"{name}, mean of {words} words"], [mean, mean, values[2]])
    np.testing.assert_array_equal(found["span-ratio"], [-3, 2, 1])
    assert len(found) == 3 * len(wanted) + 1
