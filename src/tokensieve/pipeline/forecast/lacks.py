"""What of a run does not fit, into the memory of a device or on a disk, and what to do about it."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokensieve.pipeline.disk import bytes_by_folder, room_needed
from tokensieve.pipeline.forecast.estimate import Estimates
from tokensieve.pipeline.forecast.hardware import Hardware
from tokensieve.pipeline.forecast.rates import Training
from tokensieve.pipeline.forecast.work import Stage
from tokensieve.pipeline.inputs import Inputs
from tokensieve.report.cells import in_bytes


@dataclass(frozen=True)
class Lack:
    """Something that does not fit.

    Attributes:
        what: needs too much: stages, or a run.
        need: bytes.
        has: bytes that there are.
        where: of a device, or of a disk.
        hint: what to do.
    """

    what: str
    need: int
    has: int
    where: str
    hint: str

    @property
    def line(self) -> str:
        """What the terminal says of it."""
        need, has = in_bytes(self.need), in_bytes(self.has)
        return f"does not fit: {self.what} needs {need}, {self.where} has room for {has}; {self.hint}"


def memory_lacks(estimates: Estimates, hardware: Hardware, stages: Sequence[Stage]) -> Iterator[Lack]:
    """Yield the stages that need more memory than a device has, those together that need as much."""
    together: dict[tuple[int, str], list[str]] = {}
    for stage in stages:
        if stage.work.memory > hardware.usable:
            hint = _of_training(estimates, hardware, stage) if stage.training else _of_passes(estimates, stage)
            together.setdefault((stage.work.memory, hint), []).append(stage.name)
    device = "a device" if hardware.kind == "cuda" else "this machine"
    for (need, hint), names in together.items():
        yield Lack(", ".join(names), need, hardware.usable, f"{device} with {in_bytes(hardware.memory)}", hint)


def _of_passes(estimates: Estimates, stage: Stage) -> str:
    """Return what to do about a stage that only passes tokens through a model."""
    if estimates.size.bytes > stage.work.memory / 2:
        return "take a device with more memory, or half precision (models.ROLE.dtype: bfloat16) where it is not in use"
    return "lower measure.token_budget or evaluate.batch_size"


def _of_training(estimates: Estimates, hardware: Hardware, stage: Stage) -> str:
    """Return what to do about a training, one measure on top of the other until it fits, and the bytes of each."""
    training = stage.training
    assert training is not None
    ways: list[tuple[str, Training]] = []
    if not training.checkpointing:
        training = dataclasses.replace(training, checkpointing=True)
        ways.append(("train.gradient_checkpointing: true", training))
    if training.settings.lora is None:
        training = estimates.with_lora(training)
        ways.append(("LoRA, train.lora: {}", training))
    if (size := training.batch_size) > 1:
        accumulated = size * training.settings.arguments.get("gradient_accumulation_steps", 1)
        training = dataclasses.replace(training, batch_size=1)
        batch = f"train.per_device_train_batch_size: 1 with gradient_accumulation_steps: {accumulated}"
        ways.append((batch, training))
    told = []
    for words, changed in ways:
        need = estimates.training_memory(changed, stage.longest)
        told.append(f"{words} ({in_bytes(need)})")
        if need <= hardware.usable:
            break
    own = stage.training
    assert own is not None
    states = estimates.training_memory(dataclasses.replace(own, batch_size=0), stage.longest)
    activations = stage.work.memory - states
    fsdp = "FSDP"
    if (left := hardware.usable - activations) > 0:
        fsdp += f" over {math.ceil(states / left)} devices or more"
    sharded = f"{fsdp} (`accelerate launch -m tokensieve train`)"
    return "; or ".join(filter(None, (", then ".join(told) and f"set {', then '.join(told)}", sharded)))


def disk_lacks(inputs: Inputs, weights: int) -> Iterator[Lack]:
    """Yield the disks that cannot hold what a run writes on them; ``weights`` is the bytes of the base."""
    room = room_needed(inputs.plan, inputs.examples, weights)
    for folder, need in bytes_by_folder(inputs.plan, room).items():
        free = shutil.disk_usage(folder).free
        if need > free:
            hint = "free some room, give another output and store, or set select.jsonl: false"
            yield Lack("the run, checkpoints included,", need, free, f"the disk of {folder}", hint)
