"""A fuzzer for the readers, guided by coverage: it keeps inputs that reach new code, and mutates them further.

    python tests/fault/fuzz_readers.py --minutes 10                  all readers, one after the other
    python tests/fault/fuzz_readers.py --minutes 1 --reader jsonl    one of them

What it keeps is in `runs/fuzz`, and the next call goes on from there; so is an input that breaks a reader, with what
was said.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz_targets import TARGETS
from target import Target

KEPT = Path(__file__).parents[2] / "runs/fuzz"
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096", "-runs=100000"]
"""Seconds for an input, memory of the process, bytes of an input, and inputs: the time left goes to others."""
_MEMORY = Path("/dev/shm")  # a file for each input needs no disk
_EXECUTED = re.compile(r"number_of_executed_units: (\d+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", choices=TARGETS, action="append", help="all of them where none is given")
    parser.add_argument("--minutes", type=float, default=10, help="in all")
    parser.add_argument("--kept", type=Path, default=KEPT, metavar="FOLDER", help="of what is kept")
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.exit("the fuzzer is not installed: pip install -c constraints.txt -e '.[fuzz]'")
    names = given.reader or list(TARGETS)
    end, broken = time.monotonic() + 60 * given.minutes, list[str]()
    for place, name in enumerate(names):
        seconds = max(1, round((end - time.monotonic()) / (len(names) - place)))
        if not survives(name, seconds, given.kept / name.replace(" ", "-")):
            broken.append(name)
    if broken:
        sys.exit(f"broken: {', '.join(broken)}")


def survives(name: str, seconds: int, kept: Path) -> bool:
    """Fuzz a reader for so long at most, and say how that ended."""
    start = time.monotonic()
    (kept / "corpus").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        begin(TARGETS[name](Path(folder)), kept)
        options = [*LIMITS, f"-max_total_time={seconds}", "-print_final_stats=1"]
        files = [f"-dict={kept / 'words'}", f"-artifact_prefix={kept}/", str(kept / "corpus")]
        script = Path(__file__).with_name("fuzz_one.py")
        command = [sys.executable, str(script), name, folder, *options, *files]
        with (kept / "log").open("w") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    said = (kept / "log").read_text(encoding="utf-8", errors="replace")
    executed = sum(map(int, _EXECUTED.findall(said)))
    ended = f"broken, see {kept / 'log'}" if code else "survived"
    print(f"{name}: {executed:,} inputs in {time.monotonic() - start:.0f} s, {ended}", flush=True)
    return code == 0


def begin(target: Target, kept: Path) -> None:
    """Write what the fuzzer starts from: good inputs, and words as libFuzzer reads them."""
    for number, data in enumerate(target.good):
        (kept / "corpus" / f"good-{number}").write_bytes(data)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in target.words)
    (kept / "words").write_text("".join(f'"{word}"\n' for word in escaped), encoding="utf-8")


if __name__ == "__main__":
    main()
