from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokensieve.errors import TokensieveError
from tokensieve.measure.relevance import (
    VectorKind,
    context_free_vectors,
    derive_domain_ids,
    relevance_table,
    words_to_ids,
)

ARCHITECTURES = ["llama", "gpt2", "gpt_neox"]
KINDS: tuple[VectorKind, ...] = ("hidden", "embedding")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, tiny_model_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder(request.param)).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_folder):
    return AutoTokenizer.from_pretrained(tiny_tokenizer_folder)


def entering_the_head(model, token: int) -> torch.Tensor:
    caught = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0][0, 0]))
    with torch.inference_mode():
        model(torch.tensor([[token]]))
    hook.remove()
    return caught[0]


def test_hidden_is_what_enters_the_head_after_one_token(model):
    ids = np.array([7, 0, 200, 7])
    vectors = context_free_vectors(model, ids, "hidden")
    assert vectors.dtype == torch.float32
    for row, token in zip(vectors, ids.tolist(), strict=True):
        torch.testing.assert_close(row, entering_the_head(model, token), rtol=1e-5, atol=1e-6)


def test_batches_do_not_matter(model, monkeypatch):
    ids = np.arange(50)
    whole = {kind: context_free_vectors(model, ids, kind) for kind in KINDS}
    table = relevance_table(model, ids[3:9], "hidden", 50)
    monkeypatch.setattr("tokensieve.measure.relevance._BATCH", 7)
    for kind in KINDS:
        torch.testing.assert_close(context_free_vectors(model, ids, kind), whole[kind], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(relevance_table(model, ids[3:9], "hidden", 50), table, rtol=1e-5, atol=1e-6)


def test_embedding_is_the_row(model):
    ids = np.array([5, 3])
    assert torch.equal(context_free_vectors(model, ids, "embedding"), model.get_input_embeddings().weight[ids].float())


def test_an_adapter_in_the_model_is_part_of_it_or_not(tiny_model_folder):
    from peft import LoraConfig, PeftModel, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder("llama")).eval()
    before = context_free_vectors(model, np.arange(9), "hidden")
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()
    assert isinstance(wrapped, PeftModel)
    with wrapped.disable_adapter():
        for outer in (model, wrapped):
            torch.testing.assert_close(context_free_vectors(outer, np.arange(9), "hidden"), before)
    assert not torch.allclose(context_free_vectors(wrapped, np.arange(9), "hidden"), before)


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_is_the_cosine_to_the_mean_of_the_domain(model, kind):
    domain = [10, 20, 30, 20]  # an id counts once
    table = relevance_table(model, np.array(domain), kind, 60)
    assert table.dtype == np.float32
    assert table.shape == (60,)
    vectors = context_free_vectors(model, np.arange(60), kind).numpy().astype(np.float64)
    mean = (vectors[10] + vectors[20] + vectors[30]) / 3
    for token in range(60):
        row = vectors[token]
        norm = np.linalg.norm(row) * np.linalg.norm(mean)
        cosine = row @ mean / norm if norm else 0.0
        np.testing.assert_allclose(table[token], cosine, rtol=1e-5, atol=1e-6)
    alone = relevance_table(model, np.array([10]), kind, 60)
    assert alone.argmax() == 10
    np.testing.assert_allclose(alone[10], 1, rtol=1e-5)


def test_a_zero_vector_has_no_relevance_and_is_no_domain(tiny_model_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder("llama"))
    rows: Any = model.get_input_embeddings().weight
    with torch.no_grad():
        rows[4] = 0
    assert relevance_table(model, np.array([8]), "embedding", 6)[4] == 0
    with pytest.raises(TokensieveError, match="mean embedding vector of the 1 domain ids has length 0"):
        relevance_table(model, np.array([4]), "embedding", 6)


def test_ids_that_the_model_lacks_and_no_words_are_refused(model):
    rows = model.get_input_embeddings().weight.shape[0]
    for bad in (rows, -1):
        with pytest.raises(TokensieveError, match=f"token id {bad} is beyond the model's embedding of {rows} rows"):
            context_free_vectors(model, np.array([1, bad]), "hidden")
    with pytest.raises(TokensieveError, match="no domain words to compare with"):
        relevance_table(model, np.array([], dtype=int), "hidden", 5)
    assert context_free_vectors(model, np.array([], dtype=int), "embedding").shape == (0, 32)


def test_domain_ids_by_hand():
    counts = np.array([50, 0, 30, 19, 1])
    background = np.array([499, 199, 99, 99, 99])  # with one added to each: shares 0.5, 0.2, 0.1, 0.1, 0.1
    # task shares with 5 tokens added: 52.5, 1, 30.5, 19.5, 1.5 of 105; id 1 does not occur
    odds = {0: 52.5 / 52.5 / 1, 2: 30.5 / 74.5 * 9, 3: 19.5 / 85.5 * 9, 4: 1.5 / 103.5 * 9}
    assert sorted(odds, key=lambda i: -odds[i]) == [2, 3, 0, 4]
    assert derive_domain_ids(counts, background).tolist() == [2, 3, 0, 4]
    assert derive_domain_ids(counts, background, size=2).tolist() == [2, 3]
    assert derive_domain_ids(counts, background, excluded=[2]).tolist() == [3, 0, 4]


def test_without_a_background_late_ids_are_rare_words():
    counts = np.zeros(50_000, dtype=int)
    counts[[300, 301, 20_000, 40_000]] = [900, 10, 900, 1]
    # as often as an early id, a late one is the more telling; one that is seen once is not
    assert derive_domain_ids(counts).tolist() == [20_000, 300, 40_000, 301]
    assert derive_domain_ids(counts, np.zeros(50_000)).tolist() == [300, 20_000, 301, 40_000]  # uniform


def test_data_of_a_single_word_and_of_none():
    assert derive_domain_ids(np.array([0, 7, 0])).tolist() == [1]
    assert derive_domain_ids(np.array([7])).tolist() == [0]
    for counts, excluded in (([0, 0], []), ([5, 0], [0]), ([], [])):
        with pytest.raises(TokensieveError, match="domain words cannot be derived"):
            derive_domain_ids(np.array(counts, dtype=int), excluded=excluded)
    with pytest.raises(TokensieveError, match="the background counts 3 ids, the data 2"):
        derive_domain_ids(np.array([1, 2]), np.array([1, 2, 3]))


def test_words_are_taken_with_and_without_a_space_and_in_all_their_pieces(tokenizer):
    ids = words_to_ids(tokenizer, ["apples", " Ben ", ""])
    pieces = {i for text in ("apples", " apples", "Ben", " Ben") for i in tokenizer.encode(text)}
    assert ids.dtype == np.int64
    assert ids.tolist() == sorted(pieces)
    assert len(ids) > 2
    (space,) = tokenizer.encode(" ")
    assert space in tokenizer.encode(" 7")  # split off by this tokenizer
    assert space not in words_to_ids(tokenizer, ["7"])


@pytest.mark.parametrize("words", [[], ["", "  "], ["<|end|>"]])
def test_no_words_are_left(tokenizer, words):
    with pytest.raises(TokensieveError, match="no domain word is left") as error:
        words_to_ids(tokenizer, words)
    assert error.value.where == "method.domain_words"
