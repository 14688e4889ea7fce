"""The page of a run: one HTML file that needs no network and no script to be read.

Everything from data reaches the page through Jinja's escaping, and the page's own policy runs no script
but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.report.chart import HEIGHT, WIDTH, Chart, draw
from tokensieve.report.heatmap import (
    LEVELS,
    Scale,
    StyledRun,
    TokenDecoder,
    percentile_scale,
    styled_runs,
    visible,
)
from tokensieve.report.palette import DARK, LIGHT, Palette, css
from tokensieve.report.summary import LEAST_SEEN, Summary, TokenCount, pick_examples, summarise
from tokensieve.report.table import number, percent, plain_value, result_table
from tokensieve.report.view import ExampleView, RunView
from tokensieve.store.atomic import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

_TOKENS_LISTED = 15
_RUN_TOKENS = 12  # pieces of one element, so that its hover text stays readable


@dataclass(frozen=True)
class Element:
    """One element of a heat map.

    Attributes:
        classes: its style.
        detail: one line a token; what hovering and focus show.
        parts: its text, each with whether it stands for something invisible.
    """

    classes: str
    detail: str
    parts: list[tuple[str, bool]]


@dataclass(frozen=True)
class HeatMap:
    """One example.

    Attributes:
        number: its position in the example store.
        row: of the source.
        trainable: tokens to choose from.
        kept: tokens chosen.
        elements: its tokens.
    """

    number: int
    row: int
    trainable: int
    kept: int
    elements: list[Element]


@dataclass(frozen=True)
class TokenRow:
    """A token of the vocabulary in the lists of the most kept and most dropped."""

    parts: list[tuple[str, bool]]
    count: TokenCount


def write_page(view: RunView, path: Path, examples: int) -> None:
    """Write the page of a run.

    Args:
        view: the run.
        path: the HTML file.
        examples: heat maps at most.

    Raises:
        TokensieveError: scores or examples that cannot be read.
    """
    write_text(path, render_page(view, examples))


def render_page(view: RunView, examples: int) -> str:
    """Return the page of a run; see `write_page`."""
    arm = view.row(view.method)
    assert arm.selection is not None
    summary = summarise(view, view.method)
    scale = percentile_scale(*summary.percentiles["score"])
    style, script = _asset("page.css") + _level_rules(), _asset("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            view=view,
            selection=arm.selection,
            sentences=_sentences(view),
            table=result_table(view),
            charts=_charts(summary, arm.selection.threshold),
            chart_width=WIDTH,
            chart_height=HEIGHT,
            most_kept=_listed(summary.tokens, view.decoder, arm.selection.share, kept=True),
            most_dropped=_listed(summary.tokens, view.decoder, arm.selection.share, kept=False),
            least_seen=LEAST_SEEN,
            scale=scale,
            levels=range(-LEVELS if scale.signed else 0, LEVELS + 1),
            level_class=lambda level: _level_class(level, scale.signed),
            groups=[
                (heading, [_heat_map(view, number, scale) for number in numbers])
                for heading, numbers in pick_examples(summary.examples, examples)
            ],
            style=style,
            script=script,
            policy="; ".join(
                (
                    "default-src 'none'",
                    f"style-src '{_hash(style)}'",
                    f"script-src '{_hash(script)}'",
                    "img-src data:",
                    "base-uri 'none'",
                    "form-action 'none'",
                )
            ),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tokensieve.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "value": plain_value}
    return environment


def _asset(name: str) -> str:
    return importlib.resources.files("tokensieve.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _level_rules() -> str:
    """Return the CSS of the heat maps' colours, for light and dark."""

    def rules(palette: Palette) -> Iterator[str]:
        yield f":root{{--token:{css(palette.text)};--token-middle:{css(palette.middle)}}}"
        for signed in (False, True):
            for level in range(-LEVELS if signed else 1, LEVELS + 1):
                if level:
                    colour = css(palette.background(level, signed))
                    yield f".{_level_class(level, signed)}{{background:{colour}}}"

    return "".join(rules(LIGHT)) + "@media (prefers-color-scheme:dark){" + "".join(rules(DARK)) + "}\n"


