"""Training batches between a trainer's padded tensors and the ragged arrays of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokensieve.containers import IGNORE_INDEX, Float32, Int64, Statistics
from tokensieve.data.tokenize import turn_end_mask
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets


@dataclass(frozen=True, eq=False)
class Batch:
    """The tokens of a padded or packed training batch, without padding.

    Attributes:
        input_ids: int64 ``[tokens]``.
        labels: int64 ``[tokens]``; -100 at the first token of an example, which nothing predicts.
        cu_seqlens: int64 ``[examples + 1]``.
        places: int64 ``[tokens]``, where each token lies in the flattened tensors.
        shape: of the tensors.
    """

    input_ids: Int64
    labels: Int64
    cu_seqlens: Int64
    places: Int64
    shape: tuple[int, int]

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor]) -> Batch:
        """Read a trainer's inputs: right-padded rows with an attention mask, or packed rows with position ids."""
        ids, labels = inputs["input_ids"], inputs["labels"]
        if "attention_mask" in inputs:
            real = inputs["attention_mask"].bool()
            starts = torch.zeros_like(real)
            starts[:, 0] = True
        else:
            # Packed rows are padded, if at all, with position 0 and no label: examples of one token.
            starts = inputs["position_ids"] == 0
            real = torch.ones_like(starts)
        table = torch.stack([ids, labels, real.long(), starts.long()]).flatten(1).cpu().numpy()
        places = np.flatnonzero(table[2])
        begins = np.flatnonzero(table[3][places])
        trainable = table[1][places]
        trainable[begins] = IGNORE_INDEX
        return cls(
            table[0][places],
            trainable,
            offsets(np.diff(np.append(begins, len(places)))),
            places,
            (ids.shape[0], ids.shape[1]),
        )

    @property
    def lengths(self) -> Int64:
        """int64 ``[examples]``, tokens of each example."""
        return np.diff(self.cu_seqlens)

    def gather(self, values: Tensor) -> Float32:
        """Return float32 ``[tokens]`` of a tensor of the batch's shape."""
        return values.detach().flatten().float().cpu().numpy()[self.places]

    def gather_shifted(self, values: Tensor) -> Float32:
        """Return float32 ``[tokens]`` of a tensor ``[rows, length - 1]`` that leaves out each row's first token."""
        return self.gather(torch.nn.functional.pad(values.detach().float(), (1, 0)))

    def scatter(self, values: NDArray[Any], like: Tensor) -> Tensor:
        """Return ``[tokens]`` values as a tensor of the batch's shape, 0 at padding, on the device of ``like``."""
        flat = np.zeros(self.shape[0] * self.shape[1], dtype=np.float32)
        flat[self.places] = values
        return torch.from_numpy(flat).view(self.shape).to(like.device)

    def statistics(self, values: Mapping[tuple[str, str], Float32], turn_end_ids: Sequence[int]) -> Statistics:
        """Join the labels with statistics."""
        turn_end = turn_end_mask(self.input_ids, self.labels, self.cu_seqlens, turn_end_ids)
        return Statistics(self.cu_seqlens, self.labels, dict(values), turn_end)


@dataclass(frozen=True)
class ColumnCollator:
    """A trainer's own collator, with per-token columns padded beside what it makes.

    Attributes:
        collate: the trainer's own.
        columns: names of columns that hold a number for each token.
    """

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    columns: tuple[str, ...]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the collated rows, and float32 ``[rows, longest]`` for each column, 0 at padding."""
        batch = self.collate(rows)
        rows_count, longest = batch["input_ids"].shape
        for column in self.columns:
            padded = torch.zeros(rows_count, longest)
            for number, row in enumerate(rows):
                length = len(row["input_ids"])
                if len(row[column]) != length:
                    raise TokensieveError(
                        f"column '{column}' has {len(row[column])} numbers for {length} tokens",
                        hint="truncate the data to SFTConfig's max_length before the columns are added",
                    )
                padded[number, :length] = torch.as_tensor(row[column], dtype=torch.float32)
            batch[column] = padded
        return batch
