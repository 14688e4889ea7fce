from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokensieve.data.decoding import TokenDecoder
from tokensieve.data.words import Words


def words_of(tokenizer, text):
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids)
    trainable, cu_seqlens = np.ones(len(ids), dtype=bool), np.array([0, len(ids)])
    numbers = Words(TokenDecoder(tokenizer)).number(ids, trainable, cu_seqlens)
    pairs = zip(numbers.tolist(), ids.tolist(), strict=True)
    return [tokenizer.decode([token for _, token in group]) for _, group in groupby(pairs, lambda pair: pair[0])]


@given(st.lists(st.sampled_from(["apples", "a", "sum,", "日本", "72"]), min_size=1, max_size=8), st.data())
def test_words_are_what_stands_between_white_space(tiny_encoder, words, data):
    gaps = [data.draw(st.sampled_from([" ", "\n", "  ", "\n\n", " \n "])) for _ in words[1:]]
    text = words[0] + "".join(gap + word for gap, word in zip(gaps, words[1:], strict=True))
    assert [word.strip() for word in words_of(tiny_encoder.tokenizer.backend_tokenizer, text)] == words


def test_words_of_a_vocabulary_with_metaspaces():
    vocabulary = {"▁": 0, "▁sea": 1, "The": 2, "▁The": 3, "s": 4, "?": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.decoder = decoders.Metaspace()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    ids = np.array([3, 1, 4, 0, 4, 1])
    found = Words(TokenDecoder(tokenizer)).number(ids, np.ones(6, dtype=bool), np.array([0, 6]))
    assert found.tolist() == [0, 1, 1, 2, 2, 3]


def test_special_tokens_prompts_and_examples_end_words(tiny_encoder):
    backend = tiny_encoder.tokenizer.backend_tokenizer
    number = Words(TokenDecoder(backend)).number
    (sea,) = backend.encode("a").ids
    end = backend.token_to_id("<|end|>")
    ids = np.array([sea, sea, end, sea, sea, sea, sea])
    trainable = np.array([0, 1, 1, 1, 0, 1, 1], dtype=bool)
    assert number(ids, trainable, np.array([0, 6, 7])).tolist() == [-1, 0, -1, 1, -1, 2, 3]
    assert number(ids[:0], trainable[:0], np.array([0])).tolist() == []


@pytest.mark.parametrize("size", [1, 5])
def test_nothing_trainable_has_no_words(tiny_encoder, size):
    number = Words(TokenDecoder(tiny_encoder.tokenizer.backend_tokenizer)).number
    found = number(np.zeros(size, dtype=np.int32), np.zeros(size, dtype=bool), np.array([0, size]))
    assert found.tolist() == [-1] * size