def _level_class(level: int, signed: bool) -> str:
    if level == 0:
        return "z"
    return f"{'s' if not signed else 'p' if level > 0 else 'n'}{abs(level)}"


def _sentences(view: RunView) -> list[str]:
    """Say in words what the run found."""
    selection = view.row(view.method).selection
    assert selection is not None
    said = [
        f"{view.method} keeps {percent(selection.share)} of the trainable tokens: {selection.kept:,} of "
        f"{selection.trainable:,}, in {selection.examples:,} examples."
    ]
    if selection.examples_without_kept:
        said.append(f"{selection.examples_without_kept:,} examples keep no token and are left out of training.")
    losses = [(row.name, row.evaluation.loss) for row in view.rows]
    found = [f"{name} {number(loss.value)}" for name, loss in losses if loss is not None]
    if found:
        said.append(f"Held-out loss: {', '.join(found)}.")
    return said


def _charts(summary: Summary, threshold: float | None) -> list[Chart]:
    return [draw(histogram, threshold if histogram.name == "score" else None) for histogram in summary.histograms]


def _listed(tokens: Sequence[TokenCount], decoder: TokenDecoder, share: float, *, kept: bool) -> list[TokenRow]:
    """Return the tokens that are kept more (or less) often than tokens are on average, furthest first."""
    chosen = [token for token in tokens if (token.share > share if kept else token.share < share)]
    if not kept:
        chosen = sorted(chosen, key=lambda token: (token.share, -token.seen, token.token_id))
    return [TokenRow(visible(decoder.name(token.token_id)), token) for token in chosen[:_TOKENS_LISTED]]


def _heat_map(view: RunView, example_number: int, scale: Scale) -> HeatMap:
    example = view.example(example_number)
    trainable, kept = example.trainable, example.kept(view.method)
    pieces = view.decoder.pieces(example.token_ids)
    details = _details(view, example, view.decoder.names(example.token_ids, pieces))
    runs = styled_runs(
        pieces,
        trainable,
        kept,
        example.value(view.method, "score"),
        scale,
        longest=_RUN_TOKENS,
    )
    return HeatMap(
        example_number,
        example.row,
        int(trainable.sum()),
        int((kept & trainable).sum()),
        [_element(run, scale, details) for run in runs],
    )


def _element(run: StyledRun, scale: Scale, details: list[str]) -> Element:
    style, first, last = run.style, run.pieces[0].start, run.pieces[-1].stop
    classes = [style.state] + (["special"] if style.special else [])
    if style.state == "prompt":
        detail = f"tokens {first} to {last - 1}: prompt, not trained on" if last - first > 1 else details[first]
    else:
        classes.append(_level_class(style.level, scale.signed))
        detail = "\n".join(details[first:last])
    parts = [part for piece in run.pieces for part in visible(piece.text or "⟨⟩")]
    return Element(" ".join(classes), detail, parts)


def _details(view: RunView, example: ExampleView, texts: list[str]) -> list[str]:
    """Return one line a token: its text, position, id and, where it is trainable, its figures and its fate."""
    trainable, kept = example.trainable, example.kept(view.method)
    names = ["score", *example.shard.statistics]
    values = [example.value(view.method, name) for name in names]
    selection = view.row(view.method).selection
    reasons = example.reasons(view.method, selection.reasons if selection else ())
    lines = []
    for position, token_id in enumerate(example.token_ids):
        line = f"“{texts[position]}” · token {position} · id {token_id}"
        if trainable[position]:
            figures = (f"{name} {plain_value(float(v[position]))}" for name, v in zip(names, values, strict=True))
            fate = "kept" if kept[position] else ": ".join(filter(None, ("dropped", ", ".join(reasons[position]))))
            line = " · ".join((line, fate, *figures))
        else:
            line += " · prompt, not trained on"
        lines.append(line)
    return lines
