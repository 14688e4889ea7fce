from __future__ import annotations

import json
import math
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tokensieve.data import prepare
from tokensieve.engines.local import LOCAL
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.held_out import held_out_loss, held_out_losses, held_out_losses_on
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.settings import ModelSettings


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


class Backwards:
    """An engine that is done with the last shard first."""

    def map(self, make, shards, on_tokens, *, holds_model=True, one_at_a_time=False):
        assert holds_model
        with make() as worker:
            yield from (worker.do(shard, on_tokens) for shard in reversed(shards))


def test_an_engine_gives_the_same_bits_in_any_order(store, make_model, make_store, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_TOKENS", 200)
    path = tmp_path / "other.jsonl"
    path.write_text((tmp_path / "held_out.jsonl").read_text() + '{"prompt": "1 ", "completion": "2"}\n')
    many = make_store(path)
    assert many.shards > 2
    model = make_model("llama")

    @contextmanager
    def use(_):
        yield model

    pool: Any = SimpleNamespace(use=use, device=model.device)
    settings = MeasureSettings(token_budget=300)
    expected = held_out_losses(model, many, 300, lambda _: None)
    for engine in (LOCAL, Backwards()):
        done = []
        found = held_out_losses_on(engine, ModelSettings("m"), many, settings, pool, done.append)
        assert all(np.array_equal(vars(found)[name], vars(expected)[name]) for name in vars(expected))
        assert found.mean() == expected.mean()
        assert sum(done) == many.counts.tokens
