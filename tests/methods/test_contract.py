"""What every method promises, whichever methods there are."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.methods import all_methods, get_method
from tokensieve.testing import CHECKS

NAMES = list(all_methods())
FITTING = {"uds": {"examples": 2}}  # the batch that `made_up_statistics` makes is small


def make(name):
    return get_method(name, **FITTING.get(name, {}))


@pytest.fixture(params=NAMES)
def method(request):
    return make(request.param)


def test_the_methods_that_every_report_needs_are_found_in_order():
    assert {"full", "random", "loss", "entropy", "token-cleaning", "rho-1"} <= set(NAMES)
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_its_score_means_in_a_sentence(name):
    assert all_methods()[name].meaning.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_one_file_named_after_the_method_with_one_class(name):
    cls = all_methods()[name]
    file = {"random": "random_control"}.get(name, name.replace("-", "_"))  # not the standard library's name
    assert cls.__module__ == f"tokensieve.methods.{file}"
    assert cls.name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_module_has_a_docstring(name):
    module = importlib.import_module(all_methods()[name].__module__)
    assert len((module.__doc__ or "").strip()) > 30


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_promise(method, check):
    check(method)


@pytest.mark.parametrize(
    ("typed", "meant"), [("token-clean", "token-cleaning"), ("rho1", "rho-1"), ("entropie", "entropy")]
)
def test_an_unknown_method_names_the_nearest(typed, meant):
    with pytest.raises(TokensieveError, match=f"unknown method '{typed}'; did you mean '{meant}'") as error:
        get_method(typed)
    for name in NAMES:
        assert name in error.value.hint


def test_an_unknown_hyperparameter_names_the_nearest():
    with pytest.raises(TokensieveError, match="no hyper-parameter 'fractoin'; did you mean 'fraction'") as error:
        get_method("token-cleaning", fractoin=0.5)
    assert "scope" in error.value.hint
    with pytest.raises(TokensieveError, match="'full' has no hyper-parameter 'fraction'"):
        get_method("full", fraction=0.5)


OUT_OF_RANGE = {
    "fraction": 0,
    "scope": "sample",
    "rounding": "up",
    "keep": "middle",
    "current": "reference",
    "gamma": 1.1,
    "heads": "least",
    "history": "reference",
    "ema_decay": 1.0,
    "warmup_examples": -1,
    "discard": 0,
    "alpha": -0.1,
    "probability": 1.1,
    "perplexity": 0.9,
    "floor": -0.1,
    "tau": 0,
    "strength": -0.1,
    "subsets": 1,
    "rounds": 0,
    "added": 0,
    "examples": 0,
    "as_many_as": {"name": "loss"},
    "buffer": 0,
    "mode": "fast",
    "layer": 0.5,
    "types": 3,
    "margin": "none",
    "switch": 0.6,
    "low": -0.1,
    "high": 0.9,
    "per": "row",
    "epsilon": -0.1,
    "informative": 0,
    "threshold": -1.0,
    "keep_rows": 0,
    "keep_tokens": 1.1,
    "smoothing": -0.1,
    "cuts": [1.0, 2.0],
    "rows_by": {"name": "dft"},
    "tokens_by": "rho-1",
    "cut": "none",
    "tokens_per_answer": 0,
}
ANY_VALUE = {"seed"}


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(n, f.name) for n in NAMES for f in dataclasses.fields(all_methods()[n]) if f.name in OUT_OF_RANGE],
)
def test_hyperparameters_out_of_range_are_refused_when_the_method_is_made(name, parameter):
    with pytest.raises(TokensieveError, match=parameter):
        get_method(name, **{parameter: OUT_OF_RANGE[parameter]})


@pytest.mark.parametrize("name", [name for name in NAMES if name != "xtf"])  # whose own tests cover its many
def test_every_hyperparameter_has_a_value_that_is_refused(name):
    assert {field.name for field in dataclasses.fields(all_methods()[name])} <= OUT_OF_RANGE.keys() | ANY_VALUE


def test_the_hyperparameters_of_the_test_exist():
    known = {field.name for cls in all_methods().values() for field in dataclasses.fields(cls)}
    assert known >= OUT_OF_RANGE.keys() | ANY_VALUE
