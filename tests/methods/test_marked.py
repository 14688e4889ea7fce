from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

TYPES = ("wrong", "odd")


def figures(marks, labels, types=TYPES, turn_end=None) -> Statistics:
    ends = None if turn_end is None else np.array(turn_end, dtype=bool)
    given = {"marks": np.array(marks, dtype=np.uint8), "mark_types": types}
    return Statistics(np.array([0, len(labels)]), np.array(labels), turn_end=ends, **given)


def test_by_hand():
    marks, labels = [0, 0, 1, 2, 1, 0], [-100, 1, 2, 3, -100, 5]
    assert get_method("marked").select(figures(marks, labels)).tolist() == [-100, 1, -100, -100, -100, 5]
    wrong = get_method("marked", types=["wrong"])
    assert wrong.select(figures(marks, labels)).tolist() == [-100, 1, -100, 3, -100, 5]
    assert get_method("marked", types="wrong") == wrong
    opposite = get_method("marked", keep="marked")
    assert opposite.select(figures(marks, labels)).tolist() == [-100, -100, 2, 3, -100, -100]
    turn_end = [0, 0, 0, 0, 0, 1]
    assert opposite.select(figures(marks, labels, turn_end=turn_end)).tolist() == [-100, -100, 2, 3, -100, 5]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1), st.sampled_from([(), ("odd",), TYPES]))
def test_equals_a_loop(tokens, types):
    marks, labels = [mark for mark, _ in tokens], [7 if trained else -100 for _, trained in tokens]
    for keep in ("unmarked", "marked"):
        expected = []
        for mark, label in zip(marks, labels, strict=True):
            covered = mark > 0 and (not types or TYPES[mark - 1] in types)
            expected.append(label if covered == (keep == "marked") else -100)
        method = get_method("marked", types=types, keep=keep)
        assert method.select(figures(marks, labels)).tolist() == expected


def test_data_without_marks_is_refused():
    plain = Statistics(np.array([0, 2]), np.array([-100, 1]))
    with pytest.raises(TokensieveError, match="no token of the data is marked") as error:
        get_method("marked").score(plain)
    assert "tokensieve mark" in error.value.hint
    get_method("loss").check_marks(())


def test_an_unknown_type_names_the_nearest():
    with pytest.raises(TokensieveError, match="no mark of the data has the type 'wrng'; did you mean 'wrong'"):
        get_method("marked", types=["wrng"]).score(figures([0, 1], [-100, 1]))


@pytest.mark.parametrize("types", [3, [3], [""], {"wrong": 1}])
def test_types_that_are_none(types):
    with pytest.raises(TokensieveError, match=r"types is .*, it must be a list of names"):
        get_method("marked", types=types)


def test_what_is_measured_and_when():
    method = get_method("marked")
    assert method.needs == frozenset()
    assert not method.online
    assert not method.weighted
    assert method.divide_by == "kept"


def test_marks_of_another_length_are_refused():
    with pytest.raises(TokensieveError, match=r"the marks have shape \(1,\)"):
        figures([1], [-100, 1])
