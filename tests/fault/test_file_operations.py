"""Kills, signals and full disks at chosen file operations of every command, and the same command again.

`make soak` runs SOAK_KILLS of them in place of a few.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROWS, WORDS = 10, ["the", "sea", "is", "wide", "two", "apples", "are", "left", "of", "three", "Paris", "72"]
TRAIN = {
    "max_steps": 2, "save_steps": 1, "warmup_steps": 0, "learning_rate": 0.01, "logging_steps": 1,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "lora": {"r": 2}, "report_to": "none",
}  # fmt: skip
WARM_UP = "warm_up={rows: 4, pick: random}"
COMMANDS = {
    "run": [f"models.reference.{WARM_UP}", "controls=[random]", "select.jsonl=true"],
    "rounds": ["method={name: self-evolving, subsets: 2}", "controls=[]"],
    "toss-pro": [
        "method={name: toss-pro, rounds: 2, added: 2}", "controls=[]",
        f"models.utility.{WARM_UP}", "models.unsafe.warm_up={files: [HARMFUL]}",
    ],
}  # fmt: skip
"""Recipes, by the schedule that they train with."""
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


class Commands:
    """Carries out commands in one folder, each from the same state, and knows what they leave without a fault."""

    def __init__(self, server: subprocess.Popen[str], root: Path, arguments: dict[str, list[str]]) -> None:
        self._server, self.root, self._arguments = server, root, arguments
        self._log = root.with_name("log")
        self._wholes: dict[str, Whole] = {}

    def run(self, name: str, number: int | None = None, fault: str = "kill") -> tuple[int, str, list[tuple[str, str]]]:
        """Return the exit code, or the negative number of a signal; what was said; and the operations."""
        asked = {"arguments": self._arguments[name], "root": str(self.root), "number": number, "fault": fault}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({**asked, "log": str(self._log)}) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        code = os.waitstatus_to_exitcode(answer["status"])
        return code, self._log.read_text(errors="replace"), [tuple(one) for one in answer["operations"]]

    def begin(self, name: str) -> None:
        """Put the state before a command into the folder: nothing, or a finished run."""
        shutil.rmtree(self.root, ignore_errors=True)
        if name in ("export", "import"):
            self.whole("run")
            shutil.copytree(self.root.with_name("saved"), self.root)

    def whole(self, name: str) -> Whole:
        """Return what a command leaves that nothing disturbs."""
        if name not in self._wholes:
            self.begin(name)
            code, said, operations = self.run(name)
            assert code == 0, said
            if name == "run":
                shutil.copytree(self.root, self.root.with_name("saved"))
            self._wholes[name] = Whole(contents(self.root), operations)
        return self._wholes[name]


@dataclass(frozen=True)
class Whole:
    """What a command leaves, and the file operations that it took."""

    files: dict[str, bytes]
    operations: list[tuple[str, str]]

    def pick(self, part: str, chance: random.Random) -> int:
        """Return the number of an operation on a path with a part in it."""
        return chance.choice([number for number, (_, path) in enumerate(self.operations) if part in path])


def contents(root: Path) -> dict[str, bytes]:
    """Return the bytes of all files that do not tell times, by path."""
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if path.suffix not in (".lock", ".holder") and path.name not in ("times.json", "report.html")
    }


def left_behind(root: Path) -> list[Path]:
    """Return the partial files and the notes of who holds a lock."""
    return [path for path in root.rglob("*") if path.suffix in (".partial", ".holder") or path.name.startswith("tmp")]


def finished(root: Path) -> dict[Path, tuple[int, int]]:
    """Return what tells whether finished files were written again."""
    paths = [path for pattern in FINISHED for path in root.glob(pattern)]
    for model in root.glob("store/models/*/manifest.json"):
        paths += model.parent.rglob("*.safetensors")
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in visible if path.name != "manifest.json"}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[..., Path]) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("operations")
    generator = np.random.default_rng(0)

    def say() -> str:
        return " ".join(generator.choice(WORDS, generator.integers(3, 7)))

    for name in ("pool", "held_out"):
        turns = [[{"role": role, "content": say()} for role in ("user", "assistant")] for _ in range(ROWS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    spans = [json.dumps({"row": row, "spans": [[0, 2]]}) + "\n" for row in range(ROWS)]
    (folder / "spans.jsonl").write_text("".join(spans))
    root = folder / "place"
    common = [
        f"output={root / 'run'}",
        f"data.files=[{folder / 'pool.jsonl'}]",
        f"models.base={tiny_model_folder('llama')}",
        f"evaluate.held_out=[{folder / 'held_out.jsonl'}]",
        *(f"train.{name}={json.dumps(value)}" for name, value in TRAIN.items()),
    ]
    arguments = {
        name: ["run", *common, *(one.replace("HARMFUL", str(folder / "held_out.jsonl")) for one in more)]
        for name, more in COMMANDS.items()
    }
    arguments["export"] = ["export", str(root / "run"), "--to", "trl"]
    arguments["import"] = ["import", str(root / "run"), str(folder / "spans.jsonl"), "--spans", "--name", "theirs"]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    server: Any = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forks.py"))],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        yield Commands(server, root, arguments)
        server.stdin.close()


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


@pytest.mark.parametrize(
    ("stage", "trial"), trials("measure", "select", "train", "rounds", "toss-pro", "export", "import")
)
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
