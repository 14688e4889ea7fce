"""Whether a run's method pays, in one sentence, which every view begins with."""

from __future__ import annotations

import io
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from tokensieve.report.analysis.comparison import compare_runs
from tokensieve.report.as_json import example_json, results_json
from tokensieve.report.html.notebook import load_run as load_notebook_run
from tokensieve.report.html.page import Report
from tokensieve.report.terminal.comparison import print_comparison
from tokensieve.report.terminal.runs import print_results, show_example
from tokensieve.report.verdict import run_verdict
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed


@pytest.fixture
def measure(demo):
    """Return a function that gives each arm a held-out loss and an exact match, both by example, and returns the run.

    Each argument is what the method's mean is more than the controls'.
    """
    arms = demo.folder / "arms"
    chosen = read_json(arms / "token-cleaning/selection.json")["kept"]
    write_sealed(arms / "random/selection.json", read_json(arms / "random/selection.json") | {"kept": chosen})

    def write(loss: float, matches: float | None = None, spread: float = 0.02) -> Path:
        generator = np.random.default_rng(0)
        for arm in ("full", "random", "token-cleaning"):
            more = loss if arm == "token-cleaning" else 0.0
            losses = 2 + more + spread * generator.standard_normal(60)
            rows = [{"rows": n, "losses": value, "tokens": 1} for n, value in enumerate(losses)]
            sections = {"held_out": {"loss": float(losses.mean()), "low": 1.0, "high": 3.0}}
            details = {"held_out": rows}
            if matches is not None:
                limit = 30 + (60 * matches if arm == "token-cleaning" else 0)
                asked = [{"row": n, "prompt": f"{n}", "answer": "x", "correct": n < limit} for n in range(60)]
                sections["exact_match"] = {"score": limit / 60, "low": 0.0, "high": 1.0}
                details["predictions"] = asked
            ArmFolder(arms / arm).write_evaluation(sections, details)
        return demo.folder

    return write


def said(folder: Path) -> str:
    return run_verdict(load_run(folder)).sentence


def test_a_method_that_is_worse_is_called_worse_with_its_interval(measure):
    verdict = run_verdict(load_run(measure(0.092)))
    pattern = (
        r"Worse than as many random tokens: \+0\.089 nats of held-out loss \(95 % interval \+0\.082 to \+0\.096\)\."
    )
    assert re.fullmatch(pattern, verdict.sentence)
    assert verdict.further[0].startswith("Worse than full training: +0.08")
    assert "another seed may differ" in verdict.further[-1]
    assert [(one.control, one.better) for one in verdict.findings] == [("random", False), ("full", False)]


def test_a_method_that_is_better_is_called_better(measure):
    assert said(measure(-0.092)).startswith("Better than as many random tokens: \N{MINUS SIGN}0.09")


def test_no_visible_difference_has_the_smallest_that_could_be_seen(measure):
    sentence = said(measure(0.0, spread=0.2))
    assert sentence.startswith("No difference from as many random tokens that could be seen: ")
    assert re.search(r"; the smallest visible difference is 0\.\d{3} nats of|is 0\.\d{3} nats\.$", sentence)


def test_measures_that_disagree_are_both_told(measure):
    sentence = said(measure(0.092, 0.4))
    assert sentence.startswith("Better than as many random tokens by +40.0")
    assert "points of exact match" in sentence
    assert "but worse by +0.08" in sentence


def test_a_measure_without_a_visible_difference_is_told_beside_one_with(measure):
    verdict = run_verdict(load_run(measure(0.092, 1 / 60)))
    assert verdict.sentence.startswith("Worse than as many random tokens: +0.08")
    assert verdict.further[0].startswith("No difference that could be seen in exact match (smallest visible: ")


def test_measures_that_are_the_same_in_every_example_have_no_smallest_difference(measure):
    folder = measure(0.0, spread=0.0)
    sentence = said(folder)
    assert sentence.endswith("the results in held-out loss are the same in every example.")


def test_without_a_random_control_full_training_is_what_is_compared_with(measure):
    folder = measure(-0.092)
    (folder / "arms/random/held_out.jsonl").unlink()
    verdict = run_verdict(load_run(folder))
    assert verdict.sentence.startswith("Better than full training: ")
    assert verdict.further[0].startswith("No random control was measured")


def test_what_is_not_known_is_not_told(demo, measure):
    folder = measure(0.1)
    for path in folder.glob("arms/*/*.jsonl"):
        path.unlink()
    assert said(folder) == (
        "token-cleaning and its controls have no results on the same examples: whether it pays is not known."
    )
    (folder / "arms/token-cleaning/evaluation.json").unlink()
    assert said(folder) == "token-cleaning was not evaluated: whether it pays is not known."
    for path in folder.glob("arms/*/evaluation.json"):
        path.unlink()
    assert said(folder) == "Nothing was trained: whether it pays is not known."
    (folder / "arms/full/model").mkdir()
    write_sealed(folder / "arms/full/model/training.json", {"log": []})
    assert load_run(folder).folders["full"].trained
    assert said(folder) == "Nothing was evaluated on held-out data: whether it pays is not known."


def test_every_view_begins_with_the_same_sentence(measure):
    folder = measure(0.092)
    recipe = {"output": "a", "method": {"name": "token-cleaning"}, "train": None}
    recipe |= {"data": {}, "models": {}, "controls": [], "select": {}}
    RunFolder(folder).write_recipe(yaml.safe_dump(recipe))
    view, sentence = load_run(folder), said(folder)

    def printed(show) -> str:
        console = Console(file=io.StringIO(), width=300)
        show(console)
        return console.file.getvalue()  # type: ignore[attr-defined]

    assert printed(lambda console: print_results(view, console)).startswith(sentence)
    assert printed(lambda console: show_example(view, 0, view.method, "score", console)).startswith(sentence)
    assert printed(lambda console: print_comparison(compare_runs([folder]), console)).startswith(sentence)
    assert results_json(view)["verdict"]["sentence"] == sentence
    assert example_json(view, 0, view.method)["verdict"]["sentence"] == sentence
    (compared,) = compare_runs([folder]).to_json()["verdicts"].values()
    assert compared["sentence"] == sentence
    for html in (load_notebook_run(folder)._repr_html_(), Report(view, 2).render()):
        assert sentence in unescape(html)
