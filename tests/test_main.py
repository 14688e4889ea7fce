"""The command ``tokensieve`` as such: ``python -m tokensieve``, its version, and the order of what it is given."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import tokensieve
from tokensieve import cli
from tokensieve.cli import COMMANDS, main, name_of

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


def test_the_version_is_printed(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"tokensieve {tokensieve.__version__}\n"


RECIPE, RUN, RUNS, FILES = ["recipe.yaml", "seed=1"], ["runs/a"], ["runs/a", "runs/b"], ["a.jsonl", "b.jsonl"]
GIVEN: dict[str, list[str]] = {
    **dict.fromkeys(("run", "plan", "measure", "select", "train", "evaluate", "search", "ceiling"), RECIPE),
    **dict.fromkeys(("report", "serve", "compare"), RUNS),
    **dict.fromkeys(("show", "export", "lm-eval"), RUN),
    "demo": [],
    "methods": [],
    **dict.fromkeys(("inspect", "mark"), FILES),
    "import": ["runs/a", "scores.parquet"],
    "recipes": ["token-cleaning"],
    "completion": ["bash"],
}
"""What has no name, by command."""
MANY = ["a=b", "c=d"]


def options_of(command: Callable[..., None]) -> dict[str, list[str]]:
    """Return each option of a command with a value of its type; one with many values has two."""
    kinds = get_type_hints(command)
    found = {}
    for one in inspect.signature(command).parameters.values():
        if one.kind is not one.KEYWORD_ONLY:
            continue
        name = "--json" if one.name == "as_json" else f"--{one.name.replace('_', '-')}"
        kind = kinds[one.name]
        parts = {kind, *get_args(kind)}
        choices = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
        choices = choices or [part for part in get_args(kind) if isinstance(part, str)]
        value = MANY if get_origin(kind) is tuple else ["33" if parts & {int, float} else (choices or ["x"])[0]]
        found[one.name] = [name] if kind is bool else [name, *value]
    return found


def test_every_command_is_tried_with_its_options():
    assert set(map(name_of, COMMANDS)) == set(GIVEN)


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_options_stand_before_between_and_after_what_has_no_name(command, monkeypatch):
    """Each option alone, and all together."""
    calls: list[tuple[Any, ...]] = []

    @functools.wraps(command)
    def recorded(*positional: Any, **named: Any) -> None:
        calls.append((positional, named))

    monkeypatch.setattr(cli, "COMMANDS", (recorded,))
    given, options = GIVEN[name_of(command)], options_of(command)
    signature = inspect.signature(command).parameters
    needed = [word for name in options if signature[name].default is inspect.Parameter.empty for word in options[name]]
    every = [word for option in options.values() for word in option]
    tried = [[], *([*option, *needed] for option in options.values()), every] if not needed else [needed, every]
    for words in tried:
        # Up to the next option, what follows one with many values is one of them.
        ends = ["--json"] if words[-2:] == MANY else []
        calls.clear()
        for arguments in (
            [*given, *words, *ends],
            [*words, *ends, *given],
            [*given[:1], *words, *ends, *given[1:]],
        ):
            main([name_of(command), *arguments])
        assert len(calls) == 3
        assert calls[1] == calls[0]
        assert calls[2] == calls[0]
        for name in options:
            assert (calls[0][1][name] != signature[name].default) == (options[name][0] in [*words, *ends])


def test_a_recipe_may_lie_in_a_folder_that_is_named_after_an_override(tmp_path, monkeypatch, capsys):
    (tmp_path / "lr=2").mkdir()
    (tmp_path / "lr=2/recipe.yaml").write_text("output: out\ndata: absent.jsonl\nmodels: {base: absent}\nseed: x\n")
    monkeypatch.chdir(tmp_path)
    for arguments in (["lr=2/recipe.yaml"], ["seed=y", "lr=2/recipe.yaml"]):
        with pytest.raises(SystemExit) as stop:
            main(["run", *arguments])
        assert stop.value.code == 2
        assert f"seed is '{'x' if len(arguments) == 1 else 'y'}'" in capsys.readouterr().err


def test_inspect_without_data_is_told_what_to_give(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["inspect"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: no data given\n  at: command line\n  hint: tokensieve inspect")
