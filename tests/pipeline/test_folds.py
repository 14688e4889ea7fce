"""A warm-up in folds: each row is measured by a model that was made without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokensieve.containers import Float32
from tokensieve.errors import TokensieveError
from tokensieve.measure import worker
from tokensieve.measure.folds import part_of
from tokensieve.pipeline.dry_run import dry_run
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.progress import StageProgress
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json

METHOD = ("method=token-cleaning", "controls=[]")
FOLDS = "models.reference.warm_up={folds: 3}"


def losses(folder: Path) -> list[Float32]:
    """Return the reference's losses, example by example."""
    found: list[Float32] = []
    for shard in load_run(folder).shards():
        cuts = shard.examples.cu_seqlens
        found += np.split(shard.statistics["reference.loss"], cuts[1:-1])
    return found


def test_each_row_is_measured_by_the_model_of_the_other_parts(run, data, trained):
    folded = losses(run("folded", *METHOD, FOLDS, until="select"))
    assert len(trained) == 3
    rows = (data / "pool.jsonl").read_text().splitlines(keepends=True)
    for part in range(3):
        others = data / f"without-{part}.jsonl"
        others.write_text("".join(row for number, row in enumerate(rows) if number % 3 != part))
        alone = losses(
            run(f"without-{part}", *METHOD, f"models.reference.warm_up={{files: [{others}]}}", until="select")
        )
        for number in range(part, len(rows), 3):
            # Batches of other rows round differently.
            np.testing.assert_allclose(folded[number], alone[number], rtol=1e-5, atol=1e-5)
        other = (part + 1) % 3
        assert not np.allclose(folded[other], alone[other], rtol=1e-5, atol=1e-5)


def test_each_row_passes_through_the_model_of_its_part_alone(run, monkeypatch):
    measure, passed = worker.measure_shard, []

    def measured(forward, shard, budget, on_tokens):
        passed.append(np.flatnonzero(forward.needed_lengths(shard)).tolist())
        told: list[int] = []
        found = measure(forward, shard, budget, told.append)
        assert sum(told) == len(shard.input_ids)
        return found

    monkeypatch.setattr(worker, "measure_shard", measured)
    run("alone", *METHOD, FOLDS, until="select")
    assert sorted(passed) == [list(range(12)), *(list(range(part, 12, 3)) for part in range(3))]


def test_a_second_run_makes_and_measures_nothing_again(run, trained):
    first = run("first", *METHOD, FOLDS, until="select")
    trained.clear()
    second = run("second", *METHOD, FOLDS, until="select")
    assert not trained
    seconds = read_json(second / "times.json")
    assert not [stage for stage in seconds if stage.startswith(("make", "measure"))]
    for one, other in zip(losses(first), losses(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dry_run_tells_what_would_be_made(arguments):
    lines = dry_run(load_recipe(None, arguments("run", *METHOD, FOLDS)), StageProgress(shown=False))
    assert "measure reference: loss, of 3 models to be made" in lines
    assert "make reference: 6 optimizer steps in 3 rounds (max_steps)" in lines


@pytest.mark.parametrize(
    ("warm_up", "fault"),
    [
        ("{folds: 13}", "13 folds of 12 examples"),
        ("{folds: 2, rows: 4}", "'folds' cuts the whole pool into parts, and 'rows' names other rows"),
        ("{folds: 0}", "folds is 0"),
    ],
)
def test_folds_that_cannot_be(run: Callable[..., Path], trained, warm_up, fault):
    with pytest.raises(TokensieveError, match=re.escape(fault)):
        run("run", *METHOD, f"models.reference.warm_up={warm_up}")
    assert not trained


def test_parts_are_the_same_whatever_the_shards():
    np.testing.assert_array_equal(np.concatenate([part_of(0, 4, 3), part_of(4, 3, 3)]), part_of(0, 7, 3))
