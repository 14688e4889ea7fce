"""Settings of the engine that cannot be."""

from __future__ import annotations

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.recipe import load_recipe


def test_fewer_gpus_than_none_are_refused():
    with pytest.raises(TokensieveError, match="gpus_per_worker"):
        load_recipe(None, ["data=x.jsonl", "models.base=x", "output=runs/a", "engine={name: ray, gpus_per_worker: -1}"])
