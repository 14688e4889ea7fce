"""Commands of one folder, each in a process of its own with a fault, and what they leave."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faults import carry_out
from warm import Warm

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


class Commands:
    """Carries out commands in one folder, each from the same state, and knows what they leave without a fault."""

    def __init__(self, root: Path, arguments: dict[str, list[str]]) -> None:
        self.root, self._arguments = root, arguments
        self._wholes: dict[str, Whole] = {}

    def run(self, name: str, number: int | None = None, fault: str = "kill") -> tuple[int, str, list[tuple[str, str]]]:
        """Return the exit code, or the negative number of a signal; what was said; and the operations."""
        operations = self.root.with_name("operations.json")
        operations.unlink(missing_ok=True)
        process = Warm(carry_out, self._arguments[name], self.root, number, fault, operations)
        said = "".join(process.communicate())
        done = json.loads(operations.read_text(encoding="utf-8")) if operations.exists() else []
        return process.wait(), said, [tuple(one) for one in done]

    def begin(self, name: str) -> None:
        """Put the state before a command into the folder: nothing, or a finished run."""
        if name not in COMMANDS:
            self.whole("run")
        shutil.rmtree(self.root, ignore_errors=True)
        if name not in COMMANDS:
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


def commands_in(folder: Path, model: Path) -> Commands:
    """Return commands whose data and results are in a folder.

    Args:
        folder: an empty one.
        model: folder of the base.
    """
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
        f"models.base={model}",
        f"evaluate.held_out=[{folder / 'held_out.jsonl'}]",
        *(f"train.{name}={json.dumps(value)}" for name, value in TRAIN.items()),
    ]
    arguments = {
        name: ["run", *common, *(one.replace("HARMFUL", str(folder / "held_out.jsonl")) for one in more)]
        for name, more in COMMANDS.items()
    }
    arguments["report"] = ["report", str(root / "run")]
    for name in ("select", "train", "evaluate"):
        arguments[name] = [name, *arguments["run"][1:]]
    arguments["export"] = ["export", str(root / "run"), "--to", "trl"]
    arguments["import"] = ["import", str(root / "run"), str(folder / "spans.jsonl"), "--spans", "--name", "theirs"]
    return Commands(root, arguments)
