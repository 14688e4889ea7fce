"""Progress of long stages in the terminal: rate and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from tokensieve.places import told

_DONE, _RATE, _TIME = 7, 18, 7  # columns, such as "100%" or "999,999", "999,999 examples/s" and "1:02:03"
_BAR, _LEAST_BAR = 24, 8
_WORDS, _LEAST_WORDS = 40, 20


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
        plain = not self.console.is_terminal
        columns = _columns(self.console.width, unit)
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


def _columns(width: int, unit: str) -> list[ProgressColumn]:
    """Return the columns of a bar: as wide for every stage on a terminal of this width, so that bars are aligned."""
    room = width - _DONE - _TIME - 2
    shows_rate = room - _RATE - 1 >= _LEAST_WORDS
    room -= (_RATE + 1) * shows_rate
    bar = min(_BAR, max(_LEAST_BAR, room - _WORDS - 1))
    shows_bar = room - bar - 1 >= _LEAST_WORDS
    room -= (bar + 1) * shows_bar
    return [
        _Words(max(1, room)),
        *([BarColumn(bar, table_column=Column(width=bar))] if shows_bar else []),
        _Done(table_column=_right(_DONE)),
        *([_Rate(unit, table_column=_right(_RATE))] if shows_rate else []),
        _Time(compact=True, elapsed_when_finished=True, table_column=_right(_TIME)),
    ]


def _right(width: int) -> Column:
    return Column(width=width, no_wrap=True, justify="right")


class _Words(ProgressColumn):
    """What is being done, and the note, of which nothing is cut off."""

    def __init__(self, width: int) -> None:
        super().__init__(Column(width=width, no_wrap=True))
        self._width = width

    def render(self, task: Task) -> Text:
        words, note = Text(task.description), Text(f", {task.fields['note']}" if task.fields["note"] else "")
        words.truncate(max(1, self._width - note.cell_len), overflow="ellipsis")
        return words + note


class _Done(ProgressColumn):
    """The share that is done, or the count where nothing is known of the whole."""

    def render(self, task: Task) -> Text:
        return Text(_short(task.completed) if task.total is None else f"{task.percentage:.0f}%")


class _Rate(ProgressColumn):
    def __init__(self, unit: str, table_column: Column) -> None:
        super().__init__(table_column)
        self._unit = unit

    def render(self, task: Task) -> Text:
        overall = task.completed / task.elapsed if task.elapsed else 0.0
        # rich knows no speed before the second step.
        return Text(f"{_rate(task.finished_speed or task.speed or overall)} {self._unit}/s")


class _Time(TimeRemainingColumn):
    """The time left; the time since the beginning where nothing is known of the whole, and at the end."""

    def render(self, task: Task) -> Text:
        if task.total is not None:
            return super().render(task)
        minutes, seconds = divmod(int(task.elapsed or 0), 60)
        return Text(f"{minutes:02d}:{seconds:02d}", style="progress.elapsed")


def _short(count: float) -> str:
    """Spell a count in no more than seven characters."""
    return f"{count:,.0f}" if count < 1e6 else f"{count / 1e6:,.1f}M"


def _rate(speed: float) -> str:
    """Spell a rate in few characters, since it stands beside the rest of the line."""
    if not speed:
        return "-"
    return f"{speed:.2g}" if speed < 10 else _short(speed)
