"""The ceiling: what it trains, and what it concludes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from weightless import refuse_models

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.differences import PairedDifference
from tokensieve.pipeline.ceiling import ceiling_recipes, conclude
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.runs.outcomes import MEASURES
from tokensieve.runs.view import load_run


def difference(value, low, high, detectable=0.011, examples=250, seed_variance=0.0) -> PairedDifference:
    return PairedDifference(value, low, high, 0.5, detectable, 3, examples, seed_variance)


LOSS, SHARE = MEASURES["held_out"], MEASURES["exact_match"]


def test_no_selection_can_pay():
    verdict, said = conclude(difference(0.0, -0.01, 0.01), difference(0.02, 0.01, 0.03), LOSS, 0.02, 200)
    assert verdict == "cannot pay"
    assert said == (
        "no selection of tokens can pay here: the true mask is +0.000 (\N{MINUS SIGN}0.010 to +0.010) against random; "
        "the smallest effect you could see is 0.011"
    )


def test_a_gain_that_is_too_small_to_matter_does_not_pay():
    assert conclude(difference(-0.006, -0.012, -0.001), difference(0, 0, 0), LOSS, 0.02, 200)[0] == "cannot pay"


def test_a_selection_can_pay():
    against_full = difference(-0.104, -0.12, -0.09)
    verdict, said = conclude(difference(-0.1, -0.117, -0.085), against_full, LOSS, 0.02, 200)
    assert verdict == "pays"
    assert "so there is 0.104 to gain over training on everything" in said
    gains = difference(0.1, 0.05, 0.15)
    assert conclude(gains, gains, SHARE, 0.02, 200)[0] == "pays"
    assert "10.0 points to gain" in conclude(gains, gains, SHARE, 0.02, 200)[1]
    assert conclude(gains, gains, LOSS, 0.02, 200)[0] == "cannot pay"


def test_what_is_better_than_random_only():
    verdict, said = conclude(difference(-0.1, -0.12, -0.08), difference(0, -0.01, 0.01), LOSS, 0.02, 200)
    assert verdict == "as good as full"
    assert "training on everything is as good" in said


def test_too_few_examples_say_how_many_would_do():
    wide = difference(0.0, -0.05, 0.05, detectable=0.06, examples=100)
    verdict, said = conclude(wide, wide, LOSS, 0.02, 200)
    assert verdict == "unclear"
    assert "an effect of 0.020 takes about 900 examples to judge by, in place of 100" in said


def test_where_seeds_differ_most_more_examples_are_not_asked_for_in_vain():
    wide = difference(0.0, -0.05, 0.05, detectable=0.06, examples=100, seed_variance=0.5)
    assert "an effect of 0.020 takes more than 3 seeds to see" in conclude(wide, wide, LOSS, 0.02, 200)[1]
    equal = difference(0.0, 0.0, 0.0, detectable=0.0)
    assert "takes" not in conclude(equal, equal, LOSS, 0.02, 3)[1], "nothing differed at all"
    some = difference(0.0, -0.05, 0.05, detectable=0.03, examples=100, seed_variance=0.25)
    # (2/3)^2 of the variance is allowed, of which the seeds take 0.25.
    assert "takes about 386 examples to judge by" in conclude(some, some, LOSS, 0.02, 200)[1]


def test_too_few_marked_rows_say_how_many_would_do():
    verdict, said = conclude(difference(0.0, -0.01, 0.01), difference(0, 0, 0), LOSS, 0.02, 12)
    assert verdict == "unclear"
    assert said.endswith("only 12 rows are marked, and 200 are enough to try")


@pytest.fixture
def given(arguments, data) -> list[str]:
    """Return what a run takes, with two marked answers and one corrected one."""
    path = data / "pool.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:2]:
        row["messages"][1]["spans"] = [[0, 6, "wrong"]]
    rows[2]["messages"][1]["corrected"] = "the sea is wide."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return arguments("run", "seeds=[0,1]", "models.reference={warm_up: {rows: 4}}")


@pytest.mark.parametrize(
    ("override", "measure", "worth", "message"),
    [
        ("train=null", None, 0.02, "a ceiling trains models"),
        ("evaluate=null", None, 0.02, "there is nothing to judge the models by"),
        ("seeds=[0]", "held_ou", 0.02, "unknown measure 'held_ou'; did you mean 'held_out'"),
        ("seeds=[0]", "unwanted", 0.02, "judged by unwanted, and the recipe has no evaluate.unwanted"),
        ("seeds=[0]", None, 0.0, "worth is 0.0, it must be above 0"),
    ],
)
def test_recipes_without_a_ceiling(given, override, measure, worth, message):
    overrides = [one for one in given if not (override == "evaluate=null" and one.startswith("evaluate"))]
    with pytest.raises(TokensieveError, match=message):
        ceiling_recipes(load_recipe(None, [*overrides, override]), measure, worth)


def test_three_seeds_and_no_model_but_the_base(given):
    overrides = [one for one in given if not one.startswith("seeds")]
    masks, corrected = ceiling_recipes(load_recipe(None, [*overrides, "seed=5"]), None, 0.02)
    assert masks.seeds == (5, 6, 7)
    assert set(masks.models) == {"base"}
    assert corrected is not None
    assert corrected.data.answers == "corrected"
    assert masks.output.endswith("run-ceiling")
    assert corrected.output.endswith("run-corrected")


def test_the_masks_are_trained_and_judged(given, trained, data, capsys):
    main(["ceiling", *given, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found["arms"]) == ["full", "random", "true mask", "anti-mask", "corrected answers"]
    assert found["measure"] == "held_out"
    assert found["marked"]["rows"] == 3
    assert found["verdict"] == "unclear"
    assert "only 3 rows are marked" in found["sentence"]
    kept = {name: arm["kept"] for name, arm in found["arms"].items()}
    assert kept["true mask"] == kept["random"] == kept["full"] - found["marked"]["tokens"]
    assert kept["anti-mask"] == found["marked"]["tokens"] + 12  # and the ends of turns
    for name, arm in found["arms"].items():
        assert (arm["against_random"] is None) == (name == "random")
        assert (arm["against_full"] is None) == (name == "full")
    assert found["arms"]["true mask"]["against_full"]["seeds"] == 2
    assert len(trained) == 10
    selection = load_run(Path(found["runs"][0])).row("marked").selection
    assert selection is not None
    assert selection.marks is not None
    assert selection.marks["removed"] == found["marked"]["tokens"]
    main(["ceiling", *given])
    printed = capsys.readouterr().out
    assert len(trained) == 10  # what is done is kept
    assert "minus random" in printed
    assert "anti-mask" in printed
    assert " ".join(printed.split()).endswith(" ".join(found["sentence"].split()))


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_data_without_marks_has_no_ceiling(arguments, capsys, more):
    with pytest.raises(SystemExit):
        main(["ceiling", *arguments("run"), *more])
    assert "no token of the data is marked" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_trained_and_loads_no_model(given, data, capsys, monkeypatch):
    refuse_models(monkeypatch)
    main(["ceiling", *given, "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"judged by held_out, in {data / 'run-ceiling'}"
    steps = "2 optimizer steps (max_steps)"
    assert f"train marked, full, random, marked-2: {steps}" in lines
    assert "train each arm with seeds 0, 1: 8 models, less those that the store has" in lines
    assert f"corrected answers, in {data / 'run-corrected'}:" in lines
    assert f"  train full: {steps}" in lines
    assert lines[-2:] == [
        "in all: 10 trainings, less those that the store has",
        "ok: everything but the weights was checked",
    ]
    assert not (data / "run-ceiling").exists()
    main(["ceiling", *given, "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out)["dry_run"] == lines
    pool_file = data / "pool.jsonl"
    pool_file.write_text(pool_file.read_text().replace("corrected", "fixed_by"))
    main(["ceiling", *given, "data.ignore=[fixed_by]", "--dry-run"])
    assert "in all: 8 trainings, less those that the store has" in capsys.readouterr().out


def test_a_dry_run_of_data_elsewhere_says_what_it_cannot_see(given, capsys):
    overrides = [one for one in given if not one.startswith("data.files")]
    main(["ceiling", *overrides, "data.files=someone/rows", "--dry-run"])
    printed = capsys.readouterr().out
    assert "corrected answers: trained on where rows have them, which cannot be seen here" in printed
    assert printed.endswith("ok, as far as it was checked\n")
