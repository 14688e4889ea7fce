"""``python -m tokensieve`` is the command ``tokensieve``."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80"}


def called(command: list[str], folder: Path) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, *command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 0), (["--help"], 0), (["show", "--help"], 0), (["show", "absent"], 2), (["no-such-command"], 2)],
)
def test_the_module_does_what_the_command_does(arguments, code, tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["tokensieve"].split(":")
    script = f"import sys; from {module} import {function}; sys.exit({function}())"  # as installers write it
    found = called(["-m", "tokensieve", *arguments], tmp_path)
    assert found == called(["-c", script, *arguments], tmp_path)
    assert found[0] == code
    shown = found[1] or found[2]
    assert "__main__" not in shown
    if code == 0:
        assert shown.lstrip().startswith(f"usage: tokensieve {arguments[0] if arguments[1:] else '[-h]'}")
