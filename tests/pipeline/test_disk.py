"""The room that a run takes: what is in the store, in the run folder and in both, on one disk or two."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from tokensieve.data.counts import Counts
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.pipeline import disk
from tokensieve.pipeline.disk import Room, check_disk, room_needed, search_room
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.search.halving import Candidate, Rung, SearchPlan
from tokensieve.store import atomic

WEIGHTS = 10**9


@pytest.fixture
def pool(tmp_path):
    return ExampleStore(tmp_path, "", Counts(tokens=1000), (), 1)


def room(pool, *more, until="report", **given) -> Room:
    arguments = {"output": "runs/a", "data.files": "a.jsonl", "models.base": "m", "method": "entropy", **given}
    plan = make_plan(load_recipe(None, [*(f"{key}={value}" for key, value in arguments.items()), *more]))
    return room_needed(plan, pool, WEIGHTS, until)


def test_models_of_arms_are_in_both_and_everything_else_in_one(pool):
    found = room(pool, "train.lora=null")
    assert found == Room(4 * 1000 + 6 * WEIGHTS, 3 * 1000 * 39, 3 * WEIGHTS)
    assert room(pool, "train.lora=null", "seeds=[0, 1]").models == 6 * WEIGHTS
    assert room(pool, "train={lora: {r: 2}}") == Room(4 * 1000 + WEIGHTS // 4, 3 * 1000 * 39, 0)
    assert room(pool, "train={lora: {r: 2}, merge_adapter: true}").models == 3 * WEIGHTS
    assert room(pool, "train=null", "select.jsonl=false") == Room(4 * 1000, 3 * 1000 * 15, 0)


@pytest.mark.parametrize(
    ("given", "checkpoints"),
    [
        ("{lora: null}", 2),  # the one before is removed only when the new one is complete
        ("{lora: null, save_total_limit: 3}", 4),
        ("{lora: null, save_total_limit: null}", 4),
        ("{lora: null, save_strategy: no}", 0),
    ],
)
def test_a_checkpoint_is_written_while_those_before_it_are_there(given, checkpoints, pool):
    assert room(pool, f"train={given}").store == 4 * 1000 + checkpoints * 3 * WEIGHTS


def test_a_run_that_ends_with_measuring_has_no_arms(pool):
    made = {"models.reference": "{warm_up: {rows: 5}}", "method": "token-cleaning"}
    found = room(pool, "train.lora=null", "seeds=[0, 1]", until="measure", **made)
    assert found == Room(2 * 4 * 1000 + WEIGHTS + 6 * WEIGHTS, 0, 0)
    adapters = room(pool, "train={lora: {r: 2}}", until="measure")
    assert adapters == Room(4 * 1000, 0, 0)


def test_models_that_are_made_are_in_the_store_alone(pool):
    one = {"models.reference": "r", "method": "token-cleaning"}
    made = {**one, "models.reference": "{warm_up: {rows: 5}}"}
    before, now = (room(pool, "train.lora=null", **given) for given in (one, made))
    assert now == dataclasses.replace(before, store=before.store + WEIGHTS)


def test_each_fold_measures_the_whole_pool_and_what_is_joined_is_kept_too(pool):
    one = {"models.reference": "{warm_up: {}}", "method": "token-cleaning"}
    single, folded = room(pool, **one), room(pool, **{**one, "models.reference": "{warm_up: {folds: 4}}"})
    assert folded.store - single.store == 4 * 1000 * 4


def test_the_model_of_a_schedule_that_trains_is_shared_with_the_store(pool):
    found = room(pool, "train.lora=null", "seeds=[0, 1]", method="self-evolving")
    assert (found.output, found.models) == (39 * 1000 * (2 + 2 + 1), 6 * WEIGHTS)


def test_a_search_has_every_probe_and_each_model_once_in_the_store(pool):
    arguments = ["output=runs/a", "data.files=a.jsonl", "models.base=m", "method=entropy", "controls=[{name: loss}]"]
    plan = make_plan(load_recipe(None, [*arguments, "train.lora=null"]))
    search = SearchPlan((Candidate("entropy", 0.5), Candidate("loss", 0.5)), (Rung(20, 1, 2, 1),), Rung(20, 3, 1, 1))
    found = search_room(plan, search, pool, WEIGHTS)
    # Two probes of one seed, and one of three: each has three arms, and random selects once a seed.
    cleaned = 1000 * 15 * (2 * (1 + 1 + 1) + (1 + 1 + 3))
    models = (4 + 9) * WEIGHTS
    assert found == Room(2 * 4 * 1000 + 6 * WEIGHTS, cleaned, models, (2 * 3 + 9) * WEIGHTS - models)
    assert found.models == search.trainings * WEIGHTS
    with_mask = search_room(plan, dataclasses.replace(search, true_mask=Candidate("marked", 0.9)), pool, WEIGHTS)
    assert with_mask.models == found.models + 2 * 3 * WEIGHTS
    adapters = make_plan(load_recipe(None, arguments))
    assert search_room(adapters, search, pool, WEIGHTS).models == 0


@pytest.mark.parametrize(
    ("one_disk", "links", "store", "output"), [(True, True, 0, 111), (True, False, 0, 1211), (False, False, 101, 1110)]
)
def test_a_second_copy_counts_where_there_is_no_link(one_disk, links, store, output, tmp_path):
    folders = tmp_path / "store", tmp_path / "run"
    found = Room(1, 10, 100, 1000).by_folder(folders[0], folders[1], one_disk, links)
    assert found == {folder: need for folder, need in zip(folders, (store, output), strict=True) if need}


@pytest.mark.parametrize(("links", "free", "enough"), [(True, 10, True), (False, 10, False), (True, 8.5, False)])
def test_what_is_free_is_compared_with_it(links, free, enough, pool, tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/model.safetensors").write_bytes(bytes(10**6))
    arguments = ["data.files=a.jsonl", f"models.base={tmp_path / 'm'}", "method=entropy", "train.lora=null"]
    plan = make_plan(load_recipe(None, [f"output={tmp_path / 'runs/a'}", *arguments]))
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free * 10**6)))
    if not links:
        monkeypatch.setattr(atomic.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    if enough:
        check_disk(plan, pool)
    else:
        with pytest.raises(TokensieveError, match=r"needs about 0\.0 GB, 0\.0 GB are free") as error:
            check_disk(plan, pool)
        assert error.value.where == str(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"], "the trial of a link leaves nothing"
