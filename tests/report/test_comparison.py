from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from manifests import record_again
from rich.cells import cell_len
from rich.console import Console

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.differences import holm
from tokensieve.report.analysis.comparison import Agreement, Comparison, compare_runs
from tokensieve.report.as_json import results_json
from tokensieve.report.difference_table import differences_in_words
from tokensieve.report.differences import AdjustedDifference, Difference, run_differences
from tokensieve.report.html.notebook import load_run as load_notebook_run
from tokensieve.report.html.page import Report
from tokensieve.report.table import DIFFERENCES, result_columns, result_table
from tokensieve.report.terminal.comparison import print_comparison
from tokensieve.report.terminal.runs import print_results
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed
from tokensieve.store.shards import read_shard, shard_name, write_shard


@pytest.fixture
def runs(demo) -> tuple[Path, Path]:
    """Two runs over the same examples: in the second the method keeps what the first's drops."""
    first, second = demo.folder.with_name("a"), demo.folder.with_name("b")
    demo.folder.rename(first)
    generator = np.random.default_rng(0)
    for arm, shift in (("full", 0.5), ("random", 0.0), ("token-cleaning", -0.4)):
        losses = [{"rows": n, "losses": 3.0 + shift + generator.random() / 10, "tokens": 2 + n % 3} for n in range(20)]
        asked = [{"row": n, "prompt": f"{n}?", "answer": "x", "correct": n % 5 < 3 + 4 * -shift} for n in range(20)]
        found = read_json(first / "arms/full/evaluation.json")
        found["held_out"]["loss"] = sum(r["losses"] for r in losses) / sum(r["tokens"] for r in losses)
        found["exact_match"]["score"] = sum(r["correct"] for r in asked) / 20
        ArmFolder(first / "arms" / arm).write_evaluation(found, {"held_out": losses, "predictions": asked})
    _keep_as_many_at_random(first)
    recipe = {"output": "a", "method": {"name": "token-cleaning", "fraction": 0.6}, "train": {"lora": {"r": 8}}}
    recipe |= {"data": {}, "models": {}, "controls": [], "select": {}}
    RunFolder(first).write_recipe(yaml.safe_dump(recipe))
    shutil.copytree(first, second)
    RunFolder(second).write_recipe(yaml.safe_dump({**recipe, "output": "b", "train": {"lora": {"r": 16}}}))
    return first, second


def _keep_as_many_at_random(run: Path) -> None:
    """Let the random arm keep every other of what the method keeps, and as many of the rest."""
    arms = run / "arms"
    kept_in_all = 0
    for number in range(2):
        cu_seqlens, found = read_shard(arms / "token-cleaning/scores/kept" / shard_name(number))
        _, trainable = read_shard(arms / "full/scores/kept" / shard_name(number))
        chosen, rest = np.flatnonzero(found["kept"]), np.flatnonzero(trainable["kept"] & ~found["kept"])
        half = chosen[::2]
        kept = np.zeros(len(found["kept"]), dtype=bool)
        kept[half] = kept[rest[: len(chosen) - len(half)]] = True
        kept_in_all += int(kept.sum())
        write_shard(arms / "random/scores/kept" / shard_name(number), cu_seqlens, {"kept": kept})
    record_again(arms / "random/scores")
    selection = read_json(arms / "random/selection.json")
    write_sealed(arms / "random/selection.json", selection | {"kept": kept_in_all})
    clean = read_json(arms / "token-cleaning/selection.json")
    write_sealed(arms / "token-cleaning/selection.json", clean | {"kept": kept_in_all})


def kept_sets(run: Path, arm: str) -> set[tuple[int, int]]:
    found = set()
    for number in range(2):
        kept = read_shard(run / "arms" / arm / "scores/kept" / shard_name(number))[1]["kept"]
        found |= {(number, int(at)) for at in np.flatnonzero(kept)}
    return found


def printed(found: Comparison, width: int = 80) -> str:
    return shown(lambda console: print_comparison(found, console), width)


