"""Trains again and again in processes that kill themselves at a file operation, and once more to the end.

    python tests/train/killed.py BASE TOKENIZER ROWS FOLDER METHOD STRIDE

Every STRIDE-th operation of the second checkpoint is one to die at, and a few of the first. Prints a line of JSON for
each attempt: where it died, and whether the next one ended with the expected weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from file_operations import watch
from transformers import AutoTokenizer
from transformers.utils import logging
from trl import SFTTrainer

from tokensieve.methods import get_method
from tokensieve.models.settings import ModelSettings
from tokensieve.train import token_selection, trainer
from tokensieve.train.settings import TrainSettings

_ = SFTTrainer, token_selection  # imported before the first fork
SETTINGS = TrainSettings(
    lora=None,
    arguments={
        "learning_rate": 0.1, "lr_scheduler_type": "linear", "optim": "adamw_torch", "max_steps": 5, "save_steps": 2,
        "per_device_train_batch_size": 2, "gradient_checkpointing": False, "report_to": "none",
    },
)  # fmt: skip
STEPS = (2, 4)
"""The steps after which a checkpoint is written."""


class Operations:
    """Counts the file operations of this process from a training step on, and acts before one of them."""

    def __init__(self, step: int, number: int | None, act: Any) -> None:
        self.step, self.number, self.act = step, number, act
        self.count, self.counting = 0, False
        watch(self.saw)

    def saw(self, event: str, _: str) -> None:
        if self.counting and event != "os.fsync":
            self.count += 1
            if self.count == self.number:
                self.counting = False
                self.act()

    def on_step(self, step: int, _: int) -> None:
        self.counting = step == self.step


def train(names: dict[str, Any], output: Path, operations: Any) -> None:
    method = {"none": None, "sstoken": get_method("sstoken", history="ema", ema_decay=0.8)}[names["method"]]
    tokenizer = AutoTokenizer.from_pretrained(names["tokenizer"])
    setup = trainer.TrainingSetup(ModelSettings(names["base"]), tokenizer, SETTINGS, 64, 0, torch.device("cpu"))
    on_step = operations.on_step if operations else lambda *_: None
    trainer.train(setup, [Path(names["rows"])], output, method=method, on_step=on_step)


def forked(names: dict[str, Any], output: Path, log: Path, operations: Any) -> int:
    """Train in a process of its own; return its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 1
    try:
        train(names, output, operations())
        code = 0
    except BaseException:
        log.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def weights(output: Path) -> str:
    return hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    logging.set_verbosity_error()
    names: dict[str, Any] = dict(
        zip(("base", "tokenizer", "rows", "folder", "method", "stride"), sys.argv[1:], strict=True)
    )
    folder = Path(names["folder"])
    counts = folder / "counts.json"

    def counted() -> Any:
        operations = [Operations(step, None, None) for step in STEPS]

        def on_step(step: int, steps: int) -> None:
            for one in operations:
                one.on_step(step, steps)
            if step == steps:  # no operation of a checkpoint is counted then
                counts.write_text(json.dumps([one.count for one in operations]))

        return SimpleNamespace(on_step=on_step)

    log = folder / "log"
    assert forked(names, folder / "whole", log, counted) == 0, log.read_text()
    expected = weights(folder / "whole")
    found = json.loads(counts.read_text())
    assert min(found) > 5, found
    stride = int(names["stride"])
    attempts = [(2, n) for n in range(1, found[0] + 1, 4 * stride)] + [(4, n) for n in range(1, found[1] + 1, stride)]
    for step, number in attempts:
        output = folder / f"{step}-{number}"

        def kill() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        status = forked(names, output, log, lambda s=step, n=number: Operations(s, n, kill))
        again = forked(names, output, log, lambda: None)
        report = {"step": step, "operation": number, "killed": os.WIFSIGNALED(status)}
        print(json.dumps({**report, "same": again == 0 and weights(output) == expected}), flush=True)
    # A full disk: no file can grow any more.
    output = folder / "full"

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    status = forked(names, output, log, lambda: Operations(4, 1, fill))
    failed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1
    left = sorted(path.name for path in output.with_name(".full.checkpoints").glob("checkpoint-*"))
    again = forked(names, output, log, lambda: None)
    same = again == 0 and weights(output) == expected
    print(json.dumps({"full": True, "killed": failed, "left": left, "same": same}), flush=True)


if __name__ == "__main__":
    main()
