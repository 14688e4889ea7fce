"""A selection whose fields have other types is one error."""

from __future__ import annotations

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.ops.rules import TopFraction
from tokensieve.select.selection import Selection, SelectionIdentity

IDENTITY = SelectionIdentity("a", "b", "loss", {"fraction": 0.5}, SelectionIdentity.rule_fields(TopFraction(0.5)))
SELECTION = Selection(IDENTITY, 10, 5, 2, 0, 2, 2, threshold=1.5, rounds=({"kept": 1},), marks={"marked": 1})


def test_what_is_written_is_read():
    assert Selection.from_json(SELECTION.to_json(), "x").to_json() == SELECTION.to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [("cut", None), ("data", 3), ("kept", "5"), ("kept", None), ("threshold", "a"), ("rounds", {}), ("marks", [])],
)
def test_a_field_of_another_type_is_refused(field, value):
    with pytest.raises(TokensieveError, match="a field of the selection is missing or garbled"):
        Selection.from_json({**SELECTION.to_json(), field: value}, "x")
