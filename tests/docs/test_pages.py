"""Every console, python and yaml block of README and docs is run, page by page, as a reader would."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import trl
import yaml
from pages import (
    LANGUAGES,
    NOT_RUN,
    PAGES,
    ROOT,
    Block,
    blocks,
    commands,
    lay_out,
    made_elsewhere,
    small,
    why_not_run,
)

import tokensieve
from tokensieve import cli, config
from tokensieve.cli import main

RUNNABLE = {page: [block for block in blocks(page) if block.language in LANGUAGES] for page in PAGES}
(README_RECIPE,) = [block.text for block in RUNNABLE["README.md"] if block.file == "recipe.yaml"]


class Hub:
    """The Hub as far as a push sees it."""

    def whoami(self): ...

    def create_repo(self, repo, **_):
        return huggingface_hub.RepoUrl(f"https://huggingface.co/datasets/{repo}")

    def upload_folder(self, **given):
        assert (Path(given["folder_path"]) / "README.md").is_file()


class SmallConfig(trl.SFTConfig):
    """One step on the CPU, unless told otherwise."""

    def __init__(self, **given):
        tiny = {"max_steps": 1, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none"}
        tiny |= {"use_cpu": True, "bf16": False, "dataloader_pin_memory": False}
        super().__init__(**{**tiny, **given})


def keep_small(monkeypatch) -> None:
    """Make every recipe and every training of the pages one of seconds."""
    load = config.load_recipe
    monkeypatch.setattr(config, "load_recipe", lambda *given: small(load(*given)))
    monkeypatch.setattr(trl, "SFTConfig", SmallConfig)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A desk with a run of the README's recipe."""
    desk = tmp_path_factory.mktemp("desk")
    lay_out(desk)
    (desk / "recipe.yaml").write_text(README_RECIPE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(desk)
        keep_small(monkeypatch)
        main(["run", "recipe.yaml"])
        main(["select", "recipe.yaml", "method.fraction=0.5", "output=runs/half"])
        made_elsewhere(Path("runs/mine"), desk)
    return desk


@pytest.fixture
def desk(finished, tmp_path, monkeypatch) -> Path:
    shutil.copytree(finished, tmp_path / "desk", symlinks=True)
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.syspath_prepend(tmp_path / "desk")
    keep_small(monkeypatch)
    return tmp_path / "desk"


@pytest.mark.parametrize("page", [page for page, found in RUNNABLE.items() if found])
def test_a_page_does_what_it_says(page, desk, capsys):
    names: dict = {}
    for block in RUNNABLE[page]:
        if block.file is not None:
            (desk / block.file).write_text(block.text)
    for block in RUNNABLE[page]:
        if block.language == "console":
            for command in commands(block):
                type_in(command, f"{page}: {command}", capsys)
        elif block.language == "python":
            run_python(block, page, names)
        else:
            check_yaml(block, page, desk)


def type_in(command: str, where: str, capsys) -> None:
    if why_not_run(command) is not None:
        return
    words = shlex.split(command, comments=True)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # a variable of the environment
        words.pop(0)
    assert words[0] == "tokensieve", f"{where}: neither run nor in NOT_RUN"
    capsys.readouterr()
    main(words[1:])
    assert capsys.readouterr().out, f"{where}: it printed nothing"


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
        known = {given.__name__.rstrip("_").replace("_", "-"): given for given in cli._COMMANDS}
        assert name in known, f"{page}: tokensieve {command}"
        options = {word.removeprefix("--") for word in rest if word.startswith("--")}
        parameters = {parameter.removeprefix("as_") for parameter in inspect.signature(known[name]).parameters}
        assert {option.replace("-", "_") for option in options} <= parameters, f"{page}: tokensieve {command}"
