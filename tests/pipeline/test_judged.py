"""Runs that are judged by unwanted texts and corrected answers, and what is refused before any model is loaded."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from tokensieve.errors import TokensieveError
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.dry_run import dry_run
from tokensieve.pipeline.inputs import prepare_inputs
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.progress import StageProgress
from tokensieve.report.as_json import results_json
from tokensieve.report.differences import run_differences
from tokensieve.report.table import DIFFERENCES, result_table
from tokensieve.report.terminal.runs import print_results
from tokensieve.runs.view import load_run

MEASURES = ("unwanted", "stop", "unwanted_answers", "corrected", "preference", "margin")


@pytest.fixture
def judged(data) -> list[str]:
    """Return the overrides that judge by two texts and two corrected answers."""
    write(data / "unwanted.jsonl", {"text": "two seas"}, {"text": "give"})
    write(
        data / "corrected.jsonl",
        {"question": "how wide", "answer": "the sea are", "corrected": "the sea is wide"},
        {"question": "how cold", "answer": "is and", "corrected": "cold"},
    )
    unwanted = f"{{files: [{data / 'unwanted.jsonl'}], max_new_tokens: 4}}"
    return [f"evaluate.unwanted={unwanted}", f"evaluate.corrected={data / 'corrected.jsonl'}"]


def write(path: Path, *rows: dict) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_shows_every_measure_and_its_difference_from_full(run, judged):
    folder = run("judged", *judged, until="report")
    view = load_run(folder)
    assert set(view.row("entropy").evaluation.results) == {"held_out", *MEASURES}
    assert set(view.row("base").evaluation.results) == {"held_out", *MEASURES}
    told = results_json(view)
    (difference,) = told["against_full"]
    assert set(difference["measures"]) == {"held_out", *MEASURES}
    full, entropy = (next(row for row in told["results"] if row["name"] == name) for name in ("full", "entropy"))
    for name, one in difference["measures"].items():
        assert one["value"] == pytest.approx(entropy[name]["value"] - full[name]["value"], abs=1e-9)
    console = Console(file=io.StringIO(), width=80)
    print_results(view, console)
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    table = result_table(view, run_differences(view))
    titles = [column.title for column in table.columns]
    same = [note for note in table.footnotes if note.startswith("the same for every arm")]
    differing = [column.title.rpartition(", ")[0] for column in table.further[DIFFERENCES].columns]
    for title in ("loss of unwanted texts", "log odds of stopping", "unwanted answers", "margin of corrected"):
        assert title in titles
        assert (title in differing) is not any(f": {title}" in note or f", {title}" in note for note in same)
    assert "Differences from the controls" in (folder / "report.html").read_text()
    assert "the smallest that could be seen" in shown


def test_other_texts_are_another_evaluation(run, judged, data):
    folder = run("judged", *judged, until="evaluate")
    before = (folder / "arms/full/evaluation.json").read_bytes()
    pipeline.run(load_recipe(folder / "recipe.yaml"), "evaluate")
    assert (folder / "arms/full/evaluation.json").read_bytes() == before
    write(data / "unwanted.jsonl", {"text": "two seas"}, {"text": "apples"})
    pipeline.run(load_recipe(folder / "recipe.yaml"), "evaluate")
    assert (folder / "arms/full/evaluation.json").read_bytes() != before


def test_a_dry_run_counts_them(arguments, judged):
    lines = dry_run(load_recipe(None, arguments("dry", *judged)), StageProgress())
    assert "evaluate.unwanted: 2 texts, 2 of them after held-out prompts; 2 prompts to answer" in lines
    assert "evaluate.corrected: 2 corrected answers" in lines


def test_texts_that_the_run_trains_on_are_refused_before_a_model_is_loaded(arguments, judged, data):
    shutil.copy(data / "pool.jsonl", data / "unwanted.jsonl")
    recipe = load_recipe(None, arguments("run", *judged))
    with pytest.raises(TokensieveError, match=r"(?s)whole answer of data.files.*evaluate.unwanted"):
        prepare_inputs(make_plan(recipe), StageProgress())
    with (data / "unwanted.jsonl").open("a") as file:
        file.write(json.dumps({"text": "never"}) + "\n")
    progress = StageProgress()
    prepare_inputs(make_plan(recipe), progress)
    assert any(one.startswith("12 of 13 unwanted texts are whole answers") for one in progress.warnings)


def test_texts_without_a_prompt_need_held_out_data(arguments, judged):
    recipe = load_recipe(None, arguments("run", *judged, "evaluate.held_out=[]"))
    with pytest.raises(TokensieveError, match=r"(?s)2 unwanted texts have no prompt.*evaluate.held_out"):
        prepare_inputs(make_plan(recipe), StageProgress())


def test_held_out_rows_that_are_trained_on_are_named(arguments, data):
    with (data / "held_out.jsonl").open("a") as file:
        file.write((data / "pool.jsonl").read_text().splitlines()[3] + "\n")
    progress = StageProgress()
    prepare_inputs(make_plan(load_recipe(None, arguments("run"))), progress)
    assert any("1 of 7 held-out examples are in data.files too" in one for one in progress.warnings)
