"""Notebook display of examples and runs: heat maps and tables as HTML with inline styles, without scripts.

The runs of tokens, their colours and the visible white space are the same as on the page (`heatmap`, `palette`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from tokensieve.data.decoding import visible
from tokensieve.report.cells import ResultTable, percent, plain_value
from tokensieve.report.differences import run_differences
from tokensieve.report.heatmap import Scale, StyledRun, percentile_scale, styled_runs, value_ends
from tokensieve.report.palette import DROPPED, KEPT, LIGHT, css
from tokensieve.report.table import result_table
from tokensieve.report.verdict import method_verdict
from tokensieve.runs import view
from tokensieve.runs.view import ExampleView, RunView

_LINES = {
    "kept": f"text-decoration:underline 3px {css(KEPT)};text-underline-offset:.25em",
    "dropped": f"text-decoration:line-through 2px {css(DROPPED)}",
    "mixed": "text-decoration:underline line-through;text-underline-offset:.28em",
    "prompt": "color:#555c69",
}
# The text has a fixed background, independent of the notebook's theme.
_GROUND = (
    f"background:{css(LIGHT.middle)};color:{css(LIGHT.text)};border:1px solid #d9dde4;border-radius:6px;"
    "padding:10px 12px;margin:4px 0;max-width:60rem"
)
_TEXT = (
    "font:14px/2 ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre-wrap;overflow-wrap:anywhere"
)
_SMALL = "font:13px/1.5 system-ui,sans-serif;color:#555c69"
_CELL = "padding:3px 12px;text-align:right;border-top:1px solid #d9dde4;background:none;color:inherit"


@dataclass(frozen=True, eq=False)
class NotebookExample(ExampleView):
    """An example that notebooks show as a heat map.

    Attributes:
        run: the run of the example.
    """

    run: NotebookRun

    def html(self, arm: str | None = None, value: str = "score") -> str:
        """Return the heat map as HTML without scripts.

        Args:
            arm: whose decisions and score to show; the method's when not given.
            value: what the colour shows: ``score``, or a statistic such as ``base.loss``.

        Raises:
            TokensieveError: an unknown arm or value.
        """
        return _example_html(self, arm or self.run.method, value)

    def _repr_html_(self) -> str:
        return self.html()


@dataclass(frozen=True, eq=False)
class NotebookRun(RunView):
    """A run that notebooks show as a table of results."""

    def example(self, number: int) -> NotebookExample:
        """Return an example, by its position in the store.

        Raises:
            TokensieveError: the example does not exist.
        """
        return NotebookExample(**_fields(super().example(number)), run=self)

    def _repr_html_(self) -> str:
        return _run_html(self)


def load_run(folder: str | Path) -> NotebookRun:
    """Open a run folder.

    Raises:
        TokensieveError: the folder is not a run folder, or the run has not selected its tokens yet.
    """
    return NotebookRun(**_fields(view.load_run(Path(folder))))


def _fields(of: Any) -> dict[str, Any]:
    return {field.name: getattr(of, field.name) for field in fields(of)}


def _example_html(example: NotebookExample, arm: str, value: str) -> str:
    """Return the heat map of an example: an arm's decisions, coloured by a value."""
    values, trainable, kept = example.value(arm, value), example.trainable, example.kept(arm)
    # All examples of a shard share one scale, which makes them comparable; the shard has been read anyway.
    low, high = value_ends(example.shard.value(arm, value), example.shard.trainable)
    scale = percentile_scale(low, high)
    runs = styled_runs(
        example.run.decoder.pieces(example.token_ids), trainable, kept, values, scale, marks=example.marks
    )
    chosen, total = int((kept & trainable).sum()), int(trainable.sum())
    share = f" ({percent(chosen / total)})" if total else ""
    title = f"example {example.number}, source row {example.row}: {arm} keeps {chosen:,} of {total:,} tokens{share}"
    ends = f"{value} from {plain_value(low)} to {plain_value(high)}"
    marked = "" if example.marks is None else ", marked tokens dotted"
    key = f"{ends}; kept underlined, dropped struck through, prompt grey{marked}"
    return (
        f'<div style="{_GROUND}"><div style="{_SMALL}">{escape(title)}</div>'
        f'<div style="{_TEXT}" dir="auto">{"".join(_span(run, scale) for run in runs)}</div>'
        f'<div style="{_SMALL}">{escape(key)}</div></div>'
    )


def _run_html(run: RunView) -> str:
    """Return the verdict and the results of a run."""
    differences = run_differences(run)
    table, verdict = result_table(run, differences), method_verdict(run, run.method, differences)
    said = f'<div style="font-weight:600">{escape(verdict.sentence)}</div>' + "".join(
        f'<div style="{_SMALL}">{escape(sentence)}</div>' for sentence in verdict.further
    )
    further = "".join(
        f'<div style="{_SMALL}">{escape(heading)}</div>{_table_html(one)}' for heading, one in table.further.items()
    )
    return (
        f'<div style="{_GROUND};overflow-x:auto">{said}<div style="{_SMALL}">{escape(run.name)}: '
        f"{len(run):,} examples, method {escape(run.method)}</div>{_table_html(table)}{further}"
        + "".join(f'<div style="{_SMALL}">{escape(text)}</div>' for text in table.footnotes)
        + "</div>"
    )


def _table_html(table: ResultTable) -> str:
    heads = "".join(f'<th style="{_CELL}">{escape(column.title)}</th>' for column in table.columns)
    rows = []
    for place, (name, note) in enumerate(zip(table.names, table.notes, strict=True)):
        cells = (column.cells[place] for column in table.columns)
        figures = "".join(f'<td style="{_CELL}">{_with_note(cell.text or "-", cell.note)}</td>' for cell in cells)
        left = _CELL.replace("right", "left", 1)
        rows.append(f'<tr><th style="{left}">{_with_note(name, note)}</th>{figures}</tr>')
    return (
        f'<table style="border-collapse:collapse;font:14px/1.4 system-ui,sans-serif;color:inherit"><thead><tr>'
        f'<th style="{_CELL}"></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _span(run: StyledRun, scale: Scale) -> str:
    style = _LINES[run.style.state]
    if run.style.state != "prompt":
        style += f";background:{css(LIGHT.background(run.style.level, scale.signed))}"
    if run.style.special:
        style += ";outline:1px solid #8a909c;outline-offset:-1px"
    if run.style.marked:
        style += ";outline:2px dotted currentColor;outline-offset:-1px"
    text = "".join(part for piece in run.pieces for part, _ in visible(piece.text or "⟨⟩"))
    return f'<span style="{style}">{escape(text)}</span>'


def _with_note(text: str, note: str) -> str:
    return escape(text) + (f'<br><span style="{_SMALL}">{escape(note)}</span>' if note else "")
