"""The memory that `tokensieve plan` gives for a training, against the peak of a process that trains.

    python benchmarks/speed/plan_memory.py

Two steps of 8 rows of 512 tokens, a Llama of 15M parameters with random weights and a vocabulary of 32,000, on the CPU.
The baseline is the resident memory before the model is made; the ratio is the estimated over the measured bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from harness import Row, finish, parser
from measure import SHAPE_15M
from transformers import AutoTokenizer, LlamaConfig, TrainerCallback

import tokensieve.demo
from tokensieve.cli.common import quiet
from tokensieve.models.loading import random_model
from tokensieve.models.settings import ModelSettings
from tokensieve.models.size import model_size
from tokensieve.pipeline.forecast.memory import training_bytes
from tokensieve.train.adapter import adapter_parameters
from tokensieve.train.settings import DEFAULT_ARGUMENTS, LoraSettings, TrainSettings
from tokensieve.train.trainer import TrainingSetup, make_trainer

TOKENIZER = Path(tokensieve.demo.__file__).parent / "model"
ROWS, LENGTH = 8, 512


def resident() -> int:
    """Return the resident bytes of this process; Linux alone has the file."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def trained(lora: LoraSettings | None, checkpointing: bool) -> tuple[int, int]:
    """Return estimated and measured bytes of a training in this process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        LlamaConfig(**SHAPE_15M).save_pretrained(str(folder))
        rows = [list(range(3, 3 + LENGTH))] * (2 * ROWS)
        pyarrow.parquet.write_table(pyarrow.table({"input_ids": rows, "labels": rows}), folder / "rows.parquet")
        steps = {"per_device_train_batch_size": ROWS, "gradient_accumulation_steps": 1, "max_steps": 2}
        other = {"warmup_steps": 0, "gradient_checkpointing": checkpointing, "save_strategy": "no"}
        settings = TrainSettings(lora, False, {**DEFAULT_ARGUMENTS, **steps, **other})
        base, device = ModelSettings(str(folder)), torch.device("cpu")
        setup = TrainingSetup(base, AutoTokenizer.from_pretrained(TOKENIZER), settings, 2048, 0, device)
        adapter = adapter_parameters(base, lora)
        estimated = training_bytes(model_size(base), ROWS * LENGTH, lora, adapter, checkpointing, False, "cpu")
        before = resident()
        model = random_model(base, device).requires_grad_(True)
        files, output = [folder / "rows.parquet"], folder / "out"
        make_trainer(model, setup, files, output, TrainerCallback(), adapt=True).train()
    # Kibibytes on Linux.
    return estimated, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def rows(runs: int) -> list[Row]:
    """Measure each way to train in processes of their own."""
    found = []
    for lora, checkpointing in itertools.product((False, True), (False, True)):
        command = [sys.executable, __file__, "--one", json.dumps([lora, checkpointing])]
        pairs = [json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(runs)]
        name = f"{'LoRA' if lora else 'all weights'}{', gradient checkpointing' if checkpointing else ''}"
        ratio = tuple(estimated / measured for estimated, measured in pairs)
        detail = f"{pairs[0][0] / 1e9:.2f} GB estimated, {pairs[0][1] / 1e9:.2f} GB measured"
        found.append(Row(f"training memory, {name}", "the process", "0.75 to 1.25", ratio, detail))
    return found


if __name__ == "__main__":
    quiet()
    arguments: argparse.ArgumentParser = parser(__doc__)
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        lora, checkpointing = json.loads(given.one)
        print(json.dumps(trained(LoraSettings() if lora else None, checkpointing)))
    else:
        finish(rows(given.runs), given.rows)
