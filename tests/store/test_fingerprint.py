from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.errors import TokensieveError
from tokensieve.store import fingerprint
from tokensieve.store.fingerprint import check_same, of_files, of_folder, of_numbers, of_value, versions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_the_order_of_keys_does_not_matter_and_values_do(value):
    assert of_value(dict(reversed(value.items()))) == of_value(value)
    assert of_value({**value, "a new key": 1}) != of_value(value)
    assert len(of_value(value)) == 64


@pytest.mark.parametrize("numbers", [[], [7], [0, 2**40, 3], list(range(7))])
def test_numbers_have_the_fingerprint_of_their_list(numbers, monkeypatch):
    monkeypatch.setattr(fingerprint, "_BLOCK", 3)
    assert of_numbers(np.array(numbers, dtype=np.int64)) == of_value(numbers)


def test_files_by_content_and_order(tmp_path):
    for name, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name).write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert of_files([a]) == of_files([c]) != of_files([b])
    assert of_files([a, b]) != of_files([b, a])
    (tmp_path / "d").write_text("12")
    assert of_files([a, b]) != of_files([tmp_path / "d"])


def test_folder_by_matching_names_and_contents(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "x.safetensors").write_text("1")
    patterns = ["config.json", "*.safetensors"]
    first = of_folder(tmp_path, patterns)
    (tmp_path / "README.md").write_text("no matter")
    assert of_folder(tmp_path, patterns[::-1]) == first
    (tmp_path / "x.safetensors").rename(tmp_path / "y.safetensors")
    assert of_folder(tmp_path, patterns) != first
    with pytest.raises(TokensieveError, match=r"no \*.bin in this folder") as error:
        of_folder(tmp_path, ["*.bin"])
    assert error.value.where == str(tmp_path)


def test_versions_name_every_library_that_figures_depend_on():
    assert {"tokensieve", "torch", "transformers", "tokenizers", "pyarrow"} <= versions().keys()


def test_equal_objects_are_the_same():
    check_same({"a": {"b": [1]}}, {"a": {"b": [1]}}, where="here", hint="nothing")
    with pytest.raises(TokensieveError, match=r"a\.b: \[1\] there, \[2\] here"):
        check_same({"a": {"b": [1]}}, {"a": {"b": [2]}}, where="here", hint="nothing")


def test_every_difference_is_named_from_both_sides():
    found = {"data": "x", "model": {"dtype": "float32", "weights": "w"}, "old": 1}
    wanted = {"data": "x", "model": {"dtype": "bfloat16", "weights": "w"}, "new": 2}
    with pytest.raises(TokensieveError) as error:
        check_same(found, wanted, where="runs/a", hint="give another folder")
    assert "model.dtype: 'float32' there, 'bfloat16' here" in error.value.what
    assert "old: 1 there, None here" in error.value.what
    assert "new: None there, 2 here" in error.value.what
    assert "data" not in error.value.what
    assert "weights" not in error.value.what
    assert (error.value.where, error.value.hint) == ("runs/a", "give another folder")
