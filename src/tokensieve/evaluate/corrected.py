"""Corrected answers: their loss, and whether a model prefers them to the answers that they correct."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensieve.containers import Examples
from tokensieve.data.bad_rows import BadRows
from tokensieve.data.encode import converted_rows
from tokensieve.data.formats import Conversation, Converted, PlainText
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoder
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.held_out import ExampleLosses, held_out_losses
from tokensieve.evaluate.intervals import bootstrap_ratio, wilson
from tokensieve.evaluate.prompts import as_examples, before_message, digest, encode_within, with_answer


@dataclass(frozen=True, eq=False)
class Corrected:
    """Corrected answers and what they correct, after the same prompts and in the same order.

    Attributes:
        corrections: prompts with the corrected answers, which alone have labels.
        answers: prompts with the answers that they correct.
    """

    corrections: Examples
    answers: Examples

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all that is measured."""
        return digest([self.corrections, self.answers])

    @property
    def tokens(self) -> int:
        """Tokens that are measured, prompts included."""
        return len(self.corrections.input_ids) + len(self.answers.input_ids)


@dataclass(frozen=True)
class Preference:
    """How many corrected answers are more likely, token by token, than the answers that they correct.

    Attributes:
        share: of the rows.
        preferred: rows.
        examples: all rows.
        low: lower end of the share's 95 % interval (Wilson).
        high: upper end of it.
    """

    share: float
    preferred: int
    examples: int
    low: float
    high: float


@dataclass(frozen=True)
class Margin:
    """How much more likely corrected answers are than the answers that they correct.

    Attributes:
        mean: over rows, of the mean log-probability of a corrected answer's tokens less that of the answer's, in nats.
        examples: rows.
        low: lower end of the 95 % interval (bootstrap over rows).
        high: upper end of it.
    """

    mean: float
    examples: int
    low: float
    high: float


def read_corrected(data: DataSettings, encoder: Encoder) -> Corrected:
    """Read answers with their corrections.

    Args:
        data: rows with an answer and a ``corrected`` one; of a conversation with several, the last.
        encoder: tokenizer and chat template.

    Raises:
        TokensieveError: a file without rows, or a row whose corrected answer is missing or the answer itself.
    """
    numbers: list[int] = []
    rows: list[tuple[Converted, str, str]] = []
    on_error = BadRows(data)
    for batch, _ in converted_rows(data, on_error):
        for row, converted in batch:
            try:
                rows.append(_correction(converted))
                numbers.append(row.number)
            except TokensieveError as error:
                on_error(row.bad(error))
    on_error.check(len(rows))

    def after_prompts(answers: Iterable[str]) -> Examples:
        answered = [with_answer(prompt, answer, encoder) for (prompt, _, _), answer in zip(rows, answers, strict=True)]
        return as_examples(encode_within(answered, encoder, data.max_length), numbers)

    return Corrected(after_prompts(row[2] for row in rows), after_prompts(row[1] for row in rows))


def corrected_losses(
    model: Any, corrected: Corrected, token_budget: int, on_tokens: Callable[[int], None]
) -> tuple[ExampleLosses, Preference, Margin, list[dict[str, Any]]]:
    """Measure the loss of corrected answers, and the preference for them.

    Both log-probabilities are divided by their numbers of tokens, turn end included: a sum would prefer the shorter
    answer, and a correction that only cuts would always win.

    Args:
        model: a loaded `transformers` model.
        corrected: the answers.
        token_budget: tokens of one batch at most.
        on_tokens: told the number of tokens after each batch.

    Returns:
        The loss by row, the preference, its margin, and one dictionary a row with ``rows``, ``preferred``, ``margin``
        and the mean log-probabilities ``corrected`` and ``answer``.

    Raises:
        TokensieveError: a loss that is NaN or infinite.
    """
    corrections, answers = (
        held_out_losses(model, [one], token_budget, on_tokens) for one in (corrected.corrections, corrected.answers)
    )
    better, worse = (-one.losses / one.tokens for one in (corrections, answers))
    margins = better - worse
    columns = {
        "rows": corrections.rows,
        "preferred": margins > 0,
        "margin": margins,
        "corrected": better,
        "answer": worse,
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(v.tolist() for v in columns.values()), strict=True)]
    count, total = int((margins > 0).sum()), len(margins)
    interval = bootstrap_ratio(margins, np.ones(total, dtype=np.int64))
    return (
        corrections,
        Preference(count / total, count, total, *wilson(count, total)),
        Margin(float(margins.mean()), total, *interval),
        rows,
    )


def _correction(row: Converted) -> tuple[Converted, str, str]:
    """Return prompt, answer and corrected answer of a row."""
    corrected = None
    if isinstance(row, Conversation) and row.corrected:
        number = max(row.corrected)
        prompt, answer = before_message(row, number), row.messages[number].get("content") or ""
        corrected = row.corrected[number]
    elif isinstance(row, PlainText):
        prompt, answer, corrected = PlainText(row.prompt, ""), row.completion, row.corrected
    if corrected is None:
        raise TokensieveError("a row without a corrected answer", hint="give it one in the column `corrected`")
    if corrected.strip() == answer.strip():
        raise TokensieveError("the corrected answer is the answer", hint="leave out the row, or correct its answer")
    return prompt, answer, corrected
