from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from tokensieve.engines import Done, check_engine, each, start_engine
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # those of Ray


class Worker:
    """Leaves a line for each shard that it begins, and does what the name of a file tells it to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def do(self, shard, on_tokens):
        with (self._folder / "log").open("a") as log:
            log.write(f"{shard} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')!r}\n")
        for what, act in (("killed", self._kill), ("stopped", self._stop), ("broken", self._break)):
            if (mark := self._folder / f"{what}-{shard}").exists():
                act(mark, shard)
        on_tokens(shard * 10)
        return Done(shard, shard * 10, {})

    def _kill(self, mark: Path, shard: int) -> None:
        times = int(mark.read_text())
        mark.write_text(str(times - 1)) if times > 1 else mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self, mark: Path, shard: int) -> None:
        mark.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _break(self, mark: Path, shard: int) -> None:
        if mark.read_text():
            raise TokensieveError(f"shard {shard} is broken", where="a.jsonl:7", hint="fix it")
        raise ZeroDivisionError("shard over zero")


@contextmanager
def make(folder: Path):
    yield Worker(folder)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, for all tests of the module that bring nothing of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "of-the-tests" * 3)  # else Ray writes one into the home of whoever tests
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


@pytest.fixture
def do(cluster, tmp_path):
    """Return a function that does shards with workers, and the log that these write."""

    def run(shards, tokens=lambda _: None, **settings):
        with start_engine(EngineSettings(**{"name": "ray", "workers": 2, **settings})) as engine:
            return [one.shard for one in engine.map(partial(make, tmp_path), shards, tokens)]

    return run


def begun(folder: Path) -> list[int]:
    return [int(line.split()[0]) for line in (folder / "log").read_text().splitlines()]


def test_workers_do_every_shard_once_and_the_driver_is_told(do, tmp_path):
    tokens = []
    assert sorted(do(range(9), tokens.append)) == list(range(9))
    assert sorted(begun(tmp_path)) == list(range(9))
    assert sorted(tokens) == [shard * 10 for shard in range(9)]
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert {devices for *_, devices in lines} == {"''"}, "a worker without GPUs sees those of others"
    processes = {pid for _, pid, _ in lines}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


def test_the_shard_of_a_killed_worker_is_done_by_another(do, tmp_path):
    (tmp_path / "killed-3").write_text("2")
    assert sorted(do(range(6))) == list(range(6))
    assert sorted(begun(tmp_path)) == [0, 1, 2, 3, 3, 3, 4, 5]


def test_a_shard_that_no_worker_survives_ends_it(do, tmp_path):
    (tmp_path / "killed-1").write_text("9")
    with pytest.raises(TokensieveError, match="3 workers in a row did not finish shard 1: the worker died"):
        do(range(2))


def test_a_stopped_worker_is_replaced_after_the_deadline(do, tmp_path):
    (tmp_path / "stopped-2").touch()
    start = time.monotonic()
    assert sorted(do(range(5), deadline=4)) == list(range(5))
    assert 4 <= time.monotonic() - start < 60
    assert begun(tmp_path).count(2) == 2
    stopped = {int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("2 ")}
    patience = time.monotonic() + 60
    while left := [pid for pid in stopped if is_stopped(pid)]:
        assert time.monotonic() < patience, f"a stopped process was left: {left}"
        time.sleep(0.2)


def test_a_driver_that_comes_late_takes_no_finished_shard_for_a_late_one(do, tmp_path):
    """As after a laptop slept: both workers had finished, and the deadline is over when the driver looks."""
    told = []

    def sleep_once(tokens: int) -> None:
        told.append(tokens)
        if len(told) == 3:
            time.sleep(4)

    assert sorted(do(range(8), sleep_once, deadline=2)) == list(range(8))
    assert sorted(begun(tmp_path)) == list(range(8))


def test_an_error_of_a_worker_reaches_the_user_as_it_is(do, tmp_path):
    (tmp_path / "broken-2").write_text("ours")
    with pytest.raises(TokensieveError) as error:
        do(range(4))
    assert (error.value.what, error.value.where) == ("shard 2 is broken", "a.jsonl:7")


def test_an_unforeseen_error_of_a_worker_is_one_line(do, tmp_path):
    (tmp_path / "broken-0").write_text("")
    with pytest.raises(TokensieveError, match="a worker failed on shard 0: ZeroDivisionError: shard over zero"):
        do(range(2))


def test_gpus_that_are_not_there_are_refused(do):
    with pytest.raises(TokensieveError, match="the cluster has 0 GPUs, too few for 2 workers with 1 each"):
        do(range(4), gpus_per_worker=1)


def test_more_workers_than_fit_are_refused(do):
    with pytest.raises(TokensieveError, match="the cluster has 2 CPUs, too few for 3 workers with 1 each"):
        do(range(4), workers=3)
    assert sorted(do(range(2), workers=3)) == [0, 1], "two shards take two workers"


def test_work_without_a_model_takes_no_gpu_whatever_a_worker_with_one_takes(cluster):
    settings = EngineSettings("ray", gpus_per_worker=1)
    with start_engine(settings) as engine:
        done = list(each(engine, square, 5))
        assert list(each(engine, square, 0)) == []
        again = list(each(engine, square, 3))
    processes = {one.value[2] for one in done}
    assert {one.value[2] for one in again} <= processes, "the next map has the same processes"
    assert sorted(one.value[0] for one in done) == [0, 1, 4, 9, 16]
    assert {one.value[1] for one in done} == {""}
    assert 1 <= len(processes) <= 2, "one a processor"


def test_a_shard_costs_the_driver_less_than_five_milliseconds(cluster):
    """Of processor time, which other work on the machine does not lengthen; `benchmarks/speed/engines.py` has both."""
    with start_engine(EngineSettings("ray", workers=2)) as engine:
        assert len(list(each(engine, square, 2))) == 2, "the workers are there"
        before = time.process_time()
        done = sum(1 for _ in each(engine, square, 200))
        seconds = time.process_time() - before
    assert done == 200
    assert seconds / done < 0.005


def square(shard: int) -> Done:
    return Done(shard, 1, {}, (shard**2, os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()))


def test_an_address_beside_a_connection_is_refused(do):
    with pytest.raises(TokensieveError, match="connected to Ray already, and the address 'auto' says nothing"):
        do(range(2), address="auto")


def test_a_cluster_that_does_not_answer_is_one_error(tmp_path):
    code = """
        from pathlib import Path
        from tokensieve.engines import start_engine
        from tokensieve.engines.settings import EngineSettings
        try:
            with start_engine(EngineSettings("ray", address="127.0.0.1:1")) as engine:
                list(engine.map(None, [0], print))
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = python(code, tmp_path)
    assert "TokensieveError no Ray cluster can be reached" in done.stdout, done.stderr


