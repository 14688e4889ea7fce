"""The ceiling: how much any selection of tokens could gain on data whose bad tokens are marked.

It trains on all tokens, on those that are not marked (the true mask), on as many random ones, on the marked ones alone
(the anti-mask) and, where rows have corrected answers, on these. No selection can be expected to do better than the
true mask.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tokensieve.data.encode import converted_rows
from tokensieve.data.marks import ENOUGH_MARKED, FEW_MARKED
from tokensieve.data.sources import sources_elsewhere
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.evaluate.differences import PairedDifference
from tokensieve.pipeline.dry_run import dry_run
from tokensieve.pipeline.judged import measures_set_up
from tokensieve.pipeline.recipe import Recipe
from tokensieve.pipeline.stages import run
from tokensieve.places import told
from tokensieve.progress import StageProgress
from tokensieve.report.cells import Column, ResultTable, figure_cell, in_unit, signed
from tokensieve.report.difference_table import difference_cell
from tokensieve.report.differences import ComparedRow, Difference, differences
from tokensieve.report.table import kept_cell
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.runs.view import RunView, load_run

ARMS = {"full": "full", "random": "random", "marked": "true mask", "marked-2": "anti-mask"}
"""The arms of the run, and what the table calls them."""
CORRECTED = "corrected answers"
_SEEDS = 3

Verdict = Literal["pays", "as good as full", "cannot pay", "unclear"]


@dataclass(frozen=True)
class Ceiling:
    """What a ceiling came to.

    Attributes:
        measure: name of what the models are judged by, one of `MEASURES`.
        worth: the smallest gain that matters, in the unit of the measure.
        rows: rows of the table: controls, masks, corrected answers.
        against_random: the difference of each other row from random.
        against_full: the difference of each other row from full.
        marked: rows, tokens and words that are marked.
        verdict: what it means, in one word or a few.
        sentence: what it means, in one sentence.
        runs: the run folders.
    """

    measure: str
    worth: float
    rows: Mapping[str, ComparedRow]
    against_random: Mapping[str, Difference]
    against_full: Mapping[str, Difference]
    marked: Mapping[str, int]
    verdict: Verdict
    sentence: str
    runs: tuple[Path, ...]

    def table(self) -> ResultTable:
        """Return the results as a table."""
        measure, names = MEASURES[self.measure], tuple(self.rows)
        rows = [self.rows[name].row for name in names]
        columns = [
            Column("tokens kept", tuple(kept_cell(row) for row in rows)),
            Column(
                measure.title,
                tuple(figure_cell(row.evaluation.results.get(self.measure), in_unit(measure)) for row in rows),
            ),
        ]
        for title, found in (("minus random", self.against_random), ("minus full", self.against_full)):
            cells = (found[name].measures.get(self.measure) if name in found else None for name in names)
            columns.append(Column(title, tuple(difference_cell(one, measure) for one in cells)))
        return ResultTable(names, ("",) * len(names), tuple(columns))

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "measure": self.measure,
            "worth": self.worth,
            "arms": {
                name: {
                    "kept": one.row.selection.kept if one.row.selection else None,
                    "result": asdict(result) if (result := one.row.evaluation.results.get(self.measure)) else None,
                    "against_random": _measured(self.against_random.get(name), self.measure),
                    "against_full": _measured(self.against_full.get(name), self.measure),
                }
                for name, one in self.rows.items()
            },
            "marked": dict(self.marked),
            "verdict": self.verdict,
            "sentence": self.sentence,
            "runs": [str(folder) for folder in self.runs],
        }


def find_ceiling(recipe: Recipe, measure: str | None, worth: float) -> Ceiling:
    """Train and evaluate the masks of a recipe's data, or what of it is not done yet.

    The runs are in ``OUTPUT-ceiling`` and, for corrected answers, ``OUTPUT-corrected``; models are shared through the
    store.

    Args:
        recipe: of the data, the base, the training and the evaluation; its method and controls are not used.
        measure: one of `MEASURES`; the first that the models are measured in when None.
        worth: the smallest gain that matters, in the unit of the measure.

    Raises:
        TokensieveError: nothing to judge by, no training, data without marks, or what a run refuses.
    """
    masks, corrected = ceiling_recipes(recipe, measure, worth)
    folders = [run(masks)]
    if corrected is not None:
        folders.append(run(corrected))
    views = [load_run(folder) for folder in folders]
    return read_ceiling(views[0], views[1] if len(views) > 1 else None, measure, worth)


def ceiling_lines(recipe: Recipe, measure: str | None, worth: float, progress: StageProgress) -> list[str]:
    """Check a recipe, and return what its ceiling would train, line by line.

    Args:
        recipe: as for `find_ceiling`.
        measure: likewise.
        worth: likewise.
        progress: where progress and warnings are shown.

    Raises:
        TokensieveError: the first thing that would make the ceiling fail.
    """
    masks = _mask_recipe(recipe, measure, worth)
    away = sources_elsewhere(recipe.data)
    *lines, checked = dry_run(masks, progress)
    lines.insert(0, f"judged by {measure or measures_set_up(masks.evaluate)[0]}, in {masks.output}")
    trainings = len(ARMS) * len(masks.seeds)
    if away:
        lines.append("corrected answers: trained on where rows have them, which cannot be seen here")
    elif _has_corrected(recipe):
        corrected = _corrected_recipe(recipe, masks)
        *more, _ = dry_run(corrected, progress)
        lines += [f"corrected answers, in {corrected.output}:", *(f"  {line}" for line in more)]
        trainings += len(corrected.seeds)
    return [*lines, f"in all: {trainings} trainings, less those that the store has", checked]


def ceiling_recipes(recipe: Recipe, measure: str | None, worth: float) -> tuple[Recipe, Recipe | None]:
    """Return the recipes of the masks and of the corrected answers; None for the latter where no row has one.

    Raises:
        TokensieveError: nothing to judge by, no training, or a measure that does not exist.
    """
    masks = _mask_recipe(recipe, measure, worth)
    return masks, _corrected_recipe(recipe, masks) if _has_corrected(recipe) else None


def _mask_recipe(recipe: Recipe, measure: str | None, worth: float) -> Recipe:
    if measure is not None and measure not in MEASURES:
        raise TokensieveError(
            f"unknown measure '{measure}'{did_you_mean(measure, MEASURES)}",
            where="--measure",
            hint=f"one of: {', '.join(MEASURES)}",
        )
    if not 0 < worth < math.inf:
        raise TokensieveError(f"worth is {worth}, it must be above 0", where="--worth", hint="--worth 0.02")
    if recipe.train is None:
        raise TokensieveError("a ceiling trains models", where="recipe: train", hint="leave out train: null")
    evaluate = dataclasses.replace(recipe.evaluate, tasks=())
    ready = measures_set_up(evaluate)
    if not ready:
        raise TokensieveError(
            "there is nothing to judge the models by",
            where="recipe: evaluate",
            hint="evaluate: {held_out: FILE} with answers that are good",
        )
    if measure is not None and measure not in ready:
        section = MEASURES[measure].section(measure)
        raise TokensieveError(
            f"the models are to be judged by {measure}, and the recipe has no evaluate.{section}",
            where="--measure",
            hint=f"one of: {', '.join(ready)}",
        )
    seeds = recipe.seeds or tuple(range(recipe.seed, recipe.seed + _SEEDS))
    return dataclasses.replace(
        recipe,
        output=f"{recipe.output}-ceiling",
        method={"name": "marked"},
        controls=({"name": "full"}, {"name": "random"}, {"name": "marked", "keep": "marked"}),
        models={"base": recipe.models["base"]} if "base" in recipe.models else {},
        store=told(recipe.store_folder),
        seed=0,
        seeds=seeds,
        measure=dataclasses.replace(recipe.measure, statistics=()),
        select=dataclasses.replace(recipe.select, threshold=None),
        evaluate=evaluate,
    )


def _corrected_recipe(recipe: Recipe, masks: Recipe) -> Recipe:
    return dataclasses.replace(
        masks,
        output=f"{recipe.output}-corrected",
        data=dataclasses.replace(recipe.data, answers="corrected"),
        method={"name": "full"},
        controls=(),
    )


def read_ceiling(masks: RunView, corrected: RunView | None, measure: str | None, worth: float) -> Ceiling:
    """Read the ceiling from the runs of `ceiling_recipes`.

    Raises:
        TokensieveError: models that were not measured in what they are to be judged by.
    """
    rows = {name: ComparedRow("", masks.row(arm), masks) for arm, name in ARMS.items()}
    if corrected is not None:
        rows[CORRECTED] = ComparedRow("", corrected.row("full"), corrected)
    measured = [name for name in MEASURES if all(name in one.outcomes for one in rows.values())]
    if not measured or (measure is not None and measure not in measured):
        raise TokensieveError(
            f"the models are not measured in {measure or 'anything'} example by example",
            where=str(masks.folder),
            hint=f"--measure: one of {', '.join(measured)}" if measured else "recipe: evaluate.held_out",
        )
    chosen = measure or measured[0]
    found = {
        control: dict(
            zip(
                [name for name in rows if name != control],
                differences([(one, rows[control]) for name, one in rows.items() if name != control]),
                strict=True,
            )
        )
        for control in ("random", "full")
    }
    marked = masks.store.counts.marked
    from_random, from_full = (found[control]["true mask"].measures[chosen] for control in ("random", "full"))
    verdict, sentence = conclude(from_random, from_full, MEASURES[chosen], worth, marked["rows"])
    runs = tuple(view.folder for view in (masks, corrected) if view is not None)
    return Ceiling(chosen, worth, rows, found["random"], found["full"], marked, verdict, sentence, runs)


def conclude(
    against_random: PairedDifference, against_full: PairedDifference, measure: Measure, worth: float, marked_rows: int
) -> tuple[Verdict, str]:
    """Return what the true mask's differences mean, and say so in a sentence.

    Args:
        against_random: the true mask minus as many random tokens.
        against_full: the true mask minus all tokens.
        measure: what they were judged by.
        worth: the smallest gain that matters, in the unit of the measure.
        marked_rows: rows with a mark.
    """
    random = f"{_in_words(against_random, measure)} against random"
    full = f"{_in_words(against_full, measure)} against full"
    seen = f"the smallest effect you could see is {_amount(against_random.detectable, measure)}"
    more = ""
    if marked_rows < FEW_MARKED:
        more = f"; only {marked_rows} rows are marked, and {ENOUGH_MARKED} are enough to try"
    lowest, highest = _gains(against_random, measure)
    if highest < worth and not more:
        return "cannot pay", f"no selection of tokens can pay here: the true mask is {random}; {seen}"
    if lowest > 0 and _gains(against_full, measure)[0] > 0:
        gain = _amount(abs(against_full.value), measure)
        said = f"a selection of tokens can pay here: the true mask is {random} and {full}, so there is {gain} to gain"
        return "pays", f"{said} over training on everything; {seen}{more}"
    if lowest > 0:
        said = f"which tokens are dropped matters here, the true mask is {random}, but it is {full}"
        return "as good as full", f"{said}: training on everything is as good, as far as can be seen; {seen}{more}"
    needed = _examples_needed(against_random, worth)
    said = f"nothing can be concluded yet: the true mask is {random}; {seen}"
    if needed is None:
        said += f", and an effect of {_amount(worth, measure)} takes more than {against_random.seeds} seeds to see"
    elif needed > against_random.examples:
        said += (
            f", and an effect of {_amount(worth, measure)} takes about {needed:,} examples to judge by, in place of "
            f"{against_random.examples:,}"
        )
    return "unclear", said + more


def _examples_needed(found: PairedDifference, worth: float) -> int | None:
    """Return how many examples would show an effect with as many seeds; None where no number would."""
    if not found.detectable:
        return found.examples
    wanted = (worth / found.detectable) ** 2 - found.seed_variance
    return math.ceil(found.examples * (1 - found.seed_variance) / wanted) if wanted > 0 else None


def _gains(found: PairedDifference, measure: Measure) -> tuple[float, float]:
    """Return the ends of the interval of how much better the true mask is."""
    return (-found.high, -found.low) if measure.lower_is_better else (found.low, found.high)


def _in_words(found: PairedDifference, measure: Measure) -> str:
    value, low, high = (signed(one, measure) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _amount(value: float, measure: Measure) -> str:
    return f"{100 * value:.1f} points" if measure.unit == "share" else f"{value:.3f}"


def _measured(found: Difference | None, measure: str) -> dict[str, Any] | None:
    one = found.measures.get(measure) if found is not None else None
    return asdict(one) if one is not None else None


def _has_corrected(recipe: Recipe) -> bool:
    batches = converted_rows(recipe.data, lambda _: None)
    return any(getattr(row, "corrected", None) for batch, _ in batches for _, row in batch)
