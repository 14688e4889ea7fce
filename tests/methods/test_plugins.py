"""Methods of other packages: a real package, installed by pip into a folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from warm import command

from tokensieve.demo.dataset import write
from tokensieve.errors import TokensieveError
from tokensieve.methods import _class_of, _own_methods, _plugins, all_methods, get_method, package_of

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "src/tokensieve/demo/model"
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "sieve-shortest"
version = "1.2"
[project.entry-points."tokensieve.methods"]
shortest = "sieve_shortest:Shortest"
{more}
"""
MODULE = '''\
"""Keeps tokens of short examples."""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
import tokensieve

@dataclass(frozen=True)
class Shortest(tokensieve.FractionMethod):
    """Keep the tokens of the shortest examples, of equally long ones those with the lowest loss.

    Attributes:
        by_loss: how much a nat of loss counts against a token.
    """
    name: ClassVar[str] = "shortest"
    summary: ClassVar[str] = "tokens of short examples"
    formula: ClassVar[str] = "-length - by_loss * loss_base"
    by_loss: float = 0.01

    @property
    def needs(self):
        return frozenset({("base", "loss")})

    def score(self, statistics):
        """Return float32 [tokens]."""
        lengths = np.diff(statistics.cu_seqlens)
        loss = np.where(statistics.trainable, statistics.get("base", "loss"), 0)
        return (-np.repeat(lengths, lengths) - self.by_loss * loss).astype(np.float32)
'''


