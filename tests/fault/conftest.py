"""The command line in processes of their own, over many small shards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_shards
from small_shards import tokensieve
from warm import Warm

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"


@pytest.fixture
def start(demo_pool) -> Callable[..., Any]:
    """Return a function that starts a command into an output folder, by a launcher and another script where given."""

    def begin(
        command: str, output: Path, *more: str, launcher: tuple[str, ...] = (), script: str = small_shards.__file__
    ) -> Any:
        arguments = [
            command, f"output={output}", f"data.files=[{demo_pool}]", f"models.base={MODEL}", "method=loss",
            "controls=[]", "measure.statistics=[entropy]", "measure.token_budget=512", "train=null",
        ]  # fmt: skip
        if not launcher:
            return Warm(tokensieve, [*arguments, *more])
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
        return subprocess.Popen(
            [sys.executable, *launcher, script, *arguments, *more],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return begin
