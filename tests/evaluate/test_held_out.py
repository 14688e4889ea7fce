from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tokensieve.errors import TokensieveError
from tokensieve.evaluate.held_out import held_out_loss


@pytest.fixture
def store(tmp_path, make_store):
    rows = [{"prompt": f"{n} plus {n * n}: ", "completion": f"{n + n * n}{' and so on' * (n % 4)}"} for n in range(24)]
    path = tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_store(path)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_equals_the_mean_cross_entropy_of_a_plain_forward(name, store, make_model):
    model = make_model(name)
    total, tokens = 0.0, 0
    for shard in store:
        for start, stop in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True):
            ids = torch.tensor(shard.input_ids[start:stop], dtype=torch.long)
            labels = torch.tensor(shard.labels[start:stop], dtype=torch.long)
            logits = model(input_ids=ids[None]).logits[0, :-1]
            total += cross_entropy(logits, labels[1:], reduction="sum").item()
            tokens += int((labels != -100).sum())
    done = []
    found = held_out_loss(model, store, 300, done.append)
    assert found.loss == pytest.approx(total / tokens, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert (found.tokens, found.examples) == (tokens, 24)
    assert found.low < found.loss < found.high
    assert sum(done) == store.counts.tokens


def test_does_not_depend_on_the_batches(store, make_model):
    model = make_model("llama")
    one, many = (held_out_loss(model, store, budget, lambda _: None) for budget in (1, 10**6))
    assert one.loss == pytest.approx(many.loss, rel=1e-6)


def test_a_model_that_diverged_gives_finite_json(store, make_model):
    model = make_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1e4)
    found = held_out_loss(model, store, 10**6, lambda _: None)
    assert found.loss > 1000
    assert math.isfinite(found.perplexity)


def test_refuses_losses_that_are_not_numbers(store, make_model):
    model = make_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(np.nan)
    with pytest.raises(TokensieveError, match="held-out loss"):
        held_out_loss(model, store, 10**6, lambda _: None)
