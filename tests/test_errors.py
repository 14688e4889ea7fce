"""Every error says how to fix it."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tokensieve
from tokensieve.errors import TokensieveError, first_line, refused_by_system

SOURCES = sorted(Path(tokensieve.__file__).parent.rglob("*.py"))


def test_an_error_says_what_where_and_how_to_mend_it():
    error = TokensieveError("it is 3", where="a.yaml:2", hint="make it 2")
    assert str(error) == "it is 3\n  at: a.yaml:2\n  hint: make it 2"
    assert str(TokensieveError("it is 3")) == "it is 3"


def test_an_error_of_another_library_is_told_in_one_line():
    assert first_line(ValueError("\n it is 3\nand more\n")) == "it is 3"
    assert first_line(AssertionError()) == "AssertionError"


def test_every_error_of_the_sources_says_how_to_mend_it():
    silent, raised = [], 0
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "TokensieveError" and node.args:
                raised += 1
                what = ast.get_source_segment(text, node.args[0]) or ""
                # "it must be one of ..." says it; further errors of other kinds each have said theirs
                told = any(word in what for word in ("must be", "must never", "further errors"))
                if not told and "hint" not in {keyword.arg for keyword in node.keywords}:
                    silent.append(f"{path}:{node.lineno}: {what}")
    assert raised > 200
    assert not silent


WRITES = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, torch
from safetensors.torch import save_file
from tokensieve.errors import refused_by_system, refused_by_system
from tokensieve.store.atomic import write_text

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder, numbers = Path(sys.argv[1]), torch.zeros(100_000)


def arrow():
    batch = pa.record_batch([pa.array(numbers.numpy())], names=["a"])
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


for write in (
    lambda: write_text(folder / "a.txt", "a" * 200_000),
    arrow,
    lambda: save_file({"a": numbers}, folder / "a.safetensors"),
    lambda: torch.save({"a": numbers}, folder / "a.pt"),
):
    try:
        write()
    except Exception as error:
        print(str(refused_by_system(error)).splitlines()[0])
print([path.name for path in folder.glob("*.txt")])
"""


def test_what_every_library_says_of_a_file_that_cannot_be_written_is_understood(tmp_path):
    done = subprocess.run([sys.executable, "-c", WRITES, str(tmp_path)], capture_output=True, text=True, check=False)
    said = done.stdout.splitlines()
    assert said[:3] == ["the system refuses: File too large"] * 3, done.stderr
    assert said[3] == "the system refuses: No space left on device", "PyTorch does not say which"
    assert said[4] == "[]", "half a file was left"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EIO, errno.ENOENT])
def test_what_the_system_refuses_has_file_and_hint(number):
    error = refused_by_system(OSError(number, os.strerror(number), "a/b"))
    assert error is not None
    assert error.what == f"the system refuses: {os.strerror(number)}"
    assert error.where == "a/b"
    assert error.hint


@pytest.mark.parametrize(
    "error", [ValueError("exit code: 2"), OSError("no number"), ConnectionResetError(104, "x"), KeyError(28)]
)
def test_other_errors_stay_what_they_are(error):
    assert refused_by_system(error) is None
