from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tokensieve.containers import IGNORE_INDEX, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods.rows_first import RowsFirst
from tokensieve.methods.t_shirt import TShirt
from tokensieve.methods.xtf import Xtf
from tokensieve.ops.rules import TopFraction
from tokensieve.select.streaming import read_kept, select_shards
from tokensieve.testing import made_up_statistics

JOINED = {"rows_by": {"name": "loss"}, "tokens_by": {"name": "entropy", "fraction": 0.5}, "keep_rows": 0.4}


def shards(method, count=3) -> list[Statistics]:
    """Return shards, each behind the one before."""
    made = [made_up_statistics(method.needs, seed) for seed in range(count)]
    firsts = np.cumsum([0, *(len(one.labels) for one in made)])
    return [dataclasses.replace(one, first_token=int(first)) for one, first in zip(made, firsts, strict=False)]


def whole(parts) -> Statistics:
    lengths = np.concatenate([np.diff(part.cu_seqlens) for part in parts])
    return Statistics(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([part.labels for part in parts]),
        {key: np.concatenate([part.values[key] for part in parts]) for key in parts[0].values},
        turn_end=np.concatenate([part.turn_end for part in parts]),
    )


def test_tokens_are_ranked_among_those_of_the_best_rows():
    method = RowsFirst(**JOINED)
    statistics = whole(shards(method))
    assert statistics.turn_end is not None
    rows = list(zip(statistics.cu_seqlens, statistics.cu_seqlens[1:], strict=False))
    trained = [[t for t in range(a, b) if statistics.labels[t] != IGNORE_INDEX] for a, b in rows]
    losses, entropies = (statistics.values["base", name] for name in ("loss", "entropy"))
    means = sorted((np.mean(losses[row].astype(float)) for row in trained if row), reverse=True)
    cut = means[int(np.ceil(0.4 * len(means))) - 1]
    best = [row for row in trained if row and np.mean(losses[row].astype(float)) >= cut - 1e-9]
    assert method.rows(statistics).sum() == len(best)
    outside = [t for row in trained if row not in best for t in row]
    assert method.reasons(statistics).nonzero()[0].tolist() == outside
    inside = sorted(t for row in best for t in row)
    forced = [t for t in inside if statistics.turn_end[t]]
    free = sorted((t for t in inside if t not in forced), key=lambda t: (-entropies[t], t))
    expected = sorted([*forced, *free[: max(0, int(0.5 * len(inside)) - len(forced))]])
    assert (method.select(statistics) != IGNORE_INDEX).nonzero()[0].tolist() == expected


@pytest.mark.parametrize(
    "method",
    [
        RowsFirst(**JOINED),
        RowsFirst(**{**JOINED, "tokens_by": {"name": "rho-1", "fraction": 0.3}}),
        RowsFirst(**{**JOINED, "tokens_by": {"name": "toss"}}),
        get_method("q-tuning", keep_rows=0.6),
    ],
    ids=["dataset", "example", "drop", "q-tuning"],
)
def test_shards_are_as_the_whole(method, tmp_path):
    parts = shards(method)
    fitted = method.fit(lambda: parts)
    statistics = whole(parts)
    kept = fitted.select(statistics) != IGNORE_INDEX
    counts = select_shards(
        fitted, fitted.rule, lambda n: (parts[n], np.zeros(len(parts[n]), dtype=np.int64)), len(parts), tmp_path
    )
    assert np.concatenate([read_kept(tmp_path, n)[1] for n in range(len(parts))]).tolist() == kept.tolist()
    assert counts["kept"] == kept.sum()
    assert counts["trainable"] == statistics.trainable.sum()
    assert 0 < counts["examples_without_kept"] < counts["examples"]
    assert counts["kept_turn_ends"] == (kept & statistics.turn_end & statistics.trainable).sum()


def test_what_the_methods_derive_from_the_data_is_theirs():
    method = RowsFirst(rows_by={"name": "t-shirt", "keep": "rows"}, tokens_by={"name": "xtf"})
    parts = shards(method)
    fitted = method.fit(lambda: parts)
    assert fitted.rows_by["threshold"] == TShirt(keep="rows").fit(lambda: parts).threshold
    assert fitted.tokens_by["relevance_threshold"] == Xtf().fit(lambda: parts).relevance_threshold
    assert fitted.fit(lambda: parts) == fitted
    assert RowsFirst(**dataclasses.asdict(fitted)) == fitted


@pytest.mark.parametrize(
    "choice", [{"name": "uds"}, {"name": "dft"}, {"name": "self-evolving"}, {"name": "q-tuning"}, {"fraction": 0.5}]
)
def test_methods_that_do_more_than_score_tokens_are_refused(choice):
    with pytest.raises(TokensieveError, match="tokens_by is"):
        RowsFirst(tokens_by=choice)


def test_two_ways_to_measure_one_statistic_are_refused():
    with pytest.raises(TokensieveError, match="want 'attention_received' measured in two ways"):
        RowsFirst(rows_by={"name": "xtf", "layer": 1}, tokens_by={"name": "xtf", "layer": 2})


def test_the_rule_is_that_of_the_tokens():
    assert RowsFirst(**JOINED).rule == TopFraction(0.5)
