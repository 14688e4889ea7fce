from __future__ import annotations

import shutil

import pytest
from manifests import record_again

from tokensieve.errors import TokensieveError
from tokensieve.runs.joined import load_runs
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed


@pytest.fixture
def twin(demo):
    """A copy of the run under another name."""
    folder = demo.folder.with_name("twin")
    shutil.copytree(demo.folder, folder)
    run = folder / "run.json"
    write_sealed(run, {**read_json(run), "name": "twin"})
    return folder


def test_one_run_is_itself(demo):
    assert load_runs([demo.folder]).arms == load_run(demo.folder).arms


def test_arms_come_together_under_their_names(demo_source, second_source):
    view = load_runs([demo_source.folder, second_source])
    assert view.arms == ("full", "random", "token-cleaning", "rho-1", "xtf")
    assert [row.name for row in view.rows] == [*view.arms, "base"]
    assert view.method == "token-cleaning"
    assert sorted(view.statistics) == ["base", "reference"]
    assert set(view.seconds) == {"night <b>: measure base", "second: measure base"}
    assert view.example(0).kept("xtf").shape == view.example(0).kept("full").shape


def test_arms_that_are_the_same_are_there_once(demo, twin):
    view = load_runs([demo.folder, twin])
    assert view.arms == ("full", "random", "token-cleaning")


def test_names_that_clash_get_their_runs(demo, twin):
    selection = twin / "arms" / "token-cleaning" / "selection.json"
    write_sealed(selection, {**read_json(selection), "parameters": {"fraction": 0.25}})
    view = load_runs([demo.folder, twin])
    assert view.arms == ("full", "random", "token-cleaning (night <b>)", "token-cleaning (twin)")
    assert view.method == "token-cleaning (night <b>)"
    assert view.folders["token-cleaning (twin)"].path == twin / "arms" / "token-cleaning"


def test_of_equal_arms_the_evaluated_one_stays(demo, twin):
    (demo.folder / "arms" / "full" / "evaluation.json").unlink()
    view = load_runs([demo.folder, twin])
    assert view.folders["full"].path == twin / "arms" / "full"
    assert view.row("full").evaluation.loss is not None


def test_a_control_at_another_ratio_is_another_arm(demo, twin):
    selection = twin / "arms" / "random" / "selection.json"
    found = read_json(selection)
    write_sealed(selection, {**found, "rule": {**found["rule"], "fraction": 0.25}})
    view = load_runs([demo.folder, twin])
    assert view.arms == ("full", "random (night <b>)", "token-cleaning", "random (twin)")


def test_another_evaluation_is_another_arm(demo, twin):
    path = twin / "arms" / "full" / "evaluation.json"
    write_sealed(path, {**read_json(path), "exact_match": None})
    assert load_runs([demo.folder, twin]).arms[:2] == ("full (night <b>)", "random")


def test_a_model_of_another_fingerprint_is_another_role(demo, twin):
    run = twin / "run.json"
    state = read_json(run)
    other = demo.folder.parents[1] / "store" / "statistics" / "another"
    shutil.copytree(other.with_name("reference"), other)
    write_sealed(run, {**state, "statistics": {**state["statistics"], "reference": str(other)}})
    view = load_runs([demo.folder, twin])
    assert sorted(view.statistics) == ["base", "reference", "reference (twin)"]
    assert "reference (twin).loss" in view.shard(0).statistics


def test_runs_on_other_examples_are_refused(demo, twin):
    store = demo.folder.parents[1] / "store" / "examples"
    shutil.copytree(store / "x", store / "y")
    record_again(store / "y", fingerprint="g")
    write_sealed(twin / "run.json", {**read_json(twin / "run.json"), "examples": "../../store/examples/y"})
    for path in twin.glob("arms/*/selection.json"):
        write_sealed(path, {**read_json(path), "data": "g"})
    with pytest.raises(TokensieveError, match=r"(?s)different examples.*twin"):
        load_runs([demo.folder, twin])


def test_no_run_and_the_same_run_twice_are_refused(demo):
    with pytest.raises(TokensieveError, match="no run given"):
        load_runs([])
    with pytest.raises(TokensieveError, match="twice"):
        load_runs([demo.folder, demo.folder])
