"""Selecting on an engine that is done with the shards in any order, and the memory of the driver."""

from __future__ import annotations

import runpy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shuffled import Shuffled

from tokensieve.containers import Statistics
from tokensieve.engines.local import LOCAL
from tokensieve.methods import get_method
from tokensieve.ops.cutoff import Tally, TallySum
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import DropFraction, Threshold, TopCount, TopFraction
from tokensieve.select.cleaned import write_data
from tokensieve.select.corpus import EngineCorpus
from tokensieve.select.streaming import select_shards

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/driver.py"


def shard(number: int) -> tuple[Statistics, np.ndarray]:
    """Return a shard with many ties, and turn ends in every other one."""
    generator = np.random.default_rng(number)
    cu_seqlens = offsets(generator.integers(1, 40, 50))
    tokens = int(cu_seqlens[-1])
    labels = np.where(generator.random(tokens) < 0.7, 1, -100).astype(np.int32)
    values = {
        (role, name): np.round(generator.random(tokens), 2).astype(np.float32)
        for role, name in (
            ("base", "loss"), ("reference", "loss"), ("current", "loss"),
            ("base", "relevance"), ("base", "attention_received"),
        )
    }  # fmt: skip
    ends = generator.random(tokens) < 0.1 if number % 2 else None
    return Statistics(cu_seqlens, labels, values, ends), np.arange(50)


def rows(number: int):
    statistics, _ = shard(number)
    return statistics.cu_seqlens, {"labels": statistics.labels}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("name", ["token-cleaning", "xtf", "talr", "random"])
@pytest.mark.parametrize(
    "rule",
    [TopFraction(0.6), TopFraction(0.6, "example"), DropFraction(0.3), TopCount(777), Threshold(0.4)],
    ids=lambda rule: type(rule).__name__,
)
def test_any_order_leaves_the_same_files(name, rule, tmp_path):
    found = {}
    for engine in (LOCAL, Shuffled()):
        folder = tmp_path / type(engine).__name__
        method = get_method(name).fit(EngineCorpus(shard, 9, engine))
        counts = select_shards(method, rule, shard, 9, folder, engine=engine)
        found[type(engine).__name__] = method, counts, contents(folder)
    assert found["Local"] == found["Shuffled"]
    assert len(found["Local"][2]) == 2 * 9 + 1, "masks are left behind"


@pytest.mark.parametrize("name", ["xtf", "talr"])
def test_a_method_is_fitted_shard_by_shard_as_to_the_whole(name):
    method = get_method(name)
    parts = [shard(number)[0] for number in range(9)]
    values = {key: np.concatenate([one.values[key] for one in parts]) for key in parts[0].values}
    lengths = np.concatenate([np.diff(one.cu_seqlens) for one in parts])
    whole = Statistics(offsets(lengths), np.concatenate([one.labels for one in parts]), values)
    fitted = method.fit(lambda: [whole])
    assert fitted == method.fit(EngineCorpus(shard, 9, Shuffled())) != method
    if name == "talr":
        assert fitted == get_method("talr", tau=float(np.median(values["current", "loss"][whole.trainable])))


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_the_median_of_a_few_losses(size):
    losses = np.random.default_rng(size).standard_exponential(size).astype(np.float32)
    statistics = Statistics(offsets([size]), np.ones(size, np.int32), {("current", "loss"): losses})
    assert get_method("talr").fit(lambda: [statistics]) == get_method("talr", tau=float(np.median(losses)))


def test_json_lines_have_the_order_of_the_shards(tmp_path):
    for engine in (LOCAL, Shuffled()):
        write_data(tmp_path / type(engine).__name__, rows, 9, jsonl=True, engine=engine)
    found = contents(tmp_path / "Local")
    assert found == contents(tmp_path / "Shuffled")
    assert found["jsonl/train.jsonl"].count(b"\n") == 450
    assert len(found) == 9 + 2, "lines of single shards are left behind"


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=20), max_size=9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 50),
)
def test_a_sum_of_tallies_is_the_tally_of_all(parts, low, high, count):
    arrays = [np.array(part, dtype=np.float32) for part in parts]
    every = [Tally.of(values, np.ones(len(values), bool), low, high) for values in arrays]
    total, scarce = TallySum(), TallySum(most=0)
    for one in every:
        assert total.add(one)
        scarce.add(one)
    assert total.cutoff(count) == Tally.total(every).cutoff(count)
    assert total.count(low) == sum(int((values == low).sum()) for values in arrays if low <= high)
    if any(len(one.values) for one in every):
        assert (scarce.cutoff(count), scarce.count(low)) == (None, 0)


def test_more_values_than_the_driver_holds_cost_time_alone(monkeypatch, tmp_path):
    found = []
    for most in (1 << 21, 0):
        monkeypatch.setattr("tokensieve.select.streaming.TallySum", lambda most=most: TallySum(most))
        counts = select_shards(get_method("token-cleaning"), TopFraction(0.6), shard, 5, tmp_path / str(most))
        found.append((counts, contents(tmp_path / str(most))))
    assert found[0] == found[1]


@pytest.fixture
def drivers():
    return runpy.run_path(str(SCRIPT))["DRIVERS"]


@pytest.mark.parametrize("name", ["manifest", "measure", "select", "write"])
def test_a_driver_holds_a_few_numbers_of_a_shard(name, drivers, tmp_path):
    """A shard of a million tokens: its masks would be 131 kB, its scores 4 MB."""
    drivers[name](tmp_path / "warm", 10)
    peaks, sizes = [], (1024, 8192)  # from the first on, the sample has one size
    for shards in sizes:
        tracemalloc.start()
        drivers[name](tmp_path / str(shards), shards)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]) < 100
