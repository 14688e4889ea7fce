"""The command line in processes of their own, over many small shards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
# Small shards, so that there are many; the command line itself is the user's.
SCRIPT = """
import sys
from tokensieve.data import prepare
prepare.SHARD_TOKENS = 4000
prepare.CHUNK_ROWS = 100
from tokensieve.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="session")
def script(tmp_path_factory) -> Path:
    """Return a script that is the command line over small shards."""
    path = tmp_path_factory.mktemp("script") / "small_shards.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def start(demo_pool, script) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a command into an output folder, by a launcher or another script where given."""
    usual = script

    def begin(
        command: str, output: Path, *more: str, launcher: tuple[str, ...] = (), script: Path | None = None
    ) -> subprocess.Popen[str]:
        arguments = [
            command, f"output={output}", f"data.files=[{demo_pool}]", f"models.base={MODEL}", "method=loss",
            "controls=[]", "measure.statistics=[entropy]", "measure.token_budget=512", "train=null",
        ]  # fmt: skip
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
        return subprocess.Popen(
            [sys.executable, *launcher, str(script or usual), *arguments, *more],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return begin
