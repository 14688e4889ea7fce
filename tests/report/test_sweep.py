"""What the slider shows is what the rule itself would keep, over all shards, at every setting."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from manifests import cut_again, record_again

from tokensieve.containers import Statistics
from tokensieve.data.tokenize import turn_end_mask
from tokensieve.methods import get_method
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import DropFraction, Threshold, TopCount, TopFraction
from tokensieve.report.analysis.sweep import PROMPT, Levels, own_rule, ratio_parameter
from tokensieve.report.html.payload import recipe_of
from tokensieve.runs.view import load_run
from tokensieve.select.selection import LAYOUT, Selection
from tokensieve.select.streaming import select_shards
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed
from tokensieve.store.shards import shard_name, write_shard

TURN_END = 7
SHARDS = 3


def part(number: int) -> Statistics:
    """Return one shard: examples of 1 to 30 tokens, few different scores, turn ends here and there."""
    random = np.random.default_rng(number)
    cu_seqlens = offsets(random.integers(1, 30, 40))
    ids = random.integers(0, 10, cu_seqlens[-1])
    trainable = random.random(len(ids)) < 0.7
    trainable[cu_seqlens[:-1]] = False
    scores = (np.round(random.normal(size=len(ids)) * 4) / 4).astype(np.float32)
    labels = np.where(trainable, ids, -100)
    turn_end = turn_end_mask(ids, labels, cu_seqlens, (TURN_END,))
    assert turn_end.any()
    return Statistics(cu_seqlens, labels, {("base", "loss"): scores}, turn_end)


PARTS = [part(number) for number in range(SHARDS)]


def whole(parts: list[Statistics]) -> Statistics:
    cu_seqlens = offsets(np.concatenate([np.diff(part.cu_seqlens) for part in parts]))
    labels = np.concatenate([part.labels for part in parts])
    values = {("base", "loss"): np.concatenate([part.get("base", "loss") for part in parts])}
    turn_end = [part.turn_end for part in parts if part.turn_end is not None]
    return Statistics(cu_seqlens, labels, values, np.concatenate(turn_end) if turn_end else None)


@pytest.fixture
def run(demo):
    """Return a function that selects the parts by a rule, into the run of this test, and opens it."""

    def select(rule, keep_turn_end=True):
        parts = PARTS if keep_turn_end else [dataclasses.replace(part, turn_end=None) for part in PARTS]
        view = load_run(demo.folder)
        for number, one in enumerate(parts):
            ids = np.where(one.labels == -100, 0, one.labels).astype(np.int32)
            columns = {"input_ids": ids, "labels": one.labels.astype(np.int32)}
            scalars = {"row": np.arange(len(one)), "source": np.zeros(len(one), dtype=np.int32)}
            write_shard(view.store.folder / shard_name(number), one.cu_seqlens, columns, scalars)
        record_again(view.store.folder, turn_end_ids=[TURN_END])
        arm = demo.folder / "arms" / "token-cleaning"
        rows = [(part, np.arange(len(part))) for part in parts]
        counts = select_shards(get_method("loss"), rule, rows.__getitem__, SHARDS, arm / "scores")
        given = {"rule": {"name": type(rule).__name__, **dataclasses.asdict(rule)}, "keep_turn_end": keep_turn_end}
        given["parameters"] = {} if isinstance(rule, Threshold) else {"fraction": getattr(rule, "fraction", 0.6)}
        write_sealed(arm / "selection.json", {**read_json(arm / "selection.json"), **counts, **given})
        cut_again(demo.folder, view.store.folder)
        return load_run(demo.folder), whole(parts)

    return select


def levels_of(view) -> tuple[Levels, np.ndarray]:
    levels = Levels(view, "token-cleaning")
    return levels, np.concatenate([levels.shard(number) for number in range(SHARDS)])


RULES = [
    TopFraction(0.6),
    TopFraction(0.615),
    TopFraction(0.3, rounding="ceil"),
    TopFraction(0.5, "example"),
    TopFraction(0.5, "example", "ceil"),
    DropFraction(0.25),
    DropFraction(0.25, "example", "ceil"),
    Threshold(0.3),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("keep_turn_end", [True, False])
def test_every_setting_keeps_what_its_rule_keeps(run, rule, keep_turn_end):
    view, statistics = run(rule, keep_turn_end)
    levels, found = levels_of(view)
    sweep = levels.sweep
    trainable = statistics.trainable
    assert np.array_equal(found == PROMPT, ~trainable)
    scores = np.where(trainable, statistics.get("base", "loss"), np.float32(0))
    names = {Threshold: "threshold", DropFraction: "discard", TopFraction: "fraction"}
    assert sweep.parameter == names[type(rule)]
    assert len(sweep.values) > (10 if isinstance(rule, Threshold) else 99)
    for setting, value in enumerate(sweep.values):
        changed = Threshold(value) if isinstance(rule, Threshold) else dataclasses.replace(rule, fraction=value)
        assert np.array_equal((found <= setting) & trainable, changed.keep(scores, statistics)), value


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_runs_own_setting_keeps_what_is_stored(run, rule):
    view, _ = run(rule)
    levels, found = levels_of(view)
    stored = np.concatenate([view.read_scores("token-cleaning", number)[1] for number in range(SHARDS)])
    assert np.array_equal(found <= levels.sweep.own, stored)
    own = levels.sweep.values[levels.sweep.own]
    assert own == (rule.value if isinstance(rule, Threshold) else rule.fraction)


def test_the_threshold_of_the_runs_own_setting_is_the_stored_one(run):
    view, _ = run(TopFraction(0.6))
    sweep = Levels(view, "token-cleaning").sweep
    selection = view.row("token-cleaning").selection
    assert selection is not None
    assert sweep.thresholds[sweep.own] == selection.threshold


def test_there_is_no_threshold_within_examples(run):
    view, _ = run(TopFraction(0.6, "example"))
    assert np.isnan(Levels(view, "token-cleaning").sweep.thresholds).all()


def test_a_shard_alone_knows_the_ties_before_it(run):
    view, _ = run(TopFraction(0.6))
    _, found = levels_of(view)
    last = Levels(view, "token-cleaning").shard(SHARDS - 1)
    assert np.array_equal(found[-len(last) :], last)


def test_a_selection_that_its_rule_does_not_give_stays_as_it_is(run):
    view, statistics = run(TopFraction(0.6))
    selection = view.folder / "arms" / "token-cleaning" / "selection.json"
    write_sealed(selection, {**read_json(selection), "rule": {"name": "TopFraction", "fraction": 0.4}})
    levels, found = levels_of(load_run(view.folder))
    assert levels.sweep.parameter is None
    assert "does not match the stored scores" in levels.sweep.note
    stored = np.concatenate([view.read_scores("token-cleaning", number)[1] for number in range(SHARDS)])
    assert np.array_equal((found == 0), stored)
    assert np.array_equal((found == 1), statistics.trainable & ~stored)


def test_a_count_is_shown_among_the_fractions(run):
    view, statistics = run(TopCount(17))
    levels, found = levels_of(view)
    assert levels.sweep.parameter == "fraction"
    assert int(levels.sweep.values[levels.sweep.own] * statistics.trainable.sum()) == 17
    stored = np.concatenate([view.read_scores("token-cleaning", number)[1] for number in range(SHARDS)])
    assert np.array_equal(found <= levels.sweep.own, stored)


def selection_of(**given) -> Selection:
    plain = {"method": "m", "parameters": {"fraction": 0.5}, "rule": {"name": "TopFraction", "fraction": 0.5}}
    counts = {"trainable": 1, "kept": 1, "examples": 1, "examples_without_kept": 0, "threshold": None}
    made = {"layout": LAYOUT, "data": "f", "cut": "c", "examples_written": 1, "source_rows": 1}
    return Selection.from_json({**plain, **counts, **made, **given}, "here")


def test_what_has_no_ratio_to_set_has_no_rule():
    half = {"name": "TopFraction", "fraction": 0.5, "scope": "dataset", "rounding": "floor"}
    drops = {**half, "name": "DropFraction"}
    assert own_rule(selection_of()) == TopFraction(0.5)
    assert own_rule(selection_of(parameters={})) is None
    assert own_rule(selection_of(rounds=[{}])) is None
    assert own_rule(selection_of(rule={"name": "TopExamples", "examples": 4})) is None
    assert own_rule(selection_of(rule={"name": "Threshold", "value": 0.0}, parameters={})) == Threshold(0.0)
    assert own_rule(selection_of(method="full", parameters={}, rule={**half, "fraction": 1.0})) is None
    toss = selection_of(method="toss", parameters={"discard": 0.5, "scope": "dataset"}, rule=drops)
    assert (own_rule(toss), ratio_parameter(toss)) == (DropFraction(0.5), "discard")
    imported = selection_of(method="imported", parameters={"file": "a"}, rule=half)
    assert own_rule(imported) == TopFraction(0.5)
    labels = selection_of(method="imported", parameters={"file": "a"}, rule={"name": "Threshold", "value": 0.5})
    assert own_rule(labels) is None


def test_the_recipe_of_a_control_has_the_rule_that_it_follows():
    rule = {"name": "TopFraction", "fraction": 0.25, "scope": "example", "rounding": "floor"}
    parameters = {"fraction": 0.6, "scope": "dataset", "rounding": "floor", "seed": 0}
    control = selection_of(method="random", parameters=parameters, rule=rule)
    assert recipe_of(control) == {"name": "random", "fraction": 0.25, "scope": "example"}
    dropping = selection_of(method="random", parameters=parameters, rule={**rule, "name": "DropFraction"})
    assert recipe_of(dropping) is None
    count = {"name": "TopCount", "tokens": 3}
    counted = selection_of(method="random", parameters=parameters, rule=count, trainable=7)
    assert recipe_of(counted) == {"name": "random", "fraction": 0.5}
    own = selection_of(
        method="random", parameters=parameters | {"fraction": 0.3}, rule={"name": "Threshold", "value": 0}
    )
    assert recipe_of(own) == {"name": "random", "fraction": 0.3}
    assert recipe_of(selection_of(method="imported", parameters=parameters, rule=rule)) is None
