"""The tables of docs/export.md are those of the code; tests/docs runs its commands."""

from __future__ import annotations

import re
from pathlib import Path

from tokensieve.export.targets import TARGETS
from tokensieve.pipeline.imported_values import CHOICES, SCORES

PAGE = (Path(__file__).parents[2] / "docs/export.md").read_text()


def test_its_tables():
    rows = re.findall(r"^\| (`.*?) \|.*?\|(.*?)\|", PAGE, re.MULTILINE)
    weights = {name: "yes" in cell for names, cell in rows for name in re.findall(r"`([a-z-]+)`", names)}
    assert {name: target.carries_weights for name, target in TARGETS.items()} == {
        name: weights[name] for name in TARGETS
    }
    assert all(f"`{name}`" in PAGE for name in (*SCORES, *CHOICES))
