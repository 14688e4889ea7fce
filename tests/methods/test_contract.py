"""What every method promises, whichever methods there are."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import get_args

import numpy as np
import pytest

from tokensieve.errors import TokensieveError
from tokensieve.methods import all_methods, get_method
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import Threshold, TopExamples, TopFraction
from tokensieve.types import Role, Statistics

NAMES = list(all_methods())
FITTING = {"uds": {"examples": 2}}  # the batch that `statistics_for` makes is small


def make(name):
    return get_method(name, **FITTING.get(name, {}))


def statistics_for(needs, seed=0, lengths=(9, 1, 0, 14, 6)) -> Statistics:
    generator = np.random.default_rng(seed)
    cu_seqlens = offsets(lengths)
    size = int(cu_seqlens[-1])
    labels = np.where(generator.random(size) < 0.7, generator.integers(0, 50, size), -100)
    labels[cu_seqlens[:-1][np.diff(cu_seqlens) > 0]] = -100
    values = {need: generator.random(size).astype(np.float32) for need in sorted(needs)}
    return Statistics(cu_seqlens, labels, values, turn_end=generator.random(size) < 0.1)


@pytest.fixture(params=NAMES)
def method(request):
    return make(request.param)


def test_the_methods_that_every_report_needs_are_found_in_order():
    assert {"full", "random", "loss", "entropy", "token-cleaning", "rho-1"} <= set(NAMES)
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_one_file_named_after_the_method_with_one_class(name):
    cls = all_methods()[name]
    assert cls.__module__ == f"tokensieve.methods.{name.replace('-', '_')}"
    assert cls.name == name


@pytest.mark.parametrize("name", NAMES)
def test_documented(name):
    cls = all_methods()[name]
    module = importlib.import_module(cls.__module__)
    assert len((module.__doc__ or "").strip()) > 30
    assert len((cls.__doc__ or "").strip()) > 10
    assert not (cls.__doc__ or "").startswith(f"{cls.__name__}(")  # what dataclass writes where there is none
    assert cls.summary
    assert cls.formula
    for field in dataclasses.fields(cls):
        told = any(f"{field.name}:" in (part.__doc__ or "") for part in cls.__mro__)
        assert told, f"the hyper-parameter '{field.name}' is not documented"
    assert inspect.getdoc(cls.score)


def test_a_frozen_dataclass_whose_defaults_work(method):
    again = make(method.name)
    assert method == again
    assert hash(method) == hash(again)
    assert dataclasses.is_dataclass(type(method))
    for field in dataclasses.fields(method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, None)


def test_needs_are_roles_and_statistics(method):
    assert isinstance(method.needs, frozenset)
    for role, statistic in method.needs:
        assert role in get_args(Role)
        assert statistic.isidentifier()


def test_scores_are_finite_float32_one_a_token(method):
    statistics = statistics_for(method.needs)
    scores = method.score(statistics)
    assert scores.dtype == np.float32
    assert scores.shape == statistics.labels.shape
    assert np.isfinite(scores[statistics.trainable]).all()


def test_pure_and_deterministic(method):
    statistics, untouched = statistics_for(method.needs), statistics_for(method.needs)
    for array in (statistics.cu_seqlens, statistics.labels, statistics.turn_end, *statistics.values.values()):
        assert array is not None
        array.flags.writeable = False
    first, labels = method.score(statistics), method.select(statistics)
    assert np.array_equal(method.score(statistics), first)
    assert np.array_equal(make(method.name).score(untouched), first)
    assert np.array_equal(make(method.name).select(untouched), labels)
    for key, value in untouched.values.items():
        assert np.array_equal(statistics.values[key], value)


def test_a_selection_only_drops(method):
    assert isinstance(method.rule, TopFraction | Threshold | TopExamples)
    for seed in range(5):
        statistics = statistics_for(method.needs, seed)
        labels = method.select(statistics)
        assert ((labels == -100) | (labels == statistics.labels)).all()
        assert statistics.turn_end is not None
        forced = statistics.turn_end & statistics.trainable
        if isinstance(method.rule, TopExamples):
            forced &= False  # an example that is dropped is dropped whole
        assert np.array_equal(labels[forced], statistics.labels[forced])


def test_what_stands_where_no_token_is_trainable_does_not_matter(method):
    statistics = statistics_for(method.needs)
    values = {k: np.where(statistics.trainable, v, np.float32(np.nan)) for k, v in statistics.values.items()}
    spoilt = Statistics(statistics.cu_seqlens, statistics.labels, values, statistics.turn_end)
    assert np.array_equal(method.select(spoilt), method.select(statistics))


def test_a_missing_statistic_and_one_that_is_no_number_are_named(method):
    for role, name in method.needs:
        statistics = statistics_for(method.needs)
        values = dict(statistics.values)
        left_out = {key: value for key, value in values.items() if key != (role, name)}
        with pytest.raises(TokensieveError, match=f"statistic '{name}' of role '{role}' is missing"):
            method.score(Statistics(statistics.cu_seqlens, statistics.labels, left_out))
        values[role, name] = values[role, name].copy()
        values[role, name][np.flatnonzero(statistics.trainable)[-1]] = np.nan
        with pytest.raises(TokensieveError, match=f"'{role}.{name}' is NaN or infinite on 1 tokens of 1 examples: 4"):
            method.score(Statistics(statistics.cu_seqlens, statistics.labels, values))


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_weights_are_finite_float32_one_a_token_and_zero_where_nothing_is_trainable(method, progress):
    statistics = statistics_for(method.needs)
    values = {k: np.where(statistics.trainable, v, np.float32(np.nan)) for k, v in statistics.values.items()}
    statistics = Statistics(statistics.cu_seqlens, statistics.labels, values, statistics.turn_end)
    kept = method.select(statistics) != -100
    weights = method.weights(statistics, kept, progress)
    assert weights.dtype == np.float32
    assert weights.shape == statistics.labels.shape
    assert np.isfinite(weights).all()
    assert not weights[~statistics.trainable].any()
    assert (weights[kept] >= 0).all()
    assert weights[kept].any()
    if not method.weighted:
        assert np.array_equal(weights, kept.astype(np.float32))


def test_a_method_that_is_weighted_says_more_than_kept_or_dropped(method):
    if method.weighted:
        statistics = statistics_for(method.needs)
        kept = method.select(statistics) != -100
        assert not np.array_equal(method.weights(statistics, kept, 1.0), kept)


def test_every_reason_has_a_name(method):
    statistics = statistics_for(method.needs)
    reasons = method.fit(lambda: [statistics]).reasons(statistics)
    if reasons is None:
        assert method.reason_names == ()
        return
    assert 0 < len(method.reason_names) <= 8
    assert reasons.dtype == np.uint8
    assert reasons.shape == statistics.labels.shape
    assert (reasons[statistics.trainable] < 1 << len(method.reason_names)).all()


def test_fitting_to_the_statistics_themselves_changes_nothing(method):
    statistics = statistics_for(method.needs)
    fitted = method.fit(lambda: [statistics])
    assert type(fitted) is type(method)
    trainable = statistics.trainable
    assert np.array_equal(fitted.score(statistics)[trainable], method.score(statistics)[trainable])
    assert np.array_equal(fitted.select(statistics), method.select(statistics))


def test_what_a_method_says_of_itself(method):
    assert method.divide_by in ("kept", "trainable")
    assert method.online == any(role == "current" for role, _ in method.needs)
    for _, statistic in method.needs:
        assert all(isinstance(key, str) for key in method.options(statistic))
    assert not method.options("no_such_statistic")


def test_too_few_examples_for_a_rule_that_chooses_examples(method):
    if isinstance(method.rule, TopExamples):
        # five examples, of which one is empty and one has only a token that cannot be trained on
        for seed in range(3):
            with pytest.raises(TokensieveError, match="4 examples are to be kept of a batch that has 3"):
                get_method(method.name, examples=4).select(statistics_for(method.needs, seed))


def test_no_examples(method):
    statistics = statistics_for(method.needs, lengths=())
    assert method.select(statistics).shape == (0,)


@pytest.mark.parametrize(
    ("typed", "meant"), [("token-clean", "token-cleaning"), ("rho1", "rho-1"), ("entropie", "entropy")]
)
def test_an_unknown_method_names_the_nearest(typed, meant):
    with pytest.raises(TokensieveError, match=f"unknown method '{typed}'; did you mean '{meant}'") as error:
        get_method(typed)
    for name in NAMES:
        assert name in error.value.mend


def test_an_unknown_hyperparameter_names_the_nearest():
    with pytest.raises(TokensieveError, match="no hyper-parameter 'fractoin'; did you mean 'fraction'") as error:
        get_method("token-cleaning", fractoin=0.5)
    assert "scope" in error.value.mend
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
    "buffer": 0,
    "mode": "fast",
    "layer": 0.5,
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
