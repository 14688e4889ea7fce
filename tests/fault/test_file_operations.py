"""Kills, signals and full disks at chosen file operations of every command, and the same command again.

`make soak` runs SOAK_KILLS of them in place of a few.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Commands, commands_in, contents, left_behind

STAGES = {
    "tokenise": ("run", "store/examples/"),
    "measure": ("run", "store/statistics/"),
    "select": ("run", "/scores"),
    "write": ("run", "/cleaned"),
    "warm up": ("run", "warm-up"),
    "train": ("run", "store/models/"),
    "evaluate": ("run", "evaluation"),
    "report": ("run", "report.html"),
    "note": ("run", "run/"),
    "rounds": ("rounds", "/rounds/"),
    "toss-pro": ("toss-pro", "store/models/"),
    "export": ("export", ""),
    "import": ("import", ""),
}
"""The command that does a job, and what is in the paths that it writes for it."""
SOAK = int(os.environ.get("SOAK_KILLS", "0"))
FINISHED = ("store/examples/*/*", "store/statistics/*/*/*.arrow", "store/evaluations/*/*", "run/exports/*/*")


def finished(root: Path) -> dict[Path, tuple[int, int]]:
    """Return what tells whether finished files were written again."""
    paths = [path for pattern in FINISHED for path in root.glob(pattern)]
    for model in root.glob("store/models/*/manifest.json"):
        paths += model.parent.rglob("*.safetensors")
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in visible if path.name != "manifest.json"}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[..., Path]) -> Commands:
    return commands_in(tmp_path_factory.mktemp("operations"), tiny_model_folder("llama"))


def check_again(commands: Commands, name: str) -> None:
    """Check that the same command goes on, does nothing twice and leaves what an undisturbed one leaves."""
    before = finished(commands.root)
    code, said, _ = commands.run(name)
    assert code == 0, said
    # The note of a killed holder is read while its lock is held alone, and stays until somebody takes the lock again.
    assert [path for path in left_behind(commands.root) if path.suffix != ".holder"] == []
    found, wanted = contents(commands.root), commands.whole(name).files
    # First: a key is made from weights, and where one differs, the file that made it tells more.
    assert [path for path in found if path in wanted and found[path] != wanted[path]] == []
    assert found.keys() == wanted.keys()
    after = finished(commands.root)
    assert [path for path in before if before[path] != after.get(path)] == [], "done twice"


def trials(*few: str) -> list[tuple[str, int]]:
    """Return stages with the number of a trial: a few, or, where `make soak` runs, all of them again and again."""
    names = list(STAGES) if SOAK else few
    return [(names[trial % len(names)], trial) for trial in range(SOAK or len(few))]


def hit(commands: Commands, stage: str, trial: int, fault: str) -> tuple[int, str]:
    """Carry out the command of a stage with a fault at an operation of it; return exit code and what was said."""
    name, part = STAGES[stage]
    number = commands.whole(name).pick(part, random.Random(f"{stage} {fault} {trial}"))
    commands.begin(name)
    return commands.run(name, number, fault)[:2]


@pytest.mark.parametrize(("stage", "trial"), trials("measure", "select", "train", "rounds", "export"))
def test_a_kill_at_any_file_operation(stage, trial, commands):
    code, said = hit(commands, stage, trial, "kill")
    assert code == -signal.SIGKILL, said
    check_again(commands, STAGES[stage][0])


@pytest.mark.parametrize(("stage", "trial"), trials("write", "evaluate"))
def test_a_full_disk_at_any_file_operation(stage, trial, commands):
    code, said = hit(commands, stage, trial, "full")
    if code == 0:  # nothing more was to be written
        assert contents(commands.root) == commands.whole(STAGES[stage][0]).files
    else:
        assert code == 2, said
        assert "error: the system refuses: No space left on device" in said
        assert "Traceback" not in said
        assert "run the same command again" in said
    assert left_behind(commands.root) == []
    check_again(commands, STAGES[stage][0])


@pytest.mark.parametrize(("stage", "trial"), trials("tokenise", "warm up"))
def test_a_signal_at_any_file_operation(stage, trial, commands):
    fault = ("term", "int")[trial % 2]
    code, said = hit(commands, stage, trial, fault)
    assert code == {"term": 143, "int": 130}[fault], said
    assert said.splitlines()[-1].endswith("run the same command again to resume")
    assert "Traceback" not in said
    assert left_behind(commands.root) == []
    check_again(commands, STAGES[stage][0])
