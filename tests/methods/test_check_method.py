"""`check_method` finds what is wrong with a method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from tokensieve.methods import all_methods, get_method
from tokensieve.methods._base import FractionMethod
from tokensieve.ops.rules import TopFraction
from tokensieve.testing import CHECKS, check_method


@dataclass(frozen=True)
class Good(FractionMethod):
    """Keep what has the lowest loss.

    Attributes:
        power: of the loss.
    """

    name: ClassVar[str] = "good"
    summary: ClassVar[str] = "low losses"
    formula: ClassVar[str] = "-loss_base ** power"

    power: float = 2.0

    @property
    def needs(self):
        """The loss of the base."""
        return frozenset({("base", "loss")})

    def score(self, statistics):
        """Return float32 ``[tokens]``."""
        return -(np.where(statistics.trainable, statistics.get("base", "loss"), 0) ** np.float32(self.power))


def changed(**members):
    return dataclass(frozen=True)(type("Changed", (Good,), {"__doc__": Good.__doc__, **members}))


class _Grows:
    value = 0.0


def drifting(self, statistics):
    """Score otherwise at each call."""
    _Grows.value += 1
    return Good.score(self, statistics) * np.float32(_Grows.value)


def alarmed(statistics):
    """Turn the order around when any figure is NaN."""
    loss = statistics.values["base", "loss"]
    return np.nan_to_num(loss) * np.float32(-1 if np.isnan(loss).any() else 1)


def careless(statistics):
    """Score without asking whether the statistic is there, or a number."""
    return np.nan_to_num(statistics.values.get(("base", "loss"), np.zeros(len(statistics.labels), np.float32)))


FAULTS = {
    "documented": {"summary": ""},
    "needs_are_roles_and_statistics": {"needs": property(lambda self: frozenset({("bass", "loss")}))},
    "scores_are_finite": {"score": lambda self, statistics: Good.score(self, statistics).astype(np.float64)},
    "pure": {"score": drifting},
    "selection_only_drops": {"select": lambda self, statistics: np.zeros(len(statistics.labels), np.int64)},
    "what_is_not_trainable_does_not_matter": {"score": lambda self, statistics: alarmed(statistics)},
    "faulty_statistics_are_named": {"score": lambda self, statistics: careless(statistics)},
    "weights_are_finite": {"weights": lambda self, statistics, kept, progress: np.ones(len(kept), np.float32)},
    "reasons_have_names": {"reasons": lambda self, statistics: np.ones(len(statistics.labels), np.uint8)},
    "fitting_changes_nothing": {"fit": lambda self, corpus: replace(self, power=self.power / 2, fraction=0.1)},
    "says_what_it_is": {"online": True},
}


def test_a_good_method_passes_as_a_class_and_as_an_object():
    check_method(Good)
    check_method(Good(fraction=0.3))
    check_method(all_methods()["token-cleaning"])


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_by_its_check(name):
    check = next(check for check in CHECKS if check.__name__ == name)
    check(Good())
    broken = changed(**FAULTS[name])
    with pytest.raises(AssertionError, match=r"\w+ \w+"):
        check(broken())


def test_all_checks_are_run():
    with pytest.raises(AssertionError, match="summary"):
        check_method(changed(summary=""))
    with pytest.raises(AssertionError, match="does not need"):
        check_method(changed(options=lambda self, statistic: {"layer": 1}))


def test_weights_of_dropped_tokens_are_found():
    trained = {"weights": lambda self, statistics, kept, progress: statistics.trainable.astype(np.float32) / 2}
    check = next(check for check in CHECKS if check.__name__ == "weights_are_finite")
    everything = changed(**trained, rule=property(lambda self: TopFraction(1.0)))
    with pytest.raises(AssertionError, match="a dropped token has a weight above 0"):
        check(everything())
    check(get_method("forgetting"))


def test_a_dataclass_that_is_not_frozen_is_found():
    frozen = next(check for check in CHECKS if check.__name__ == "frozen")
    loose = type("Loose", (Good,), {"__setattr__": object.__setattr__})
    with pytest.raises(AssertionError, match="frozen=True"):
        frozen(loose())
