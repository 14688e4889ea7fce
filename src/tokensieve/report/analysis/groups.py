"""Groups of tokens with a kept share: by source, by position in the answer, and by kind of token."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from tokensieve.containers import Bool, Int64
from tokensieve.data.decoding import TokenDecoder
from tokensieve.ops.ragged import segment_ids

CLASSES = ("words", "digits", "punctuation", "code and symbols", "whitespace", "special", "other")
POSITIONS = tuple(
    "1" if place == 0 else f"{2**place:,} to {2 ** (place + 1) - 1:,}" if place < 14 else f"from {2**14:,}"
    for place in range(15)
)
"""Positions of a token in its answer, counted from 1, in groups that double in size."""
_CODE = set("{}[]<>=+*/\\|&^%$#@~_`")


class TokenClasses:
    """The class of each vocabulary id.

    Args:
        decoder: decodes a token to text.
    """

    def __init__(self, decoder: TokenDecoder) -> None:
        self._decoder = decoder
        self._known = np.full(0, -1, dtype=np.int64)

    def of(self, token_ids: np.ndarray) -> Int64:
        """Return int64 ``[tokens]``, indices into `CLASSES`."""
        if not len(token_ids):
            return np.zeros(0, dtype=np.int64)
        lacking = int(token_ids.max()) + 1 - len(self._known)
        if lacking > 0:
            self._known = np.pad(self._known, (0, lacking), constant_values=-1)
        for token_id in np.unique(token_ids[self._known[token_ids] < 0]).tolist():
            name = self._decoder.name(token_id)
            kind = "special" if self._decoder.is_special(token_id) else text_class(name)
            self._known[token_id] = CLASSES.index(kind)
        return self._known[token_ids]


def text_class(text: str) -> str:
    """Return the class of a token's text, one of `CLASSES`; the text alone allows no finer classes.

    >>> [text_class(text) for text in (" the", "42", "!?", "()", "=", "  ")]
    ['words', 'digits', 'punctuation', 'punctuation', 'code and symbols', 'whitespace']
    """
    inner = "".join(text.split())
    if not inner:
        return "whitespace"
    if any(char in _CODE for char in inner):
        return "code and symbols"
    kinds = {unicodedata.category(char)[0] for char in inner}
    if "N" in kinds and kinds <= {"N", "P"}:
        return "digits"
    if kinds <= {"P"}:
        return "punctuation"
    if "L" in kinds and kinds <= {"L", "M", "P"}:
        return "words"
    return "code and symbols" if kinds <= {"S", "P"} else "other"


def answer_places(trainable: Bool, cu_seqlens: Int64) -> Int64:
    """Return int64 ``[trainable tokens]``, the index in `POSITIONS` of each token's position in its answer."""
    number = np.arange(len(trainable))
    starts = trainable & ~np.concatenate([[False], trainable[:-1]])
    starts[cu_seqlens[:-1][cu_seqlens[:-1] < len(trainable)]] = True
    first = np.maximum.accumulate(np.where(starts, number, 0))
    place = (number - first + 1)[trainable]
    return np.minimum(np.log2(place).astype(np.int64), len(POSITIONS) - 1)


def source_names(sources: Sequence[str]) -> list[str]:
    """Return short names of sources: paths without their common parent folders."""
    paths = [source for source in sources if os.path.isabs(source)]
    if not paths:
        return list(sources)
    shared = os.path.commonpath([str(PurePath(path).parent) for path in paths])
    return [os.path.relpath(source, shared) if source in paths else source for source in sources]


def example_of(trainable: Bool, cu_seqlens: Int64) -> Int64:
    """Return int64 ``[trainable tokens]``, the number of each token's example."""
    return segment_ids(cu_seqlens)[trainable]
