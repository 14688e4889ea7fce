"""Every console, python and yaml block of README and docs is run, page by page, as a reader would."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import warnings
from pathlib import Path

import pytest
import yaml
from pages import (
    LANGUAGES,
    NOT_RUN,
    PAGES,
    ROOT,
    Block,
    blocks,
    commands,
    why_not_run,
)

import tokensieve
from tokensieve import cli
from tokensieve.cli import main
from tokensieve.pipeline import recipe as config

RUNNABLE = {page: [block for block in blocks(page) if block.language in LANGUAGES] for page in PAGES}
PRINTED = {
    "docs/python.md": (
        "[ 0.  1. -1.  4.  0.  0.]",
        "[-100    7 -100    9 -100 -100]",
        "[-100    7 -100    9 -100    3]",
        "[array([-100, -100,    7, -100]), array([-100, -100])]",  # one of three; the two models are one
    )
}
"""What the Python of a page must print."""


@pytest.mark.parametrize("page", [page for page, found in RUNNABLE.items() if found])
def test_a_page_does_what_it_says(page, desk, capsys):
    names: dict = {}
    printed = ""
    for block in RUNNABLE[page]:
        if block.file is not None:
            (desk / block.file).write_text(block.text)
        if block.file == "recipe.yaml":  # who writes a recipe has no run yet
            shutil.rmtree(desk / "runs")
    for block in RUNNABLE[page]:
        if block.language == "console":
            for command in commands(block):
                type_in(command, f"{page}: {command}", capsys)
        elif block.language == "python":
            run_python(block, page, names)
            printed += capsys.readouterr().out
        else:
            check_yaml(block, page, desk)
    assert [text for text in PRINTED.get(page, ()) if text not in printed] == []


def type_in(command: str, where: str, capsys) -> None:
    if why_not_run(command) is not None:
        return
    command = re.sub(r'^eval "\$\((.*)\)"', r"\1", command)
    command, _, file = command.partition(" > ")
    words = shlex.split(command, comments=True)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # a variable of the environment
        words.pop(0)
    assert words[0] == "tokensieve", f"{where}: neither run nor in NOT_RUN"
    capsys.readouterr()
    main(words[1:])
    printed = capsys.readouterr().out
    assert printed, f"{where}: it printed nothing"
    if re.fullmatch(r"[\w.-]+", file):  # not one of the reader's shell
        Path(file).write_text(printed)


def run_python(block: Block, page: str, names: dict) -> None:
    source = "\n" * (block.line - 1) + block.text  # so that an error names the line of the page
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own
        exec(compile(source, page, "exec"), names)


def check_yaml(block: Block, page: str, desk: Path) -> None:
    """Load a recipe, or a part of one in place of the same keys of the recipe that the page has."""
    where = f"{page}:{block.line}"
    values = yaml.safe_load(block.text)
    path = desk / (block.file or "part.yaml")
    if block.file is None:
        path.write_text(yaml.safe_dump({**yaml.safe_load((desk / "recipe.yaml").read_text()), **values}))
    loaded = tokensieve.load_recipe(path, [])
    assert set(values) <= set(config.recipe_values(loaded)), where
    main(["run", str(path), "output=runs/checked", "--dry-run"])


def test_every_block_that_a_reader_can_run_is_found():
    """Fences that are indented, or of a language that is misspelled, would pass unseen."""
    known = {*LANGUAGES, "text", "json", "jinja", "toml", "bash"}
    for page in PAGES:
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        opened = [line for line in lines if line.lstrip().startswith("```")]
        assert len(opened) == 2 * len(blocks(page)), page
        assert {block.language for block in blocks(page)} <= known, page


def test_what_is_not_run_is_there_and_little():
    consoles = [block for found in RUNNABLE.values() for block in found if block.language == "console"]
    typed = [command for block in consoles for command in commands(block)]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command) for command in typed), f"no page has it any more: {pattern}"
    assert sum(why_not_run(command) is not None for command in typed) * 3 < len(typed)


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_exist(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for command in re.findall(r"`tokensieve ([a-z][^`]*)`", text):
        name, *rest = shlex.split(command)
        known = {given.__name__.rstrip("_").replace("_", "-"): given for given in cli.COMMANDS}
        assert name in known, f"{page}: tokensieve {command}"
        options = {word.removeprefix("--") for word in rest if word.startswith("--")}
        parameters = {parameter.removeprefix("as_") for parameter in inspect.signature(known[name]).parameters}
        assert {option.replace("-", "_") for option in options} <= parameters, f"{page}: tokensieve {command}"
