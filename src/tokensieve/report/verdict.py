"""Whether a run's method pays, in one sentence: the page, the terminal, JSON and notebooks begin with the same one.

A difference counts as seen where its p-value, adjusted for all differences of the table (Holm), is below 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokensieve.evaluate.differences import LEVEL
from tokensieve.report.cells import signed
from tokensieve.report.difference_table import differing
from tokensieve.report.differences import AdjustedDifference, ControlDifferences, Difference, run_differences
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.runs.view import RunView

_NAMED = 2  # measures that a sentence names; the tables have all of them
_CONTROLS = {"random": "as many random tokens", "full": "full training"}


@dataclass(frozen=True)
class Finding:
    """The paired difference of the method from one control in one measure.

    Attributes:
        control: ``random`` or ``full``.
        against: the arm that is subtracted.
        measure: name of the measure (`runs.outcomes.MEASURES`).
        title: its name in tables.
        unit: ``nats``, or ``share``.
        lower_is_better: whether a smaller value is better.
        better: whether the method is better; None where no difference could be seen.
        difference: the difference with its interval, in the unit of the measure.
    """

    control: str
    against: str
    measure: str
    title: str
    unit: str
    lower_is_better: bool
    better: bool | None
    difference: AdjustedDifference

    @property
    def in_words(self) -> str:
        """The difference with its unit and 95 % interval."""
        found = self.difference
        low, high = (_number(value, self) for value in (found.low, found.high))
        return f"{_amount(found.value, self)} (95 % interval {low} to {high})"


@dataclass(frozen=True)
class Verdict:
    """Whether a method pays.

    Attributes:
        sentence: the answer.
        further: what limits it, and the comparison with full training; whole sentences.
        findings: the differences behind it, those from the random control first.
    """

    sentence: str
    further: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All of its sentences."""
        return (self.sentence, *self.further)

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)


def run_verdict(view: RunView) -> Verdict:
    """Return the verdict of a run's method; several runs joined are as one.

    Raises:
        TokensieveError: results by example that cannot be read.
    """
    return method_verdict(view, view.method, run_differences(view))


def method_verdict(view: RunView, name: str, found: ControlDifferences) -> Verdict:
    """Return the verdict of a run's method from differences that are known.

    Args:
        view: the run.
        name: the method's arm, as the differences call it.
        found: the differences of arms from their controls.
    """
    findings = {
        control: _findings(control, name, differences)
        for control, differences in (("random", found.random), ("full", found.full))
    }
    every = tuple(one for each in findings.values() for one in each)
    if not every:
        return Verdict(_why_unknown(view, name, found))
    first, *others = (control for control, each in findings.items() if each)
    said = [*_others_in_words(findings[first]), *(_in_words(other, findings[other]) for other in others)]
    if first != "random":
        said.append("No random control was measured, so what the choice of tokens adds is not known.")
    return Verdict(_in_words(first, findings[first]), (*said, _over(every)), every)


def _findings(control: str, name: str, found: Sequence[Difference]) -> list[Finding]:
    mine = [one for one in found if one.arm == name]
    return [
        Finding(
            control,
            one.against,
            measure,
            MEASURES[measure].title,
            MEASURES[measure].unit,
            MEASURES[measure].lower_is_better,
            _is_better(one.measures[measure], MEASURES[measure]),
            one.measures[measure],
        )
        for one in mine
        for measure in _with_differences(mine)
        if measure in one.measures
    ]


def _with_differences(found: Sequence[Difference]) -> Sequence[str]:
    """Return the measures in which anything differs; all of them where nothing does."""
    return differing(found) or [name for name in MEASURES if any(name in one.measures for one in found)]


def _is_better(found: AdjustedDifference, measure: Measure) -> bool | None:
    if found.p_adjusted >= LEVEL:
        return None
    return (found.value < 0) is measure.lower_is_better


def _in_words(control: str, found: Sequence[Finding]) -> str:
    """Return how the method compares with a control: every measure with a difference, or the first without one."""
    other = _CONTROLS[control]
    better = [one for one in found if one.better]
    worse = [one for one in found if one.better is False]
    if better and worse:
        return f"Better than {other} by {_listed(better)}, but worse by {_listed(worse)}."
    if better or worse:
        return f"{'Better' if better else 'Worse'} than {other}: {_listed(better or worse)}."
    return f"No difference from {other} that could be seen: {_unseen(found[0])}."


def _others_in_words(found: Sequence[Finding]) -> list[str]:
    """Return a sentence on the measures that `_in_words` leaves out."""
    seen = [one for one in found if one.better is not None]
    unseen = [one for one in found if one.better is None][0 if seen else 1 :]
    return [f"No difference that could be seen in {_listed_plainly(unseen)}."] if unseen else []


def _unseen(one: Finding) -> str:
    found = one.difference
    if not found.detectable:
        return f"the results in {one.title} are the same in every example"
    holm = " after Holm's adjustment for all arms" if found.low > 0 or found.high < 0 else ""
    return f"{one.in_words}, p {found.p_adjusted:.2f}{holm}; the smallest visible difference is {_size(one)}"


def _listed(found: Sequence[Finding]) -> str:
    more = len(found) - _NAMED
    rest = f"; and in {more} more measure{'s' if more > 1 else ''}" if more > 0 else ""
    return "; ".join(one.in_words for one in found[:_NAMED]) + rest


def _listed_plainly(found: Iterable[Finding]) -> str:
    return ", ".join(f"{one.title} (smallest visible: {_size(one)})" for one in found)


def _size(one: Finding) -> str:
    return f"{_number(one.difference.detectable, one)[1:]} {_unit(one)}"


def _amount(value: float, one: Finding) -> str:
    return f"{_number(value, one)} {_unit(one)} of {one.title}"


def _number(value: float, one: Finding) -> str:
    return signed(value, MEASURES[one.measure])


def _unit(one: Finding) -> str:
    return "points" if one.unit == "share" else "nats"


def _over(found: Sequence[Finding]) -> str:
    seeds = min(one.difference.seeds for one in found)
    examples = min(one.difference.examples for one in found)
    said = f"Paired over {seeds:,} training seed{'s' if seeds > 1 else ''} and {examples:,} held-out examples"
    return f"{said}." if seeds > 1 else f"{said}; another seed may differ."


def _why_unknown(view: RunView, name: str, found: ControlDifferences) -> str:
    """Return what is lacking to know whether the method pays."""
    row = view.row(view.method)
    evaluated = [one for one in view.rows if one.selection is not None and (one.evaluation.results or one.seeds)]
    if not evaluated and not any(folder.trained for folder in view.folders.values()):
        return "Nothing was trained: whether it pays is not known."
    unknown = "whether it pays is not known"
    if not evaluated:
        return f"Nothing was evaluated on held-out data: {unknown}."
    if row not in evaluated:
        return f"{view.method} was not evaluated: {unknown}."
    if not any(one.arm == name for one in (*found.random, *found.full)):
        return f"There is no control to compare {view.method} with: {unknown}."
    return f"{view.method} and its controls have no results on the same examples: {unknown}."
