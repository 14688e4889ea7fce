"""What share of the true mask's gain over random tokens a run's method has, in words."""

from __future__ import annotations

from tokensieve.report.differences import ComparedRow
from tokensieve.runs.outcomes import MEASURES, paired_outcomes, recovered_gain
from tokensieve.runs.view import RunView

_UNMARKED = "unmarked"


def recovered_in_words(view: RunView) -> str:
    """Return a sentence for each measure, where a run has the true mask and a random control beside its method."""
    arms = [ComparedRow("", row, view) for row in view.rows if row.selection is not None]
    true_mask = next((one for one in arms if _is_true_mask(one)), None)
    random = next((one for one in arms if one.is_method("random")), None)
    method = next(one for one in arms if one.row.name == view.method)
    if true_mask is None or random is None or true_mask is method:
        return ""
    found = (_sentence(name, method, random, true_mask) for name in MEASURES)
    return "; ".join(filter(None, found))


def _sentence(name: str, method: ComparedRow, random: ComparedRow, true_mask: ComparedRow) -> str:
    measure, three = MEASURES[name], [one.outcomes.get(name) for one in (method, random, true_mask)]
    own, chance, best = three
    ceiling = paired_outcomes(best, chance)
    if own is None or chance is None or best is None or ceiling is None:
        return ""
    gain = -ceiling.high if measure.lower_is_better else ceiling.low
    if gain <= 0:
        return (
            f"{measure.title}: the true mask ({true_mask.name}) is not clearly better than random tokens, so no "
            "selection can be shown to pay"
        )
    part = recovered_gain(own, chance, best)
    if part is None:
        return (
            f"{measure.title}: what the true mask ({true_mask.name}) gains over random tokens is too unsure to say "
            f"what share of it {method.name} recovers"
        )
    share, low, high = (f"{100 * value:.0f}" for value in (part.value, part.low, part.high))
    return (
        f"{measure.title}: {method.name} recovers {share} % ({low} to {high} %) of what the true mask "
        f"({true_mask.name}) gains over random tokens"
    )


def _is_true_mask(one: ComparedRow) -> bool:
    selection = one.row.selection
    return selection is not None and one.is_method("marked") and selection.parameters.get("keep") == _UNMARKED
