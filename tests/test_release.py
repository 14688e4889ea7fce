"""The wheel holds what the commands need, and runs without this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tokensieve

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    assert path.name == f"tokensieve-{tokensieve.__version__}-py3-none-any.whl"
    return path


def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tokensieve/")}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    files = {name.removeprefix("src/") for name in tracked.stdout.splitlines() if (ROOT / name).is_file()}
    assert held == files
    assert {"tokensieve/demo/model/model.safetensors", "tokensieve/report/html/templates/page.html.j2"} <= held
    assert {"tokensieve/recipes/token-cleaning.yaml", "tokensieve/recipes/papers/xtf-paper.yaml"} <= held
    assert "tokensieve/py.typed" in held


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["eval"]])
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    floors = {canonicalize_name(one.name): one.specifier for one in allowed}
    del floors[canonicalize_name("torch")]  # stays at the build in use
    assert len(floors) > 15
    for name, specifier in floors.items():
        (floor,) = specifier
        assert floor.operator == ">="
        assert Version(tested[name]) == Version(floor.version), name


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_outside_the_repository(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import tokensieve; print(tokensieve.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(site))
    demo = [sys.executable, "-m", "tokensieve", "demo", "--json"]
    done = subprocess.run(demo, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = {row["name"]: row for row in json.loads(done.stdout)["results"]}
    assert results["token-cleaning"]["exact_match"]["low"] > results["full"]["exact_match"]["high"]
    assert (tmp_path / "runs/demo/report.html").is_file()
