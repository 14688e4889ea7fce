from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

import tokensieve
from tokensieve.errors import TokensieveError

IDS = [[5, 9, 8, 7, 4], [6, 3], [5, 5, 9, 9, 8, 7, 4]]
LABELS = [[-100, -100, 8, 7, 4], [-100, 3], [5, 5, -100, 9, -100, 7, 4]]


@pytest.fixture(scope="module")
def models(tiny_model_folder):
    return {
        role: AutoModelForCausalLM.from_pretrained(tiny_model_folder("llama", seed))
        for seed, role in enumerate(("base", "reference"))
    }


def plain_losses(model) -> np.ndarray:
    found = []
    for ids, labels in zip(IDS, LABELS, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        losses = cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").numpy()
        found += [0.0, *np.where(np.array(labels[1:]) == -100, 0, losses)]
    return np.array(found, dtype=np.float32)


def test_three_lines_equal_cross_entropy_by_hand(models):
    method = tokensieve.get_method("token-cleaning", fraction=0.5)
    statistics = tokensieve.measure_tokens(models, IDS, LABELS, method)
    labels = method.select(statistics)
    for role, model in models.items():
        np.testing.assert_allclose(statistics.values[role, "loss"], plain_losses(model), rtol=1e-5, atol=1e-6)
    gained = plain_losses(models["base"]) - plain_losses(models["reference"])
    np.testing.assert_allclose(method.score(statistics)[statistics.trainable], gained[statistics.trainable], atol=1e-5)
    trainable = np.flatnonzero(statistics.trainable)
    best = trainable[np.argsort(-gained[trainable])][: len(trainable) // 2]
    assert set(np.flatnonzero(labels != -100)) == set(best)
    assert [len(row) for row in np.split(labels, statistics.cu_seqlens[1:-1])] == [len(row) for row in IDS]


def test_the_first_label_of_an_example_is_never_trainable(models):
    statistics = tokensieve.measure_tokens(models, IDS, LABELS, "token-cleaning")
    assert not statistics.trainable[statistics.cu_seqlens[:-1]].any()
    assert int(statistics.trainable.sum()) == 8


def test_arrays_and_columns_of_a_data_set_are_taken_too(models):
    import datasets

    data = datasets.Dataset.from_dict({"input_ids": IDS, "labels": LABELS})
    lists = tokensieve.measure_tokens(models, IDS, LABELS, "token-cleaning")
    arrays = tokensieve.measure_tokens(
        models, [np.array(r) for r in IDS], [np.array(r) for r in LABELS], "token-cleaning"
    )
    columns = tokensieve.measure_tokens(models, data["input_ids"], data["labels"], "token-cleaning")
    for other in (arrays, columns):
        assert np.array_equal(other.labels, lists.labels)
        for key, value in lists.values.items():
            assert np.array_equal(other.values[key], value)


def test_turn_ends_are_kept(models):
    method = tokensieve.get_method("token-cleaning", fraction=0.25)
    statistics = tokensieve.measure_tokens(models, IDS, LABELS, method, turn_end_ids=[4])
    assert set(np.flatnonzero(method.select(statistics) == 4)) == {4, 13}


def test_models_go_on_as_they_were(models):
    model = models["base"].train()
    before = model.lm_head.forward
    tokensieve.measure_tokens({"base": model}, IDS, LABELS, "loss")
    assert model.training
    assert model.lm_head.forward == before
    model.eval()


def test_attention_statistics(models):
    method = tokensieve.get_method("sstoken", history="base")
    roles = {role: models["base"] for role, _ in method.needs}
    roles["current"] = models["reference"]
    statistics = tokensieve.measure_tokens(roles, IDS, LABELS, method)
    mass = statistics.values["current", "attention_to_prompt"][statistics.trainable]
    assert ((mass > 0) & (mass <= 1)).all()


@pytest.mark.parametrize(
    ("ids", "labels", "fault"),
    [
        (IDS, LABELS[:2], "3 examples of ids with 2 of labels"),
        ([[5, 6]], [[-100]], "(?s)2 ids with 1 labels.*example 0"),
        ([[5, 6], []], [[-100, 6], []], "(?s)0 ids with 0 labels.*example 1"),
        ([], [], "0 examples"),
        ([[5, 6], [5, 10**6]], [[-100, 6], [-100, 7]], "(?s)token id 1000000 is not in.*role 'base'.*example 1"),
        ([[5] * 200], [[5] * 200], "(?s)200 tokens are beyond the context of 128"),
    ],
)
def test_bad_input(models, ids, labels, fault):
    with pytest.raises(TokensieveError, match=fault):
        tokensieve.measure_tokens(models, ids, labels, "token-cleaning")


def test_roles_and_statistics_that_cannot_be_had(models):
    with pytest.raises(TokensieveError, match="role 'reference', and none is given"):
        tokensieve.measure_tokens({"base": models["base"]}, IDS, LABELS, "token-cleaning")
    with pytest.raises(TokensieveError, match="'relevance', which method 'xtf' needs"):
        tokensieve.measure_tokens(models, IDS, LABELS, "xtf")
