"""Runs commands in processes that are forked from this one, which has the libraries loaded, each with a fault.

    python tests/fault/forks.py

Reads a JSON object a line, and answers with one: the wait status, and each file operation with its path.

    arguments   of the command
    root        folder whose operations count
    number      of the operation before which the fault happens, from 0; null for none
    fault       kill, term, int, or full: no file below root grows any more
    log         file for all that the command says
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from typing import Any

import pyarrow.parquet
import torch
import trl
from file_operations import GROWS, watch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tokensieve import cli
from tokensieve.data import prepare
from tokensieve.pipeline import imported_spans, search
from tokensieve.report.html import page
from tokensieve.runs import view
from tokensieve.train import token_selection, trainer

_ = pyarrow.parquet, torch, trl.SFTTrainer, PeftModel, AutoModelForCausalLM, LlamaForCausalLM
_ = imported_spans, search, page, view, token_selection, trainer  # imported before the first fork
prepare.SHARD_TOKENS = 60
prepare.CHUNK_ROWS = 4
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


class Fault:
    """Counts the operations below a folder, and acts before one of them."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.root, self.number, self.kind = asked["root"] + os.sep, asked["number"], asked["fault"]
        self.operations: list[tuple[str, str]] = []
        self.is_full = False

    def saw(self, event: str, path: str) -> None:
        if not path.startswith(self.root):
            return
        self.operations.append((event, path.removeprefix(self.root)))
        if len(self.operations) - 1 == self.number:
            if self.kind == "full":
                self.is_full = True
            else:
                os.kill(os.getpid(), SIGNALS[self.kind])
        if self.is_full and event in GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def forked(asked: dict[str, Any]) -> dict[str, Any]:
    """Carry out a command in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with open(read, encoding="utf-8") as answer:
            operations = answer.read()
        return {"status": os.waitpid(child, 0)[1], "operations": json.loads(operations or "[]")}
    code = 1
    try:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for standard in (1, 2):
            os.dup2(log, standard)
        fault = Fault(asked)
        watch(fault.saw)
        cli.main(asked["arguments"])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with open(write, "w", encoding="utf-8") as answer:
            json.dump(fault.operations, answer)
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        answers.write(json.dumps(forked(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
