"""What Ray costs a run beside the work: seconds of the processor in all processes of a tiny `tokensieve measure`.

    python benchmarks/speed/ray_start.py [--runs 3]

The same 64 rows are measured by the process of the command, and by two workers of a Ray that the command starts.
Counted are the command, Ray's own processes and the workers, those that ended included: this process adopts what the
command leaves behind (Linux), and reads the time of each process every 50 ms, so that the last of them are missed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tokensieve.demo.dataset import Sizes, generate

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
ROWS = 64
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


def processor_seconds(command: list[str]) -> dict[str, float]:
    """Return the seconds of the processor that a command and all processes below it take, by the names of these."""
    seconds: dict[tuple[int, float], tuple[str, float]] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        while below := psutil.Process().children(recursive=True):
            for one in below:
                try:
                    if one.status() == psutil.STATUS_ZOMBIE:
                        driver.poll() if one.pid == driver.pid else reap(one.pid)
                    else:
                        seconds[one.pid, one.create_time()] = name_of(one), sum(one.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.05)
    if driver.returncode:
        raise RuntimeError(f"{command} ended with {driver.returncode}")
    total: dict[str, float] = {}
    for name, spent in seconds.values():
        total[name] = total.get(name, 0) + spent
    return total


def reap(pid: int) -> None:
    """Let go of a process that has ended, where this one has adopted it; else its parent does."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def name_of(process: psutil.Process) -> str:
    """Return what a process is: the command, a worker, or a process of Ray's own."""
    words = process.cmdline()
    script = next((Path(word).name for word in words[1:] if word.endswith(".py")), "")
    return "driver" if "tokensieve" in words else script or process.name()


def main() -> None:
    """Measure both engines, and print what each process takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0)
    found: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = generate(0, Sizes(pool=ROWS))["pool"]
        (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        recipe = {"data": {"files": [str(folder / "pool.jsonl")]}, "models": {"base": str(MODEL)}, "method": "loss"}
        (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        for number in range(runs):
            for engine, options in (("local", []), ("ray", ["--engine", "ray", "--workers", "2"])):
                command = [sys.executable, "-m", "tokensieve", "measure", str(folder / "recipe.yaml")]
                places = [f"output={folder / f'{engine}-{number}'}", f"store={folder / f'{engine}-{number}-store'}"]
                found[engine].append(processor_seconds([*command, *places, *options]))
    for engine, counts in found.items():
        print(engine, ", ".join(f"{name} {spent:.1f} s" for name, spent in sorted(counts[-1].items())))
    beyond = [sum(ray.values()) - sum(local.values()) for local, ray in zip(*found.values(), strict=True)]
    print(f"Ray beyond local: {statistics.median(beyond):.1f} s ({min(beyond):.1f} to {max(beyond):.1f})")


if __name__ == "__main__":
    main()
