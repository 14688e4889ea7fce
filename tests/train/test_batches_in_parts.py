"""A batch that does not fit into memory is trained in parts, and the model is the one that it would have been."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaModel

from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.store.atomic import read_json
from tokensieve.train.halving import HalvingSFTTrainer
from tokensieve.train.settings import TrainSettings
from tokensieve.train.trainer import TrainingSetup, train

ARGUMENTS = {
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "max_steps": 3,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "report_to": "none",
}
ERRORS = {
    "device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "machine": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


class Backward(torch.autograd.Function):
    """Passes activations on, and raises an error on the way back."""

    @staticmethod
    def forward(context, hidden, error):
        context.error = error
        return hidden.clone()

    @staticmethod
    def backward(context, *_):
        raise context.error


@pytest.fixture
def trained(base, rows, tokenizer, tmp_path):
    """Return a function that trains with so many examples a batch and batches a step, and gives weights and record."""

    def run(name: str, size: int, steps: int, method: str | None = None, **arguments):
        given = {**ARGUMENTS, "per_device_train_batch_size": size, "gradient_accumulation_steps": steps, **arguments}
        settings = TrainSettings(lora=None, arguments=given)
        setup = TrainingSetup(base, tokenizer, settings, 64, 0, torch.device("cpu"))
        chosen = None if method is None else get_method(method)
        model = train(setup, [rows], tmp_path / name, on_step=lambda *_: None, method=chosen)
        record = read_json(Path(model.path) / "training.json")
        return dict(AutoModelForCausalLM.from_pretrained(model.path).named_parameters()), record

    return run


@pytest.fixture
def limited(monkeypatch):
    """Return a function that has passes of the model fail from so many tokens on, padding included."""
    forward = LlamaModel.forward

    def limit(tokens: int, error: Exception, *, backwards: bool = False) -> list[tuple[int, ...]]:
        shapes = []

        def fail(self, input_ids, **keywords):
            shapes.append(tuple(input_ids.shape))
            if input_ids.numel() < tokens:
                return forward(self, input_ids=input_ids, **keywords)
            if not backwards:
                raise error
            outputs = forward(self, input_ids=input_ids, **keywords)
            outputs.last_hidden_state = Backward.apply(outputs.last_hidden_state, error)
            return outputs

        monkeypatch.setattr(LlamaModel, "forward", fail)
        return shapes

    return limit


@pytest.mark.parametrize(
    ("size", "steps", "error", "backwards"),
    [(8, 1, "device", False), (8, 1, "machine", True), (4, 2, "device", True), (4, 2, "python", False)],
)
def test_parts_give_the_steps_of_whole_batches(trained, limited, size, steps, error, backwards):
    expected, whole = trained("whole", size, steps)
    shapes = limited(100, ERRORS[error], backwards=backwards)
    with pytest.warns(UserWarning, match="does not fit into memory and is trained in parts of") as warned:
        found, record = trained("parts", size, steps)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    assert record["metrics"]["train_loss"] == pytest.approx(whole["metrics"]["train_loss"], rel=1e-5)
    tokens = [[line.get("num_tokens") for line in one["log"]] for one in (whole, record)]
    assert tokens[0] == tokens[1]
    failed = [shape for shape in shapes if shape[0] * shape[1] >= 100]
    assert len(failed) == sum("trained in parts of" in str(one.message) for one in warned)
    assert max(map(shapes.index, failed)) < 5, "what fits is remembered"


def test_an_example_that_does_not_fit_alone_is_named(trained, limited):
    limited(60, torch.OutOfMemoryError())
    with (
        pytest.warns(UserWarning, match="in parts of"),
        pytest.raises(TokensieveError, match="row 7 of the training data, with 60 tokens, does not fit into memory"),
    ):
        trained("a", 8, 1)


@pytest.mark.parametrize(("method", "arguments"), [("dft", {}), (None, {"packing": True})], ids=["method", "packed"])
def test_what_cannot_be_divided_is_an_error_that_says_how_to_go_on(trained, limited, method, arguments):
    limited(100, torch.OutOfMemoryError())
    with pytest.raises(TokensieveError, match=r"(?s)a batch does not fit into memory.*per_device_train_batch_size"):
        trained("a", 8, 1, method, **arguments)


def test_other_errors_stay_what_they_are(trained, limited):
    limited(1, RuntimeError("no bug of memory"))
    with pytest.raises(RuntimeError, match="no bug of memory"):
        trained("a", 8, 1)


@pytest.mark.parametrize(
    ("processes", "gpus", "divides"), [(1, 0, True), (1, 1, True), (1, 2, False), (2, 0, False), (2, 1, False)]
)
def test_batches_of_several_processes_stay_whole(processes, gpus, divides):
    """Each has to take as many passes as the others, or they wait for each other for good."""
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=processes), args=SimpleNamespace(n_gpu=gpus), aux_loss_enabled=False
    )
    batch = dict.fromkeys(("input_ids", "labels", "attention_mask"), torch.ones(2, 3))
    assert HalvingSFTTrainer._divides(trainer, batch, 6) is divides  # type: ignore[arg-type]