def shown(show: Callable[[Console], None], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_agreement_is_that_of_sets(runs):
    found = compare_runs(runs)
    names = {(one.arm, one.other): one for one in found.agreements}
    assert len(names) == 6  # of four arms; those that keep everything say nothing
    for one in names.values():
        (run, arm), (other_run, other_arm) = (name.split(":") for name in (one.arm, one.other))
        left, right = (
            kept_sets(runs[0].parent / folder, name) for folder, name in ((run, arm), (other_run, other_arm))
        )
        assert one.both == len(left & right)
        assert one.jaccard == pytest.approx(len(left & right) / len(left | right))
        assert one.overlap == pytest.approx(len(left & right) / min(len(left), len(right)))
    own = names["a:random", "a:token-cleaning"]
    assert 0 < own.jaccard < 1
    assert names["a:random", "b:random"].jaccard == 1
    trainable = read_json(runs[0] / "arms/full/selection.json")["trainable"]
    kept = [len(kept_sets(runs[0], arm)) for arm in ("random", "token-cleaning")]
    by_chance = kept[0] * kept[1] / trainable
    assert own.jaccard_by_chance == pytest.approx(by_chance / (sum(kept) - by_chance))


def test_differences_are_paired(runs):
    found = compare_runs(runs)
    differences = {one.arm: one for one in found.random_differences}
    assert set(differences) == {"a:token-cleaning", "b:token-cleaning"}  # full keeps more
    one = differences["b:token-cleaning"]
    assert one.against == "b:random"
    tables = [
        [json.loads(line) for line in (runs[1] / "arms" / arm / "held_out.jsonl").read_text().splitlines()]
        for arm in ("token-cleaning", "random")
    ]
    means = [sum(r["losses"] for r in rows) / sum(r["tokens"] for r in rows) for rows in tables]
    loss = one.measures["held_out"]
    assert loss.value == pytest.approx(means[0] - means[1])
    assert loss.low < loss.value < loss.high < 0
    # Either mean by itself is far less sure: examples have 2 to 4 tokens.
    assert loss.high - loss.low < 0.05
    assert 0 < loss.detectable < 0.05
    assert one.measures["exact_match"].value == pytest.approx(0.4)
    every = [one.measures["held_out"] for one in found.full_differences]
    assert [one.arm for one in found.full_differences] == [
        "a:random",
        "a:token-cleaning",
        "b:random",
        "b:token-cleaning",
    ]
    assert [one.p_adjusted for one in every] == holm([one.p for one in every])
    assert all(one.p_adjusted > one.p for one in every)
    (second,) = found.method_differences
    assert (second.arm, second.against) == ("b:token-cleaning", "a:token-cleaning")
    same = second.measures["held_out"]
    assert (same.value, same.low, same.high, same.p_adjusted) == (0, 0, 0, 1)


def test_the_table_of_a_run_has_the_differences_from_its_controls(runs):
    view = load_run(runs[0])
    table = result_table(view, run_differences(view))
    differences = table.further[DIFFERENCES]
    loss_cells, match_cells = (column.cells for column in differences.columns)
    pairs = list(zip(differences.names, differences.notes, strict=True))
    found = run_differences(view)
    (against_random,) = found.random
    against_full = next(one for one in found.full if one.arm == "token-cleaning")
    for control, one in (("random", against_random), ("full", against_full)):
        loss = one.measures["held_out"]
        assert one.against == control
        assert loss.p_adjusted < 0.05
        cell = loss_cells[pairs.index(("token-cleaning", f"minus {control}"))]
        assert cell.text == f"\u2212{-loss.value:.3f}*"
        assert cell.note == f"\u2212{-loss.low:.3f} to \u2212{-loss.high:.3f}"
    assert [column.title for column in differences.columns] == ["held-out loss, nats", "exact match, points"]
    assert match_cells[pairs.index(("token-cleaning", "minus random"))].text.startswith("+40.0")
    assert result_columns(view.rows) == table.columns, "the differences in several measures are a table of their own"
    assert "over 1 seed and 20 examples" in table.footnotes[0]
    printed_table = " ".join(shown(lambda console: print_results(view, console)).split())
    page = unescape(Report(view, 2).render())
    for text in (printed_table, load_notebook_run(runs[0])._repr_html_().replace("&#x27;", "'"), page):
        assert table.footnotes[0] in text
    told = results_json(view)
    assert (
        told["against_random"][0]["measures"]["held_out"]["p_adjusted"]
        == against_random.measures["held_out"].p_adjusted
    )
    assert [one["arm"] for one in told["against_full"]] == [one.arm for one in found.full]


@pytest.mark.parametrize(("width", "parts"), [(80, 1), (200, 1), (50, 2)])
def test_many_arms_agree_in_a_matrix(runs, width, parts):
    arms = [f"a:method-{number}" for number in range(8)]
    agreements = [
        Agreement(first, second, 5, 0.25 + int(first[-1]) / 100, 0.5 + int(second[-1]) / 100, 0.5)
        for first, second in combinations(arms, 2)
    ]
    text = printed(replace(compare_runs(runs), agreements=agreements), width)
    assert max(map(cell_len, text.splitlines())) <= width
    found = text[text.index("agreement:") :].split("\n\n")[:parts]
    rows = [[line.split() for line in part.splitlines() if "a:method" in line] for part in found]
    figures = [[one for part in rows for one in part[row][2:]] for row in range(8)]
    assert [part[0][:2] for part in rows] == [["1", "a:method-0"]] * parts
    assert figures[0] == ["\u00b7", "0.51", "0.52", "0.53", "0.54", "0.55", "0.56", "0.57"]
    assert figures[7] == ["0.25", "0.26", "0.27", "0.28", "0.29", "0.30", "0.31", "\u00b7"]
    assert "Jaccard  by chance" not in text


def test_what_could_be_seen_is_a_range_without_what_never_differs():
    def of(arm, detectable):
        shared = {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "p_adjusted": 1.0}
        return Difference(
            arm,
            "full",
            {name: AdjustedDifference(**shared, detectable=one, **size) for name, one in detectable.items()},
        )

    size = {"seeds": 1, "examples": 1200, "seed_variance": 0.0}
    found = [of("a", {"held_out": 0.02}), of("b", {"held_out": 0.0111, "exact_match": 0.034}), of("c", {"stop": 0.0})]
    told = differences_in_words(found)
    assert told.endswith("80 % power): held-out loss 0.011 to 0.020; exact match 3.4 points")
    assert "over 1 seed and 1,200 examples" in told
    assert differences_in_words(found[2:]).endswith("unknown")
    assert differences_in_words([]) == ""


def test_evaluations_of_other_data_are_not_subtracted(runs):
    arm = RunFolder(runs[1]).arm("token-cleaning")
    asked = arm.evaluation_details("predictions") or []
    rows = [{"rows": n, "losses": 1.0, "tokens": 3} for n in range(20)]
    arm.write_evaluation(arm.evaluation(), {"held_out": rows, "predictions": asked})
    found = compare_runs(runs)
    assert list(found.method_differences[0].measures) == ["exact_match"]
    assert any("difference of held-out loss" in note for note in found.notes)
    (arm.path / "held_out.jsonl").unlink()
    assert any(note.startswith("b:token-cleaning: no held_out.jsonl") for note in compare_runs(runs).notes)


def test_other_held_out_data_of_the_same_shape_is_not_subtracted(runs):
    path = runs[1] / "arms/token-cleaning/evaluation.json"
    write_sealed(path, {**read_json(path), "data": {"held_out": "another"}})
    assert "held_out" not in compare_runs(runs).method_differences[0].measures


def test_other_examples_have_no_agreement(runs):
    store = runs[1].parents[1] / "store/examples"
    shutil.copytree(store / "x", store / "y")
    record_again(store / "y", fingerprint="g")
    write_sealed(runs[1] / "run.json", {**read_json(runs[1] / "run.json"), "examples": "../../store/examples/y"})
    for path in runs[1].glob("arms/*/selection.json"):
        write_sealed(path, {**read_json(path), "data": "g"})
    found = compare_runs(runs)
    assert {one.arm[0] + one.other[0] for one in found.agreements} == {"aa", "bb"}
    assert any("not all runs have the same examples" in note for note in found.notes)


@pytest.mark.parametrize("width", [50, 80, 160])
def test_what_is_printed_fits(runs, width):
    text = printed(compare_runs(runs), width)
    assert max(map(cell_len, text.splitlines())) <= max(width, 80)
    for part in ("full", "token-cleaning", "train.lora.r: a 8; b 16", "Jaccard", "+40.0", "before fine-tuning"):
        assert part in text
    assert "output" not in text
    words = " ".join(text.split())
    assert "the smallest that could be seen" in words
    same = "the same for every arm and its controls, in every example: held-out loss, exact match"
    assert same in words.split("difference from the method of the first run")[1], "two runs with the same results"
    assert width < 80 or ", p 0.0" in text
    if width < 80:
        assert max(map(cell_len, text.splitlines())) <= width


def test_json_says_the_same(runs, capsys):
    main(["compare", *map(str, runs), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found["runs"]) == ["a", "b"]
    assert [(one["run"], one["name"]) for one in found["results"]][5:] == [("b", "token-cleaning"), ("a", "base")]
    assert found["against_random"][0]["measures"]["exact_match"]["value"] == pytest.approx(0.4)
    assert found["recipes"] == {"train.lora.r": {"a": 8, "b": 16}}


def test_runs_of_one_name_and_bad_input(runs, tmp_path):
    other = tmp_path / "other" / "runs" / "a"
    shutil.copytree(runs[1].parents[1], tmp_path / "other")
    assert list(compare_runs([runs[0], other]).runs) == [str(runs[0]), str(other)]
    with pytest.raises(TokensieveError, match="given twice"):
        compare_runs([runs[0], runs[0].parent / "." / "a"])
    with pytest.raises(TokensieveError, match="holds no run"):
        compare_runs([tmp_path])
    arm = RunFolder(runs[0]).arm("full")
    details = {"held_out": arm.evaluation_details("held_out") or [], "predictions": [{"row": 1}]}
    arm.write_evaluation(arm.evaluation(), details)
    with pytest.raises(TokensieveError, match=r"(?s)cannot|can be read.*predictions\.jsonl"):
        compare_runs(runs)
