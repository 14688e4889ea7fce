"""What each arm of a run selects, and the data that it trains on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method, package_of
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Rule, TopCount, TopExamples, TopFraction
from tokensieve.pipeline.loader import Loader
from tokensieve.pipeline.plan import Arm
from tokensieve.pipeline.recipe import recipe_values
from tokensieve.pipeline.workbench import RunWorkbench
from tokensieve.progress import ProgressCallback
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.card import cleaned_card
from tokensieve.select.cleaned import write_cleaned, write_training
from tokensieve.select.corpus import EngineCorpus
from tokensieve.select.marked_tokens import marked_tokens
from tokensieve.select.selection import Selection, SelectionIdentity
from tokensieve.select.streaming import MODELS_DIFFER, read_selection, refuse_ties
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, write_text
from tokensieve.store.manifest import is_complete
from tokensieve.train.schedules._base import Job

_CHANGED = "the data, a model, or the libraries that made one changed since: give another output"


@dataclass(frozen=True, eq=False)
class ArmSelection:
    """The selection of one arm, as it is to be made.

    An arm that selects while the model trains is shown as it would select before the first step, with the base in the
    place of the model in training; its training data holds every token.

    Attributes:
        arm: which arm.
        folder: of the arm.
        bench: models and statistics of the run.
        kept: tokens that the recipe's method kept; None for that method itself.
        seed: of the training that the selection of a schedule depends on.
    """

    arm: Arm
    folder: ArmFolder
    bench: RunWorkbench
    kept: int | None
    seed: int

    @property
    def identity(self) -> SelectionIdentity:
        """What the selection is made from."""
        arm, recipe = self.arm, self.bench.plan.recipe
        _, rule = self._before_training()
        return SelectionIdentity(
            data=self.bench.examples.fingerprint,
            cut=self.bench.examples.cut,
            method=arm.method.name,
            parameters=fingerprint.jsonable(dataclasses.asdict(arm.method)),
            rule=SelectionIdentity.rule_fields(rule),
            online=arm.online,
            keep_turn_end=recipe.select.keep_turn_end,
            statistics=self.bench.loader(arm).identities(),
            package=package_of(arm.method.name),
        )

    def check(self) -> Selection | None:
        """Return the selection that is there, or None.

        Raises:
            TokensieveError: it is one of other data, models or settings.
        """
        if not self.folder.selected:
            return None
        selection = self.folder.selection()
        selection.check_same(self.identity, where=self.folder.selection_file, hint=_CHANGED)
        return selection

    def make(self) -> Selection:
        """Score and select tokens, and write the cleaned data; or read what an earlier call selected.

        Raises:
            TokensieveError: a selection of other data, models or settings is there.
        """
        arm, bench, folder = self.arm, self.bench, self.folder
        found = self.check()
        method, rule = self._before_training()
        loader = bench.loader(arm)
        job = self._job(method, rule, loader)
        if arm.schedule.trains:
            bench.trainings.train_rounds(arm.schedule, job, self.identity, found is not None)
        parts = (folder.scores, folder.cleaned, *((folder.training,) if arm.selects_in_training else ()))
        if found is not None and all(map(is_complete, parts)):
            return found
        method = method.fit(EngineCorpus(loader.read, bench.examples.shards, bench.engine))
        job = dataclasses.replace(job, method=method)
        examples = bench.examples

        def stage(what: str) -> AbstractContextManager[ProgressCallback]:
            return bench.stage(f"{what} {arm.name}", examples.counts.trainable_tokens, "tokens")

        with atomic_folder(folder.scores) as scores:
            counts = arm.schedule.select(job, scores, stage)
            # Before the first step the model in training is its own history: only afterwards its scores differ.
            grows = arm.online and any(role == "history" for role, _ in method.needs)
            dropped = counts["trainable"] - counts["kept"]
            tie = counts["scores_tie"] and not grows
            refuse_ties(arm.name, rule, tie, dropped, "recipe: method", MODELS_DIFFER)
        selection = Selection(
            self.identity,
            **counts,
            examples_written=0,
            source_rows=examples.counts.rows,
            share_reason=arm.share,
            as_many_as=arm.as_many_as,
            fitted=fingerprint.jsonable(dataclasses.asdict(method)) if method != arm.method else None,
            reasons=method.reason_names,
            rounds=arm.schedule.round_records(job),
        )
        if (marks := marked_tokens(examples, folder.scores)) is not None:
            selection = dataclasses.replace(selection, marks=dataclasses.asdict(marks))
        with atomic_folder(folder.cleaned) as cleaned, bench.stage(f"write {arm.name}", None, "examples") as advance:
            jsonl = bench.plan.recipe.select.jsonl
            written = write_cleaned(examples, folder.scores, cleaned, jsonl=jsonl, engine=bench.engine)
            selection = dataclasses.replace(selection, examples_written=written)
            write_text(cleaned / "README.md", cleaned_card(recipe_values(bench.plan.recipe), selection))
            advance(written)
        if arm.selects_in_training:
            with atomic_folder(folder.training) as training:
                columns = _TrainingColumns(method, arm.online, loader, folder.scores)
                write_training(examples, columns, training, bench.engine)
        selection.write(folder.selection_file)
        return folder.selection()

    def _job(self, method: Method, rule: Rule, loader: Loader) -> Job:
        measured_on_the_way = {
            (role, name): method.spec(name) for role, name in sorted(method.needs) if role in self.arm.schedule.provides
        }
        return Job(
            self.arm.name,
            method,
            rule,
            loader.read,
            measured_on_the_way,
            self.folder.rounds,
            self.folder.model,
            dataclasses.replace(self.bench.training, seed=self.seed),
            self.bench,
        )

    def _before_training(self) -> tuple[Method, Rule]:
        """Return how the arm is shown before training: by its own method and rule, as far as these need no batch."""
        rule = self.arm.rule or self._as_many()
        if not self.arm.online:
            return self.arm.method, rule
        if isinstance(rule, TopExamples):
            return get_method("full"), TopFraction(1.0)
        if isinstance(rule, TopFraction) and rule.scope == "batch":
            return self.arm.method, dataclasses.replace(rule, scope="dataset")
        return self.arm.method, rule

    def _as_many(self) -> Rule:
        """Return the rule that keeps as many tokens as the recipe's method."""
        assert self.kept is not None
        return TopCount(self.kept)


