"""Heat maps of tokens in the terminal, and the lines of text around them.

Everything from data is printed as `rich.text.Text`, never as markup. Without colours (NO_COLOR or
a pipe), brackets replace styles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.style import Style as Look
from rich.text import Text

from tokensieve.containers import Bool, Float32, UInt8
from tokensieve.data.decoding import TokenDecoder, visible, visible_text
from tokensieve.report.cells import plain_value
from tokensieve.report.heatmap import LEVELS, Scale, State, StyledRun, styled_runs

SHOWN_TOKENS = 2000
"""Tokens of an example that are shown unless told otherwise."""
_BREAKS = re.compile(r"(?<=\n)|(?<=·)(?!-]|\+}|~])")  # a closing bracket stays on the line
_BRACKETS: dict[State, tuple[str, str]] = {
    "prompt": ("", ""),
    "kept": ("{+", "+}"),
    "dropped": ("[-", "-]"),
    "mixed": ("[~", "~]"),
}
_LOOKS: dict[State, Look] = {
    "prompt": Look(dim=True),  # themes give bright black the colour of their ground
    "kept": Look(color="blue", underline=True),
    "dropped": Look(color="red", strike=True),
    "mixed": Look(underline=True, strike=True),
}
_MARKED = Look(bold=True, overline=True)
_FLAT = Scale(0.0, 0.0, signed=False)
Segment = tuple[str, Look]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of an example, and what is shown of them.

    Attributes:
        ids: ``[tokens]``.
        trainable: bool ``[tokens]``; other tokens are prompt.
        kept: bool ``[tokens]``.
        values: float32 ``[tokens]``, the values that the colour shows.
        marks: uint8 ``[tokens]``, above 0 where a token is marked; None where nothing is.
    """

    ids: Sequence[int]
    trainable: Bool
    kept: Bool
    values: Float32
    marks: UInt8 | None


def print_tokens(
    tokens: Tokens, decoder: TokenDecoder, scale: Scale | None, shown: int, word: str, console: Console
) -> None:
    """Print the tokens of an example; the middle of a long one is left out.

    Args:
        tokens: of the example.
        decoder: gives their text.
        scale: maps values to colours; None for no colour but that of the prompt.
        shown: tokens to show at most.
        word: what is said of kept tokens.
        console: where to print.
    """
    total = len(tokens.ids)
    head, tail = (total, total) if total <= shown else ((shown + 1) // 2, total - shown // 2)
    for part in (slice(0, head), slice(tail, total)):
        pieces = decoder.pieces(tokens.ids[part])
        marks = None if tokens.marks is None else tokens.marks[part]
        given = tokens.trainable[part], tokens.kept[part], tokens.values[part]
        runs = styled_runs(pieces, *given, scale or _FLAT, marks=marks)
        _print_lines(_segments(runs, scale, console), console)
        if part.stop == head < total:
            chosen = int((tokens.trainable & tokens.kept)[head:tail].sum())
            print_line(console, f"... {tail - head:,} tokens left out, {chosen:,} of them {word} (--tokens) ...")


def legend(name: str, scale: Scale, ends: tuple[float, float], console: Console, *, marks: bool) -> Text:
    """Return what colours and lines mean.

    Args:
        name: of the values.
        scale: maps values to colours.
        ends: 1st and 99th percentile of the values.
        console: where it is printed.
        marks: whether any token is marked.
    """
    low, high = ends
    said = f"{plain_value(low)} to {plain_value(high)} (1st to 99th percentile of its shard)"
    if is_plain(console):
        marked = ", !marked!" if marks else ""
        return Text(f"{name}: {said}; {{+kept+}} [-dropped-] [~partly kept~]{marked}, prompt without brackets")
    legend = Text(f"{name} ")
    for level in range(scale.level(low), scale.level(high) + 1):
        legend.append(" ", _level_look(level))
    legend.append(f" {said}; ")
    named: dict[State, str] = {"kept": "kept", "dropped": "dropped", "mixed": "partly kept", "prompt": "prompt"}
    for state, word in named.items():
        legend.append(word, _LOOKS[state])
        legend.append("" if state == "prompt" else ", ")
    if marks:
        legend.append(", ").append("marked", _MARKED)
    return legend


def _level_look(level: int) -> Look:
    """Return the ground of a level, in colours of the terminal's theme: the strongest third and the one below it."""
    strength = 3 * abs(level) // LEVELS
    if not strength:
        return Look.null()
    hue = "magenta" if level > 0 else "yellow"
    return Look(color="black", bgcolor=f"bright_{hue}" if strength > 1 else hue)


def _segments(runs: Sequence[StyledRun], scale: Scale | None, console: Console) -> Iterator[Segment]:
    """Yield text with its style; without a scale, colour only separates prompt from answer."""
    plain = is_plain(console)
    # Brackets do not show values, so without colour the text is not split where the value changes.
    shown = groupby(runs, lambda run: (run.style.state, 0 if plain else run.style.level, run.style.marked))
    for (state, level, marked), group in shown:
        text = "".join(part for run in group for piece in run.pieces for part, _ in visible(piece.text or "⟨⟩"))
        if plain:
            before, after = _BRACKETS[state]
            body = text.removesuffix("\n")
            if marked:
                before, after = f"{before}!", f"!{after}"
            yield before + body + after + text[len(body) :], Look.null()
            continue
        look = _LOOKS[state]
        if state != "prompt":
            look = look.without_color if scale is None else look + _level_look(level)
        yield text, look + _MARKED if marked else look


def _print_lines(segments: Iterator[Segment], console: Console) -> None:
    """Print segments, broken after visible spaces so that words stay whole."""
    line = Text()
    for word, ends_line in _words(segments):
        if line and line.cell_len + word.cell_len > console.width:
            console.print(line, soft_wrap=True)
            line = Text()
        if word.cell_len > console.width:
            *full, word = word.wrap(console, console.width, overflow="fold")
            for part in full:
                console.print(part, soft_wrap=True)
        line.append_text(word)
        if ends_line:
            console.print(line, soft_wrap=True)
            line = Text()
    if line:
        console.print(line, soft_wrap=True)


def _words(segments: Iterator[Segment]) -> Iterator[tuple[Text, bool]]:
    """Yield the text up to and including each visible space or line end, and whether it ends a line."""
    word = Text()
    for text, look in segments:
        for part in _BREAKS.split(text):
            word.append(part.rstrip("\n"), look)
            if part[-1:] in ("·", "\n"):
                yield word, part.endswith("\n")
                word = Text()
    if word:
        yield word, False


def print_line(console: Console, text: str) -> None:
    """Print a line of text."""
    console.print(Text(harmless(text)))


def harmless(text: str) -> str:
    """Return text in which every character except spaces is visible: it could contain terminal control codes."""
    return " ".join(map(visible_text, text.split(" ")))


def is_plain(console: Console) -> bool:
    """Whether a console shows no colours, so that brackets stand in their place."""
    return console.color_system is None or console.no_color
