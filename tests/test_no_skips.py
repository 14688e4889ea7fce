"""In continuous integration nothing is skipped; elsewhere a skip gives its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import no_skips
import pytest

TESTS = """
import pytest

@pytest.fixture
def shell():
    pytest.skip("no zsh")

def test_with_a_fixture_that_skips(shell): assert 0

@pytest.mark.skipif(True, reason="no fish")
def test_with_a_mark(): assert 0

def test_that_skips_itself(): pytest.skip("no browser")

@pytest.mark.gpu
def test_of_a_gpu(): pytest.skip("no GPU")

@pytest.mark.xfail
def test_that_is_known_to_fail(): assert 0

def test_that_passes(): assert 1
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "conftest.py").write_text(Path(no_skips.__file__).read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (tmp_path / "test_one.py").write_text(TESTS)
    (tmp_path / "test_two.py").write_text("import pytest\npytest.importorskip('no_such', reason='no package')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", "--continue-on-collection-errors", "."]

    def start(ci: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return start


def test_elsewhere_a_skip_is_a_skip(run):
    done = run("")
    assert done.returncode == 0
    assert "1 passed, 5 skipped, 1 xfailed" in done.stdout


def test_in_ci_every_skip_but_that_of_a_gpu_is_a_failure_with_its_reason(run):
    done = run("true")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 3 errors" in done.stdout
    for reason in ("no zsh", "no fish", "no browser", "no package"):
        assert f"CI=true allows no skipped test. Skipped: {reason}" in done.stdout
