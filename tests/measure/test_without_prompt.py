"""The loss of a token where its answer stands alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import tokensieve
from tokensieve.containers import IGNORE_INDEX, StatisticSpec
from tokensieve.engines.local import Local
from tokensieve.measure.forward import Forward, answers_alone
from tokensieve.measure.measure import measure
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings

LENGTHS = [2, 3, 90, 17, 2, 64, 31]
ALONE, LOSS = StatisticSpec("loss_without_prompt"), StatisticSpec("loss")


def one_by_one(model, ids, labels) -> list[float]:
    """Each answer by itself, through the model's own logits; 0 where a token is not trainable."""
    losses, start = [0.0] * len(ids), None
    for t in range(1, len(ids) + 1):
        inside = t < len(ids) and labels[t] != IGNORE_INDEX
        if inside and start is None:
            start = t
        if not inside and start is not None:
            row = torch.tensor([[int(ids[0]), *(int(token) for token in ids[start:t])]])
            with torch.no_grad():
                log_p = model(row).logits[0, :-1].double().log_softmax(-1)
            losses[start:t] = (-log_p.gather(-1, row[0, 1:, None])[:, 0]).tolist()
            start = None
    return losses


def test_answers_are_cut_at_every_gap():
    sequences = [np.arange(10, 20, dtype=np.int32), np.arange(30, 33, dtype=np.int32)]
    answers, numbers = answers_alone(sequences, [np.array([1, 2, 5, 8, 9]), np.array([2])])
    assert [answer.tolist() for answer in answers] == [[10, 11, 12], [10, 15], [10, 18, 19], [30, 32]]
    assert numbers == [[0, 1, 2], [3]]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt_neox"])
@pytest.mark.parametrize("budget", [1, 512])
def test_equals_a_pass_over_each_answer(architecture, budget, example_store, model_folder, tmp_path):
    examples, folder = example_store(LENGTHS, shards=2), model_folder(architecture)
    settings = MeasureSettings(token_budget=budget)
    counted = []
    measurement = measure(
        examples, ModelSettings(str(folder)), [ALONE, LOSS], settings, tmp_path / "store", ModelPool("cpu"), Local(),
        counted.append,
    )  # fmt: skip
    assert sum(counted) == sum(LENGTHS)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for number in range(2):
        shard = examples.read(number)
        found, usual = (measurement.read(spec, number) for spec in (ALONE, LOSS))
        for a, b in zip(shard.cu_seqlens, shard.cu_seqlens[1:], strict=False):
            expected = one_by_one(model, shard.input_ids[a:b], shard.labels[a:b])
            np.testing.assert_allclose(found[a:b], expected, rtol=1e-4, atol=1e-4)
        assert not np.allclose(found, usual, atol=0.1)


def test_an_answer_behind_the_first_token_alone_has_its_usual_loss(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama")).eval()
    ids = np.array([7, 5, 9, 4], dtype=np.int32)
    with Forward(model, [LOSS, ALONE]) as forward:
        (found,) = forward.statistics([ids], [np.array([1, 2, 3])])
    np.testing.assert_allclose(found["loss_without_prompt"], found["loss"], rtol=1e-6)


def test_beside_attention_and_by_itself(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama")).eval()
    ids, targets = [np.arange(3, 15, dtype=np.int32)], [np.array([4, 5, 6, 9, 10])]
    with Forward(model, [StatisticSpec("attention_to_prompt"), ALONE]) as forward:
        (both,) = forward.statistics(ids, targets)
    with Forward(model, [ALONE]) as forward:
        (alone,) = forward.statistics(ids, targets)
    with Forward(model, [StatisticSpec("attention_to_prompt")]) as forward:
        (attention,) = forward.statistics(ids, targets)
    assert alone.keys() == {"loss_without_prompt"}
    np.testing.assert_allclose(both["loss_without_prompt"], alone["loss_without_prompt"], rtol=1e-5)
    np.testing.assert_array_equal(both["attention_to_prompt"], attention["attention_to_prompt"])


def test_from_plain_arrays(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama")).eval()
    ids, labels = [[5, 9, 8, 7, 4, 3]], [[-100, -100, 8, 7, -100, 3]]
    statistics = tokensieve.measure_tokens({"base": model}, ids, labels, "t-shirt")
    expected = one_by_one(model, ids[0], labels[0])
    np.testing.assert_allclose(statistics.values["base", "loss_without_prompt"], expected, rtol=1e-4, atol=1e-5)
