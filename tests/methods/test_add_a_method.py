"""`docs/add-a-method.md`, word for word: its blocks as a package of their own, installed and used as the page says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from warm import command

import tokensieve
from tokensieve.containers import IGNORE_INDEX
from tokensieve.demo.dataset import write
from tokensieve.measure.statistics import FAMILIES, MEASURABLE, in_training

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/add-a-method.md").read_text(encoding="utf-8")
MODEL = ROOT / "src/tokensieve/demo/model"
FILES = dict(re.findall(r"^```(?:toml|python)\n# ([\w.]+)\n((?s:.*?))^```$", PAGE, re.MULTILINE))
(CONSOLE,) = re.findall(r"^```console\n((?s:.*?))^```$", PAGE, re.MULTILINE)
COMMANDS = [shlex.split(line.removeprefix("$ ")) for line in CONSOLE.splitlines()]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The folder that someone has who copied the page's files."""
    folder = tmp_path_factory.mktemp("package")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def environment(package, tmp_path_factory) -> dict[str, str]:
    """Variables under which the package is installed, in a folder of its own."""
    site = tmp_path_factory.mktemp("site")
    assert COMMANDS[0] == ["pip", "install", "-e", "."]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "src")])}


def typed(line: list[str], cwd: Path, environment: dict[str, str]) -> str:
    name, *words = line
    assert name == "tokensieve"
    done = command(*words, cwd=cwd, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_the_files_of_a_package():
    assert list(FILES) == ["pyproject.toml", "calm_tokens.py", "test_calm.py"]


def test_the_commands_of_the_page_select_with_the_method(package, environment, tmp_path):
    write(0, tmp_path / "data")
    recipe = f"output: run\ndata: {{files: data/pool.jsonl, limit: 30}}\nmodels: {{base: {MODEL}}}\nmethod: loss\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    _, methods, select = COMMANDS
    assert "calm: tokens of middling loss" in typed(methods, tmp_path, environment)
    typed(select, tmp_path, environment)
    selection = json.loads((tmp_path / "runs/calm/arms/calm/selection.json").read_text())
    assert selection["package"] == "calm-tokens 0.1"
    assert selection["parameters"]["centre"] == 2
    assert selection["kept"] == int(selection["trainable"] * 0.6)


def test_the_test_of_the_page_passes_and_can_fail(package, environment, tmp_path):
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_calm.py"]
    done = subprocess.run(tests, cwd=package, env=environment, capture_output=True, text=True)
    assert "2 passed" in done.stdout
    wrong = FILES["calm_tokens.py"].replace("return -np.abs(", "return np.abs(")
    (tmp_path / "calm_tokens.py").write_text(wrong)
    (tmp_path / "test_calm.py").write_text(FILES["test_calm.py"])
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run(tests, cwd=tmp_path, env={**environment, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 1
    assert b"test_the_tokens_nearest_to_the_centre_are_kept" in done.stdout


def test_every_import_is_public():
    imported = re.findall(r"^(?:from (tokensieve[\w.]*) import (.*)|import (tokensieve.*))$", PAGE, re.MULTILINE)
    assert imported
    for module, names, plain in imported:
        assert (module or plain) in ("tokensieve", "tokensieve.testing")
        if module == "tokensieve":
            assert set(names.split(", ")) <= set(tokensieve.__all__)


def test_every_name_that_the_page_promises_is_public():
    (section,) = re.findall(r"^## What a method can say\n((?s:.*?))^## ", PAGE, re.MULTILINE)
    named = set(re.findall(r"`([A-Z]\w+|check_\w+)`", section))
    assert {"StatisticMethod", "TopExamples", "Float32", "check_range", "IGNORE_INDEX"} <= named
    assert named <= set(tokensieve.__all__)
    assert tokensieve.IGNORE_INDEX == IGNORE_INDEX


def test_the_table_of_statistics_is_that_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (yes|no) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert {name for name, _, _ in rows} == {name for family in FAMILIES for name in family.names}
    for name, measured, trained in rows:
        assert (measured == "yes") == (name in MEASURABLE), name
        assert (trained != "no") == in_training(name), name
