from __future__ import annotations

import dataclasses
import fcntl
import io
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from functools import partial

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tokensieve.data.counts import Counts
from tokensieve.data.decoding import Piece
from tokensieve.data.inspection import Inspection
from tokensieve.data.inspection_worker import Preview, Problem
from tokensieve.data.repeats import HashedExamples
from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.report.as_json import example_json
from tokensieve.report.heatmap import Scale, styled_runs
from tokensieve.report.terminal.runs import (
    _listed,
    method_rows,
    print_inspection,
    print_methods,
    print_results,
    show_example,
)
from tokensieve.report.terminal.tables import output_console
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed

MINUS = "\u2212"


def printed(show, width=80, **options) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(demo, number, value="score", arm="token-cleaning", tokens=2000, **options) -> str:
    view = load_run(demo.folder)
    return printed(lambda console: show_example(view, number, arm, value, console, tokens), **options)


COLOUR = {"force_terminal": True, "color_system": "truecolor", "no_color": False}


@pytest.mark.parametrize("width", [50, 80, 200])
def test_results_fit_the_terminal(demo, width):
    text = printed(lambda console: print_results(load_run(demo.folder), console), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    for part in (
        "full: as full has it",
        "token-cleaning",
        "1.300 to 1.500",
        "boolq",
        "75.0 %",
        "before fine-tuning",
        "30 of 40",
    ):
        assert part in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 200])
def test_a_long_name_is_folded_only_where_room_is_wanting(demo, width):
    name = "token-cleaning-of-the-second-pool"
    (demo.folder / "arms" / "random").rename(demo.folder / "arms" / name)
    run = demo.folder / "run.json"
    write_sealed(run, {**read_json(run), "arms": ["token-cleaning", name]})
    text = printed(lambda console: print_results(load_run(demo.folder), console), width)
    table = text[: text.index("tokens kept:")]
    assert (name in table) is (width == 200)
    assert "token-cleaning-of-th" in table


def test_long_names_and_markup_in_results(demo):
    name = "[red]" + "very-long-name-" * 4
    (demo.folder / "arms" / "random").rename(demo.folder / "arms" / name)
    run = demo.folder / "run.json"
    write_sealed(run, {**read_json(run), "arms": ["token-cleaning", name]})
    text = printed(lambda console: print_results(load_run(demo.folder), console))
    assert "[red]" in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_a_run_without_evaluation_has_results(demo):
    for path in demo.folder.glob("arms/*/evaluation.json"):
        path.unlink()
    text = printed(lambda console: print_results(load_run(demo.folder), console))
    assert "74.4 %" in text
    assert "loss" not in text


def test_decisions_without_colour(demo):
    assert "ask·hello[-·the-][-!·world!-][-·the-][-!·token!-][-<|end|>-]" in shown(demo, 0)
    assert "{+<script>" in shown(demo, 2, width=200)


@pytest.mark.parametrize("options", [{}, {**COLOUR, "no_color": True}])
def test_no_color_has_no_escapes(demo, options):
    assert "\x1b" not in shown(demo, 1, **options)
    assert "\x1b" not in printed(lambda console: print_results(load_run(demo.folder), console), **options)


def test_no_color_is_read_from_the_environment(demo, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(demo, 1, force_terminal=True)


def test_decisions_with_colour(demo):
    assert "\x1b[9;" in shown(demo, 0, **COLOUR)
    assert "\x1b[4;" in shown(demo, 4, **COLOUR)


def test_colours_are_those_of_the_terminals_theme(demo):
    text = shown(demo, 0, **COLOUR) + shown(demo, 4, **COLOUR)
    assert not re.search(r"[34]8;[25];", text), "a colour that no theme changes"
    assert re.search(r"\x1b\[4;34mkept", text)
    assert re.search(r"\x1b\[9;31mdropped", text)
    assert re.search(r"\x1b\[2mprompt", text), "bright black is the ground of some themes"


def test_characters_are_whole_and_controls_visible(demo):
    assert "中文🙂" in shown(demo, 1).replace("-][~", "").replace("~][-", "").replace("-]{+", "")
    text = shown(demo, 3)
    assert "two¶\n" in text
    assert "{+tab→and␣more¶\n" in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [10, 23, 80])
