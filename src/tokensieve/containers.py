"""The containers that every layer shares: ragged examples, statistics and answers of methods.

Ragged means flat values plus offsets: example ``i`` is ``values[cu_seqlens[i]:cu_seqlens[i + 1]]``.
Nothing is padded outside a model call.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import TokensieveError

IGNORE_INDEX = -100
"""The label of a token that is not trained on (the convention of ``torch.nn.CrossEntropyLoss``)."""

Role = Literal["base", "reference", "pool", "history", "current", "utility", "unsafe", "reward"]
Needs = frozenset[tuple[Role, str]]
Scope = Literal["dataset", "batch", "example"]
Rounding = Literal["floor", "ceil"]

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class StatisticSpec:
    """A statistic and how it is to be measured, such as the layer of an attention statistic.

    Attributes:
        name: of the statistic, such as ``loss``.
        options: pairs of name and value, sorted by name.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any]) -> StatisticSpec:
        """Return the statistic measured with these options."""
        return cls(name, tuple(sorted(options.items())))

    def option(self, name: str, default: Any) -> Any:
        """Return an option, or the default where it is not given."""
        return dict(self.options).get(name, default)

    @property
    def key(self) -> str:
        """Its name on disk: that of the statistic, and a digest of the options where there are some."""
        if not self.options:
            return self.name
        text = json.dumps(self.options)
        return f"{self.name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


LOSS = StatisticSpec("loss")


