"""What tokensieve uses of the inside of lm-evaluation-harness: its index of tasks, its cache hook and its bars."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tokensieve.versions import check_version

KNOWN = ">=0.4.12,<0.5"


def check_lm_eval() -> None:
    """Refuse a version that was not tried.

    Raises:
        TokensieveError: another version than those in `KNOWN`.
    """
    check_version("lm_eval", KNOWN)


def definition_file(manager: Any, task: str) -> str | None:
    """Return the file that defines a task of a `TaskManager`; None for one without, such as a tag."""
    path = manager.task_index[task].yaml_path
    return None if path is None else str(path)


def count_answers(model: Any, on_answers: Callable[[int], None]) -> None:
    """Let a model of the harness tell of each answer; it would keep answers for another run there."""
    model.set_cache_hook(_Counter(on_answers))


class _Counter:
    def __init__(self, on_answers: Callable[[int], None]) -> None:
        self._on_answers = on_answers

    def add_partial(self, *_: Any) -> None:
        self._on_answers(1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the harness's log and bars, which would be drawn across our own."""
    from tqdm import tqdm

    def silent(*arguments: Any, **options: Any) -> Any:
        return tqdm(*arguments, **{**options, "disable": True})

    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    modules = modules_with_bars()
    for module in modules:
        module.tqdm = silent
    try:
        yield
    finally:
        logger.setLevel(level)
        for module in modules:
            module.tqdm = tqdm


def modules_with_bars() -> list[Any]:
    """Return the loaded modules of the harness that draw bars."""
    from tqdm import tqdm

    modules = [module for name, module in list(sys.modules.items()) if name.startswith("lm_eval.")]
    return [module for module in modules if getattr(module, "tqdm", None) is tqdm]
