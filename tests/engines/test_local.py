from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice

import psutil
import pytest

from tokensieve.engines import Done, local, start_engine
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError


class Worker:
    """Counts instead of measuring."""

    def do(self, shard, on_tokens):
        if shard == 3:
            raise TokensieveError("shard 3 is broken")
        on_tokens(shard * 10)
        return Done(shard, shard * 10, {})


def test_one_worker_does_every_shard_and_reports_its_tokens():
    made, tokens = [], []

    @contextmanager
    def make():
        made.append("open")
        yield Worker()
        made.append("closed")

    with start_engine(EngineSettings()) as engine:
        done = list(engine.map(make, [4, 0, 2], tokens.append))
    assert [one.shard for one in done] == [4, 0, 2]
    assert tokens == [one.tokens for one in done] == [40, 0, 20]
    assert made == ["open", "closed"]


def test_the_first_error_ends_it():
    left = []

    @contextmanager
    def make():
        try:
            yield Worker()
        finally:
            left.append("closed")

    done = []
    with start_engine(EngineSettings()) as engine, pytest.raises(TokensieveError, match="shard 3 is broken"):
        done.extend(engine.map(make, [1, 3, 2], lambda _: None))
    assert left == ["closed"]


class Pids:
    """Tells which process it is in."""

    def do(self, shard, on_tokens):
        if shard == 9:
            raise TokensieveError("shard 9 is broken", where="there")
        on_tokens(shard)
        return Done(shard, shard, {}, os.getpid())


def in_processes(shards, on_tokens):
    with start_engine(EngineSettings()) as engine:
        make = partial(nullcontext, Pids())
        yield from engine.map(make, shards, on_tokens, holds_model=False, one_at_a_time=True)


def test_a_long_work_is_left_to_processes(monkeypatch):
    monkeypatch.setattr(local, "_WORTH_PROCESSES", -1.0)
    tokens = []
    done = list(in_processes([4, 0, 2, 7], tokens.append))
    assert [one.shard for one in done] == tokens == [4, 0, 2, 7]
    assert done[0].value == os.getpid()  # the first tells how long it takes
    assert os.getpid() not in {one.value for one in done[1:]}
    assert not any(psutil.pid_exists(one.value) for one in done[1:])


def test_a_short_work_is_done_here():
    assert {one.value for one in in_processes(range(9), lambda _: None)} == {os.getpid()}


def test_the_error_of_a_process_ends_all(monkeypatch):
    monkeypatch.setattr(local, "_WORTH_PROCESSES", -1.0)
    before = set(psutil.Process().children(recursive=True))
    done = []
    with pytest.raises(TokensieveError, match="shard 9 is broken") as error:
        done.extend(in_processes([1, 9, 2], lambda _: None))
    assert error.value.where == "there"
    left = [one for one in set(psutil.Process().children(recursive=True)) - before if "loky.backend.popen" in str(one)]
    assert left == []


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_nothing_is_held_for_each_of_very_many_shards(one_at_a_time, monkeypatch):
    monkeypatch.setattr(local, "_WORTH_PROCESSES", -1.0)
    make = partial(nullcontext, Pids())
    with start_engine(EngineSettings()) as engine:
        done = engine.map(make, range(10, 10**9), lambda _: None, holds_model=False, one_at_a_time=one_at_a_time)
        assert [one.shard for one in islice(done, 5)] == [10, 11, 12, 13, 14]
        del done  # ends its processes


SLEEPS = """
import sys, time
from contextlib import nullcontext
from functools import partial
from tokensieve.engines import Done, local

class Sleeps:
    def do(self, shard, on_tokens):
        print(__import__("os").getpid(), flush=True)
        time.sleep(60 if shard else 0)
        return Done(shard, 0, {})

local._WORTH_PROCESSES = -1.0
list(local.LOCAL.map(partial(nullcontext, Sleeps()), [0, 1, 2], lambda _: None, holds_model=False, one_at_a_time=True))
"""
"""A script without a guard of its main module."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_driver(number):
    with subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        assert driver.stdout is not None
        assert int(driver.stdout.readline()) == driver.pid
        worker = int(driver.stdout.readline())
        assert psutil.pid_exists(worker)
        driver.send_signal(number)
        driver.wait(20)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


def test_an_unknown_engine_is_named():
    with pytest.raises(TokensieveError, match="unknown engine 'locall'; did you mean 'local'") as error:
        start_engine(EngineSettings("locall"))
    assert error.value.hint == "one of: local, ray"
