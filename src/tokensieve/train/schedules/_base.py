"""What a schedule is: how the scoring and the training of an arm take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tokensieve.containers import Role, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Engine
from tokensieve.methods._base import Method
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.rules import Rule
from tokensieve.progress import ProgressCallback
from tokensieve.select.streaming import LoadStatistics, Stage, select_shards
from tokensieve.train.settings import WarmUp
from tokensieve.train.trainer import OnStep, TrainingSetup


@dataclass(frozen=True)
class Intent:
    """What a recipe says, as far as schedules check it.

    Attributes:
        methods: of all arms.
        trains: whether the arms are trained.
        warm_ups: how the model of each role is made; None where it exists already.
    """

    methods: Sequence[Method]
    trains: bool
    warm_ups: Mapping[str, WarmUp | None]


@dataclass(frozen=True)
class Added:
    """The examples of the pool that one round added to the data of a model, the first choice first.

    Attributes:
        examples: their numbers in the pool.
        rows: the numbers of their source rows.
        risks: the highest risk of a trainable token of each, in nats.
    """

    examples: tuple[int, ...]
    rows: tuple[int, ...]
    risks: tuple[float, ...]


class Workbench(Protocol):
    """What a schedule can ask of the run that it is part of."""

    @property
    def examples(self) -> ExampleStore:
        """The pool."""
        ...

    @property
    def training(self) -> TrainingSetup:
        """What every training of the run shares."""
        ...

    @property
    def engine(self) -> Engine:
        """Where work on shards runs."""
        ...

    @property
    def token_budget(self) -> int:
        """Tokens of one batch of measuring at most."""
        ...

    def make_model(self, role: Role, rounds: Sequence[Added] = ()) -> ModelSettings:
        """Fine-tune the base on the warm-up data of a role and on what rounds added to it; once for the same data."""
        ...

    def load_with(self, method: Method, role: Role, model: ModelSettings, label: str) -> LoadStatistics:
        """Measure the pool with a model in a role; return what reads one shard of all that a method needs."""
        ...

    def steps(self, description: str) -> AbstractContextManager[OnStep]:
        """Show the progress of a training."""
        ...

    def free_models(self) -> None:
        """Let go of the models that measuring holds, so that there is room to train."""
        ...

    def stage(self, description: str, total: int | None, unit: str) -> AbstractContextManager[ProgressCallback]:
        """Show the progress of something that takes long."""
        ...

    def timed(self, description: str, skipped: bool) -> AbstractContextManager[None]:
        """Note the seconds of a stage, where it is not skipped."""
        ...

    @property
    def held_out_loss(self) -> Callable[[Any], float] | None:
        """A loaded model to its mean loss on held-out data, in nats; None where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class Job:
    """An arm whose tokens are to be selected.

    Attributes:
        name: of the arm.
        method: what scores, fitted to the data.
        rule: what decides.
        load: reads one shard's statistics of fixed models, turn ends included where they are to be kept.
        specs: the statistics of the model in training that the schedule itself measures, by (role, name).
        rounds: folder of what the schedule leaves behind round by round.
        model: folder of the arm's model.
        training: how the arm is trained, by a schedule that trains.
        workbench: the run.
    """

    name: str
    method: Method
    rule: Rule
    load: LoadStatistics
    specs: Mapping[tuple[str, str], StatisticSpec]
    rounds: Path
    model: Path
    training: TrainingSetup
    workbench: Workbench


class Schedule:
    """How the scoring and the training of an arm take turns. By itself it scores everything first, then trains.

    A schedule of another package is found through the entry points of the group ``tokensieve.schedules``.

    Attributes:
        name: what `Method.schedule` calls it.
        provides: roles whose model is made on the way, so that a recipe gives none.
        trains: whether `train` makes the arm's model, so that what is selected depends on the seed of the training.
    """

    name: ClassVar[str]
    provides: ClassVar[frozenset[Role]] = frozenset()
    trains: ClassVar[bool] = False

    def check(self, method: Method, intent: Intent) -> None:
        """Check what a recipe says, before any data is read.

        Raises:
            TokensieveError: something that the schedule needs is not there.
        """

    def check_examples(self, method: Method, examples: int) -> None:
        """Check the size of the pool, before any model is loaded.

        Raises:
            TokensieveError: too few examples.
        """

    def trainings(self, method: Method, examples: int) -> list[int]:
        """Return of how many examples each training of an arm is made, at most; one of all by itself."""
        del method
        return [examples]

    def refined_role(self, method: Method) -> Role | None:
        """Return the role whose model `refine` makes; None where there is none."""

    def refinements(self, method: Method) -> list[int]:
        """Return how many examples each round of `refine` adds to the data of the model; empty without rounds."""
        del method
        return []

    def refine(self, method: Method, workbench: Workbench) -> ModelSettings:
        """Make the model of `refined_role`."""
        raise NotImplementedError(f"the schedule '{self.name}' refines no model")

    def train(self, job: Job) -> None:
        """Carry out the training that the selection of an arm depends on, as far as it is not done.

        Args:
            job: the arm. Its folders of rounds and model may hold what a killed attempt with the same data, models and
                settings left, and are given to other runs that are made from the same.
        """

    def select(self, job: Job, folder: Path, stage: Stage) -> dict[str, Any]:
        """Write scores and decisions of every token.

        Args:
            job: the arm.
            folder: gets what `select_shards` writes.
            stage: shows progress.

        Returns:
            The counts of `select_shards`.
        """
        bench = job.workbench
        return select_shards(job.method, job.rule, job.load, bench.examples.shards, folder, stage, bench.engine)

    def round_records(self, job: Job) -> list[dict[str, Any]]:
        """Return what each round selected, for the record of the selection; empty without rounds."""
        return []
