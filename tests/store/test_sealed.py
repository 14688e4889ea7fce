from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.errors import TokensieveError
from tokensieve.store.sealed import SEAL, has_seal, read_sealed, write_sealed, write_sealed_text

VALUE = {"b": [1, 2.5, None, "é"], "a": {"z": float("inf"), "y": True}, "empty": {}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(path):
    return read_sealed(path, "it is missing", "make it again")


def test_what_is_written_is_read_in_its_order(tmp_path):
    write_sealed(tmp_path / "a.json", VALUE)
    assert list(read(tmp_path / "a.json").items()) == list(VALUE.items())
    assert list(json.loads((tmp_path / "a.json").read_text())) == [*VALUE, SEAL]
    with pytest.raises(TokensieveError, match=r"(?s)it is missing.*b\.json.*make it again"):
        read(tmp_path / "b.json")


@given(st.dictionaries(st.text().filter(lambda name: name != SEAL), JSON, max_size=4))
def test_any_json_object_is_read_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    write_sealed(path, value)
    assert read(path) == json.loads(json.dumps(value))


def test_no_bit_can_flip(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, VALUE)
    whole, found = path.read_bytes(), {}
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with suppress(TokensieveError):
            found[place] = read(path)
    assert len(found) < 0.2 * 8 * len(whole)
    assert all(value == VALUE for value in found.values())  # a space within the layout may be another


def test_a_seal_that_a_value_brought_along_is_replaced(tmp_path):
    write_sealed(tmp_path / "a.json", VALUE)
    found = json.loads((tmp_path / "a.json").read_text())
    write_sealed(tmp_path / "a.json", {**found, "b": []})
    assert read(tmp_path / "a.json") == {**VALUE, "b": []}


def test_a_text_has_its_seal_in_a_comment(tmp_path):
    path = tmp_path / "recipe.yaml"
    write_sealed_text(path, "a: 1\nb: é\n")
    assert has_seal(path)
    whole = path.read_bytes()
    for damaged in (whole.replace(b"1", b"3", 1), whole[:-3], b"", whole.replace(b"xxh3", b"xxh2"), b"b: 1\n" + whole):
        path.write_bytes(damaged)
        assert not has_seal(path)
