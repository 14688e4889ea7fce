"""The table of statistics: which there are, and how each is measured.

Whoever asks whether a statistic exists, whether it can be measured before a training or read from the pass that trains,
asks this table. A new statistic of the logits is an entry in `ops.token_loss`; a new family is a row of `FAMILIES`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from torch import Tensor

from tokensieve.containers import StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.measure.relevance import VocabularyTable, relevance_of_ids
from tokensieve.models.attention_tap import AttentionTap
from tokensieve.models.reward import RewardTap
from tokensieve.ops.attention import ATTENTION_STATISTICS
from tokensieve.ops.logit_geometry import EXAMPLE_STATISTICS
from tokensieve.ops.token_loss import LOGIT_STATISTICS


class Tap(AbstractContextManager["Tap"], Protocol):
    """Reads statistics from forward passes as they run, while the block lasts; for several threads at once."""

    def record(self, prompt: Tensor, lengths: Tensor) -> AbstractContextManager[dict[str, Tensor]]:
        """Take the statistics of this thread's next forward pass.

        Args:
            prompt: bool ``[B, S]``, True where a token is not trained on.
            lengths: int64 ``[B]``, real tokens of each right-padded row.

        Returns:
            Filled by the pass: ``[B, S]`` by the key of each statistic.
        """
        ...


@dataclass(frozen=True)
class Family:
    """Statistics that are measured in the same way.

    Attributes:
        names: of the statistics.
        source: what they are read from: the ``logits``; the logits of further passes, over the ``answers`` alone;
            another part of a forward ``pass``, through `tap`; the id of a token alone, whatever its context, through
            `table` (``vocabulary``); or the examples of a training batch and those that were trained on before
            (``batch``).
        tap: called with a model and specs.
        table: called with a model, tokenised examples and a spec.
    """

    names: tuple[str, ...]
    source: Literal["logits", "answers", "pass", "vocabulary", "batch"]
    tap: Callable[[Any, Sequence[StatisticSpec]], Tap] | None = None
    table: Callable[[Any, ExampleStore, StatisticSpec], VocabularyTable] | None = None


FAMILIES = (
    Family(LOGIT_STATISTICS, "logits"),
    Family(("loss_without_prompt",), "answers"),
    Family(ATTENTION_STATISTICS, "pass", tap=AttentionTap),
    Family(("reward",), "pass", tap=RewardTap),
    Family(("relevance",), "vocabulary", table=relevance_of_ids),
    Family(EXAMPLE_STATISTICS, "batch"),
)
_FAMILY_OF = {name: family for family in FAMILIES for name in family.names}

MEASURABLE = tuple(name for name, family in _FAMILY_OF.items() if family.source != "batch")
"""What can be measured with a model that does not change, and kept on disk."""


def source_of(name: str) -> str | None:
    """Return what a statistic is read from, as in `Family.source`; None where there is no such statistic."""
    family = _FAMILY_OF.get(name)
    return family and family.source


def of_a_pass(name: str) -> bool:
    """Whether a statistic can be measured by forward passes over plain token ids."""
    return source_of(name) in ("logits", "answers", "pass")


def in_training(name: str) -> bool:
    """Whether a statistic can be read from the model in training."""
    return source_of(name) in ("logits", "pass", "batch")


def check_measurable(name: str, where: str) -> None:
    """Raise ``TokensieveError`` unless a statistic can be measured with a model that does not change."""
    if name in MEASURABLE:
        return
    raise TokensieveError(
        f"'{name}' exists only while a model trains"
        if source_of(name)
        else f"unknown statistic '{name}'{did_you_mean(name, MEASURABLE)}",
        where=where,
        hint=f"one or more of: {', '.join(MEASURABLE)}",
    )


def vocabulary_table(model: Any, examples: ExampleStore, spec: StatisticSpec) -> VocabularyTable:
    """Measure a statistic whose source is the ``vocabulary``."""
    family = _FAMILY_OF[spec.name]
    assert family.table is not None
    return family.table(model, examples, spec)


class Taps:
    """Every `Tap` that some statistics take, as one; false where they take none.

    Args:
        model: a `transformers` causal language model, adapters included.
        specs: statistics; those that are read from no tap are passed over.

    Raises:
        TokensieveError: an option that the model cannot satisfy, such as a layer that it does not have.
    """

    def __init__(self, model: Any, specs: Sequence[StatisticSpec]) -> None:
        self._taps = [
            family.tap(model, wanted)
            for family in FAMILIES
            if family.tap is not None and (wanted := [spec for spec in specs if spec.name in family.names])
        ]
        self._stack = ExitStack()

    def __bool__(self) -> bool:
        return bool(self._taps)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for tap in self._taps:
                stack.enter_context(tap)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def record(self, prompt: Tensor, lengths: Tensor) -> Iterator[Mapping[str, Tensor]]:
        """Take the statistics of this thread's next forward pass; see `Tap.record`."""
        with ExitStack() as stack:
            yield ChainMap(*[stack.enter_context(tap.record(prompt, lengths)) for tap in self._taps])
