"""Every figure of one model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from tokensieve.data.example_store import ExampleStore
from tokensieve.data.tokenize import Encoder
from tokensieve.evaluate.corrected import Corrected, corrected_losses
from tokensieve.evaluate.exact_match import Question, exact_match
from tokensieve.evaluate.harness import run_tasks
from tokensieve.evaluate.held_out import ExampleLosses, held_out_losses
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.evaluate.unwanted import Unwanted
from tokensieve.evaluate.unwanted_results import stopping, unwanted_answers
from tokensieve.store import fingerprint

Stage = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar: description, total and unit."""


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """What models are evaluated on; None or empty for what is not measured.

    Attributes:
        held_out: tokenised data for the loss.
        questions: prompts with reference answers.
        unwanted: texts that should not be produced.
        corrected: answers with corrections.
    """

    held_out: ExampleStore | None = None
    questions: tuple[Question, ...] = ()
    unwanted: Unwanted | None = None
    corrected: Corrected | None = None

    @cached_property
    def fingerprints(self) -> dict[str, str | None]:
        """The fingerprint of each part; None for what is not measured."""
        questions = [vars(one) for one in self.questions]
        parts = {"held_out": self.held_out, "unwanted": self.unwanted, "corrected": self.corrected}
        found = {name: part.fingerprint if part is not None else None for name, part in parts.items()}
        return {**found, "questions": fingerprint.of_value(questions) if questions else None}


def needs_model(settings: EvaluateSettings, data: EvaluationData) -> bool:
    """Whether `evaluate_model` does anything with the model."""
    asked = data.questions and settings.exact_match, data.unwanted and settings.unwanted, data.corrected, settings.tasks
    return any(map(bool, asked))


def evaluate_model(
    model: Any,
    encoder: Encoder,
    settings: EvaluateSettings,
    data: EvaluationData,
    token_budget: int,
    stage: Stage,
    held_out: ExampleLosses | None = None,
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Evaluate a loaded model.

    Args:
        model: a loaded `transformers` model; anything where it is not needed (`needs_model`).
        encoder: tokenizer and chat template.
        settings: what to measure.
        data: what to measure on.
        token_budget: tokens of one batch of the loss at most.
        stage: shows progress.
        held_out: its losses on the held-out data, which an engine measures (`held_out.held_out_losses_on`).

    Returns:
        A section for each measure (`runs.outcomes.MEASURES`), such as ``held_out`` (fields of `HeldOut`), and ``tasks``
        (results by task and metric), as far as asked for; and what stands behind them, one dictionary an example, such
        as ``predictions`` (of `exact_match`) and ``held_out`` (fields of `ExampleLosses`). All ready for JSON.

    Raises:
        TokensieveError: what `held_out_losses`, `exact_match` or `run_tasks` refuses.
    """
    figures: dict[str, Any] = {}
    details: dict[str, list[dict[str, Any]]] = {}
    if held_out is not None:
        figures["held_out"], details["held_out"] = asdict(held_out.mean()), held_out.by_example()
    if data.questions and settings.exact_match is not None:
        with stage("exact match", len(data.questions), "prompts") as advance:
            match, details["predictions"] = exact_match(
                model, encoder, data.questions, settings.exact_match, settings.batch_size, advance
            )
            figures["exact_match"] = asdict(match)
    if (unwanted := data.unwanted) is not None and settings.unwanted is not None:
        with stage("unwanted texts", unwanted.tokens, "tokens") as advance:
            losses = held_out_losses(model, [unwanted.texts], token_budget, advance)
            stop, rows = stopping(model, unwanted, token_budget, advance)
        figures["unwanted"], details["unwanted"] = asdict(losses.mean()), losses.by_example()
        if stop is not None:
            figures["stop"], details["stop"] = asdict(stop), rows
        with stage("unwanted answers", len(unwanted.questions), "prompts") as advance:
            answers, details["unwanted_answers"] = unwanted_answers(
                model, encoder, unwanted, settings.unwanted, settings.batch_size, advance
            )
            figures["unwanted_answers"] = asdict(answers)
    if (corrected := data.corrected) is not None:
        with stage("corrected answers", corrected.tokens, "tokens") as advance:
            losses, preference, margin, rows = corrected_losses(model, corrected, token_budget, advance)
        figures |= {"corrected": asdict(losses.mean()), "preference": asdict(preference), "margin": asdict(margin)}
        details |= {"corrected": losses.by_example(), "preference": rows}
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
