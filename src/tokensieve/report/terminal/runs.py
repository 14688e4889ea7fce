"""Results, examples and inspections in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.style import Style as Look
from rich.text import Text

from tokensieve.containers import Float32
from tokensieve.data.decoding import TokenDecoder
from tokensieve.report.cells import percent, plain_value
from tokensieve.report.differences import run_differences
from tokensieve.report.facts import score_in_words
from tokensieve.report.heatmap import percentile_scale, value_ends
from tokensieve.report.table import result_table
from tokensieve.report.terminal.spans import dropped_spans
from tokensieve.report.terminal.tables import print_footnotes, print_table
from tokensieve.report.terminal.tokens import SHOWN_TOKENS, Tokens, harmless, is_plain, legend, print_line, print_tokens
from tokensieve.report.terms import terms_in
from tokensieve.report.verdict import Verdict, method_verdict, run_verdict
from tokensieve.runs.results import Row
from tokensieve.runs.view import ExampleView, RunView

if TYPE_CHECKING:
    from tokensieve.data.counts import Counts
    from tokensieve.data.inspection import Inspection
    from tokensieve.data.inspection_worker import Problem

_EXTREMES = 5
_NAMED = 100


def print_results(view: RunView, console: Console) -> None:
    """Print the verdict and the results of a run, how many tokens each arm keeps and why, and what it warned of."""
    differences = run_differences(view)
    verdict, table = method_verdict(view, view.method, differences), result_table(view, differences)
    print_verdict(verdict, console)
    console.print()
    print_table(table, console)
    for heading, further in table.further.items():
        console.print()
        print_line(console, heading)
        print_table(further, console)
    print_footnotes(table.footnotes, console)
    shares = [f"  {name}: {share}" for name, share in zip(table.names, table.shares, strict=True) if share]
    if shares:
        console.print()
        for line in ["tokens kept:", *shares]:
            print_line(console, line)
    if view.warnings:
        console.print()
        for warning in view.warnings:
            print_line(console, f"warning: {warning}")
    print_terms(verdict.texts, console)


def print_verdict(verdict: Verdict, console: Console, name: str = "") -> None:
    """Print whether a method pays, after the name of its run where there are several, and what limits the answer."""
    print_line(console, f"{name}: {verdict.sentence}" if name else verdict.sentence)
    if verdict.further:
        print_line(console, " ".join(verdict.further))


def print_terms(texts: Sequence[str], console: Console) -> None:
    """Print what the terms in texts mean, below an empty line; nothing where they have none."""
    if terms := terms_in(texts):
        console.print()
    for term, meaning in terms.items():
        print_line(console, f"{term}: {meaning}")


def show_example(
    view: RunView, number: int, arm: str, value: str, console: Console, tokens: int = SHOWN_TOKENS
) -> None:
    """Print the verdict, and one example's tokens: coloured by a value, kept underlined, dropped struck through.

    Args:
        view: the run.
        number: of the example, from 0.
        arm: whose decisions and score to show.
        value: what the colour shows: ``score``, or a statistic such as ``base.loss``.
        console: where to print.
        tokens: to show; what lies in the middle of a longer example is left out.

    Raises:
        TokensieveError: an unknown example, arm or value.
    """
    example = view.example(number)
    values = example.value(arm, value)
    # All examples of a shard share one scale, which makes them comparable; the shard has been read anyway.
    ends = value_ends(example.shard.value(arm, value), example.shard.trainable)
    scale = percentile_scale(*ends)
    trainable, kept = example.trainable, example.kept(arm)
    total, chosen = int(trainable.sum()), int((kept & trainable).sum())
    title = f"example {number} (source row {example.row}): {arm} keeps {chosen:,} of {total:,} trainable tokens"
    row, sentence = view.row(arm), run_verdict(view).sentence
    assert row.selection is not None
    meaning = score_in_words(row.selection)
    print_line(console, sentence)
    console.print()
    print_line(console, title + (f" ({percent(chosen / total)})" if total else ""))
    print_line(console, meaning)
    console.print(legend(value, scale, ends, console, marks=example.marks is not None))
    console.print()
    print_tokens(
        Tokens(example.token_ids, trainable, kept, values, example.marks), view.decoder, scale, tokens, "kept", console
    )
    console.print()
    names = view.decoder.names(example.token_ids, view.decoder.pieces(example.token_ids))
    marked = _marked(names, example, view.store.mark_types)
    spans = list(dropped_spans(names, example, row.selection, arm))
    for line in [*_extremes(names, example, values, value), *_reasons(names, example, row, arm), *spans, *marked]:
        print_line(console, line)
    print_terms([sentence, meaning, *spans], console)


def _marked(names: Sequence[str], example: ExampleView, types: Sequence[str]) -> Iterator[str]:
    """Yield one line for each type of marks that an example has: its tokens."""
    if example.marks is not None:
        for number, name in enumerate(types, 1):
            if tokens := [names[place] for place in np.flatnonzero(example.marks == number).tolist()]:
                yield f"marked as {name}: {_listed(tokens)}"


def _reasons(names: Sequence[str], example: ExampleView, row: Row, arm: str) -> list[str]:
    """Return one line for each reason: the tokens that are dropped for it."""
    known = row.selection.reasons if row.selection else ()
    against = example.reasons(arm, known)
    dropped = np.flatnonzero(example.trainable & ~example.kept(arm)).tolist()
    tokens = {reason: [names[place] for place in dropped if reason in against[place]] for reason in known}
    return [f"dropped as {reason}: {_listed(found)}" for reason, found in tokens.items() if found]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def print_inspection(found: Inspection, tokenizer: Any, console: Console, tokens: int = SHOWN_TOKENS) -> None:
    """Print which tokens of a data set would be trained on, and its problems.

    Args:
        found: the result of `data.inspection.inspect_data`.
        tokenizer: the `transformers` fast tokenizer that produced the token ids.
        console: where to print.
        tokens: of each example to show; what lies in the middle of a longer one is left out.
    """
    decoder = TokenDecoder(tokenizer.backend_tokenizer)
    print_line(console, found.source)
    for line in _count_lines(found.counts, found.unusable):
        print_line(console, f"  {line}")
    template = "the tokenizer's or the given chat template" if found.template == "own" else "the built-in chat template"
    blocks = "{% generation %} blocks" if found.answers_by == "generation" else "comparing prefixes"
    ends = ", ".join(found.turn_ends) or "no token"
    print_line(console, f"  {template}; answers found by {blocks}; a turn ends with {ends}")
    for preview in found.previews:
        trainable = np.array(preview.trainable, dtype=bool)
        console.print()
        count = f"{int(trainable.sum()):,} of {len(trainable):,} tokens are trained on"
        print_line(console, f"row {preview.row} ({preview.where}): {count}")
        nothing = np.zeros(len(trainable), dtype=np.float32)
        marks = np.array(preview.marks, dtype=np.uint8) if preview.marks else None
        shown = Tokens(preview.token_ids, trainable, trainable, nothing, marks)
        print_tokens(shown, decoder, None, tokens, "trained on", console)
    if found.previews:
        console.print()
        plain = is_plain(console)
        marked = (", marked: " + ("!between these!" if plain else "bold")) if found.counts.marked else ""
        print_line(console, "trained on: " + ("{+between these+}" if plain else "underlined") + marked)
    _print_problems(found.problems, console)


def method_rows() -> list[dict[str, Any]]:
    """Return a description of every method at its defaults, ready for JSON."""
    from tokensieve.methods import all_methods, package_of

    return [
        {
            "name": name,
            "summary": method.summary,
            "formula": method.formula,
            "needs": sorted(f"{role}.{statistic}" for role, statistic in method().needs),
            "rule": method().selects_in_words,
            "selects": "online" if method().online else "offline",
            "divided_by": method.divide_by,
            "differences": method.differences,
            "paper": method.paper,
            "package": package_of(name),
        }
        for name, method in all_methods().items()
    ]


def print_methods(console: Console) -> None:
    """Print a description of every method at its defaults."""
    for row in method_rows():
        print_line(console, f"{row['name']}: {row['summary']}")
        print_line(console, f"  score: {row['formula']}")
        print_line(console, f"  needs: {', '.join(row['needs']) or 'nothing'}")
        print_line(
            console, f"  rule:  {row['rule']}; selects {row['selects']}; loss divided by {row['divided_by']} tokens"
        )
        for label in ("paper", "differences", "package"):
            if row[label]:
                print_line(console, f"  {label}: {row[label]}")


def _extremes(texts: Sequence[str], example: ExampleView, values: Float32, name: str) -> Iterator[str]:
    """Yield the trainable tokens with the highest and the lowest values, in words."""
    positions = np.flatnonzero(example.trainable)
    order = positions[np.argsort(-values[positions], kind="stable")]
    for word, chosen in (("highest", order[:_EXTREMES]), ("lowest", order[::-1][:_EXTREMES])):
        tokens = (f"{texts[p]} {plain_value(float(values[p]))}" for p in chosen.tolist())
        if len(chosen):
            yield f"{word} {name}: {', '.join(tokens)}"


def _count_lines(counts: Counts, unusable: int) -> Iterator[str]:
    share = f" ({percent(counts.trainable_tokens / counts.tokens)})" if counts.tokens else ""
    faulty = f", {unusable:,} unusable" if unusable else ""
    yield f"{counts.rows:,} rows{faulty}, {counts.examples:,} examples"
    yield f"{counts.tokens:,} tokens, {counts.trainable_tokens:,} of them trainable{share}"
    names = {"0": "shortest", "0.5": "median", "1": "longest"}
    lengths = (f"{names.get(q) or f'{100 * float(q):g} %'} {length:,}" for q, length in counts.lengths.items())
    if counts.lengths:
        yield f"tokens per example: {', '.join(lengths)}"
    yield from counts.marks_in_words()
    if counts.unused_columns:
        yield counts.unused_in_words()


def _print_problems(problems: Sequence[Problem], console: Console) -> None:
    console.print()
    if not problems:
        print_line(console, "no problems found")
    for problem in problems:
        colour = "red" if problem.level == "error" else "yellow"
        line = Text(f"{problem.level}: ", Look() if is_plain(console) else Look(color=colour, bold=True))
        rows = f" ({problem.count:,} rows)" if problem.count > 1 else ""
        console.print(line.append(harmless(problem.message + rows), Look()))
        for name, text in (("at", problem.where), ("hint", problem.hint)):
            if text:
                print_line(console, f"  {name}: {text}")
