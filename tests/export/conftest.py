"""Runs to export and to import into: several shards, examples that keep nothing, and weights of a fixed model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trained_examples import MODEL

from tokensieve.data import prepare
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.runs.view import load_run


@pytest.fixture(scope="session")
def make_run(demo_pool) -> Callable[..., Path]:
    """Return a function that selects over 40 rows in shards of about 300 tokens."""

    def make(output: Path, *overrides: str) -> Path:
        recipe = load_recipe(
            None,
            [
                f"output={output}",
                f"data.files=[{demo_pool}]",
                "data.limit=40",
                "data.max_length=256",
                f"models.base={MODEL}",
                "train=null",
                *overrides,
            ],
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prepare, "SHARD_TOKENS", 300)
            return pipeline.run(recipe, "select")

    return make


@pytest.fixture(scope="session")
def finished(make_run, tmp_path_factory) -> Path:
    """A run whose method drops whole examples, with all tokens and a random choice as controls."""
    output = tmp_path_factory.mktemp("runs") / "loss"
    folder = make_run(output, "method={name: loss, fraction: 0.06}", "select.keep_turn_end=false")
    assert load_run(folder).store.shards > 3
    return folder


@pytest.fixture(scope="session")
def weighted(make_run, tmp_path_factory) -> Path:
    """A run whose method weights tokens by a model that does not change."""
    output = tmp_path_factory.mktemp("runs") / "dft"
    return make_run(output, "method=dft", f"models.current={MODEL}", "controls=[]")


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """The run with controls, for this test alone."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
