"""The benchmark of the page's size: the runs that it makes are whole."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tokensieve.report.html.page import Report
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/page_sizes.py"


def test_a_run_with_its_examples_repeated_can_be_read_and_shown(make_large, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra dev)")
    run = make_large(examples=6, tokens=110).folder  # as many as its manifest counts
    RunFolder(run).write_recipe("train: null")
    view = load_run(runpy.run_path(str(SCRIPT))["repeated"](run, tmp_path / "more", 12))
    assert len(view) == 12
    assert view.example(11).token_ids == load_run(run).example(5).token_ids
    assert "<html" in Report(view, 12).render()
