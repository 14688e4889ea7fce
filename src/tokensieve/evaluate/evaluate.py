"""Every figure of one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from tokensieve.data.example_store import ExampleStore
from tokensieve.data.tokenize import Encoder
from tokensieve.evaluate.exact_match import Question, exact_match
from tokensieve.evaluate.harness import run_tasks
from tokensieve.evaluate.held_out import held_out_losses
from tokensieve.evaluate.settings import EvaluateSettings

Stage = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar: description, total and unit."""


def evaluate_model(
    model: Any,
    encoder: Encoder,
    settings: EvaluateSettings,
    held_out: ExampleStore | None,
    questions: Sequence[Question],
    token_budget: int,
    stage: Stage,
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Evaluate a loaded model.

    Args:
        model: a loaded `transformers` model.
        encoder: tokenizer and chat template.
        settings: what to measure.
        held_out: data for the loss, or None.
        questions: prompts with reference answers; may be empty.
        token_budget: tokens of one batch of the loss at most.
        stage: shows progress.

    Returns:
        ``held_out`` (fields of `HeldOut`), ``exact_match`` (fields of `ExactMatch`) and ``tasks`` (figures by
        task and metric), as far as asked for; and what stands behind them, one dictionary an example:
        ``predictions`` (of `exact_match`) and ``held_out`` (fields of `ExampleLosses`). All ready for JSON.

    Raises:
        TokensieveError: what `held_out_loss`, `exact_match` or `run_tasks` refuses.
    """
    figures: dict[str, Any] = {}
    details: dict[str, list[dict[str, Any]]] = {}
    if held_out is not None:
        with stage("held-out loss", held_out.counts.tokens, "tokens") as advance:
            losses = held_out_losses(model, held_out, token_budget, advance)
        figures["held_out"] = asdict(losses.mean())
        columns = {name: value.tolist() for name, value in vars(losses).items()}
        details["held_out"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if questions and settings.exact_match is not None:
        with stage("exact match", len(questions), "prompts") as advance:
            match, details["predictions"] = exact_match(
                model, encoder, questions, settings.exact_match, settings.batch_size, advance
            )
            figures["exact_match"] = asdict(match)
    for task in settings.tasks:
        with stage(f"task {task}", None, "requests") as advance:
            figures.setdefault("tasks", {}).update(
                run_tasks(
                    model,
                    encoder.tokenizer,
                    [task],
                    task_folder=settings.task_folder,
                    limit=settings.task_limit,
                    num_fewshot=settings.num_fewshot,
                    batch_size=settings.batch_size,
                    on_requests=advance,
                )
            )
    return figures, details
