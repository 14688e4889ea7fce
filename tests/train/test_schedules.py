"""Schedules are found by name; one of another package takes part in a run."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.methods import all_methods
from tokensieve.methods.loss import Loss
from tokensieve.train import schedules
from tokensieve.train.schedules import GROUP, schedule_of
from tokensieve.train.schedules._base import Intent, Schedule
from tokensieve.train.schedules.once import Once


@dataclass(frozen=True)
class Borrowed(Loss):
    """A method with a schedule that tokensieve does not bring."""

    name: ClassVar[str] = "borrowed"
    schedule: ClassVar[str] = "twice"


class Twice(Schedule):
    """A schedule of another package."""

    name: ClassVar[str] = "twice"

    def check(self, method: Any, intent: Intent) -> None:
        if not intent.trains:
            raise TokensieveError(f"'{method.name}' trains twice", where="recipe: train", hint="give a train section")


@pytest.fixture
def offered(monkeypatch):
    """Return a function that offers something as the schedule `twice`, through an entry point."""

    def offer(thing: object) -> None:
        module = ModuleType("twice_package")
        module.thing = thing  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "twice_package", module)
        point = importlib.metadata.EntryPoint("twice", "twice_package:thing", GROUP)
        found = importlib.metadata.EntryPoints([point])
        monkeypatch.setattr(schedules.importlib.metadata, "entry_points", lambda **query: found.select(**query))

    schedule_of.cache_clear()
    yield offer
    schedule_of.cache_clear()


def test_every_method_has_a_schedule():
    names = {name: schedule_of(method).name for name, method in all_methods().items()}
    assert names.pop("self-evolving") == "self-evolving"
    assert names.pop("toss-pro") == "refined-reference"
    assert set(names.values()) == {"once"}
    assert type(schedule_of(Loss)) is Once


def test_an_unknown_schedule_is_named():
    schedule_of.cache_clear()
    with pytest.raises(TokensieveError, match=r"(?s)'borrowed' has an unknown schedule 'twice'.*once.*self-evolving"):
        schedule_of(Borrowed)


def test_a_schedule_of_another_package_is_used_and_its_checks_count(offered, monkeypatch, tmp_path):
    offered(Twice)
    assert isinstance(schedule_of(Borrowed), Twice)

    from tokensieve.pipeline import plan
    from tokensieve.pipeline.recipe import load_recipe

    monkeypatch.setattr(plan, "get_method", lambda name, **_: Borrowed())
    given = [f"output={tmp_path}", "data.files=[x.jsonl]", "models.base=y", "method=borrowed", "controls=[]"]
    assert isinstance(plan.make_plan(load_recipe(None, given)).leader.schedule, Twice)
    with pytest.raises(TokensieveError, match="'borrowed' trains twice"):
        plan.make_plan(load_recipe(None, [*given, "train=null"]))


@pytest.mark.parametrize("thing", [3, dict, Loss])
def test_what_is_not_a_schedule_is_refused_with_its_entry_point(offered, thing):
    offered(thing)
    with pytest.raises(TokensieveError, match=r"(?s)is not a subclass of tokensieve.Schedule.*twice_package:thing"):
        schedule_of(Borrowed)
