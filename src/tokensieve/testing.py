"""What every method promises, as checks that its author can run: `check_method`.

They know nothing of pytest, and raise `AssertionError` with what does not hold.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np

from tokensieve.containers import Needs, Role, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import Threshold, TopExamples, TopFraction

__all__ = ["CHECKS", "check_method", "made_up_statistics"]

Check = Callable[[Method], None]
_LENGTHS = (9, 1, 0, 14, 6)


def check_method(method: Method | type[Method]) -> None:
    """Check that a method keeps the promises that tokensieve builds on.

    Args:
        method: a method, or its class, which must then be made without arguments. One whose rule keeps a number of
            examples must keep two at most: the checks use three examples that have something to train on.

    Raises:
        AssertionError: the first promise that it breaks.
    """
    made = method if isinstance(method, Method) else method()
    for check in CHECKS:
        check(made)


def made_up_statistics(needs: Needs, seed: int = 0, lengths: Sequence[int] = _LENGTHS) -> Statistics:
    """Return random statistics, in [0, 1), of a few made-up examples; some of them empty or with nothing trainable."""
    generator = np.random.default_rng(seed)
    cu_seqlens = offsets(lengths)
    size = int(cu_seqlens[-1])
    labels = np.where(generator.random(size) < 0.7, generator.integers(0, 50, size), -100)
    labels[cu_seqlens[:-1][np.diff(cu_seqlens) > 0]] = -100
    values = {(role, name): generator.random(size).astype(np.float32) for role, name in sorted(needs)}
    turn_end = generator.random(size) < 0.1
    marks = generator.integers(0, 3, size, dtype=np.uint8)
    return Statistics(cu_seqlens, labels, values, turn_end, marks=marks, mark_types=("wrong", "odd"))


def documented(method: Method) -> None:
    """The class and each hyper-parameter are explained, and ``tokensieve methods`` has something to show."""
    cls = type(method)
    text = cls.__doc__ or ""
    # What dataclass writes where there is no docstring begins with the call.
    _require(len(text.strip()) > 10 and not text.startswith(f"{cls.__name__}("), f"{cls.__name__} has no docstring")
    _require(bool(cls.summary and cls.formula), f"{cls.__name__} needs a summary and a formula")
    for field in dataclasses.fields(cls):
        told = any(f"{field.name}:" in (part.__doc__ or "") for part in cls.__mro__)
        _require(told, f"the hyper-parameter '{field.name}' is not in the docstring")
    _require(bool(inspect.getdoc(cls.score)), "score has no docstring")


def frozen(method: Method) -> None:
    """It is a frozen dataclass that can be compared and hashed."""
    again = dataclasses.replace(method)
    _require(method == again and hash(method) == hash(again), "two methods of equal fields differ")
    for field in dataclasses.fields(method):
        try:
            setattr(method, field.name, getattr(method, field.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"'{field.name}' can be changed: decorate the class with @dataclass(frozen=True)")


def needs_are_roles_and_statistics(method: Method) -> None:
    """``needs`` holds pairs of a known role and the name of a statistic."""
    _require(isinstance(method.needs, frozenset), "needs is no frozenset")
    for role, statistic in method.needs:
        _require(role in get_args(Role), f"'{role}' is no role: {', '.join(get_args(Role))}")
        _require(statistic.isidentifier(), f"'{statistic}' is no name of a statistic")


def scores_are_finite(method: Method) -> None:
    """Scores are float32, one a token, and finite where a token is trainable."""
    statistics = made_up_statistics(method.needs)
    scores = method.score(statistics)
    _require(scores.dtype == np.float32, f"scores are {scores.dtype}, not float32")
    _require(scores.shape == statistics.labels.shape, f"{scores.shape} scores for {statistics.labels.shape} tokens")
    _require(bool(np.isfinite(scores[statistics.trainable]).all()), "a score is NaN or infinite")


def pure(method: Method) -> None:
    """The same statistics give the same answer, and are left as they were."""
    statistics, untouched = made_up_statistics(method.needs), made_up_statistics(method.needs)
    assert statistics.turn_end is not None
    for array in (statistics.cu_seqlens, statistics.labels, statistics.turn_end, *statistics.values.values()):
        array.flags.writeable = False
    first, labels = method.score(statistics), method.select(statistics)
    again = dataclasses.replace(method)
    _require(np.array_equal(method.score(statistics), first), "a second call gives other scores")
    _require(np.array_equal(again.score(untouched), first), "an equal method gives other scores")
    _require(np.array_equal(again.select(untouched), labels), "an equal method selects other tokens")


def selection_only_drops(method: Method) -> None:
    """Labels are kept or become -100; turn ends are kept, unless whole rows are dropped."""
    _require(isinstance(method.rule, TopFraction | Threshold | TopExamples), "rule is none of tokensieve's rules")
    for seed in range(5):
        statistics = made_up_statistics(method.needs, seed)
        assert statistics.turn_end is not None
        labels = method.select(statistics)
        _require(bool(((labels == -100) | (labels == statistics.labels)).all()), "a label was changed")
        if not isinstance(method.rule, TopExamples):
            forced = statistics.turn_end & method.offered(statistics).trainable
            _require(np.array_equal(labels[forced], statistics.labels[forced]), "the end of a turn was dropped")


def what_is_not_trainable_does_not_matter(method: Method) -> None:
    """Values at tokens that are not trainable, NaN included, change nothing."""
    statistics = made_up_statistics(method.needs)
    spoilt = _spoilt(statistics)
    same = np.array_equal(method.select(spoilt), method.select(statistics))
    _require(same, "values at tokens that are not trainable change the selection")


def faulty_statistics_are_named(method: Method) -> None:
    """A missing statistic, and one that is NaN, is an error that names it (`Statistics.get` raises it)."""
    for role, name in method.needs:
        statistics = made_up_statistics(method.needs)
        values = dict(statistics.values)
        without = {key: value for key, value in values.items() if key != (role, name)}
        values[role, name] = values[role, name].copy()
        values[role, name][np.flatnonzero(statistics.trainable)[-1]] = np.nan
        expected = {
            f"statistic '{name}' of role '{role}' is missing": without,
            f"'{role}.{name}' is NaN or infinite on 1 tokens of 1 examples: 4": values,
        }
        for text, given in expected.items():
            found = _error_of(method, Statistics(statistics.cu_seqlens, statistics.labels, given))
            _require(text in found, f'expected an error with "{text}", got: {found or "none"}')


def weights_are_finite(method: Method) -> None:
    """Weights are float32, one a token, 0 where nothing is trainable, at most 0 where a token is dropped."""
    statistics = _spoilt(made_up_statistics(method.needs))
    kept = method.select(statistics) != -100
    fewer = kept & (np.arange(len(kept)) % 2 == 0)
    for progress in (0.0, 0.5, 1.0):
        weights = method.weights(statistics, kept, progress)
        _require(weights.dtype == np.float32, f"weights are {weights.dtype}, not float32")
        _require(weights.shape == statistics.labels.shape, "there is not one weight a token")
        _require(bool(np.isfinite(weights).all()), "a weight is NaN or infinite")
        _require(not weights[~statistics.trainable].any(), "a token that is not trainable has a weight")
        dropped = method.weights(statistics, fewer, progress)[~fewer]
        _require(bool((dropped <= 0).all()), "a dropped token has a weight above 0")
        _require(bool((weights[kept] >= 0).all() and weights[kept].any()), "kept tokens need weights of 0 and above")
        plain = np.array_equal(weights, kept.astype(np.float32))
        _require(method.weighted or plain, "weights are not those of kept tokens, and the method is not weighted")
    _require(not method.weighted or not plain, "weights say no more than kept or dropped: leave the function out")


def reasons_have_names(method: Method) -> None:
    """Reasons are uint8, one a token, with a name for every bit."""
    statistics = made_up_statistics(method.needs)
    reasons = method.fit(lambda: [statistics]).reasons(statistics)
    if reasons is None:
        _require(method.reason_names == (), "reason_names without reasons")
        return
    _require(0 < len(method.reason_names) <= 8, "reason_names must name one to eight bits")
    _require(reasons.dtype == np.uint8 and reasons.shape == statistics.labels.shape, "reasons are not uint8 [tokens]")
    named = (reasons[statistics.trainable] < 1 << len(method.reason_names)).all()
    _require(bool(named), "a bit of the reasons has no name")


def fitting_changes_nothing(method: Method) -> None:
    """Fitted to the very statistics that it is given, it answers as it does without."""
    statistics = made_up_statistics(method.needs)
    fitted = method.fit(lambda: [statistics])
    _require(type(fitted) is type(method), "fit returns something else than the method")
    trainable = statistics.trainable
    same = np.array_equal(fitted.score(statistics)[trainable], method.score(statistics)[trainable])
    _require(same, "fitted to the same statistics it scores otherwise")
    _require(np.array_equal(fitted.select(statistics), method.select(statistics)), "fitted it selects otherwise")


def says_what_it_is(method: Method) -> None:
    """`divide_by`, `online` and `options` agree with the rest."""
    _require(method.divide_by in ("kept", "trainable"), "divide_by is neither 'kept' nor 'trainable'")
    online = any(role == "current" for role, _ in method.needs)
    draws = getattr(method.rule, "scope", None) == "batch"  # as the random control does
    _require(method.online in (online, online or draws), "online must say whether it needs the role 'current'")
    keys = [key for _, statistic in method.needs for key in method.options(statistic)]
    _require(all(isinstance(key, str) for key in keys), "an option's name is no text")
    _require(not method.options("no_such_statistic"), "options of a statistic that it does not need")


def no_examples(method: Method) -> None:
    """No examples are no fault."""
    statistics = made_up_statistics(method.needs, lengths=())
    _require(method.select(statistics).shape == (0,), "labels from nothing")


CHECKS: tuple[Check, ...] = (
    documented,
    frozen,
    needs_are_roles_and_statistics,
    scores_are_finite,
    pure,
    selection_only_drops,
    what_is_not_trainable_does_not_matter,
    faulty_statistics_are_named,
    weights_are_finite,
    reasons_have_names,
    fitting_changes_nothing,
    says_what_it_is,
    no_examples,
)
"""Every promise, each a function that raises `AssertionError`."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _spoilt(statistics: Statistics) -> Statistics:
    """Put NaN wherever no token is trainable."""
    values = {k: np.where(statistics.trainable, v, np.float32(np.nan)) for k, v in statistics.values.items()}
    return dataclasses.replace(statistics, values=values)


def _error_of(method: Method, statistics: Statistics) -> str:
    try:
        method.score(statistics)
    except TokensieveError as error:
        return str(error)
    return ""
