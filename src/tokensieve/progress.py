"""Progress of long stages in the terminal: rate and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from tokensieve.places import told

_ROOM_FOR_A_BAR = 60  # columns; on a narrower terminal the words need them


class ProgressCallback(Protocol):
    """Moves the bar of a stage on."""

    def __call__(self, amount: int, /, *, total: int | None = None, note: str | None = None) -> None:
        """Count further units.

        Args:
            amount: units done since the last call.
            total: units in all, where only the work itself tells.
            note: what to show beside the bar from now on, such as the kept share so far.
        """
        ...


class StageProgress:
    """Shows one bar a stage on the error stream, so that output can be piped.

    Args:
        console: where to draw; a console that is no terminal gets plain lines when a stage begins and ends.
        seconds_between_lines: how often such a console is told, at most, how far a stage is.
        shown: False prints nothing.

    Attributes:
        warnings: what was warned of.
    """

    def __init__(
        self, console: Console | None = None, seconds_between_lines: float = 10, *, shown: bool = True
    ) -> None:
        self.console = console or Console(stderr=True, quiet=not shown)
        self.warnings: list[str] = []
        self.seconds_between_lines = seconds_between_lines

    @contextmanager
    def stage(self, description: str, total: int | None, unit: str) -> Iterator[ProgressCallback]:
        """Show a bar while the block runs; give the function that advances it.

        Args:
            description: what is being done.
            total: units in all, None where unknown.
            unit: plural name of what is counted, such as tokens.
        """
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=2, min_width=10, no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=24)),
            _Done(unit, table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
        ]
        if self.console.width < _ROOM_FOR_A_BAR:
            del columns[1]
        plain = not self.console.is_terminal
        with Progress(*columns, console=self.console, disable=plain, expand=True) as progress:
            task = progress.add_task(description, total=total, note="")

            if plain:
                self.note(f"{description}: begins" + (f", {total:,} {unit}" if total else ""))
            told_at = time.monotonic()

            def advance(amount: int, /, *, total: int | None = None, note: str | None = None) -> None:
                if total is not None:
                    progress.update(task, total=total)
                if note is not None:
                    progress.update(task, note=note)
                progress.advance(task, amount)
                nonlocal told_at
                if plain and time.monotonic() - told_at >= self.seconds_between_lines:
                    told_at, now = time.monotonic(), progress.tasks[0]
                    whole = f" of {now.total:,.0f}" if now.total else ""
                    self.note(f"{description}: {now.completed:,.0f}{whole} {unit} after {now.elapsed or 0.0:.0f} s")

            yield advance
            shown = progress.tasks[0]
            if not shown.completed:
                progress.update(task, note="already there")
        if plain and not shown.completed:
            self.note(f"{description}: already there")
        elif plain:
            note = f", {shown.fields['note']}" if shown.fields["note"] else ""
            told = f"{description}: {shown.completed:,.0f} {unit} in {shown.elapsed or 0.0:.1f} s{note}"
            self.note(told)

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(told(text), markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning, and keep it for the page."""
        self.warnings.append(told(text))
        self.note(f"warning: {text}")


class _Done(ProgressColumn):
    """The share that is done, or the count where nothing is known of the whole, and the rate."""

    def __init__(self, unit: str, table_column: Column) -> None:
        super().__init__(table_column)
        self._unit = unit

    def render(self, task: Task) -> Text:
        done = f"{task.completed:,.0f}" if task.total is None else f"{task.percentage:>3.0f}%"
        overall = task.completed / task.elapsed if task.elapsed else 0.0
        # rich knows no speed before the second step.
        return Text(f"{done} {_rate(task.finished_speed or task.speed or overall)} {self._unit}/s")


def _rate(speed: float) -> str:
    """Spell a rate in few characters, since it stands beside the rest of the line."""
    if not speed:
        return "-"
    if speed < 10:
        return f"{speed:.2g}"
    return f"{speed / 1e6:.1f}M" if speed >= 1e6 else f"{speed:,.0f}"
