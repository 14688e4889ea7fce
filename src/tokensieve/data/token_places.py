"""Where the tokens of a text lie, and which of them lie in its answers.

The tokens of a byte-level tokenizer (GPT-2's, Llama 3's, Qwen's and most since) hold exactly the bytes of the text, one
after the other, so that their lengths tell their places, and a backend that need not track them is a quarter faster.
Of other tokenizers, and where the bytes do not add up, the backend is asked for the characters of each token.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers

from tokensieve.containers import Bool, Int64
from tokensieve.data.marks import MarkedSpan
from tokensieve.data.template_shape import Span
from tokensieve.ops.ragged import gather_segments, offsets


@dataclass(frozen=True)
class Text:
    """A row as the text that is tokenised.

    Attributes:
        text: prompt and answers.
        spans: the characters of each trainable answer, rising.
        plain: True for text without a chat template, to which the tokenizer adds its special tokens.
        forgotten: trainable answers whose thoughts the chat template leaves out.
        marks: its marked parts, rising; characters.
        size: bytes of the text in UTF-8.

    Raises:
        UnicodeEncodeError: a text that is not valid Unicode.
    """

    text: str
    spans: list[Span]
    plain: bool
    forgotten: int = 0
    marks: Sequence[MarkedSpan] = ()
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.text.encode()))

    @property
    def byte_spans(self) -> list[Span]:
        """First and last byte (exclusive) of each trainable answer."""
        if self.size == len(self.text):
            return self.spans
        return [(self._byte(start), self._byte(stop)) for start, stop in self.spans]

    @property
    def byte_marks(self) -> Sequence[MarkedSpan]:
        """The marked parts in bytes."""
        if self.size == len(self.text):
            return self.marks
        return [MarkedSpan(self._byte(one.start), self._byte(one.stop), one.type) for one in self.marks]

    def _byte(self, character: int) -> int:
        return len(self.text[:character].encode())


@dataclass(frozen=True)
class Tokens:
    """Tokens of several texts, with places that count through all of them: bytes or characters.

    Attributes:
        texts: the texts by number.
        ids: int32 ``[tokens]``.
        cu_seqlens: int64 ``[texts + 1]``, offsets of the texts' tokens.
        start: int64 ``[tokens]``, where a token begins.
        stop: int64 ``[tokens]``, where it ends (exclusive).
        spans: int64 ``[answers, 2]``, where the trainable answers begin and end; they rise and do not overlap.
        marks: the marked parts of all texts; they rise and do not overlap.
    """

    texts: dict[int, Text]
    ids: NDArray[np.int32]
    cu_seqlens: Int64
    start: Int64
    stop: Int64
    spans: Int64
    marks: Sequence[MarkedSpan] = ()

    def in_answers(self) -> tuple[Bool, Bool]:
        """Return bool ``[tokens]``, those that lie in an answer, and those that lie across the start of one."""
        begins, ends = np.concatenate([[[-1, -1]], self.spans]).T  # the first stands for no answer
        # A token lies in the last answer that begins before the token ends, or in none.
        nearest = np.searchsorted(begins, self.stop) - 1
        across = self.start < begins[nearest]
        return (self.stop > self.start) & (self.start < ends[nearest]) & ~across, across

    def marked(self) -> Int64:
        """Return int64 ``[tokens]``, the number from 1 of the mark that each token overlaps, 0 where none does.

        A token that several marks overlap has the last of them.
        """
        begins, ends = np.array([(-1, -1), *((one.start, one.stop) for one in self.marks)], dtype=np.int64).T
        nearest = np.searchsorted(begins, self.stop) - 1
        return np.where((self.stop > self.start) & (self.start < ends[nearest]), nearest, 0)


def by_bytes(texts: dict[int, Text], encodings: Sequence[Any], byte_lengths: Int64) -> Tokens:
    """Return the tokens of those texts whose bytes they are."""
    ids, cu_seqlens = _ids(encodings)
    lengths = byte_lengths[ids]
    sizes = np.array([text.size for text in texts.values()], dtype=np.int64)
    fitting = np.flatnonzero(np.diff(np.append(0, np.cumsum(lengths))[cu_seqlens]) == sizes)
    numbers = list(texts)
    texts = {numbers[place]: texts[numbers[place]] for place in fitting.tolist()}
    stop = np.cumsum(gather_segments(lengths, cu_seqlens, fitting))
    return Tokens(
        texts,
        gather_segments(ids, cu_seqlens, fitting),
        offsets(np.diff(cu_seqlens)[fitting]),
        np.append(0, stop)[:-1],
        stop,
        _shifted([text.byte_spans for text in texts.values()], offsets(sizes[fitting])),
        _shifted_marks([text.byte_marks for text in texts.values()], offsets(sizes[fitting])),
    )


def by_characters(texts: dict[int, Text], encodings: Sequence[Any]) -> Tokens:
    """Return the tokens of texts as the backend places them."""
    ids, cu_seqlens = _ids(encodings)
    places = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
    first = offsets([len(text.text) for text in texts.values()])
    start, stop = np.fromiter(places, np.int64, 2 * len(ids)).reshape(-1, 2).T
    shift = np.repeat(first[:-1], np.diff(cu_seqlens))
    spans = _shifted([text.spans for text in texts.values()], first)
    marks = _shifted_marks([text.marks for text in texts.values()], first)
    return Tokens(texts, ids, cu_seqlens, start + shift, stop + shift, spans, marks)


def _ids(encodings: Sequence[Any]) -> tuple[NDArray[np.int32], Int64]:
    rows = [encoding.ids for encoding in encodings]
    cu_seqlens = offsets(list(map(len, rows)))
    return np.fromiter(chain.from_iterable(rows), np.int32, cu_seqlens[-1]), cu_seqlens


def _shifted(spans: Sequence[Sequence[Span]], first: Int64) -> Int64:
    shifted = [(at + begin, at + end) for at, row in zip(first.tolist(), spans, strict=False) for begin, end in row]
    return np.array(shifted, dtype=np.int64).reshape(-1, 2)


def _shifted_marks(marks: Sequence[Sequence[MarkedSpan]], first: Int64) -> list[MarkedSpan]:
    rows = [(at, row) for at, row in zip(first.tolist(), marks, strict=False) if row]
    return [MarkedSpan(at + one.start, at + one.stop, one.type) for at, row in rows for one in row]


def byte_lengths(backend: Any) -> Int64 | None:
    """Return int64 ``[ids]``, how many bytes of a text each id stands for; None for a tokenizer of another kind.

    Tokens that follow a text add up to its bytes. Where they do not, the tokenizer has added, dropped or rewritten
    something, and their places are not told by this.

    Args:
        backend: a `tokenizers.Tokenizer`.
    """
    splitter = backend.pre_tokenizer
    last = [*splitter][-1] if isinstance(splitter, pre_tokenizers.Sequence) else splitter
    if not isinstance(last, pre_tokenizers.ByteLevel) or not isinstance(backend.model, models.BPE):
        return None
    if not isinstance(backend.normalizer, normalizers.NFC | None):
        return None
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    added = {number: token.content for number, token in backend.get_added_tokens_decoder().items()}
    vocabulary = backend.get_vocab(with_added_tokens=False)
    lengths = np.zeros(1 + max([*vocabulary.values(), *added]), dtype=np.int64)
    for token, number in vocabulary.items():
        lengths[number] = len(token) if alphabet.issuperset(token) else 0
    for number, content in added.items():
        lengths[number] = len(content.encode())
    return lengths


def keeps_text(backend: Any, text: str) -> bool:
    """Return whether the tokenizer's normaliser, none or NFC, leaves a text as it is."""
    return backend.normalizer is None or unicodedata.is_normalized("NFC", text)
