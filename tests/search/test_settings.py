"""The section of a recipe that says what a search tries."""

from __future__ import annotations

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.recipe import load_recipe

NEEDED = ["output=a", "data=b.jsonl", "models.base=c"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("search.fractions=[0.5, 1]", "fractions has 1, and a fraction to try is above 0 and below 1"),
        ("search.fractions=[0]", "fractions has 0"),
        ("search.fractions=[0.5, 0.5]", "a list of different numbers"),
        ("search.fractions=[]", "a list of different numbers"),
        ("search={minutes: 3, probes: 40}", "minutes and probes are both given"),
        ("search.minutes=0", "minutes is 0, it must be above 0"),
        ("search.probes=0", "search.probes is 0, it must be at least 1"),
        ("search.seeds=1", "search.seeds is 1, it must be at least 2"),
        ("search.fraction=0.5", "unknown key 'fraction'; did you mean 'fractions'"),
    ],
)
def test_what_cannot_be_searched_is_refused(change, told):
    with pytest.raises(TokensieveError, match=told) as error:
        load_recipe(None, [*NEEDED, change])
    assert "search" in str(error.value)


def test_one_fraction_and_one_method_stand_for_lists():
    found = load_recipe(None, [*NEEDED, "search={fractions: 0.5, methods: entropy}"]).search
    assert found.fractions == (0.5,)
    assert found.methods == ({"name": "entropy"},)
    assert found.seconds == 3600
