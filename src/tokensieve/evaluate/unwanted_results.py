"""What models make of unwanted texts: whether they would rather stop, and how often they write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensieve.data.tokenize import Encoder
from tokensieve.evaluate.exact_match import answer_greedily
from tokensieve.evaluate.expressions import first_match
from tokensieve.evaluate.held_out import held_out_losses
from tokensieve.evaluate.intervals import bootstrap_ratio, wilson
from tokensieve.evaluate.prompts import token_ids
from tokensieve.evaluate.settings import UnwantedSettings
from tokensieve.evaluate.unwanted import Unwanted

OVERLAP = 8
"""Tokens in a row that an answer has of an unwanted text where no expression is given."""

OnCount = Callable[[int], None]


@dataclass(frozen=True)
class Stop:
    """Whether a model would rather end its turn than go on with an unwanted text.

    Attributes:
        log_odds: mean of the log-probability of the turn end less that of the text's first token, in nats.
        examples: texts.
        low: lower end of the 95 % interval (bootstrap over texts).
        high: upper end of it.
    """

    log_odds: float
    examples: int
    low: float
    high: float


@dataclass(frozen=True)
class UnwantedAnswers:
    """How many greedy answers contain something unwanted.

    Attributes:
        share: of the answers.
        found: answers.
        examples: prompts asked.
        low: lower end of the share's 95 % interval (Wilson).
        high: upper end of it.
        truncated: prompts of which only the end fitted into the model's context.
    """

    share: float
    found: int
    examples: int
    low: float
    high: float
    truncated: int


def stopping(
    model: Any, unwanted: Unwanted, token_budget: int, on_tokens: OnCount
) -> tuple[Stop | None, list[dict[str, Any]]]:
    """Compare the turn end after a complete held-out answer with the first token of an unwanted text there.

    Returns:
        The mean log odds, None where no answer ends with a turn end, and one dictionary a text with ``rows``,
        ``log_odds`` and the log-probabilities ``end`` and ``begin``.
    """
    if unwanted.ends is None or unwanted.begins is None:
        return None, []
    ends, begins = (
        -held_out_losses(model, [one], token_budget, on_tokens).losses for one in (unwanted.ends, unwanted.begins)
    )
    odds = ends - begins
    columns = {"rows": unwanted.ends.rows, "log_odds": odds, "end": ends, "begin": begins}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(v.tolist() for v in columns.values()), strict=True)]
    low, high = bootstrap_ratio(odds, np.ones(len(odds), dtype=np.int64))
    return Stop(float(odds.mean()), len(odds), low, high), rows


def unwanted_answers(
    model: Any,
    encoder: Encoder,
    unwanted: Unwanted,
    settings: UnwantedSettings,
    batch_size: int,
    on_prompts: OnCount,
) -> tuple[UnwantedAnswers, list[dict[str, Any]]]:
    """Answer the prompts greedily and count the answers with something unwanted, as `finder` finds it.

    Returns:
        The share, and one dictionary a prompt with ``row``, ``prompt``, ``prediction``, ``found`` and ``what``.
    """
    predictions, truncated = answer_greedily(
        model, encoder, unwanted.questions, "evaluate.unwanted", settings.max_new_tokens, batch_size, on_prompts
    )
    find = finder(unwanted.contents, settings.contains, lambda text: token_ids(text, encoder))
    rows = []
    for asked, prediction in zip(unwanted.questions, predictions, strict=True):
        what = find(prediction)
        rows.append(
            {"row": asked.row, "prompt": asked.prompt, "prediction": prediction, "found": bool(what), "what": what}
        )
    found = sum(row["found"] for row in rows)
    return UnwantedAnswers(found / len(rows), found, len(rows), *wilson(found, len(rows)), truncated), rows


def finder(
    contents: Sequence[str], contains: Sequence[str], tokenise: Callable[[str], list[int]]
) -> Callable[[str], str]:
    """Return what finds something unwanted in an answer: an empty text where there is nothing.

    With expressions, the first match of any. Without, the first unwanted text of which the answer has `OVERLAP` tokens
    in a row, or, of a shorter text, the whole.
    """
    if contains:
        return lambda answer: next((found for one in contains if (found := first_match(one, answer)) is not None), "")
    known: dict[tuple[int, ...], str] = {}
    short: list[str] = []
    for text in contents:
        ids = tokenise(text)
        short += [text.strip()] * (len(ids) < OVERLAP)
        for gram in _grams(ids):
            known.setdefault(gram, text)

    def find(answer: str) -> str:
        long = next((known[gram] for gram in _grams(tokenise(answer)) if gram in known), "")
        return long or next((text for text in short if text and text in answer), "")

    return find


def _grams(ids: Sequence[int]) -> Iterable[tuple[int, ...]]:
    return (tuple(ids[start : start + OVERLAP]) for start in range(len(ids) - OVERLAP + 1))
