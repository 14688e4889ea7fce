"""Settings of the evaluation stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExactMatchSettings:
    """Greedy answers compared with reference answers.

    Attributes:
        files: prompts and answers, in any form that `data.files` takes; the last assistant turn is the
            answer.
        max_new_tokens: tokens of the longest answer.
        extract: regular expression whose last match (its first group, where it has one) is compared
            instead of the whole answer, such as `#### (-?[0-9.,]+)`.
        limit: ask this many prompts at most.
    """

    files: tuple[str, ...]
    max_new_tokens: int = 64
    extract: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class EvaluateSettings:
    """What fine-tuned models are measured on.

    Attributes:
        held_out: data, in any form that `data.files` takes, for the loss over response tokens.
        exact_match: prompts whose greedy answers are compared with reference answers.
        tasks: names of lm-evaluation-harness tasks.
        task_folder: folder with task definitions (YAML) of your own.
        task_limit: examples of each task at most.
        num_fewshot: examples in the prompt of each task; the task's own number when not given.
        batch_size: prompts generated or scored together.
    """

    held_out: tuple[str, ...] = ()
    exact_match: ExactMatchSettings | None = None
    tasks: tuple[str, ...] = ()
    task_folder: str | None = None
    task_limit: int | None = None
    num_fewshot: int | None = None
    batch_size: int = 16