@dataclass(frozen=True)
class _TrainingColumns:
    """The per-token columns of a shard that the trainer needs beside ids and labels.

    Attributes:
        method: of the arm, fitted.
        online: whether it selects or weights as the model trains.
        loader: reads its statistics.
        scores: folder of its decisions.
    """

    method: Method
    online: bool
    loader: Loader
    scores: Path

    def __call__(self, number: int) -> dict[str, NDArray[Any]]:
        statistics, _ = self.loader.read(number)
        if self.online:
            return {f"{role}.{name}": value for (role, name), value in statistics.values.items() if role != "current"}
        _, kept = read_selection(self.scores, number)
        columns: dict[str, NDArray[Any]] = {"kept": kept.astype("int8")}
        if self.method.online:  # measured with a fixed model: nothing changes during the training
            return {**columns, "weights": self.method.weights(statistics, kept, 0.0)}
        return {**columns, **{f"{role}.{name}": value for (role, name), value in statistics.values.items()}}


@dataclass(frozen=True)
class Training:
    """One model of a run: an arm that is trained with one seed.

    Attributes:
        name: of the arm, with the seed where it is not the first.
        folder: gets model and evaluation.
        data: folder of what it is trained on.
        method: selects or weights tokens as the model trains; None where the labels say everything.
        seed: of the training.
    """

    name: str
    folder: ArmFolder
    data: Path
    method: Method | None
    seed: int


def replicates(name: str, folder: ArmFolder, seeds: Sequence[int]) -> Iterator[tuple[str, ArmFolder, int]]:
    """Yield name, folder and seed of an arm for each seed: the first has the arm's own folder, others one within it."""
    for place, seed in enumerate(seeds):
        yield (f"{name}, seed {seed}", folder.replicate(seed), seed) if place else (name, folder, seed)


def trainings(arm: Arm, folder: ArmFolder, seeds: Sequence[int]) -> Iterator[Training]:
    """Yield the models of an arm, one a seed."""
    for name, own, seed in replicates(arm.name, folder, seeds):
        selected = own if arm.by_seed else folder
        data = selected.training if arm.selects_in_training else selected.cleaned
        yield Training(name, own, data, _training_method(arm), seed)


def imported_trainings(folder: ArmFolder, seeds: Sequence[int]) -> Iterator[Training]:
    """Yield the models of an imported arm, one a seed."""
    for name, own, seed in replicates(folder.name, folder, seeds):
        yield Training(name, own, folder.cleaned, None, seed)


def _training_method(arm: Arm) -> Method | None:
    """Return what the trainer of an arm selects or weights with; None where the labels say everything.

    Where the weights are in the data already, it is `full`.

    Raises:
        TokensieveError: the method adds to the loss what no weights in the data say.
    """
    if not arm.selects_in_training:
        return None
    if arm.method.anchor and not arm.online:
        raise TokensieveError(
            f"method '{arm.method.name}' holds what trains near the base, and models.current is a fixed model",
            where="recipe: models.current",
            hint="leave models.current out, or train with the method dft",
        )
    return get_method("full") if arm.method.online and not arm.online else arm.method