def install(folder: Path, more: str = "") -> Path:
    """Install the package with pip, as its users would, and return the folder to put on the path."""
    source, target = folder / "source", folder / "site"
    (source / "sieve_shortest").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PROJECT.format(more=more))
    (source / "sieve_shortest/__init__.py").write_text(MODULE)
    (source / "sieve_shortest/leaves.py").write_text("raise SystemExit(3)\n")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return install(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def faulty_site(tmp_path_factory) -> Path:
    more = """
random = "sieve_shortest:Shortest"
absent = "sieve_absent:Method"
longest = "sieve_shortest:Shortest"
number = "sieve_shortest:np"
"up/down" = "sieve_shortest:Shortest"
base = "sieve_shortest:Shortest"
reference = "sieve_shortest:Shortest"
imported = "sieve_shortest:Shortest"
leaves = "sieve_shortest.leaves:Method"
"""
    return install(tmp_path_factory.mktemp("faulty"), more)


@pytest.fixture
def on_path(monkeypatch):
    """Return a function that puts folders on the path; methods are looked for again, before and after."""

    def forget():
        for cached in (_plugins.plugins, all_methods, _class_of):
            cached.cache_clear()

    def put(*folders: Path):
        for folder in folders:
            monkeypatch.syspath_prepend(str(folder))
        forget()

    yield put
    monkeypatch.undo()
    sys.modules.pop("sieve_shortest", None)
    forget()


def tokensieve(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess:
    return command(*arguments, cwd=cwd, environment={**os.environ, "PYTHONPATH": str(path)})


def test_the_command_line_selects_with_a_method_of_another_package(site, tmp_path):
    listed = tokensieve("methods", path=site, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "shortest: tokens of short examples" in listed.stdout
    assert "package: sieve-shortest 1.2" in listed.stdout
    write(0, tmp_path / "data")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"output: run\ndata: {{files: data/pool.jsonl, limit: 30}}\nmodels: {{base: {MODEL}}}\n"
        "method: {name: shortest, fraction: 0.5, by_loss: 0.1}\n"
    )
    done = tokensieve("select", "recipe.yaml", path=site, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    selection = json.loads((tmp_path / "run/arms/shortest/selection.json").read_text())
    assert selection["kept"] == selection["trainable"] // 2
    assert selection["package"] == "sieve-shortest 1.2"
    assert selection["parameters"]["by_loss"] == 0.1
    gone = tokensieve("select", "recipe.yaml", path=tmp_path, cwd=tmp_path)
    assert gone.returncode == 2
    assert "unknown method 'shortest'" in gone.stderr


def test_an_export_imports_no_method_of_another_package(faulty_site, tmp_path):
    write(0, tmp_path / "data")
    arguments = ["output=run", "data={files: data/pool.jsonl, limit: 10}", f"models.base={MODEL}", "method=loss"]
    assert tokensieve("select", *arguments, "controls=[]", path=faulty_site, cwd=tmp_path).returncode == 0
    done = tokensieve("export", "run", "--to", "trl", path=faulty_site, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


def test_another_version_of_the_package_is_not_mistaken_for_the_same(site, tmp_path):
    write(0, tmp_path / "data")
    arguments = ["select", "output=run", "data={files: data/pool.jsonl, limit: 10}", f"models.base={MODEL}"]
    arguments += ["method=shortest", "controls=[]"]
    assert tokensieve(*arguments, path=site, cwd=tmp_path).returncode == 0
    newer = tmp_path / "newer"
    newer.mkdir()
    for path in site.iterdir():
        (newer / path.name).symlink_to(path)
    (newer / "sieve_shortest-1.2.dist-info").unlink()
    info = newer / "sieve_shortest-1.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sieve-shortest\nVersion: 1.3\n")
    (info / "entry_points.txt").write_text("[tokensieve.methods]\nshortest = sieve_shortest:Shortest\n")
    done = tokensieve(*arguments, path=newer, cwd=tmp_path)
    assert done.returncode == 2
    assert "package: 'sieve-shortest 1.2' there, 'sieve-shortest 1.3' here" in done.stderr


def test_nothing_is_imported_until_it_is_asked_for(site, on_path):
    on_path(site)
    assert "shortest" in _plugins.plugins()
    get_method("random")
    assert "sieve_shortest" not in sys.modules
    method = get_method("shortest", fraction=0.5)
    assert "sieve_shortest" in sys.modules
    assert method.fraction == 0.5  # type: ignore[attr-defined]
    assert package_of("shortest") == "sieve-shortest 1.2"
    assert package_of("random") is None
    assert list(all_methods()) == sorted([*_own_methods(), "shortest"])
    with pytest.raises(TokensieveError, match="did you mean 'shortest'"):
        get_method("shortes")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("absent", "cannot be imported: ModuleNotFoundError: No module named 'sieve_absent'"),
        ("longest", "has the name 'shortest', which differs from the entry point"),
        ("number", "is not a subclass of tokensieve.Method"),
        ("up/down", "has a name with characters other than lower-case letters"),
        ("leaves", "cannot be imported: SystemExit: 3"),
        *((name, "has a reserved name") for name in ("base", "reference", "imported")),
    ],
)
def test_a_broken_method_names_its_package(faulty_site, on_path, name, fault):
    on_path(faulty_site)
    with pytest.raises(TokensieveError, match=fault) as error:
        get_method(name)
    assert f"the method '{name}' of the package sieve-shortest 1.2" in str(error.value)


def test_listing_goes_on_without_what_is_broken(faulty_site, on_path):
    on_path(faulty_site)
    with pytest.warns(UserWarning, match="sieve-shortest 1") as warned:
        found = all_methods()
    assert {*_own_methods(), "shortest"} == set(found)
    messages = sorted(str(warning.message) for warning in warned)
    assert len(messages) == 9
    assert messages[-1].startswith("the package sieve-shortest 1.2 offers a method 'random'")
    assert found["random"].__module__ == "tokensieve.methods.random_control"


def test_two_packages_with_one_name(site, tmp_path, on_path):
    info = tmp_path / "other-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[tokensieve.methods]\nshortest = other:Method\n")
    on_path(site, tmp_path)
    with pytest.raises(TokensieveError, match=r"the packages other 2\.0 and sieve-shortest 1\.2 both offer"):
        get_method("shortest")


def test_a_package_that_lies_on_the_path_twice_is_one(site, tmp_path, on_path):
    (tmp_path / "again").symlink_to(site)
    on_path(site, tmp_path / "again")
    assert get_method("shortest").name == "shortest"


def test_the_command_line_warns_in_one_line(faulty_site, tmp_path):
    listed = tokensieve("methods", "--json", path=faulty_site, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["shortest"]["package"] == "sieve-shortest 1.2"
    assert rows["random"]["package"] is None
    assert "absent" not in rows
    warnings = [line for line in listed.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 9
    assert ".py:" not in listed.stderr
