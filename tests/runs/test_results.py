"""The results of a run as rows: means over seeds, with their intervals."""

from __future__ import annotations

from tokensieve.runs.results import Estimate, Evaluation, mean_evaluation


def test_an_interval_of_shares_ends_at_zero_and_one_and_one_of_losses_does_not():
    seeds = [
        Evaluation({"exact_match": Estimate(share), "held_out": Estimate(loss)})
        for share, loss in ((0.1, 0.1), (0.9, 2.0))
    ]
    found = mean_evaluation(seeds).results
    assert found["exact_match"] == Estimate(0.5, 0.0, 1.0)
    assert (found["held_out"].low or 0) < 0
    close = mean_evaluation([Evaluation({"exact_match": Estimate(share)}) for share in (0.50, 0.51, 0.52)])
    estimate = close.results["exact_match"]
    assert 0.4 < (estimate.low or 0) < 0.51 < (estimate.high or 1) < 0.6
