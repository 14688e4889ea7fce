"""Rows, models and trainers for tests of the selection in training."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig

from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.train.token_selection import TokenSelectionTrainer

LENGTHS = [3, 40, 7, 22, 5, 31, 12, 60]


def make_rows(lengths=tuple(LENGTHS), seed=0) -> Dataset:
    """Examples of very different lengths and shares of trainable tokens, one of them with a single one."""
    generator = np.random.default_rng(seed)
    ids = [generator.integers(2, 32, length) for length in lengths]
    labels = []
    for row, share in zip(ids, np.linspace(0.1, 0.9, len(lengths)), strict=True):
        mask = generator.random(len(row)) < share
        mask[0], mask[-1] = False, True
        labels.append(np.where(mask, row, -100))
    return Dataset.from_dict({"input_ids": [i.tolist() for i in ids], "labels": [i.tolist() for i in labels]})


def method_of(name: str, **parameters: Any) -> Method:
    defaults = {"rho-1": {"current": "current"}, "profit": {"probability": 0.03}, "psft": {"history": "base"}}
    return get_method(name, **{**defaults.get(name, {}), **parameters})


def load(base, seed: int | None = None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base.path)
    if seed is not None:
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for p in model.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


class Watched(TokenSelectionTrainer):
    """Keeps what was decided of each micro-batch."""

    def _weights(self, statistics, batch, columns, selected):
        weights, selected = super()._weights(statistics, batch, columns, selected)
        self.seen = [*getattr(self, "seen", []), (statistics, selected.decided, weights)]
        return weights, selected


def trainer_for(base, tokenizer, output, method, data=None, models=None, model=None, **arguments) -> Watched:
    settings: dict[str, Any] = {
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        "gradient_checkpointing": False,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "max_length": 64,
        "dataloader_pin_memory": False,
    }
    further = {name: arguments.pop(name) for name in ("peft_config", "compute_loss_func") if name in arguments}
    return Watched(
        load(base) if model is None else model,
        SFTConfig(output_dir=str(output), **{**settings, **arguments}),
        method=method,
        models=models or {"reference": load(base, 1)},
        train_dataset=make_rows() if data is None else data,
        processing_class=tokenizer,
        **further,
    )


def decisions(trainer: Watched) -> dict[tuple[int, ...], list[bool]]:
    """Which tokens were kept of each example that was trained on, by its labels."""
    return {
        tuple(statistics.labels[a:b].tolist()): kept[a:b].tolist()
        for statistics, kept, _ in trainer.seen
        for a, b in itertools.pairwise(statistics.cu_seqlens)
    }


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
