"""Progress of long stages in the terminal: rate and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]


class StageProgress:
    """Shows one bar a stage on the error stream, so that output can be piped.

    Args:
        console: where to draw; a console that is no terminal gets one line when a stage ends.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def stage(self, description: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Show a bar while the block runs; give the function that advances it.

        Args:
            description: what is being done.
            total: units in all, None where unknown.
            unit: plural name of what is counted, such as tokens.
        """
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        ) as progress:
            task = progress.add_task(description, total=total)
            yield lambda amount: progress.advance(task, amount)
            elapsed = progress.tasks[0].elapsed or 0.0
            done = progress.tasks[0].completed
        if not self.console.is_terminal:
            self.console.print(f"{description}: {done:,.0f} {unit} in {elapsed:.1f} s", markup=False, highlight=False)

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, highlight=False)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else f"- {self._unit}/s")
