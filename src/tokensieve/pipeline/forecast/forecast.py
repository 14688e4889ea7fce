"""`tokensieve plan`: what each stage of a run takes on some hardware, what does not fit, and which engine to take.

The data is tokenised into the store, where a run finds it. Of the models only configurations and tokenizers are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokensieve.models.loading import dtype_of, pick_device
from tokensieve.pipeline.candidates import is_automatic
from tokensieve.pipeline.forecast.estimate import Estimates
from tokensieve.pipeline.forecast.hardware import (
    MEASURING_SHARE,
    THIS,
    TRAINING_SHARE,
    Hardware,
    named_hardware,
    this_machine,
)
from tokensieve.pipeline.forecast.lacks import Lack, disk_lacks, memory_lacks
from tokensieve.pipeline.forecast.rates import SharesOfRate, TimedHere
from tokensieve.pipeline.forecast.work import Stage, Work
from tokensieve.pipeline.inputs import Inputs, prepare_inputs
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import Recipe
from tokensieve.progress import StageProgress
from tokensieve.report.cells import Cell, Column, ResultTable, duration, in_bytes

_OF_ONE_MACHINE = 8
"""Devices that one machine has at most, as a rule."""
_NARROW = 1024
"""Hidden states of fewer numbers keep no GPU busy."""


@dataclass(frozen=True)
class Forecast:
    """What a run takes.

    Attributes:
        hardware: what it runs on.
        stages: in the order of a run.
        lacks: what does not fit.
        engine: value of `engine` to take.
        advice: how to use the devices, in words.
        notes: what is not counted.
        basis: what the times rest on, in words.
    """

    hardware: Hardware
    stages: Sequence[Stage]
    lacks: Sequence[Lack]
    engine: str
    advice: str
    notes: Sequence[str]
    basis: str

    @property
    def total(self) -> Stage:
        """All stages together."""
        work = sum((dataclasses.replace(one.work, seconds=one.seconds) for one in self.stages), Work())
        return Stage("total", "", work, disk=sum(one.disk for one in self.stages))

    def table(self) -> ResultTable:
        """Return one row a stage, and their sum."""
        rows = [*self.stages, self.total]
        columns: Mapping[str, list[str]] = {
            "devices": [str(one.devices) if one.work.flops and one is not rows[-1] else "" for one in rows],
            "tokens": [f"{one.work.tokens:,.0f}" for one in rows],
            "FLOPs": [f"{one.work.flops:.2e}" if one.work.flops else "" for one in rows],
            "time": [duration(one.seconds) if one.seconds else "" for one in rows],
            "memory": [in_bytes(one.work.memory) if one.work.memory else "" for one in rows],
            "disk": [in_bytes(one.disk) if one.disk else "" for one in rows],
        }
        return ResultTable(
            tuple(one.name for one in rows),
            tuple(one.detail for one in rows),
            tuple(Column(title, tuple(map(Cell, cells))) for title, cells in columns.items()),
        )

    @property
    def lines(self) -> Iterator[str]:
        """What stands below the table; the last line says what the times rest on."""
        yield from (one.line for one in self.lacks)
        if not self.lacks:
            yield "everything fits"
        yield f"engine: {self.engine}, {self.advice}"
        yield from (f"not counted: {note}" for note in self.notes)
        yield self.basis

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON: times in seconds, memory and disk in bytes."""
        return {
            "hardware": dataclasses.asdict(self.hardware),
            "stages": [_stage_json(one) for one in self.stages],
            "total": _stage_json(self.total),
            "does_not_fit": [dataclasses.asdict(one) for one in self.lacks],
            "engine": self.engine,
            "advice": self.advice,
            "not_counted": list(self.notes),
            "basis": self.basis,
        }


