"""What an arm does to marked tokens, and how well its scores find them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Float32, UInt8
from tokensieve.data.decoding import read_decoder
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.words import Words, by_word
from tokensieve.ops.auroc import auroc
from tokensieve.select.streaming import read_selection


@dataclass(frozen=True)
class MarkedTokens:
    """What became of the marked tokens of an arm, and of the others.

    Attributes:
        marked: marked trainable tokens.
        removed: those of them that were dropped.
        unmarked: trainable tokens without a mark.
        unmarked_removed: those of them that were dropped.
        auroc: probability that a marked word has a lower score than an unmarked one, ties counting half; None where all
            scores are the same, or where there are no words of one kind. A word has the mean score of its tokens (the
            highest one would make long words look good), and is marked where one of them is. Special tokens, such as
            turn ends, belong to no word.
        types: ``marked``, ``removed`` and ``auroc`` of each type of marks.
    """

    marked: int
    removed: int
    unmarked: int
    unmarked_removed: int
    auroc: float | None
    types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def marked_tokens(store: ExampleStore, scores: Path) -> MarkedTokens | None:
    """Compare a selection with the marks of its data.

    Memory holds a few bytes for each word of the data.

    Args:
        store: the examples.
        scores: folder of `streaming.select_shards`.

    Returns:
        None where nothing is marked.
    """
    if not store.mark_types:
        return None

    words = Words(read_decoder(store.tokenizer))
    kinds = len(store.mark_types) + 1
    tokens, dropped = np.zeros(kinds, dtype=np.int64), np.zeros(kinds, dtype=np.int64)
    values: list[Float32] = []
    marks_of_words: list[UInt8] = []
    for number, examples in enumerate(store):
        marks = store.marks(number)
        score, kept = read_selection(scores, number)
        trainable = examples.labels != IGNORE_INDEX
        tokens += np.bincount(marks[trainable], minlength=kinds)
        dropped += np.bincount(marks[trainable & ~kept], minlength=kinds)
        word = words.number(examples.input_ids, trainable, examples.cu_seqlens)
        inside, starts = by_word(word)
        if len(inside):
            sums = np.add.reduceat(score[inside], starts, dtype=np.float64)
            values.append((sums / np.diff(starts, append=len(inside))).astype(np.float32))
            marks_of_words.append(np.maximum.reduceat(marks[inside], starts))
    value, mark = _joined(values, np.float32), _joined(marks_of_words, np.uint8)
    types = {
        name: {
            "marked": int(tokens[number]),
            "removed": int(dropped[number]),
            "auroc": _auroc(value[mark == number], value[mark == 0]),
        }
        for number, name in enumerate(store.mark_types, 1)
    }
    return MarkedTokens(
        int(tokens[1:].sum()),
        int(dropped[1:].sum()),
        int(tokens[0]),
        int(dropped[0]),
        _auroc(value[mark > 0], value[mark == 0]),
        types,
    )


def _joined(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)


def _auroc(marked: Float32, unmarked: Float32) -> float | None:
    if not len(marked) or not len(unmarked) or len(np.unique(np.concatenate([marked, unmarked]))) < 2:
        return None
    return auroc(marked, unmarked)