@dataclass(frozen=True, eq=False)
class Examples:
    """Tokenised examples.

    Attributes:
        input_ids: int32 ``[tokens]``.
        labels: int32 ``[tokens]``, unshifted; ``-100`` where a token is not trainable. The first
            token of an example is never trainable, since nothing predicts it.
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        rows: int64 ``[examples]``, the number of the source row that each example came from.
        marks: uint8 ``[tokens]``, 0 where a token is not marked, else the number from 1 of the type of its mark; None
            where no token of these examples is marked.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    cu_seqlens: Int64
    rows: Int64
    marks: UInt8 | None = None

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def lengths(self) -> Int64:
        """int64 ``[examples]``, tokens of each example."""
        return np.diff(self.cu_seqlens)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Per-token statistics of one or more models over the same examples; what a method reads.

    Attributes:
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        labels: integers ``[tokens]``; ``-100`` where a token is not trainable.
        values: float32 ``[tokens]`` for each (role, statistic), such as ``("base", "loss")``. The
            value at position ``t`` belongs to the predicted token ``input_ids[t]``.
        turn_end: bool ``[tokens]``, the trainable tokens that end an assistant turn; ``None`` when
            unknown. Selection rules keep them whatever their score.
        first_token: position of the first token in the whole data set when this is one shard of it.
            Seeded methods use it so that their scores do not depend on the sharding.
        marks: uint8 ``[tokens]``, 0 where a token is not marked, else the number from 1 of the type of its mark;
            ``None`` where the data has no marks.
        mark_types: types of marks in the whole data set.

    Raises:
        TokensieveError: offsets that are not offsets, or arrays of different lengths.
    """

    cu_seqlens: Int64
    labels: NDArray[np.integer]
    values: Mapping[tuple[str, str], Float32] = field(default_factory=dict)
    turn_end: Bool | None = None
    first_token: int = 0
    marks: UInt8 | None = None
    mark_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cu_seqlens", np.asarray(self.cu_seqlens, dtype=np.int64))
        labels = np.asarray(self.labels)
        if not np.issubdtype(labels.dtype, np.signedinteger):
            labels = labels.astype(np.int64)
        object.__setattr__(self, "labels", labels)
        values = {key: np.asarray(value, dtype=np.float32) for key, value in self.values.items()}
        object.__setattr__(self, "values", values)
        check_offsets(self.cu_seqlens, len(self.labels))
        if self.marks is not None and self.marks.shape != self.labels.shape:
            raise TokensieveError(
                f"the marks have shape {self.marks.shape}, the labels have {self.labels.shape}",
                hint="pass a flat array with one mark per token",
            )
        for (role, name), value in values.items():
            if value.shape != self.labels.shape:
                raise TokensieveError(
                    f"statistic '{name}' of role '{role}' has shape {value.shape}, the labels have {self.labels.shape}",
                    hint="pass flat arrays with one value per token",
                )

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    @cached_property
    def trainable(self) -> Bool:
        """Bool ``[tokens]``, True where a token carries a label."""
        return self.labels != IGNORE_INDEX

    def of_rows(self, rows: Bool) -> Statistics:
        """Return the same statistics with labels in some of the examples alone, given as bool ``[examples]``."""
        inside = np.repeat(rows, np.diff(self.cu_seqlens))
        return dataclasses.replace(self, labels=np.where(inside, self.labels, self.labels.dtype.type(IGNORE_INDEX)))

    def get(self, role: Role, name: str) -> Float32:
        """Return float32 ``[tokens]`` of one role and statistic.

        Raises:
            TokensieveError: the statistic is not there, or is NaN or infinite on a trainable token.
        """
        try:
            value = self.values[role, name]
        except KeyError:
            present = ", ".join(f"{r}.{n}" for r, n in self.values) or "none"
            raise TokensieveError(
                f"statistic '{name}' of role '{role}' is missing (present: {present})",
                hint=f"measure '{name}' with a model in the role '{role}' (recipe: models.{role})",
            ) from None
        check_finite(value, self.trainable, self.cu_seqlens, f"{role}.{name}")
        return value

    def _repr_html_(self) -> str:
        """Return a table of the statistics of trainable tokens, which notebooks show."""
        shares = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
        names = ("least", "1 %", "25 %", "median", "75 %", "99 %", "greatest")
        head = "".join(f"<th>{name}</th>" for name in ("statistic", *names))
        rows = ""
        for (role, name), value in self.values.items():
            found = value[self.trainable]
            cells = (f"<td>{share:.4g}</td>" for share in (np.quantile(found, shares) if len(found) else ()))
            rows += f"<tr><th>{escape(f'{role}.{name}')}</th>{''.join(cells)}</tr>"
        counts = f"{len(self):,} examples, {len(self.labels):,} tokens, {int(self.trainable.sum()):,} trainable"
        return f"<p>{counts}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def check_offsets(cu_seqlens: Int64, tokens: int) -> None:
    """Raise ``TokensieveError`` unless ``cu_seqlens`` rises from 0 to ``tokens``."""
    if cu_seqlens.ndim != 1 or len(cu_seqlens) == 0 or cu_seqlens[0] != 0 or cu_seqlens[-1] != tokens:
        raise TokensieveError(
            f"cu_seqlens must be one-dimensional, start at 0 and end at the number of tokens ({tokens}); "
            f"got {cu_seqlens[:1].tolist()} .. {cu_seqlens[-1:].tolist()}",
        )
    if (np.diff(cu_seqlens) < 0).any():
        raise TokensieveError("cu_seqlens must never fall")


def check_finite(values: Float32, trainable: Bool, cu_seqlens: Int64, name: str) -> None:
    """Raise ``TokensieveError`` that names the examples whose values on trainable tokens are NaN or infinite."""
    finite = np.isfinite(values)
    if finite.all():
        return
    bad = ~finite & trainable
    if bad.any():
        positions = np.flatnonzero(bad)
        rows = np.unique(np.searchsorted(cu_seqlens, positions, side="right") - 1)
        shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        raise TokensieveError(
            f"'{name}' is NaN or infinite on {len(positions)} tokens of {len(rows)} examples: {shown}",
            hint="look at these examples with `tokensieve inspect`; a half-precision model may overflow: "
            "try dtype: float32",
        )


def segments(cu_seqlens: Int64) -> Iterator[slice]:
    """Yield the slice of each example in flat arrays."""
    for start, stop in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        yield slice(start, stop)