def forecast(recipe: Recipe, hardware: str, progress: StageProgress) -> Forecast:
    """Estimate what a run takes.

    Args:
        recipe: the settings.
        hardware: such as ``8xH100``, or ``this`` to measure this machine.
        progress: where progress and warnings are shown.

    Raises:
        TokensieveError: unknown hardware, before anything is read; or the first thing that would make the run fail.
    """
    found = None if hardware.strip().lower() == THIS else named_hardware(hardware)
    notes = ["the start of Python and its libraries, loading of models, the page"]
    if is_automatic(recipe):
        fractions = recipe.search.fractions
        notes.append(
            "the search for the fraction, which `tokensieve search RECIPE --dry-run` tells; this is the run after it"
        )
        recipe = dataclasses.replace(recipe, method={**recipe.method, "fraction": fractions[0]})
    if recipe.evaluate.tasks:
        notes.append(f"tasks of lm-evaluation-harness: {', '.join(recipe.evaluate.tasks)}")
        recipe = dataclasses.replace(recipe, evaluate=dataclasses.replace(recipe.evaluate, tasks=()))
    if found is not None:
        recipe = dataclasses.replace(recipe, measure=dataclasses.replace(recipe.measure, device="auto"))
    plan = make_plan(recipe)
    inputs = prepare_inputs(plan, progress, weights=False)
    if found is not None:
        rates: SharesOfRate | TimedHere = SharesOfRate(found)
    else:
        progress.note("times matrix products of this machine, then its models with random weights, a few seconds each")
        found = this_machine(recipe.measure.device, _dtypes(inputs, pick_device(recipe.measure.device).type))
        rates = TimedHere(found, inputs)
    estimates = Estimates(inputs, found, rates)
    if isinstance(rates, SharesOfRate) and estimates.size.hidden < _NARROW:
        notes.append(
            f"the start of kernels, which takes most of the time of a model as narrow as {estimates.size.hidden}"
        )
    stages = list(estimates.stages())
    engine, advice = _engine(found, stages)
    lacks = [*memory_lacks(estimates, found, stages), *disk_lacks(inputs, estimates.size.bytes)]
    return Forecast(found, stages, lacks, engine, advice, notes, _basis(found, rates, _dtypes(inputs, found.kind)))


def _dtypes(inputs: Inputs, kind: str) -> set[str]:
    """Return the names of the precisions that products run in: those of the models, and that of training on a GPU."""
    half = kind == "cuda" or inputs.plan.train.arguments.get("bf16")
    return {*map(dtype_of, inputs.models.values()), *(["bfloat16"] if half else [])}


def _engine(hardware: Hardware, stages: Sequence[Stage]) -> tuple[str, str]:
    """Return the engine to take, and how the devices are used."""
    devices = hardware.devices
    if devices == 1:
        return "local", "in one process, on one device"
    trained = sum(one.seconds for one in stages if one.training is not None)
    training = (
        f"; training in `tokensieve run` uses one device: {duration(trained)} in all, about "
        f"{duration(trained / devices)} if `accelerate launch -m tokensieve train` uses them all"
        if trained
        else ""
    )
    processes = "torchrun, accelerate launch, or --shard I/N on machines that share the store"
    if devices > _OF_ONE_MACHINE:
        return "ray", f"a worker on each of the {devices} devices of a cluster (or processes: {processes}){training}"
    return "local", f"in {devices} processes, one a device ({processes}){training}"


def _basis(hardware: Hardware, rates: SharesOfRate | TimedHere, dtypes: set[str]) -> str:
    shares = f"{MEASURING_SHARE:.0%} for measuring and {TRAINING_SHARE:.0%} for training"
    rate = ", ".join(
        f"{value / 1e12:.3g} TFLOP/s in {name}" for name, value in hardware.rates.items() if name in dtypes
    )
    if isinstance(rates, SharesOfRate):
        return (
            f"basis: {hardware.devices} x {hardware.name}, {rate} by the data sheet, of which stages reach {shares}: "
            "shares that were measured on a CPU"
        )
    if rates.shares:
        return (
            f"basis: this machine multiplies matrices at {rate}; {', '.join(sorted(rates.shares))} is too large for "
            f"short runs, so its stages are taken to reach {shares}"
        )
    return f"basis: short runs of these models with random weights on this machine, which multiplies matrices at {rate}"


def _stage_json(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "detail": stage.detail,
        "devices": stage.devices,
        "tokens": round(stage.work.tokens),
        "flops": stage.work.flops,
        "seconds": stage.seconds,
        "memory": stage.work.memory,
        "disk": stage.disk,
    }