@pytest.mark.parametrize("options", [{}, COLOUR])
def test_no_line_is_wider_than_the_terminal(demo, width, options):
    text = printed(lambda console: show_example(load_run(demo.folder), 4, "full", "score", console), width, **options)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(cell_len(line.rstrip()) for line in plain.splitlines()) <= width


def test_words_of_several_tokens_are_not_broken(demo):
    text = shown(demo, 5, width=24)
    assert all("world" in line for line in text.splitlines()[4:] if "wor" in line or "rld" in line)


def test_the_scale_leaves_masked_tokens_out(demo):
    text = shown(demo, 0)
    assert "e+0" not in text  # masked tokens have a score of 1e9
    assert f"lowest score: ·the {MINUS}40" in text


def test_statistics_have_a_scale_of_their_own(demo):
    assert "base.loss: 0.99 to" in shown(demo, 0, value="base.loss")


def test_unknown_arms_and_values_are_errors(demo):
    with pytest.raises(TokensieveError, match="did you mean 'random'"):
        shown(demo, 0, arm="randm")
    with pytest.raises(TokensieveError, match=r"(?s)no value 'base\.los'; did you mean 'base\.loss'.*score"):
        shown(demo, 0, value="base.los")


def inspection(tokenizer, problems) -> Inspection:
    ids = tokenizer.encode("[bold]hello the world<|end|>", add_special_tokens=False)
    trainable = [index >= len(ids) - 3 for index in range(len(ids))]
    counts = Counts(rows=1234, examples=1200, tokens=5000, trainable_tokens=1000, lengths={"0": 3, "0.5": 7, "1": 90})
    previews = [Preview(0, "x.jsonl:1", ids, trainable)]
    hashed = HashedExamples(DataSettings(), np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))
    return Inspection("x.jsonl", "own", "generation", ["<|end|>"], 34, counts, previews, problems, hashed)


def test_an_inspection(tokenizer):
    problems = [Problem("error", "bad \x1b[31m row", "x.jsonl:7", "fix it", 3), Problem("warning", "odd")]
    text = printed(lambda console: print_inspection(inspection(tokenizer, problems), tokenizer, console))
    assert "[bold]hello{+·the·world<|end|>+}" in text
    assert "1,234 rows, 34 unusable, 1,200 examples" in text
    assert "5,000 tokens, 1,000 of them trainable (20.0 %)" in text
    assert "shortest 3, median 7, longest 90" in text
    assert "error: bad ␛[31m row (3 rows)\n  at: x.jsonl:7\n  hint: fix it\nwarning: odd" in text
    assert "\x1b" not in text


def test_an_inspection_with_colour_underlines_what_is_trained(tokenizer):
    text = printed(lambda console: print_inspection(inspection(tokenizer, []), tokenizer, console), **COLOUR)
    assert "\x1b[4m<|end|>" in text or "\x1b[4mworld<|end|>" in text
    assert "no problems found" in text


def test_methods_are_listed():
    names = [row["name"] for row in method_rows()]
    assert {"full", "random", "token-cleaning"} <= set(names)
    text = printed(print_methods)
    assert all(f"{name}: " in text for name in names)
    by_name = {row["name"]: row for row in method_rows()}
    assert by_name["toss"]["rule"] == "all but the lowest 0.1 of the data set, rounded down"
    assert by_name["toss"]["divided_by"] == "trainable"
    assert by_name["sstoken"]["selects"] == "online"
    assert by_name["xtf"]["differences"]
    assert "rule:  every trainable token; selects online; loss divided by kept tokens" in text.replace("\n", " ")


