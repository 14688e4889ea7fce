"""Tasks of the Language Model Evaluation Harness (Gao et al., EleutherAI), by name or from a folder."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokensieve.data.datasets_private import fix_cache_folder
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.evaluate.lm_eval_private import check_lm_eval, count_answers, definition_file, quiet

PAPER_TASKS = ("mmlu", "truthfulqa_mc2", "tydiqa_goldp", "hellaswag", "boolq", "arc_challenge", "logiqa")
"""The evaluation of Token Cleaning (arXiv 2502.01968) under the harness's names."""

_WHERE = "recipe: evaluate.tasks"
# Bootstrap is for the few metrics without a closed standard error; the harness's 100,000 take minutes.
_BOOTSTRAP = 1000


def check_tasks(tasks: Sequence[str], task_folder: str | None) -> None:
    """Check tasks and get their data before any model is loaded.

    Args:
        tasks: names of tasks, groups or tags.
        task_folder: folder with task definitions of your own, or None.

    Raises:
        TokensieveError: lm-eval is not installed, a folder without definitions or with one that is not
            YAML, an unknown name, or a task whose data cannot be had.
    """
    manager = _manager(tasks, task_folder)
    for task in tasks:
        _load(manager, task, task_folder)


def check_task_names(tasks: Sequence[str], task_folder: str | None) -> None:
    """Check tasks as far as it goes without their data.

    Raises:
        TokensieveError: as `check_tasks`, but for data that cannot be had.
    """
    manager = _manager(tasks, task_folder)
    for task in tasks:
        _check_name(manager, task, task_folder)


def run_tasks(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    task_folder: str | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 16,
    on_requests: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, float]]:
    """Evaluate a model on tasks.

    Args:
        model: a loaded `transformers` model.
        tokenizer: its tokenizer.
        tasks: names of tasks, groups or tags.
        task_folder: folder with task definitions of your own.
        limit: examples of each task at most.
        num_fewshot: examples in the prompt; the task's own number when None.
        batch_size: requests scored together.
        on_requests: told the number of requests that were answered.

    Returns:
        The metrics of each task, such as ``{"boolq": {"acc": 0.62, "acc_stderr": 0.01}}``. A group has its
        own where it defines some; otherwise, as with a tag, those of its tasks stand instead.

    Raises:
        TokensieveError: as `check_tasks`.
    """
    manager = _manager(tasks, task_folder)
    import lm_eval
    from lm_eval.models import huggingface

    # Its decorators hide the parameters of both from type checkers.
    wrap: Any = huggingface.HFLM
    simple_evaluate: Any = lm_eval.simple_evaluate
    with quiet():
        # A copy, since the harness gives the tokenizer a padding token where it has none.
        wrapped = wrap(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
    count_answers(wrapped, on_requests)
    figures: dict[str, dict[str, float]] = {}
    for task in tasks:
        loaded = _load(manager, task, task_folder)
        with quiet():
            results = simple_evaluate(
                model=wrapped,
                tasks=loaded,
                task_manager=manager,
                limit=limit,
                num_fewshot=num_fewshot,
                bootstrap_iters=_BOOTSTRAP,
                log_samples=False,
            )
        found = {name: _metrics(values) for name, values in results["results"].items()}
        figures |= {task: found[task]} if found.get(task) else {name: m for name, m in found.items() if m}
    return figures


def _metrics(found: dict[str, Any]) -> dict[str, float]:
    """Keep the figures; ``acc,none`` is lm-eval's spelling of metric and filter."""
    return {
        name.removesuffix(",none"): float(value)
        for name, value in found.items()
        if "," in name and isinstance(value, int | float)
    }


def _load(manager: Any, task: str, task_folder: str | None) -> list[Any]:
    """Return the group or the tasks of a name, data included."""
    _check_name(manager, task, task_folder)
    try:
        with quiet(), _inside(task_folder):
            loaded = manager.load([task])
    except Exception as error:  # of datasets, the Hub, Jinja, and functions that the task names
        reason = next(iter(str(error).strip().splitlines()), "")
        hint = (
            "its data must be in the cache (HF_DATASETS_CACHE) or on a Hub that can be reached; in definitions "
            "of your own relative paths start at evaluate.task_folder"
        )
        if isinstance(error, ModuleNotFoundError):
            hint = "install the packages that the task needs, or leave the task out of evaluate.tasks"
        raise TokensieveError(
            f"the task '{task}' cannot be loaded: {type(error).__name__}: {reason}",
            where=definition_file(manager, task) or _WHERE,
            hint=hint,
        ) from error
    group = loaded.get("groups", {}).get(task)
    return [group] if group is not None else list(loaded["tasks"].values())


def _check_name(manager: Any, task: str, task_folder: str | None) -> None:
    known = manager.all_tasks
    if task not in known:
        own = sorted(_index(_resolved(task_folder), False).all_tasks) if task_folder else []
        raise TokensieveError(
            f"lm-evaluation-harness knows no task '{task}'{did_you_mean(task, known)}",
            where=_WHERE,
            hint=f"{task_folder} defines {', '.join(own) or 'no task'}"
            if task_folder
            else "`lm-eval ls tasks` lists them; evaluate.task_folder adds definitions of your own",
        )


def _manager(tasks: Sequence[str], task_folder: str | None) -> Any:
    """Return the harness's index of task definitions.

    Its own are thousands of files that take seconds to read; they are left out when the folder has every
    task that is asked for.
    """
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise TokensieveError(
            "lm-evaluation-harness is not installed", where=_WHERE, hint="pip install 'tokensieve[eval]'"
        ) from error
    check_lm_eval()
    folder = _resolved(task_folder)
    if folder is not None:
        _check_folder(folder)
        own = _index(folder, False)
        if set(tasks) <= set(own.all_subtasks):
            return own
    return _index(folder, True)


@functools.lru_cache(maxsize=4)
def _index(folder: Path | None, with_harness: bool) -> Any:
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_path=None if folder is None else str(folder), include_defaults=with_harness)


def _resolved(task_folder: str | None) -> Path | None:
    return None if task_folder is None else Path(task_folder).expanduser().absolute()


def _check_folder(folder: Path) -> None:
    """The harness passes over a definition that it cannot read, which would look like an unknown task."""
    import yaml

    files = sorted(folder.rglob("*.yaml"))
    if not files:
        raise TokensieveError(
            "no task definitions (*.yaml) in this folder", where=str(folder), hint="check evaluate.task_folder"
        )
    for file in files:
        try:
            for _ in yaml.parse(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
                pass
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise TokensieveError(
                f"a task definition that is not YAML: {getattr(error, 'problem', error)}",
                where=f"{file}:{mark.line + 1}" if mark else str(file),
                hint="fix the file, or leave it out of the task folder",
            ) from error


@contextlib.contextmanager
def _inside(task_folder: str | None) -> Iterator[None]:
    """Let relative data paths start at the folder of the tasks; not for use from several threads."""
    folder = _resolved(task_folder)
    if folder is None:
        yield
        return
    fix_cache_folder()
    with contextlib.chdir(folder):
        yield
