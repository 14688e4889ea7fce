"""What the terminal explains in words: terms, levels of intervals, and spans that a method drops as a whole."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from tokensieve.report.analysis.comparison import compare_runs
from tokensieve.report.facts import score_in_words
from tokensieve.report.terminal.comparison import print_comparison
from tokensieve.report.terminal.runs import print_results, show_example
from tokensieve.report.terms import TERMS
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run


def printed(show) -> str:
    console = Console(file=io.StringIO(), width=1000)
    show(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def explained(text: str) -> set[str]:
    return {name for name, meaning in TERMS.items() if f"\n{name}: {meaning}\n" in text}


@pytest.fixture
def compared(judged):
    recipe = "{output: a, method: {name: token-cleaning}, train: null, data: {}, models: {}, controls: [], select: {}}"
    RunFolder(judged).write_recipe(recipe)
    return judged


def test_results_and_comparisons_explain_the_terms_of_the_verdict_and_what_stands_below_results(compared):
    view = load_run(compared)
    for text in (
        printed(lambda console: print_results(view, console)),
        printed(lambda console: print_comparison(compare_runs([compared]), console)),
    ):
        assert explained(text) == {"nats", "95 % interval", "random tokens", "full training", "held-out"}
        assert "\nbelow each result: its 95 % interval, or the token counts of a share\n" in text


def test_an_example_has_the_meaning_of_its_score_and_its_dropped_spans_with_their_odds(spanned, demo):
    view = load_run(spanned)
    text = printed(lambda console: show_example(view, 1, "token-cleaning", "score", console))
    selection = view.row("token-cleaning").selection
    assert selection is not None
    assert f"\n{score_in_words(selection)}\n" in text
    dropped = [score for score in demo.scores[1] if score < 0]
    (span,) = re.findall("dropped as a span of noise: (.*)", text)
    assert re.match(rf"{len(dropped)} tokens, from \S+ .*to ", span)
    total = -np.sum(dropped)
    assert f": {2 * total:.4g} nats of the reference model against {total:.4g} of the model of the pool, " in span
    assert {"nats", "odds", "reference model", "model of the pool"} <= explained(text)


def test_a_method_that_scores_single_tokens_has_no_spans(judged):
    view = load_run(judged)
    text = printed(lambda console: show_example(view, 1, "token-cleaning", "score", console))
    assert "span" not in text
