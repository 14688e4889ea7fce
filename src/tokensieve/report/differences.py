"""Differences of arms from their controls in every measure, over seeds and examples together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from tokensieve.evaluate.differences import PairedDifference, holm
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.outcomes import MEASURES, Outcomes, paired_outcomes, read_outcomes
from tokensieve.runs.results import Row
from tokensieve.runs.view import RunView

_SAME_SHARE = 0.001
"""Kept shares that differ by less count as equal: rounding and turn ends cause such differences."""


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One line of one run's results.

    Attributes:
        run: label of the run; empty where there is only one.
        row: its results.
        view: the run.
    """

    run: str
    row: Row
    view: RunView

    @property
    def name(self) -> str:
        """Run and arm, as one name."""
        return f"{self.run}:{self.row.name}" if self.run else self.row.name

    @property
    def folder(self) -> ArmFolder:
        """The arm's folder."""
        return self.view.folders.get(self.row.name) or self.view.run_folder.arm(self.row.name)

    @property
    def share(self) -> float:
        """Kept share of the trainable tokens; 1 for base and reference."""
        return self.row.selection.share if self.row.selection else 1.0

    @cached_property
    def outcomes(self) -> dict[str, Outcomes]:
        """The results of every example and seed, by the name of the measure; those that there are."""
        first = next(iter(self.row.seeds), 0)
        found = {name: read_outcomes(self.folder, name, first) for name in MEASURES}
        return {name: one for name, one in found.items() if one is not None}

    def is_method(self, name: str) -> bool:
        """Whether it is an arm of a method."""
        return self.row.selection is not None and self.row.selection.method == name


@dataclass(frozen=True)
class AdjustedDifference(PairedDifference):
    """A difference in one measure, as one of several in a table.

    Attributes:
        p_adjusted: the p-value, adjusted for all differences of the table in this measure (Holm).
    """

    p_adjusted: float


@dataclass(frozen=True)
class Difference:
    """How much one arm's results differ from another's on the same examples.

    Attributes:
        arm: the arm.
        against: the arm that is subtracted.
        measures: the differences by the name of the measure; those that both were measured in, on the same examples.
    """

    arm: str
    against: str
    measures: dict[str, AdjustedDifference]


@dataclass(frozen=True)
class ControlDifferences:
    """The differences of a table's arms from its controls.

    Attributes:
        random: from the random control that keeps as many tokens.
        full: from full training.
    """

    random: list[Difference]
    full: list[Difference]


def run_differences(view: RunView) -> ControlDifferences:
    """Return the differences of a run's arms from its controls; several runs joined are as one."""
    return control_differences([ComparedRow("", row, view) for row in view.rows if row.selection is not None])


def control_differences(arms: Sequence[ComparedRow]) -> ControlDifferences:
    """Return the differences of arms from the controls on the same examples, of their own run if possible."""
    full = [one for one in arms if one.is_method("full")]
    as_many = [(one, _control(one, _as_large(one, arms))) for one in arms if not one.is_method("random")]
    return ControlDifferences(
        differences([(one, control) for one, control in as_many if control is not None]),
        differences([(one, control) for one in arms if one not in full and (control := _control(one, full))]),
    )


def differences(pairs: Sequence[tuple[ComparedRow, ComparedRow]]) -> list[Difference]:
    """Return the difference of each pair, the first less the second, with p-values adjusted for as many pairs."""
    plain = {
        name: [paired_outcomes(one.outcomes.get(name), other.outcomes.get(name)) for one, other in pairs]
        for name in MEASURES
    }
    adjusted = {name: _adjusted(found) for name, found in plain.items()}
    return [
        Difference(one.name, other.name, {name: found for name in MEASURES if (found := adjusted[name][place])})
        for place, (one, other) in enumerate(pairs)
    ]


def _adjusted(found: Sequence[PairedDifference | None]) -> list[AdjustedDifference | None]:
    values = iter(holm([one.p for one in found if one is not None]))
    return [None if one is None else AdjustedDifference(**asdict(one), p_adjusted=next(values)) for one in found]


def _control(arm: ComparedRow, controls: Sequence[ComparedRow]) -> ComparedRow | None:
    """Return the control on the same examples, from the arm's own run if possible."""
    fitting = [one for one in controls if one.view.store.fingerprint == arm.view.store.fingerprint]
    return min(fitting, key=lambda one: one.view is not arm.view, default=None)


def _as_large(arm: ComparedRow, arms: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Return the random controls that keep as many tokens as an arm: those that its run has for it, or of its share.

    A method that selects while the model trains may keep another share of its batches than its control.
    """
    controls = [(one, one.row.selection) for one in arms if one.row.selection is not None and one.is_method("random")]
    own = [one for one, made in controls if one.view is arm.view and made.as_many_as == arm.row.name]
    return own or [one for one, _ in controls if abs(one.share - arm.share) < _SAME_SHARE]
