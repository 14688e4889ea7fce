"""Walk through docs/start.md word for word, on real data sets, outside the repository.

    python scripts/walk_tutorial.py --bin VENV/bin --shared SHARED [DATA_SET ...]

VENV is an environment that tokensieve is installed in, by a wheel or from its source; SHARED is the folder with real
models and data sets. For each data set, a fresh folder gets what the tutorial takes for granted: `train.jsonl`,
`test.jsonl` and the model under the name that the tutorial uses. Every command of the page is then run as it is
written, and its results are looked for. Prints the seconds of each data set, and of each command with --times.
Needs nothing but Python, since it stands outside of what it tests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs/start.md"
MODEL, STAND_IN = "Qwen/Qwen2.5-0.5B", "stories260K"  # a small one: the walk is about commands
ELSEWHERE = re.compile(r"^pip install |^tokensieve demo$")  # what `make try-dist` does
TRAINING, HELD_OUT = 210, 20  # the tutorial's warm-up takes 200 rows
PROMISED = {
    "tokensieve run recipe.yaml": ("runs/mine/report.html", "runs/mine/arms/token-cleaning/cleaned/data"),
    "tokensieve select recipe.yaml method.fraction=0.8 output=runs/more": ("runs/more/run.json",),
    "tokensieve select recipe.yaml method.name=loss output=runs/loss": ("runs/loss/run.json",),
}
"""What must be there after a command."""


def main(commands: Path, shared: Path, names: Sequence[str], times: bool) -> None:
    """Walk through the page once for each data set."""
    if not (commands / "tokensieve").is_file():
        sys.exit(f"{commands}: holds no command `tokensieve`")
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as desk:
            _lay_out(Path(desk), shared, DATA_SETS[name](shared / "data"))
            _walk(Path(desk), commands, times)
        print(f"{name}: walked through {PAGE.name} in {time.monotonic() - started:.0f} s", flush=True)


def _alpaca(data: Path) -> list[dict[str, Any]]:
    return json.loads((data / "alpaca_subsets/filtered/helpfulness_t45.json").read_text(encoding="utf-8"))


def _questions(data: Path) -> list[dict[str, Any]]:
    with (data / "gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _chats(data: Path) -> list[dict[str, Any]]:
    return json.loads((data / "fastchat/data/dummy_conversation.json").read_text(encoding="utf-8"))


DATA_SETS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "alpaca_subsets": _alpaca,
    "gsm8k": _questions,
    "fastchat": _chats,
}
"""Three forms: instructions, questions with answers, chats of several turns."""


def _lay_out(desk: Path, shared: Path, rows: list[dict[str, Any]]) -> None:
    short = sorted(rows, key=lambda row: len(json.dumps(row)))[: TRAINING + HELD_OUT]  # long ones take minutes on a CPU
    random.Random(0).shuffle(short)
    for name, part in (("test", short[:HELD_OUT]), ("train", short[HELD_OUT:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (desk / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    shutil.copytree(shared / "models" / STAND_IN, desk / MODEL)
    for block in _blocks():
        if (named := re.match(r"# (\S+\.yaml)\n", block[1])) is not None:
            (desk / named[1]).write_text(block[1], encoding="utf-8")


def _walk(desk: Path, tokensieve: Path, times: bool) -> None:
    environment = {**os.environ, "PATH": f"{tokensieve}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)  # the wheel, not the source
    commands = [line[2:].split("  #")[0].rstrip() for kind, text in _blocks() if kind == "console"
                for line in text.splitlines() if line.startswith("$ ")]  # fmt: skip
    missing = set(PROMISED) - set(commands)
    if missing:
        sys.exit(f"{PAGE}: no longer has the commands {', '.join(sorted(missing))}")
    for command in commands:
        if ELSEWHERE.search(command):
            continue
        started = time.monotonic()
        done = subprocess.run(
            command, shell=True, cwd=desk, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode or "Traceback" in done.stdout:
            sys.exit(f"{done.stdout}\n`{command}` ended with exit code {done.returncode}")
        if times:
            print(f"  {time.monotonic() - started:5.0f} s  {command}", flush=True)
        for path in PROMISED.get(command, ()):
            if not (desk / path).exists():
                sys.exit(f"{done.stdout}\n`{command}` left no {path}")


def _blocks() -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        yield found[1], found[2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_sets", nargs="*", metavar="DATA_SET", help=f"of {', '.join(DATA_SETS)}; all by default")
    parser.add_argument(
        "--bin", type=Path, default=Path(sys.executable).parent, help="folder of the command tokensieve"
    )
    parser.add_argument("--shared", type=Path, default=PAGE.parents[2] / "shared", help="folder of models and data")
    parser.add_argument("--times", action="store_true", help="print the seconds of each command")
    given = parser.parse_args()
    if unknown := set(given.data_sets) - set(DATA_SETS):
        parser.error(f"no data set {', '.join(sorted(unknown))}")
    main(given.bin.absolute(), given.shared.resolve(), given.data_sets or list(DATA_SETS), given.times)
