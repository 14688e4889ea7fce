"""Kill -9 in the middle of measuring, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokensieve.demo.dataset import write

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
# Small shards, so that a kill falls between two of them; the command line itself is the user's.
COMMAND = """
import sys
from tokensieve.data import prepare
prepare.SHARD_TOKENS = 4000
from tokensieve.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(0, folder)
    return folder / "pool.jsonl"


def measure(pool: Path, output: Path) -> subprocess.Popen[bytes]:
    arguments = [
        "measure", f"output={output}", f"data.files=[{pool}]", f"models.base={MODEL}", "method=loss", "controls=[]",
        "measure.statistics=[entropy]", "measure.token_budget=512",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )


def shards(root: Path) -> dict[Path, bytes]:
    found = sorted((root / "store/statistics").rglob("shard-*.arrow"))
    return {path.relative_to(root): path.read_bytes() for path in found}


def test_a_killed_measurement_goes_on_and_ends_byte_identical(pool, tmp_path):
    whole = measure(pool, tmp_path / "whole/run")
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors.decode()
    expected = shards(tmp_path / "whole")
    assert len(expected) >= 12

    killed = measure(pool, tmp_path / "killed/run")
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "killed/store/statistics").glob("*/*/shard-*.arrow"))) < 5:
        assert killed.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = {path: (tmp_path / "killed" / path).stat().st_mtime_ns for path in shards(tmp_path / "killed")}
    assert 5 <= len(before) < len(expected)

    again = measure(pool, tmp_path / "killed/run")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors.decode()
    assert shards(tmp_path / "killed") == expected
    after = {path: (tmp_path / "killed" / path).stat().st_mtime_ns for path in before}
    assert after == before, "a finished shard was measured twice"
