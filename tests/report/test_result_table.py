"""The table of a run that is judged by every measure, which must be readable at any width without losing anything."""

from __future__ import annotations

import io
import re
from html import unescape

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tokensieve.report.as_json import results_json
from tokensieve.report.cells import duration, in_bytes
from tokensieve.report.differences import run_differences
from tokensieve.report.html.notebook import load_run as load_notebook_run
from tokensieve.report.html.page import Report
from tokensieve.report.table import DIFFERENCES, MARKS, result_table
from tokensieve.report.terminal.runs import print_results
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.outcomes import MEASURES
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed

SAME = "unwanted_answers"


@pytest.fixture
def judged(demo):
    """A run whose arms are measured in everything; no answer of any arm is unwanted."""
    generator, arms = np.random.default_rng(0), demo.folder / "arms"
    for place, arm in enumerate(("full", "random", "token-cleaning")):
        sections, lines = {}, {}
        for name, measure in MEASURES.items():
            values = place / 10 + generator.random(20) / 10
            values = (generator.random(20) < 0.2 + place / 4) * 1.0 if measure.unit == "share" else values
            values = values * 0 if name == SAME else values
            for number, row in enumerate(lines.setdefault(measure.details, [{} for _ in values])):
                row |= dict.fromkeys(measure.identity, number) | {measure.sums: values[number]}
                row |= {measure.counts: 1} if measure.counts else {}
            sections[name] = {measure.value: float(values.mean()), "low": 0.1, "high": 0.2}
        ArmFolder(arms / arm).write_evaluation(sections, lines)
    chosen = read_json(arms / "token-cleaning/selection.json")["kept"]
    write_sealed(arms / "random/selection.json", read_json(arms / "random/selection.json") | {"kept": chosen})
    return demo.folder


def shown(folder, width) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_results(load_run(folder), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_measure_fits_and_nothing_disappears(judged, width):
    text = shown(judged, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert len(text.splitlines()) < {80: 115, 120: 85, 200: 60}[width]
    words = " ".join(text.split())
    view = load_run(judged)
    table = result_table(view, run_differences(view))
    derived = [column.title for column in table.columns if column.derived]
    assert derived == ["perplexity"]
    for column in table.columns:
        assert column.derived or all(cell.text in text for cell in column.cells)
    told = "the terminal is too narrow to show: perplexity (--json has it)" in words
    assert told is ("perplexity" not in words.replace("to show: perplexity", "")), "shown, or named as left out"
    for column in table.further[DIFFERENCES].columns:
        assert all(word in text for word in column.title.split())
        assert all(part in text for cell in column.cells for part in (cell.text, cell.note))


def test_a_wide_terminal_has_the_derived_columns_too(judged):
    for width, there in ((80, False), (300, True)):
        assert ("perplexity (--json has it)" not in shown(judged, width)) is there


def test_measures_in_which_nothing_differs_are_named_and_have_no_columns(judged):
    view = load_run(judged)
    table = result_table(view, run_differences(view))
    titles = [column.title for column in table.columns]
    assert not any("minus" in title for title in titles)
    differences = table.further[DIFFERENCES]
    titles = [column.title.rpartition(", ") for column in differences.columns]
    assert [title for title, _, _ in titles] == [measure.title for name, measure in MEASURES.items() if name != SAME]
    assert [unit for title, _, unit in titles if title == "corrected preferred"] == ["points"]
    assert list(zip(differences.names, differences.notes, strict=True)) == [
        ("token-cleaning", "minus random"),
        ("random", "minus full"),
        ("token-cleaning", "minus full"),
    ]
    told = "the same for every arm and its controls, in every example: unwanted answers"
    assert told in table.footnotes
    page, notebook = unescape(Report(view, 2).render()), load_notebook_run(judged)._repr_html_()
    for text in (" ".join(shown(judged, 80).split()), notebook, page):
        assert told in text
        assert re.search(DIFFERENCES, text, re.IGNORECASE)
        assert "margin of corrected" in text
    measures = results_json(view)["against_random"][0]["measures"]
    assert set(measures) == set(MEASURES), "JSON has all of them"
    assert measures[SAME]["value"] == 0


def test_the_differences_in_one_measure_are_columns(judged):
    for path in judged.glob("arms/*/*.jsonl"):
        if path.stem not in ("held_out", "unwanted_answers"):
            path.unlink()
    view = load_run(judged)
    table = result_table(view, run_differences(view))
    assert DIFFERENCES not in table.further
    assert [column.title for column in table.columns[-2:]] == ["held-out loss minus random", "held-out loss minus full"]
    assert any(note.endswith("in every example: unwanted answers") for note in table.footnotes)


@pytest.mark.parametrize("count", [1, 2, 12])
def test_types_of_marks_have_a_table_of_their_own(judged, count):
    path = judged / "arms/token-cleaning/selection.json"
    types = {f"kind <{n}>": {"marked": 100 - n, "removed": n, "auroc": 0.5 + n / 100} for n in range(count)}
    write_sealed(path, {**read_json(path), "marks": {**read_json(path)["marks"], "types": types}})
    view = load_run(judged)
    table = result_table(view, run_differences(view))
    rows = {row["name"]: row for row in results_json(view)["results"]}
    assert rows["token-cleaning"]["selection"]["marks"]["types"] == types, "JSON has all of them"
    assert any(note.startswith("2 more types of marks") for note in table.footnotes) is (count == 12)
    if count == 1:
        assert MARKS not in table.further
        return
    found = table.further[MARKS]
    assert [column.title for column in found.columns] == list(types)[:10]
    assert found.names == ("token-cleaning",)
    (cell,) = found.columns[1].cells
    assert (cell.text, cell.note) == ("0.51", "1 of 99")
    page, notebook = unescape(Report(view, 2).render()), unescape(load_notebook_run(judged)._repr_html_())
    for text in (" ".join(shown(judged, 80).split()), notebook, page):
        assert MARKS in text
        assert "<1>" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "<0.1 s"), (0.42, "0.42 s"), (9.96, "10 s"), (42, "42 s"), (600, "10 min"), (9000, "2.5 h")],
)
def test_a_time_has_the_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "0.0 kB"), (1234, "1.2 kB"), (999_000, "999 kB"), (2 * 10**9, "2.0 GB"), (99_700_000, "100 MB")],
)
def test_a_number_of_bytes_has_the_unit_that_suits_it(count, text):
    assert in_bytes(int(count)) == text
