"""Rows first, tokens second: two methods, of which the first chooses rows and the second tokens of these.

The score that the first method gives a row is the mean over its trainable tokens. The rows with the highest are left to
the second method, which scores their tokens and selects by its own rule, as if the others were not in the data. Where
one of the two reads the model in training, rows are ranked within each training batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from tokensieve.containers import Bool, Float32, Needs, Statistics, UInt8
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import Corpus, Method, over
from tokensieve.ops.ragged import segment_any, segment_means
from tokensieve.ops.rules import Rule, TopExamples, check_fraction, check_range


@dataclass(frozen=True)
class RowsFirst(Method):
    """Keep tokens that one method selects in the rows that another one finds best.

    Attributes:
        rows_by: the method whose mean score ranks the rows, such as ``{name: t-shirt, keep: rows}``.
        keep_rows: share of the rows to keep, in (0, 1]; a few more where rows tie.
        tokens_by: the method that selects tokens of them, by its own rule, such as ``{name: rho-1, fraction: 0.6}``.
        cut: lowest score of a row that is kept; None computes it from the data, or from the batch.
    """

    name: ClassVar[str] = "rows-first"
    summary: ClassVar[str] = "tokens that one method selects in the rows that another one finds best"
    formula: ClassVar[str] = "the score of tokens_by, in rows where the mean score of rows_by is high"
    meaning: ClassVar[str] = (
        "The score is that of the method `tokens_by`; rows that `rows_by` ranks low are dropped whole."
    )

    reason_names: ClassVar[tuple[str, ...]] = ("in a row that is dropped whole",)

    rows_by: Mapping[str, Any] = field(default_factory=lambda: {"name": "t-shirt", "keep": "rows"}, hash=False)
    keep_rows: float = 0.5
    tokens_by: Mapping[str, Any] = field(default_factory=lambda: {"name": "t-shirt"}, hash=False)
    cut: float | None = None

    def __post_init__(self) -> None:
        check_fraction(self.keep_rows, "keep_rows")
        if self.cut is not None:
            check_range("cut", self.cut, -math.inf, math.inf)
        for name in ("rows_by", "tokens_by"):
            one = _method(name, getattr(self, name))
            if one.schedule != "once" or one.chooses_rows or one.weighted or isinstance(one.rule, TopExamples):
                raise TokensieveError(
                    f"{name} is '{one.name}', which chooses rows by itself, weights tokens or trains as it selects",
                    hint=f"{name}: {{name: NAME}} of a method that scores tokens, such as rho-1",
                )
        for statistic in {name for _, name in self._rows_by.needs & self._tokens_by.needs}:
            if self._rows_by.options(statistic) != self._tokens_by.options(statistic):
                raise TokensieveError(
                    f"rows_by and tokens_by want '{statistic}' measured in two ways", hint="give both the same options"
                )

    @cached_property
    def _rows_by(self) -> Method:
        return _method("rows_by", self.rows_by)

    @cached_property
    def _tokens_by(self) -> Method:
        return _method("tokens_by", self.tokens_by)

    @property
    def needs(self) -> Needs:
        """What both methods read."""
        return self._rows_by.needs | self._tokens_by.needs

    @property
    def rule(self) -> Rule:
        """That of the method for tokens."""
        return self._tokens_by.rule

    @property
    def history_decay(self) -> float | None:
        """That of the method for tokens."""
        return self._tokens_by.history_decay

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return the options of the method that reads the statistic."""
        return {**self._rows_by.options(statistic), **self._tokens_by.options(statistic)}

    def check_marks(self, types: tuple[str, ...]) -> None:
        """Refuse marks that one of the methods refuses."""
        self._rows_by.check_marks(types)
        self._tokens_by.check_marks(types)

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with what both methods derive from the data set, and the cut; 4 bytes for each row."""
        rows_by, tokens_by = self._rows_by.fit(corpus), self._tokens_by.fit(corpus)
        fitted = replace(self, rows_by=_as_choice(rows_by), tokens_by=_as_choice(tokens_by))
        if self.cut is not None:
            return fitted
        parts = list(over(corpus, fitted._row_scores))
        scores = np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.float32)
        if not len(scores):
            return fitted
        return replace(fitted, cut=float(scores[-math.ceil(self.keep_rows * len(scores))]))

    def rows(self, statistics: Statistics) -> Bool:
        """Return bool ``[examples]``, the rows whose mean score is at least the cut."""
        fitted = self if self.cut is not None else self.fit(lambda: [statistics])
        answered = segment_any(statistics.trainable, statistics.cu_seqlens)
        kept = answered.copy()
        if fitted.cut is not None:
            kept[answered] = fitted._row_scores(statistics) >= np.float32(fitted.cut)
        return kept

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``: the score of the method for tokens."""
        return self._tokens_by.score(statistics)

    def parts(self, statistics: Statistics) -> Mapping[str, Float32]:
        """Return the summands of the score of the method for tokens."""
        return self._tokens_by.parts(statistics)

    def reasons(self, statistics: Statistics) -> UInt8:
        """Return uint8 ``[tokens]``, 1 in the rows that are dropped."""
        dropped = np.repeat(~self.rows(statistics), np.diff(statistics.cu_seqlens))
        return (dropped & statistics.trainable).view(np.uint8)

    def at(self, examples: int) -> Self:
        """Return the method to use after training on so many examples."""
        rows_by, tokens_by = self._rows_by.at(examples), self._tokens_by.at(examples)
        return replace(self, rows_by=_as_choice(rows_by), tokens_by=_as_choice(tokens_by))

    def _row_scores(self, statistics: Statistics) -> Float32:
        """Return float32 ``[rows]``, the mean scores of the examples that have a trainable token."""
        cu_seqlens, trainable = statistics.cu_seqlens, statistics.trainable
        means = segment_means(self._rows_by.score(statistics), trainable, cu_seqlens)
        return means[cu_seqlens[:-1][segment_any(trainable, cu_seqlens)]]


def _method(parameter: str, choice: Any) -> Method:
    if not isinstance(choice, Mapping) or "name" not in choice:
        raise TokensieveError(f"{parameter} is {choice!r}, it must name a method", hint=f"{parameter}: {{name: NAME}}")
    parameters = dict(choice)
    return get_method(str(parameters.pop("name")), **parameters)


def _as_choice(method: Method) -> dict[str, Any]:
    return {"name": method.name, **{one.name: getattr(method, one.name) for one in dataclasses.fields(method)}}
