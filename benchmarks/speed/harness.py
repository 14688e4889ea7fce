"""Timing side by side: the baseline and ours in turn, the ratio with its spread, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is measured.
        baseline: what it is compared with.
        target: what the ratio should reach, or what it may cost; empty where there is none.
        ratio: seconds of the baseline over ours, or what the detail says, by run.
        detail: figures in words.
    """

    what: str
    baseline: str
    target: str
    ratio: tuple[float, ...]
    detail: str

    def line(self) -> str:
        """Return the line in Markdown."""
        ratio = "-"
        if self.ratio:
            spread = f"{min(self.ratio):.3g} to {max(self.ratio):.3g}"
            ratio = f"**{statistics.median(self.ratio):.3g}x** ({spread})"
        return f"| {self.what} | {self.baseline} | {self.target} | {ratio} | {self.detail} |"


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(baseline: Callable[[], Any], ours: Callable[[], Any], runs: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each run of both, in turn, after one run of each that does not count."""
    baseline()
    ours()
    both = [(seconds(baseline), seconds(ours)) for _ in range(runs)]
    return [slow for slow, _ in both], [fast for _, fast in both]


def ratios(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, ...]:
    """Return slow over fast, run by run."""
    return tuple(a / b for a, b in zip(slow, fast, strict=True))


def middle(values: Sequence[float], unit: str = "s") -> str:
    """Return the median in words."""
    return f"{statistics.median(values):.3g} {unit}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return what every script reads of its command line."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--runs", type=int, default=5)
    found.add_argument("--rows", type=_file_to_write, help="write the rows as JSON to this file")
    return found


def _file_to_write(text: str) -> Path:
    """Return the path, in a folder that exists from now on: a table takes too long to lose it at its end."""
    path = Path(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def finish(found: Sequence[Row], output: Path | None) -> None:
    """Print rows as a table, and write them as JSON when asked."""
    print("| what | baseline | reach | ratio, median (spread) | figures |\n|---|---|---|---|---|")
    print("\n".join(row.line() for row in found))
    if output:
        output.write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n", encoding="utf-8")


def main(rows: Callable[[int], list[Row]], description: str | None) -> None:
    """Print a script's rows, and write them as JSON when asked."""
    arguments = parser(description).parse_args()
    finish(rows(arguments.runs), arguments.rows)