def test_a_cluster_of_its_own_leaves_nothing_behind(tmp_path):
    code = """
        import sys
        from functools import partial
        from pathlib import Path
        from test_ray import make
        from tokensieve.engines import start_engine
        from tokensieve.engines.settings import EngineSettings
        with start_engine(EngineSettings("ray", workers=1)) as engine:
            print([one.shard for one in engine.map(partial(make, Path(sys.argv[1])), [0, 1], print)])
            print([one.shard for one in engine.map(partial(make, Path(sys.argv[1])), [2], print)])
    """
    home, temporary = tmp_path / "home", Path(tmp_path.root, "tmp") / f"t{os.getpid()}"
    home.mkdir()
    temporary.mkdir()
    try:
        done = python(code, tmp_path, HOME=str(home), TMPDIR=str(temporary))
        assert "[0, 1]" in done.stdout, done.stderr
        assert "[2]" in done.stdout, "a second map"
        assert list(home.iterdir()) == []
        assert list(temporary.iterdir()) == []
        told = [line for line in done.stderr.splitlines() if "/dev/shm" not in line]  # a small one is worth a warning
        assert told == []
    finally:
        temporary.rmdir()
    assert not [
        one for one in psutil.process_iter(["cmdline"]) if str(temporary) in " ".join(one.info["cmdline"] or [])
    ]


def test_without_ray_the_user_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TokensieveError, match="needs Ray, which is not installed") as error:
        check_engine(EngineSettings("ray"))
    assert "tokensieve[ray]" in error.value.hint


def test_settings_of_ray_say_nothing_to_another_engine():
    with pytest.raises(TokensieveError, match="workers in the recipe has no effect"):
        check_engine(EngineSettings(workers=2))


def is_stopped(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() == psutil.STATUS_STOPPED


def python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**given, "PYTHONPATH": path, **environment},
    )
