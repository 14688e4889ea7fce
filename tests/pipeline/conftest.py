"""A run that takes a second: a tiny model, twelve rows, two optimizer steps, no reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline import training_bench
from tokensieve.pipeline.recipe import load_recipe

WORDS = ["the", "sea", "is", "wide", "and", "cold", "two", "apples", "are", "left", "of", "three", "give", "one", "to"]


def _write_rows(folder: Path) -> Path:
    """Write rows to train on, and rows to evaluate on."""
    generator = np.random.default_rng(0)

    def say() -> str:
        return " ".join(generator.choice(WORDS, generator.integers(4, 9)))

    for name, rows in (("pool", 12), ("held_out", 6)):
        turns = [
            [{"role": "user", "content": say()}, {"role": "assistant", "content": f"{say()}."}] for _ in range(rows)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    return folder


def _arguments(folder: Path, model: Path) -> Callable[..., list[str]]:
    """Return what gives the overrides of a run."""
    return lambda output, *more: [
        f"output={folder / output}",
        f"data.files=[{folder / 'pool.jsonl'}]",
        f"models.base={model}",
        "method=entropy",
        "controls=[full]",
        "train.max_steps=2",
        "train.warmup_steps=0",
        "train.learning_rate=1e-2",
        "train.logging_steps=1",
        "train.per_device_train_batch_size=4",
        "train.gradient_accumulation_steps=1",
        "train.lora.r=2",
        f"evaluate.held_out=[{folder / 'held_out.jsonl'}]",
        *more,
    ]


def _run(arguments: Callable[..., list[str]]) -> Callable[..., Path]:
    return lambda output, *more, until="train": pipeline.run(load_recipe(None, arguments(output, *more)), until)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the folder name of each model whose training begins, in order."""
    begun: list[str] = []
    train = training_bench.train

    def counted(setup, files, output, **given):
        begun.append(output.parent.name)
        return train(setup, files, output, **given)

    monkeypatch.setattr(training_bench, "train", counted)
    return begun


@pytest.fixture
def data(tmp_path) -> Path:
    return _write_rows(tmp_path)


@pytest.fixture
def arguments(data, tiny_model_folder) -> Callable[..., list[str]]:
    return _arguments(data, tiny_model_folder("llama"))


@pytest.fixture
def run(arguments) -> Callable[..., Path]:
    """Return what carries out a run of one's own data and store."""
    return _run(arguments)


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    return _counted(monkeypatch)


@pytest.fixture(scope="module")
def module_arguments(tmp_path_factory, tiny_model_folder) -> Callable[..., list[str]]:
    """Return what gives the overrides of runs that share data and a store, module by module."""
    return _arguments(_write_rows(tmp_path_factory.mktemp("runs")), tiny_model_folder("llama"))


@pytest.fixture(scope="module")
def module_run(module_arguments) -> Callable[..., Path]:
    """Return what carries out runs that share a store, module by module."""
    return _run(module_arguments)


@pytest.fixture(scope="module")
def module_trained() -> Iterator[list[str]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield _counted(monkeypatch)
