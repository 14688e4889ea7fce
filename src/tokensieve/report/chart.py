"""Histograms as coordinates of an SVG; the template draws them."""

from __future__ import annotations

from dataclasses import dataclass

from tokensieve.report.summary import BINS, Histogram
from tokensieve.report.table import plain_value

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 22, 24
_GAP = 1.0


@dataclass(frozen=True)
class Bar:
    """One bin: the kept part stands on the axis, the dropped part on the kept one."""

    x: float
    width: float
    kept_y: float
    kept_height: float
    dropped_y: float
    dropped_height: float


@dataclass(frozen=True)
class Label:
    """Text at a place of the axis."""

    x: float
    anchor: str
    text: str


@dataclass(frozen=True)
class BinRow:
    """One bin in words."""

    low: str
    high: str
    kept: int
    dropped: int


@dataclass(frozen=True)
class Chart:
    """A histogram, drawn and in words.

    Attributes:
        name: of the value.
        bars: one a bin.
        labels: of the horizontal axis.
        peak: tokens in the fullest bin.
        threshold: where the threshold lies, None where there is none in view.
        description: what a reader who cannot see it needs.
        rows: the same figures as a table.
    """

    name: str
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]
    peak: int
    threshold: Label | None
    description: str
    rows: tuple[BinRow, ...]

    axis_y = HEIGHT - _BOTTOM
    top_y = _TOP


def draw(histogram: Histogram, threshold: float | None) -> Chart:
    """Lay out one histogram.

    Args:
        histogram: the counts.
        threshold: lowest score kept by rank, None where there is none.
    """
    low, high = float(histogram.edges[0]), float(histogram.edges[-1])
    totals = histogram.kept + histogram.dropped
    peak = max(int(totals.max()), 1)
    step = (WIDTH - _LEFT - _RIGHT) / BINS
    scale = (HEIGHT - _TOP - _BOTTOM) / peak
    bars, rows = [], []
    for index, (kept, dropped) in enumerate(zip(histogram.kept.tolist(), histogram.dropped.tolist(), strict=True)):
        kept_height, dropped_height = round(kept * scale, 2), round(dropped * scale, 2)
        kept_y = round(Chart.axis_y - kept_height, 2)
        dropped_y = round(kept_y - dropped_height, 2)
        x = round(_LEFT + index * step, 2)
        bars.append(Bar(x, round(step - _GAP, 2), kept_y, kept_height, dropped_y, dropped_height))
        rows.append(BinRow(*_ends(histogram, index), kept, dropped))
    return Chart(
        histogram.name,
        tuple(bars),
        _axis_labels(low, high),
        peak,
        _threshold(threshold, low, high),
        _describe(histogram, low, high, threshold),
        tuple(rows),
    )


def _ends(histogram: Histogram, index: int) -> tuple[str, str]:
    return plain_value(float(histogram.edges[index])), plain_value(float(histogram.edges[index + 1]))


def _axis_labels(low: float, high: float) -> tuple[Label, ...]:
    return (
        Label(_LEFT, "start", f"≤ {plain_value(low)}"),
        Label(WIDTH / 2, "middle", plain_value((low + high) / 2)),
        Label(WIDTH - _RIGHT, "end", f"≥ {plain_value(high)}"),
    )


def _threshold(value: float | None, low: float, high: float) -> Label | None:
    if value is None or not low <= value <= high:
        return None
    x = round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 2)
    anchor = "start" if x < WIDTH / 3 else "end" if x > WIDTH * 2 / 3 else "middle"
    return Label(x, anchor, f"threshold {plain_value(value)}")


def _describe(histogram: Histogram, low: float, high: float, threshold: float | None) -> str:
    kept, dropped = int(histogram.kept.sum()), int(histogram.dropped.sum())
    fullest = int((histogram.kept + histogram.dropped).argmax())
    text = (
        f"{kept:,} kept and {dropped:,} dropped tokens by {histogram.name}, from {plain_value(low)} to "
        f"{plain_value(high)}; most lie between {' and '.join(_ends(histogram, fullest))}."
    )
    return text if threshold is None else f"{text} The threshold is {plain_value(threshold)}."
