"""The divergence from the base beside the weights."""

from __future__ import annotations

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.train.online import load, make_rows, method_of, trainer_for, weights
from tokensieve.errors import TokensieveError
from tokensieve.train import anchor
from tokensieve.train.anchor import Anchor
from tokensieve.train.validation import check_batches, check_sharding


def log_probabilities(model, ids):
    return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def divergences(theirs, mine):
    """KL(base || current), position by position."""
    found = []
    for p, q in zip(theirs.tolist(), mine.tolist(), strict=True):
        found.append(sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)))
    return torch.tensor(found)


@pytest.mark.parametrize(("given", "size", "steps"), [(True, 8, 1), (True, 2, 4), (False, 8, 1)])
def test_the_step_is_the_gradient_of_dft_and_the_divergence(given, size, steps, base, tokenizer, tmp_path):
    """Also after a first step, where the model has left the base that the trainer copied."""
    method = method_of("asft", strength=0.5)
    models = {"base": load(base, 4)} if given else {}
    trainer = trainer_for(
        base, tokenizer, tmp_path, method, models=models, max_steps=1 if given else 2,
        per_device_train_batch_size=size, gradient_accumulation_steps=steps,
    )  # fmt: skip
    trainer.train()
    by_hand, reference = load(base), load(base, 4) if given else load(base)
    rows = [(row["input_ids"], row["labels"]) for row in make_rows()]  # pyright: ignore[reportArgumentType, reportCallIssue]
    for _ in range(1 if given else 2):
        total, kept = torch.zeros(()), 0
        for ids, labels in rows:
            places = [t for t in range(1, len(ids)) if labels[t] != -100]
            before = [t - 1 for t in places]
            with torch.no_grad():
                theirs = log_probabilities(reference, ids)[before]
            mine = log_probabilities(by_hand, ids)[before]
            log_p = mine.gather(-1, torch.tensor([ids[t] for t in places])[:, None])[:, 0]
            divergence = (theirs.exp() * (theirs - mine)).sum(-1)
            total = total - (log_p.detach().exp() * log_p).sum() + 0.5 * divergence.sum()
            kept += len(places)
        by_hand.zero_grad()
        (total / kept).backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                parameter -= 0.1 * parameter.grad
    trained = weights(trainer)
    for key, parameter in by_hand.named_parameters():
        torch.testing.assert_close(trained[key], parameter.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 1024])
def test_the_base_of_an_adapter_is_the_model_without_it(rows, base, monkeypatch):
    monkeypatch.setattr(anchor, "_ROWS", rows)
    plain = load(base)
    adapted = get_peft_model(load(base), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.train()
    ids = [5, 9, 8, 7, 4, 3]
    measured = Anchor(adapted, None)
    with measured.record() as states:
        adapted(torch.tensor([ids]))
    places = torch.tensor([1, 3, 4, 5])
    found = measured.divergence(states[0], {"input_ids": torch.tensor([ids])}, places)
    assert adapted.training
    with torch.no_grad():
        expected = divergences(log_probabilities(plain, ids)[places - 1], log_probabilities(adapted, ids)[places - 1])
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-6)
    assert found.min() > 0
    found.sum().backward()
    moved = {name for name, p in adapted.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved
    assert all("lora_" in name for name in moved)


def test_strength_0_is_dft(base, tokenizer, tmp_path):
    trained = []
    for name, parameters in (("dft", {}), ("asft", {"strength": 0.0})):
        trainer = trainer_for(base, tokenizer, tmp_path / name, method_of(name, **parameters))
        trainer.train()
        trained.append(weights(trainer))
    assert all(torch.equal(a, b) for a, b in zip(*(one.values() for one in trained), strict=True))


def test_sharded_weights_and_packed_rows_are_refused():
    for fsdp, zero in ((2, None), (1, None), (None, 3)):
        with pytest.raises(TokensieveError, match="compares with the base in every step"):
            check_sharding(method_of("asft"), fsdp, zero)
    check_sharding(method_of("asft"), None, 2)
    with pytest.raises(TokensieveError):
        check_batches(method_of("asft"), 4, True, (), "recipe: train.")
