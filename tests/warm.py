"""Commands in processes of their own that need not load the libraries: each is forked from one that has.

Loading PyTorch, transformers and TRL takes seconds of processor time, and a command that is killed, interrupted or run
beside others needs a process of its own.
"""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokensieve.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "peft",
        "pyarrow.dataset",
        "pyarrow.parquet",
        "scipy.stats",
        "tokensieve.cli",
        "tokensieve.data.prepare",
        "tokensieve.pipeline.imported_spans",
        "tokensieve.pipeline.search",
        "tokensieve.report.html.page",
        "tokensieve.runs.view",
        "tokensieve.train.token_selection",
        "tokensieve.train.trainer",
        "transformers.models.auto.modeling_auto",
        "transformers.models.llama.modeling_llama",
        "trl.trainer.sft_trainer",
    ]
)


@functools.cache
def _folder() -> str:
    """Return a folder for output, which is removed with the end of this process."""
    folder = tempfile.mkdtemp(prefix="warm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Warm:
    """A function in a forked process, with the methods of `subprocess.Popen` that tests use.

    The process leads a session of its own, and its output goes to files, which can be read while it runs.

    Args:
        function: a function of a module.
        given: its arguments.
        cwd: the working folder of the process.
        environment: variables of the process, which replace those of this one; modules are found by its PYTHONPATH.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *given: Any,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._files = tempfile.mkdtemp(dir=_folder())
        arguments = function, given, self._files, str(cwd or Path.cwd()), dict(environment or os.environ)
        self._process = _CONTEXT.Process(target=_carry_out, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of a signal; None while the process runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 300) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end; return what was written to both streams."""
        self.wait(timeout)
        return self.read("out"), self.read("err")

    def read(self, stream: str) -> str:
        """Return what has been written to a stream, ``out`` or ``err``."""
        path = Path(self._files, stream)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def command(*words: str, cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Return what a command of tokensieve did in a process of its own."""
    process = Warm(main, words, cwd=cwd, environment=environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(words, process.wait(), out, err)


def _carry_out(
    function: Callable[..., Any], given: tuple[Any, ...], files: str, cwd: str, environment: dict[str, str]
) -> None:
    gc.freeze()  # accelerate collects garbage, which takes a second where it looks at all that is loaded
    os.setsid()
    for number, path in enumerate((os.devnull, f"{files}/out", f"{files}/err")):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.modules["torch"].set_num_threads(1)
    function(*given)