@pytest.mark.parametrize(("columns", "widest"), [(None, math.inf), ("100", 100)])
def test_text_in_a_pipe_is_not_wrapped(capsys, monkeypatch, columns, widest):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    print_methods(output_console())
    lines = capsys.readouterr().out.splitlines()
    summaries = {f"{row['name']}: {row['summary']}" for row in method_rows()}
    assert (summaries <= set(lines)) is (columns is None)
    assert max(map(cell_len, lines)) <= widest


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_is_wrapped_at_its_width(width):
    """In a pseudo-terminal: the lines of a command are as wide as it is, and no wider."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "tokensieve", "recipes", "--keys"]
    with subprocess.Popen(command, stdout=theirs, env={**environment, "TERM": "xterm-256color"}) as shown:
        os.close(theirs)
        lines = b"".join(iter(partial(_read, ours), b"")).decode().splitlines()
    os.close(ours)
    assert shown.returncode == 0
    assert width - 20 < max(cell_len(line) for line in lines if line.startswith(" ")) <= width


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # nobody writes to it any more
        return b""


def test_importing_is_cheap():
    heavy = "torch", "transformers", "datasets", "jinja2"
    code = f"import sys, tokensieve.report.terminal.runs; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_long_row_is_cut_in_the_middle_and_says_so(tiny_encoder):
    tokenizer, size = tiny_encoder.tokenizer, 100_000
    found = inspection(tokenizer, [])
    preview = dataclasses.replace(found.previews[0], token_ids=[270, 271] * (size // 2), trainable=[True] * size)
    found = dataclasses.replace(found, previews=[preview])
    text = printed(lambda console: print_inspection(found, tokenizer, console, 50))
    assert "... 99,950 tokens left out, 99,950 of them trained on (--tokens) ..." in text
    assert len(text.splitlines()) < 60
    pieces = [Piece(place, place + 1, "a") for place in range(size)]
    every, nothing = np.ones(size, dtype=bool), np.zeros(size, dtype=np.float32)
    start = time.perf_counter()
    (run,) = styled_runs(pieces, every, every, nothing, Scale(0.0, 0.0, signed=False))
    assert len(run.pieces) == size
    assert time.perf_counter() - start < 20, "minutes, if every piece copied those before it"


def test_a_long_example_is_cut_in_the_middle_and_says_what_was_kept(demo):
    example = load_run(demo.folder).example(0)
    total, whole = len(example.token_ids), shown(demo, 0)
    assert total > 5
    left_out = (example.kept("token-cleaning") & example.trainable)[3:-2].sum()
    head, tail = shown(demo, 0, tokens=5).split(
        f"... {total - 5} tokens left out, {left_out} of them kept (--tokens) ..."
    )
    assert head.split("brackets")[1].strip()
    assert tail.strip()
    assert "left out" not in whole
    assert "left out" not in shown(demo, 0, tokens=total)
    assert tail[tail.index("highest score") :] == whole[whole.index("highest score") :], (
        "the extremes are of all tokens"
    )


def test_tokens_that_are_dropped_for_a_reason_are_not_all_named():
    assert _listed(["a"] * 3) == "a, a, a"
    assert _listed([str(n) for n in range(1_234)]).endswith("98, 99 and 1,134 more")


def test_warnings_of_a_run_stand_under_its_results(demo):
    view = dataclasses.replace(load_run(demo.folder), warnings=["3 of 40 examples repeat an earlier one"])
    text = printed(lambda console: print_results(view, console))
    assert text.rstrip().endswith("warning: 3 of 40 examples repeat an earlier one")


def test_marked_tokens_are_named_by_type(demo):
    text = shown(demo, 0, width=200)
    assert "!marked!" in text
    assert "marked as odd <b>: ·world\nmarked as wrong: ·token" in text
    assert "overline" not in text
    assert "\x1b[1;9;53;" in shown(demo, 0, **COLOUR)
    assert "marked" not in shown(demo, 5)


def test_the_json_of_an_example_has_the_types_of_marks(demo):
    tokens = example_json(load_run(demo.folder), 0, "full")["tokens"]
    assert [one["mark"] for one in tokens if one["trainable"]] == [None, "odd <b>", None, "wrong", None]
