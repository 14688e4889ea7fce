"""Which tokens make a word: marks are counted by word, because the first token of a word looks like an error."""

from __future__ import annotations

import numpy as np

from tokensieve.containers import Bool, Int64
from tokensieve.data.decoding import TokenDecoder

_SPACES = ("Ġ", "▁", "Ċ", "ĉ")
"""White space as byte-level and SentencePiece vocabularies write it."""
_BEGINS, _ENDS, _BLANK, _SPECIAL = 1, 2, 4, 8


class Words:
    """Numbers the words of tokens.

    A word is what stands between white space; white space belongs to the word behind it. Text without spaces, such as
    Chinese, is one word up to the next white space or special token.

    Args:
        decoder: of the token ids.
    """

    def __init__(self, decoder: TokenDecoder) -> None:
        self._decoder = decoder
        self._known = np.zeros(0, dtype=np.int16)

    def number(self, token_ids: np.ndarray, trainable: Bool, cu_seqlens: Int64) -> Int64:
        """Return int64 ``[tokens]``: the number of each token's word, rising; -1 if it is special or not trainable."""
        flags = self._flags(token_ids)
        special = (flags & _SPECIAL) > 0
        inside = trainable & ~special
        before = np.concatenate([[0], flags[:-1]]).astype(np.int16)
        starts = ((flags & _BEGINS) | (before & _ENDS) > 0) & ((before & _BLANK) == 0)
        starts |= ~np.concatenate([[False], inside[:-1]])
        starts[cu_seqlens[:-1][np.diff(cu_seqlens) > 0]] = True
        return np.where(inside, np.cumsum(starts & inside) - 1, -1)

    def _flags(self, token_ids: np.ndarray) -> np.ndarray:
        if not len(token_ids):
            return np.zeros(0, dtype=np.int16)
        lacking = int(token_ids.max()) + 1 - len(self._known)
        if lacking > 0:
            self._known = np.pad(self._known, (0, lacking), constant_values=-1)
        for token_id in np.unique(token_ids[self._known[token_ids] < 0]).tolist():
            self._known[token_id] = self._flags_of(token_id)
        return self._known[token_ids]

    def _flags_of(self, token_id: int) -> int:
        if self._decoder.is_special(token_id):
            return _SPECIAL
        text, name = self._decoder.name(token_id), self._decoder.vocabulary_name(token_id)
        begins = text[:1].isspace() or name.startswith(_SPACES)
        ends = text[-1:].isspace() or name.endswith(_SPACES)
        blank = text.isspace() or not name.strip("".join(_SPACES))
        return begins * _BEGINS + ends * _ENDS + blank * _BLANK


def by_word(word: Int64) -> tuple[Int64, Int64]:
    """Group tokens by their words, as `numpy.add.reduceat` takes them.

    Args:
        word: int64 ``[tokens]``, of `Words.number`.

    Returns:
        int64 ``[tokens in words]``, their positions, and int64 ``[words]``, where each word starts among these.
    """
    inside = np.flatnonzero(word >= 0)
    return inside, np.flatnonzero(np.diff(word[inside], prepend=-1))
