from __future__ import annotations

import builtins
import io
import re
import sys
import time
import types

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tokensieve.methods import get_method
from tokensieve.progress import StageProgress
from tokensieve.select.streaming import select_shards
from tokensieve.testing import made_up_statistics
from tokensieve.train.trainer import on_steps


def console(width=80, **options) -> Console:
    return Console(file=io.StringIO(), width=width, **options)


def output(found: Console) -> str:
    assert isinstance(found.file, io.StringIO)
    return found.file.getvalue()


def test_a_log_file_gets_a_line_at_each_end_of_a_stage():
    shown = console(40)
    with StageProgress(shown).stage("measure [base]", 2000, "tokens") as advance:
        advance(1500)
        advance(500, note="60.0 % kept")
    begins, line = output(shown).splitlines(keepends=True)
    assert begins == "measure [base]: begins, 2,000 tokens\n"
    assert re.fullmatch(r"measure \[base\]: 2,000 tokens in \d+\.\d s, 60\.0 % kept\n", line)


def test_a_log_file_is_told_how_far_a_long_stage_is():
    shown = console(40)
    with StageProgress(shown, seconds_between_lines=0.05).stage("measure base", 2000, "tokens") as advance:
        advance(500)
        time.sleep(0.06)
        advance(500)
        advance(500)
    lines = output(shown).splitlines()
    assert len(lines) == 3
    assert lines[1] == "measure base: 1,000 of 2,000 tokens after 0 s"
    assert "\x1b" not in output(shown)


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_a_bar_fits_the_terminal(width):
    shown = console(width, force_terminal=True, color_system=None, legacy_windows=False)
    with StageProgress(shown).stage("select token-cleaning-with-a-long-name", 10**6, "tokens") as advance:
        advance(400_000, note="61.3 % kept")
        advance(1)
    frames = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output(shown)))
    assert max(map(cell_len, frames)) <= width
    last = [frame for frame in frames if frame.strip()][-1]
    assert "select" in last or width < 40
    if width >= 80:
        assert "40%" in last
        assert "tokens/s" in last
        assert "61.3 % kept" in last


@pytest.mark.parametrize("width", [80, 120, 200])
def test_bars_and_figures_of_all_stages_are_aligned(width):
    shown, last = console(width, force_terminal=True, color_system=None, legacy_windows=False), []
    stages = [
        ("tokenise", None, "rows", None),
        ("train full", 88, "steps", None),
        ("select token-cleaning", 10**7, "tokens", "60.0 % kept"),
        ("evaluate token-cleaning: held-out loss", 282, "examples", None),
    ]
    for words, total, unit, note in stages:
        with StageProgress(shown).stage(words, total, unit) as advance:
            advance(total or 12_345_678, note=note)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output(shown))
        last.append([frame for frame in re.split(r"[\r\n]", plain) if frame.strip()][-1])
    assert len({(line.index("━"), line.rindex("━"), len(line.rstrip())) for line in last}) == 1
    assert len({line.rindex("/s") for line in last}) == 1
    assert [line.split("━")[0].rstrip() for line in last[:3]] == [
        "tokenise",
        "train full",
        "select token-cleaning, 60.0 % kept",
    ]
    assert last[0].split()[-4] == "12.3M"


def test_a_total_that_only_the_work_knows():
    shown = console(force_terminal=True, color_system=None, legacy_windows=False)
    with StageProgress(shown).stage("train full", None, "steps") as advance:
        on_step = on_steps(advance)
        on_step(1, 8)
        on_step(4, 8)
    assert " 50%" in output(shown)


def test_an_unknown_total_shows_a_count_and_no_share():
    shown = console(force_terminal=True, color_system=None, legacy_windows=False)
    with StageProgress(shown).stage("tokenise", None, "rows") as advance:
        time.sleep(0.01)
        advance(1234)
    assert re.search(r"1,234 +[\d,.]+M? rows/s", output(shown)), "one step gives a rate too"
    assert "%" not in output(shown)


@pytest.mark.parametrize("scope", ["dataset", "example"])
def test_selecting_tells_the_kept_share_so_far(scope, tmp_path):
    method = get_method("loss", fraction=0.5, scope=scope)
    parts = [made_up_statistics(method.needs, seed) for seed in range(3)]
    shown = console()

    def stage(what: str):
        return StageProgress(shown).stage(what, None, "tokens")

    def load(number: int):
        return parts[number], np.arange(len(parts[number]))

    counts = select_shards(method, method.rule, load, 3, tmp_path, stage)
    lines = [line for line in output(shown).splitlines() if "begins" not in line]
    assert [line.partition(":")[0] for line in lines] == (["score"] if scope == "dataset" else []) + ["select"]
    assert all(f": {counts['trainable']} tokens" in line for line in lines)
    assert lines[-1].endswith(f"{100 * counts['kept'] / counts['trainable']:.1f} % kept")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stage_whose_work_was_done_before_says_so(terminal):
    shown = console(force_terminal=terminal, color_system=None, legacy_windows=False)
    with StageProgress(shown).stage("tokenise", None, "rows"):
        pass
    assert "already there" in output(shown)
    assert terminal or output(shown) == "tokenise: begins\ntokenise: already there\n"


def test_nothing_is_printed_where_progress_is_not_shown(capfd):
    progress = StageProgress(shown=False)
    with progress.stage("measure base", 2, "tokens") as advance:
        advance(2)
    progress.warn("few steps")
    assert capfd.readouterr() == ("", "")
    assert progress.warnings == ["few steps"]


def test_a_notebook_gets_lines_in_its_output(monkeypatch, capsys):
    """With a stand-in for IPython: no bar, which would need ipywidgets, and nothing beside the output."""
    displayed = []
    shell = type("ZMQInteractiveShell", (), {})()
    module = types.ModuleType("IPython.display")
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setattr(module, "display", displayed.append, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    progress = StageProgress(seconds_between_lines=0)
    assert progress.console.is_jupyter
    with progress.stage("measure <base>", 2000, "tokens") as advance:
        advance(1500)
        advance(500, note="60.0 % kept")
    progress.warn("few steps")
    html = [one._repr_mimebundle_([], [])["text/html"] for one in displayed]
    lines = [re.sub("<[^>]*>", "", one).strip() for one in html]
    assert lines[0] == "measure &lt;base&gt;: begins, 2,000 tokens"
    assert lines[1].startswith("measure &lt;base&gt;: 1,500 of 2,000 tokens after")
    assert re.fullmatch(r"measure &lt;base&gt;: 2,000 tokens in \d+\.\d s, 60\.0 % kept", lines[-2])
    assert lines[-1] == "warning: few steps"
    assert capsys.readouterr() == ("", "")
