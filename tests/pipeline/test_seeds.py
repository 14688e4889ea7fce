"""Several seeds: every arm is trained with each, and results are means with intervals over them."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from tokensieve.errors import TokensieveError
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import dump_recipe, load_recipe
from tokensieve.report.analysis.comparison import compare_runs
from tokensieve.report.as_json import results_json
from tokensieve.report.differences import run_differences
from tokensieve.report.html.notebook import load_run as load_notebook_run
from tokensieve.report.table import result_table
from tokensieve.report.terminal.comparison import print_comparison
from tokensieve.report.terminal.runs import print_results
from tokensieve.runs.view import load_run
from tokensieve.select.streaming import read_selection
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed

SEEDS = (3, 0, 5)


@pytest.fixture(scope="module")
def finished(module_run) -> Path:
    """A run of one seed to which two more were added."""
    module_run("run", "seed=3", "controls=[full, random]", until="evaluate")
    return module_run("run", "seeds=[3, 0, 5]", "controls=[full, random]", until="report")


def folders(run: Path, arm: str) -> list[Path]:
    return [run / "arms" / arm, *(run / "arms" / arm / "seeds" / str(seed) for seed in SEEDS[1:])]


def losses(run: Path, arm: str) -> np.ndarray:
    return np.array([read_json(folder / "evaluation.json")["held_out"]["loss"] for folder in folders(run, arm)])


def naive_interval(values: np.ndarray) -> tuple[float, float, float]:
    mean, n = values.mean(), len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return mean, mean - half, mean + half


def printed(show, *given) -> str:
    console = Console(file=io.StringIO(), width=80)
    show(*given, console)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_seeds_that_join_a_finished_run_are_all_that_is_trained(module_run, module_trained):
    module_run("joins", "seed=1", until="evaluate")
    begun = len(module_trained)
    folder = module_run("joins", "seeds=[1, 2]", until="evaluate")
    assert len(module_trained) == begun + 2, "two arms, one seed"
    module_run("elsewhere", "seed=2", until="train")
    assert len(module_trained) == begun + 2, "the store knows the models by their seed"
    assert (folder / "arms/full/seeds/2/model/adapter_model.safetensors").is_file()
    assert not (folder / "arms/full/seeds/2/selection.json").exists(), "one selection for all seeds"


def test_each_seed_gives_another_model_and_the_random_control_another_draw(finished):
    for arm in ("full", "random", "entropy"):
        assert len(set(losses(finished, arm))) == 3
    chosen = [read_selection(folder / "scores", 0)[1] for folder in folders(finished, "random")]
    assert chosen[0].sum() == chosen[1].sum() == chosen[2].sum()
    assert not any(np.array_equal(chosen[one], chosen[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    parameters = [read_json(folder / "selection.json")["parameters"] for folder in folders(finished, "random")]
    assert [one["seed"] for one in parameters] == list(SEEDS)


def test_the_table_has_means_with_intervals_over_seeds(finished):
    view = load_run(finished)
    for arm in ("full", "random", "entropy"):
        loss = view.row(arm).evaluation.loss
        assert loss is not None
        assert (loss.value, loss.low, loss.high) == pytest.approx(naive_interval(losses(finished, arm)))
        perplexity = view.row(arm).evaluation.perplexity
        assert perplexity is not None
        assert perplexity.value == pytest.approx(math.exp(losses(finished, arm).mean()))
    table = result_table(view, run_differences(view))
    cells = next(column.cells for column in table.columns if column.title == "held-out loss")
    mean, low, high = naive_interval(losses(finished, "full"))
    cell = cells[table.names.index("full")]
    assert (cell.text, cell.note) == (f"{mean:.3f}", f"{low:.3f} to {high:.3f}")
    base = read_json(finished / "arms/base/evaluation.json")["held_out"]
    assert cells[table.names.index("base")].note == f"{base['low']:.3f} to {base['high']:.3f}", "over examples"


def test_terminal_page_notebook_and_json_say_that_they_are_over_seeds(finished):
    told = "full, random, entropy: means over seeds 3, 0, 5, with 95 % t intervals over the seeds"
    assert told in printed(print_results, load_run(finished))
    assert told in (finished / "report.html").read_text()
    assert told in load_notebook_run(finished)._repr_html_()
    rows = {row["name"]: row for row in json.loads(json.dumps(results_json(load_run(finished))))["results"]}
    assert [rows["full"]["seeds"][str(seed)]["held_out"]["value"] for seed in SEEDS] == list(losses(finished, "full"))
    assert "seeds" not in rows["base"]


def test_differences_are_paired_by_seed(finished):
    found = compare_runs([finished])
    name = finished.name
    for differences, control in ((found.random_differences, "random"), (found.full_differences, "full")):
        one = next(one for one in differences if one.arm == f"{name}:entropy")
        loss = one.measures["held_out"]
        assert (one.against, loss.seeds) == (f"{name}:{control}", len(SEEDS))
        by_seed = losses(finished, "entropy") - losses(finished, control)
        assert loss.value == pytest.approx(by_seed.mean())
        assert loss.low < by_seed.mean() - by_seed.std() / math.sqrt(3)
    shown = printed(print_comparison, found)
    assert "difference from full" in shown
    assert "over 3 seeds and 6 examples" in shown


def test_a_run_of_one_seed_is_shown_as_before(module_run):
    folder = module_run("single", "seeds=[3]", "controls=[full, random]", until="report")
    view, found = load_run(folder), compare_runs([folder])
    assert "means over seeds" not in printed(print_results, view) + (folder / "report.html").read_text()
    assert not any("seeds" in row for row in results_json(view)["results"])
    assert {one.measures["held_out"].seeds for one in found.full_differences} == {1}
    figures = read_json(folder / "arms/full/evaluation.json")["held_out"]
    loss = view.row("full").evaluation.loss
    assert loss is not None
    assert (loss.low, loss.high) == (figures["low"], figures["high"])


def test_runs_that_share_one_seed_are_compared_by_it(finished, module_run):
    """A mean over seeds must not be set against examples of one seed."""
    single = module_run("single", "seeds=[3]", "controls=[full, random]", until="evaluate")
    (one,) = compare_runs([finished, single]).method_differences
    loss = one.measures["held_out"]
    assert (loss.value, loss.seeds) == (0, 1), "both have the model of seed 3"


def test_a_seed_that_was_evaluated_on_other_data_is_left_out(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    path = copy / "arms/full/seeds/5/evaluation.json"
    found = read_json(path)
    write_sealed(path, {**found, "data": {**found["data"], "held_out": "other"}})
    assert list(load_run(copy).row("full").seeds) == [3, 0]
    assert list(load_run(copy).row("random").seeds) == list(SEEDS)


def test_the_recipe_of_the_run_gives_the_same_run(finished, module_trained):
    begun = len(module_trained)
    recipe = load_recipe(finished / "recipe.yaml")
    assert (recipe.training_seeds, recipe.seed) == (SEEDS, 3)
    pipeline.run(recipe)
    assert len(module_trained) == begun
    with pytest.raises(TokensieveError, match=r"seeds: \[3, 0, 5\] there, \[0, 3, 5\] here"):
        pipeline.run(load_recipe(finished / "recipe.yaml", ["seeds=[0, 3, 5]"]))
    with pytest.raises(TokensieveError, match=r"seeds: \[3, 0, 5\] there, None here"):
        pipeline.run(load_recipe(finished / "recipe.yaml", ["seed=3"]))


def test_self_evolving_goes_through_its_rounds_with_each_seed(module_run):
    given = ("method={name: self-evolving, subsets: 2}", "controls=[]", "seeds=[0, 1]")
    folder = module_run("rounds", *given, until="evaluate")
    arm = folder / "arms/self-evolving"
    assert len(list(arm.glob("rounds/*/round.json"))) == len(list(arm.glob("seeds/1/rounds/*/round.json"))) == 2
    models = [path / "model/adapter_model.safetensors" for path in (arm, arm / "seeds/1")]
    assert models[0].read_bytes() != models[1].read_bytes()
    assert list(load_run(folder).row("self-evolving").seeds) == [0, 1]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"output: runs/a\ndata: d.jsonl\nmodels: {{base: m}}\n{text}")
    return path


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        ("seed: 0\nseeds: [0, 1]\n", [], r"seed and seeds are both given\n  at: .*recipe\.yaml:5: seeds"),
        ("", ["seed=1", "seeds=[1, 2]"], "seed and seeds are both given\n  at: command line, seeds="),
        (
            "seeds: [0, 1, 0]\n",
            [],
            r"seeds is \[0, 1, 0\], and the same seed .*\n  at: .*yaml:4: seeds",
        ),
        ("seeds: [a]\n", [], "seeds.0 is 'a', it must be a whole number"),
        ("seeds: []\n", [], r"seeds is \[\], it must be a list of one seed or more\n  at: .*recipe\.yaml:4: seeds"),
        ("seeds: 3\n", [], "seeds is 3, it must be a list of one seed or more"),
    ],
)
def test_seeds_that_cannot_be(tmp_path, text, overrides, told):
    with pytest.raises(TokensieveError, match=told):
        load_recipe(write(tmp_path, text), overrides)


@pytest.mark.parametrize(
    ("text", "override", "seeds"),
    [("seed: 4\n", "seeds=[4, 5]", (4, 5)), ("seeds: [4, 5]\n", "seed=6", (6,)), ("", "seeds=[7]", (7,))],
)
def test_an_override_takes_the_place_of_the_other_key(tmp_path, text, override, seeds):
    recipe = load_recipe(write(tmp_path, text), [override])
    assert (recipe.training_seeds, recipe.seed) == (seeds, seeds[0])
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(recipe))
    assert load_recipe(again) == recipe
