"""What a search has done so far, as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokensieve.data.marks import ENOUGH_MARKED, FEW_MARKED
from tokensieve.evaluate.differences import PairedDifference
from tokensieve.search.halving import Candidate, Rung, SearchPlan
from tokensieve.search.search import Ceiling, Entry, SearchResult


@dataclass(frozen=True)
class SearchReport:
    """A search, as far as it has got.

    Attributes:
        made_from: what its results depend on, as JSON values.
        plan: what it trains.
        left_out: candidates that the budget does not pay for.
        measure: title of what decides.
        unit: ``nats`` or ``share``.
        choosing: held-out rows that the rungs see.
        confirming: held-out rows that confirm the winner.
        steps: optimizer steps of the training that the recipe asks for.
        choices: the recipe's spelling of each method, without a fraction, by its label.
        marked: rows of the data that are marked, and all of them; None without marks.
        entries: the table so far.
        result: what it found; None until it ends.
    """

    made_from: Mapping[str, Any]
    plan: SearchPlan
    left_out: tuple[Candidate, ...]
    measure: str
    unit: str
    choosing: int
    confirming: int
    steps: int
    choices: Mapping[str, Mapping[str, Any]]
    marked: tuple[int, int] | None = None
    entries: tuple[Entry, ...] = ()
    result: SearchResult | None = None

    @property
    def method(self) -> dict[str, Any] | None:
        """The `method` of a recipe with the winner, recommended or not; None until the search ends."""
        if self.result is None:
            return None
        winner = self.result.winner
        return {**self.choices[winner.method], **({} if winner.fraction is None else {"fraction": winner.fraction})}

    @property
    def recipe_lines(self) -> dict[str, Any]:
        """The lines of a recipe that follow from the answer, as values; empty until the search ends."""
        if self.result is None:
            return {}
        return {"method": self.method if self.result.recommended else {"name": "full"}}

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for JSON; it holds no time, so a search that was interrupted gives the same."""
        result = self.result
        return {
            "made_from": self.made_from,
            "plan": asdict(self.plan) | {"trainings": self.plan.trainings},
            "left_out": [asdict(one) for one in self.left_out],
            "measure": self.measure,
            "rows": {"choosing": self.choosing, "confirming": self.confirming},
            "marked": self.marked and {"rows": self.marked[0], "of": self.marked[1]},
            "table": [asdict(one) for one in self.entries],
            "result": result
            and {
                "winner": asdict(result.winner),
                "recommended": result.recommended and asdict(result.recommended),
                "confirmation": result.confirmation
                and asdict(result.confirmation) | {"detectable": result.confirmation.detectable},
                "ceiling": result.ceiling and asdict(result.ceiling),
                "recipe": self.recipe_lines,
                "sentence": self.sentence,
                "notes": self.notes,
            },
        }

    @property
    def sentence(self) -> str:
        """The answer in a sentence; empty until the search ends."""
        result = self.result
        if result is None:
            return ""
        winner = result.winner.name
        if result.confirmation is None:
            return (
                f"Train on everything: no candidate was better than both full and as many random tokens in the last "
                f"rung; {winner} was the best of them."
            )
        found = result.confirmation
        against = (
            f"{self._told(found.against_full, found.p_values[0])} against full and "
            f"{self._told(found.against_random, found.p_values[1])} against as many random tokens"
        )
        if found.pays:
            return f"Train with {winner}: {against}."
        return (
            f"Train on everything: {winner}, the best candidate, has {against}; the smallest effect that this could "
            f"show is {self._value(found.detectable)}."
        )

    @property
    def plan_lines(self) -> list[str]:
        """What is trained, rung by rung."""
        rungs = {f"rung {number}": rung for number, rung in enumerate(self.plan.rungs, 1)}
        rungs["confirmation"] = self.plan.confirmation
        lines = [
            f"{label}: {rung.candidates} candidate{'s' if rung.candidates > 1 else ''}, full and random, "
            f"{_as_rung(rung)}"
            for label, rung in rungs.items()
        ]
        if (ceiling := self.plan.ceiling) is not None:
            lines.append(f"ceiling: the true mask and as many random tokens, {_as_rung(ceiling)}")
        return [
            *lines,
            f"in all: {self.plan.trainings} trainings at most",
            f"held-out rows: {self.choosing:,} to choose by, {self.confirming:,} to confirm",
        ]

    @property
    def notes(self) -> list[str]:
        """What limits the answer."""
        longest = self.plan.confirmation.steps
        notes = []
        if longest < self.steps:
            notes.append(
                f"the answer holds for trainings of {longest:,} optimizer steps; the recipe has {self.steps:,}, which "
                "the budget does not pay for"
            )
        if self.left_out:
            names = ", ".join(one.name for one in self.left_out)
            notes.append(f"left out, since the budget does not pay for them: {names}")
        if self.marked is not None and self.plan.true_mask is None:
            notes.append("the data has marks, and the budget does not pay for training the true mask")
        if self.result is not None and self.result.ceiling is not None:
            notes.append(self._ceiling_in_words(self.result.ceiling, self.result))
        return notes

    def _ceiling_in_words(self, found: Ceiling, result: SearchResult) -> str:
        assert self.marked is not None
        marked, rows = self.marked
        few = f", and {ENOUGH_MARKED} are enough to try" if marked < FEW_MARKED else ""
        said = (
            f"the true mask ({marked:,} of {rows:,} rows are marked{few}) is {self._interval(found.against_random)} "
            f"{self.spelled_unit} against as many random tokens"
        )
        if not found.opened:
            return f"{said}: not clearly better, so that no selection of tokens can be shown to pay here"
        if found.recovered is None:
            return f"{said}, so there is something to gain, which no candidate was seen to have"
        share, low, high = (f"{100 * one:.0f}" for one in asdict(found.recovered).values())
        return (
            f"{said}; {result.winner.name} recovers {share} % ({low} to {high} %) of what the true mask gains over the "
            "random tokens of the confirmation"
        )

    def _told(self, difference: PairedDifference, p: float) -> str:
        return f"{self._interval(difference).removesuffix(')')}, p = {p:.2g}) {self.spelled_unit}"

    def _interval(self, difference: PairedDifference) -> str:
        value, low, high = (self._signed(one) for one in (difference.value, difference.low, difference.high))
        return f"{value} ({low} to {high})"

    @property
    def spelled_unit(self) -> str:
        """What differences are in."""
        return f"points of {self.measure}" if self.unit == "share" else f"{self.unit} of {self.measure}"

    def _signed(self, value: float) -> str:
        shown = f"{100 * value:+.1f}" if self.unit == "share" else f"{value:+.4f}"
        return shown.replace("-", "\u2212")

    def _value(self, value: float) -> str:
        return self._signed(value).removeprefix("+")


def plan_of(values: Mapping[str, Any]) -> SearchPlan:
    """Return a plan as JSON has it.

    Raises:
        KeyError, TypeError: a field is missing or of a wrong type.
    """
    candidates = _candidates(values["candidates"])
    rungs, mask = tuple(Rung(**one) for one in values["rungs"]), values.get("true_mask")
    return SearchPlan(candidates, rungs, Rung(**values["confirmation"]), None if mask is None else Candidate(**mask))


def _as_rung(rung: Rung) -> str:
    seeds = f"{rung.seeds} seed{'s' if rung.seeds > 1 else ''}"
    return f"{rung.steps:,} steps, {seeds}: {rung.trainings} trainings"


def _candidates(values: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
    return tuple(Candidate(**one) for one in values)
