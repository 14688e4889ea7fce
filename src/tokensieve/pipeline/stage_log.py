"""Shows the stages of a run as they go, and notes how long they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from tokensieve.progress import ProgressCallback, StageProgress
from tokensieve.train.steps import in_steps
from tokensieve.train.trainer import OnStep, on_steps


class StageLog:
    """The progress of a run, with the time of its stages.

    Args:
        progress: where progress is shown.
        seconds: what each stage took so far; goes on here.
        tokens: how many went through each stage so far; goes on here.
        keep: called with all seconds after each stage, so that a kill in the next one does not lose them.
    """

    def __init__(
        self,
        progress: StageProgress,
        seconds: Mapping[str, float],
        tokens: Mapping[str, int],
        keep: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.progress, self.seconds, self.tokens, self._keep = progress, dict(seconds), dict(tokens), keep

    def stage(self, description: str, total: int | None, unit: str) -> AbstractContextManager[ProgressCallback]:
        """Show the progress of something that takes long."""
        return self.progress.stage(description, total, unit)

    @contextmanager
    def steps(self, description: str) -> Iterator[OnStep]:
        """Show the progress of a training, and tell its number of optimizer steps when it starts."""
        with self.stage(description, None, "steps") as advance:
            show, started = on_steps(advance), False

            def on_step(step: int, steps: int) -> None:
                nonlocal started
                if not started:
                    self.progress.note(f"{description}: {in_steps(steps)}")
                started = True
                show(step, steps)

            yield on_step

    @contextmanager
    def timed(self, description: str, skipped: bool, tokens: int | None = None) -> Iterator[None]:
        """Note the seconds of a stage, and the tokens that it takes where they are given, done now or before."""
        start = time.perf_counter()
        yield
        if tokens is not None:
            self.tokens[description] = tokens
        if not skipped:
            self.seconds[description] = round(time.perf_counter() - start, 2)
            self._keep(self.seconds)
