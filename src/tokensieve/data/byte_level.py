"""Byte-level tokenizers: where a token lies in its text, from the ids alone.

The tokens of such a tokenizer (GPT-2's, Llama 3's, Qwen's and most since) hold exactly the bytes of the text, one after
the other, so that their lengths tell their places. A backend that need not track places is a quarter faster.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from tokenizers import models, normalizers, pre_tokenizers

from tokensieve.types import Int64


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
