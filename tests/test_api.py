from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_origin

import numpy as np
import pytest

import tokensieve

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_documented():
    for name in tokensieve.__all__:
        value = getattr(tokensieve, name)
        assert name in dir(tokensieve)
        if callable(value) and get_origin(value) is None:  # an alias of a type cannot hold a docstring
            assert value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tokensieve.nothing  # noqa: B018


def test_selection_on_plain_lists_and_arrays():
    statistics = tokensieve.Statistics(
        cu_seqlens=np.array([0, 4, 6]),
        labels=np.array([-100, 7, 8, 9, -100, 3]),
        values={
            ("base", "loss"): np.array([0, 2, 1, 5, 0, 1], dtype=np.float32),
            ("reference", "loss"): np.array([0, 1, 2, 1, 0, 1], dtype=np.float32),
        },
    )
    method = tokensieve.get_method("token-cleaning", fraction=0.5)
    assert method.score(statistics).tolist() == [0, 1, -1, 4, 0, 0]
    assert method.select(statistics).tolist() == [-100, 7, -100, 9, -100, -100]
    labels = tokensieve.select_labels(
        method.score(statistics),
        statistics.labels,
        statistics.cu_seqlens,
        fraction=0.5,
        scope="example",
        rounding="ceil",
    )
    assert labels.tolist() == [-100, 7, -100, 9, -100, 3]


def test_help_answers_quickly_and_without_heavy_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[^\w-]", line)[0].lower() for line in project["dependencies"]}
    needed -= {"tyro", "docstring-parser"}  # tyro reads docstrings with it
    heavy = {name for name, of in packages_distributions().items() if needed & {name.lower() for name in of}}
    assert {"numpy", "skimage", "torch"} <= heavy
    code = f"""
import sys
from tokensieve.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)
"""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert "tokensieve demo" in done.stdout
    assert min(times) < 1.5  # half a second on an idle machine; the bound leaves room for a busy one
