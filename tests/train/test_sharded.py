"""Weights that FSDP (`fully_shard`) has sharded over two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.online import load, make_rows, method_of, trainer_for, weights
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.models.head import Head
from tokensieve.train.moving_average import MovingAverage
from tokensieve.train.validation import check_sharding

IDS = torch.arange(2, 26).view(2, 12)
METHODS = {"ema": get_method("sstoken", history="ema", ema_decay=0.5), "eaft": method_of("eaft")}


def whole(value: Any) -> Tensor:
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()


def average_of_two_steps(model: Any, rows: slice) -> dict[str, Tensor]:
    """What the average, the model with it and the model after it are, with two plain steps on some rows."""
    average = MovingAverage(model, 0.75)
    average.start()
    found = {}
    for step in range(2):
        with torch.no_grad(), average.in_place():
            found[f"logits of the average {step}"] = whole(model(IDS).logits)
        found[f"logits of the model {step}"] = whole(model(IDS).logits)
        model(input_ids=IDS[rows], labels=IDS[rows]).loss.backward()
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-0.5)
            p.grad = None
        average.update()
    found |= {f"average of {name}": whole(value) for name, value in average.average.items()}
    state = {name: value.clone() for name, value in average.state().items()}
    average.update()
    average.load(state)
    found |= {f"average again of {name}": whole(value) for name, value in average.average.items()}
    with pytest.raises(TokensieveError, match="no part of this process"):
        average.load({})
    head, out = Head(model).gathered(), torch.empty(3, 10)
    with torch.no_grad():
        found["head"] = whole(head.logits(torch.ones(3, 16), slice(20, 30), out))
    return found


def trained(name: str, model: Any, base: Any, tokenizer: Any, output: str, **arguments: Any) -> Any:
    trainer = trainer_for(base, tokenizer, output, METHODS[name], model=model, max_steps=3, **arguments)
    if arguments:
        # accelerate shards on GPUs alone: the model comes sharded, and is left as it is.
        vars(trainer.accelerator)["prepare_model"] = lambda model, **_: model
    trainer.train()
    return trainer


def main() -> None:
    """Run in each of two processes: `python test_sharded.py BASE TOKENIZER OUTPUT`."""
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoTokenizer

    path, tokenizer, output = sys.argv[1:]
    base = SimpleNamespace(path=path)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()

    def sharded() -> Any:
        model = load(base)
        for layer in model.model.layers:
            fully_shard(layer)
        return fully_shard(model)

    found: dict[str, Any] = {"average": average_of_two_steps(sharded(), slice(rank, rank + 1))}
    for name in METHODS:
        trainer = trained(
            name, sharded(), base, AutoTokenizer.from_pretrained(tokenizer), output, per_device_train_batch_size=4
        )
        assert trainer.accelerator.num_processes == 2
        found[name] = {key: whole(value) for key, value in trainer.model.named_parameters()}
    if rank == 0:
        torch.save(found, f"{output}/found.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def sharded(base, tokenizer, tmp_path_factory) -> dict[str, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("sharded")
    tokenizer.save_pretrained(folder / "tokenizer")
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*command, base.path, str(folder / "tokenizer"), str(folder)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return torch.load(folder / "found.pt", weights_only=True)


def test_the_average_of_shards_is_that_of_the_whole(sharded, base):
    expected = average_of_two_steps(load(base), slice(0, 2))
    assert sharded["average"].keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(sharded["average"][key], value, rtol=1e-4, atol=1e-5, msg=key)
    moved = {key for key, value in expected.items() if "logits" in key and not torch.equal(value, expected[
        key.replace("average", "model")])}  # fmt: skip
    assert moved == {"logits of the average 1"}


@pytest.mark.parametrize("name", METHODS)
def test_a_selection_trains_sharded_weights_as_whole_ones(name, sharded, base, tokenizer, tmp_path):
    one = trained(name, load(base), base, tokenizer, str(tmp_path))
    assert len(make_rows()) == 8
    for key, value in weights(one).items():
        torch.testing.assert_close(sharded[name][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "fsdp", "stage", "says"),
    [
        (METHODS["ema"], 1, None, "not with FSDP 1 or"),
        (METHODS["ema"], None, 3, "or DeepSpeed's ZeRO stage 3"),
        (get_method("uds"), 2, None, "runs parts of the model alone"),
        (get_method("uds"), None, 3, "runs parts of the model alone"),
    ],
)
def test_sharding_that_cannot_work_is_refused(method, fsdp, stage, says):
    with pytest.raises(TokensieveError, match=says):
        check_sharding(method, fsdp, stage)


def test_what_can_be_sharded_follows_from_the_method():
    kinds = ((None, None), (2, None), (None, 2), (1, None), (None, 3), (2, 3))
    taken = {name: [kind for kind in kinds if not refused(method, *kind)] for name, method in METHODS.items()}
    assert taken["ema"] == [(None, None), (2, None), (None, 2)]
    assert taken["eaft"] == list(kinds)
    assert [kind for kind in kinds if not refused(get_method("uds"), *kind)] == [(None, None), (None, 2)]


def refused(method, fsdp, stage) -> bool:
    try:
        check_sharding(method, fsdp, stage)
    except TokensieveError:
        return True
    return False


if __name__ == "__main__":
    main()
