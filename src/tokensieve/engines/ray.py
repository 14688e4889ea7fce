"""Shards on the workers of a Ray cluster: actors that hold the model, each with one shard at a time.

The machines of the cluster see the store, the data and the models at the same paths, and have the same versions of the
libraries. A worker that dies, or that has not finished a shard in time, is replaced, and its shard given to another;
a shard that no worker finishes ends the run.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import os
import secrets
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tokensieve.engines import Done, Engine, MakeWorker, OnTokens
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError, first_line

_ATTEMPTS = 3
"""Workers that may die or run out of time over a shard before it ends the run."""
_STARTUP = 1800
"""Seconds in which a worker must have loaded its model."""
_PATIENCE = 10
"""Seconds in which a cluster must answer."""
_PLAIN_WORKERS = 8
"""Workers without a model on each machine at most: beyond it the disk is the limit."""
_OBJECTS = 100 * 2**20
"""Bytes for what workers of this machine exchange, which is the numbers of shards; Ray would take a third of all."""
_WHERE = "recipe: engine"


def check(settings: EngineSettings) -> None:
    """Refuse an installation without Ray."""
    if importlib.util.find_spec("ray") is None:
        raise TokensieveError(
            "the engine 'ray' needs Ray, which is not installed",
            where="recipe: engine",
            hint="pip install 'tokensieve[ray]', on every machine of the cluster",
        )


@contextmanager
def start(settings: EngineSettings) -> Iterator[Engine]:
    """Give the engine; see `engines.start_engine`."""
    with ExitStack() as stack:
        yield _Ray(settings, stack)


class _Ray:
    """Connects to a cluster at the first map, and stays connected.

    Args:
        settings: which cluster, and how many workers.
        stack: ends the connection.
    """

    def __init__(self, settings: EngineSettings, stack: ExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._idle: list[Any] = []  # workers without a model, for the next map: a process takes seconds to start

    @functools.cached_property
    def _library(self) -> Any:
        return self._stack.enter_context(_cluster(self._settings))

    def map(
        self,
        make: MakeWorker,
        shards: Sequence[int],
        on_tokens: OnTokens,
        *,
        holds_model: bool = True,
        one_at_a_time: bool = False,
    ) -> Iterator[Done]:
        """Yield each shard as it is done; see `Engine`. A worker does one at a time in any case.

        Raises:
            TokensieveError: a cluster that cannot be reached or lacks what a worker needs, the first error of a worker,
                or a shard that no worker finished.
        """
        if not shards:
            return
        if holds_model:
            self._idle.clear()  # what they hold of the machines is needed
        crew = _Crew(self._library, make, self._settings, len(shards), None if holds_model else self._idle)
        try:
            for done in crew.do(shards):
                on_tokens(done.tokens)
                yield done
        finally:
            crew.dismiss()


@contextmanager
def _cluster(settings: EngineSettings) -> Iterator[Any]:
    """Give Ray, connected to a cluster: that of the address, or one on this machine that ends with the block.

    Nothing is left behind in the folder of the user: logs lie in a folder that ends with the block, no usage is
    reported, and the token that guards the cluster is handed over in the environment, where Ray would write a file.
    """
    with _environment(settings.address is None), tempfile.TemporaryDirectory(prefix="ray-") as folder:
        import ray
        from ray.exceptions import RayError

        if ray.is_initialized():  # by whoever called; theirs to end
            if settings.address is not None:
                raise TokensieveError(
                    f"this process is connected to Ray already, and the address '{settings.address}' says nothing",
                    where=f"{_WHERE}.address",
                    hint="leave out the address, or end the connection with ray.shutdown()",
                )
            yield ray
            return
        where: dict[str, Any] = {
            "include_dashboard": False,
            "object_store_memory": _OBJECTS,
            "_temp_dir": folder,
        }
        try:
            _check_answers(settings.address)
            ray.init(
                settings.address or "local",  # nothing would mean that of the environment
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if settings.address else where),
            )
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise TokensieveError(
                f"no Ray cluster can be reached: {first_line(error)}",
                where=f"{_WHERE}.address",
                hint="start one with `ray start --head`, or give no address to have one on this machine",
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _environment(own_cluster: bool) -> Iterator[None]:
    """Tell Ray what it reads from the environment, and leave the environment as it was."""
    given = {"RAY_USAGE_STATS_ENABLED": "0"}
    if own_cluster and not any(name.startswith("RAY_AUTH_") for name in os.environ):
        given["RAY_AUTH_TOKEN"] = _token()
    before = {name: os.environ.get(name) for name in (*given, "RAY_AUTH_MODE")}  # Ray sets the mode by itself
    os.environ.update({name: value for name, value in given.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@functools.cache
def _token() -> str:
    """Return the token of this process: Ray remembers the first."""
    return secrets.token_hex(32)


def _check_answers(address: str | None) -> None:
    """Raise ``OSError`` where nothing answers at an address: Ray would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


@dataclass(frozen=True)
class _Failed:
    """An error of a worker, as plain data: Ray would wrap an exception in its own traceback."""

    what: str
    where: str
    hint: str
    is_ours: bool

    @classmethod
    def of(cls, error: Exception) -> _Failed:
        if isinstance(error, TokensieveError):
            return cls(error.what, error.where, error.hint, True)
        return cls(f"{type(error).__name__}: {error}", "", "", False)

    def raise_for(self, shard: int) -> None:
        if self.is_ours:
            raise TokensieveError(self.what, where=self.where, hint=self.hint)
        raise TokensieveError(
            f"a worker failed on shard {shard}: {self.what}",
            where=_WHERE,
            hint="run with engine=local to see the complete error",
        )


class _Holder:
    """Holds a worker in a process of its own; a Ray actor.

    Args:
        folder: the driver's current one, to which paths are relative.
        has_gpu: whether Ray has given it one.
    """

    def __init__(self, folder: str, has_gpu: bool) -> None:
        self._folder, self._has_gpu = folder, has_gpu

    def open(self, make: MakeWorker) -> _Failed | None:
        """Make the worker, in the place of an earlier one."""
        try:
            os.chdir(self._folder)
            if not self._has_gpu:  # Ray leaves those of others visible
                os.environ["CUDA_VISIBLE_DEVICES"] = ""
            self._worker = make().__enter__()
        except FileNotFoundError as error:
            return _Failed(
                f"a worker does not find {error.filename}, which the driver has",
                _WHERE,
                "the machines of the cluster need a common file system, at the same paths",
                True,
            )
        except Exception as error:
            return _Failed.of(error)
        return None

    def do(self, shard: int) -> Done | _Failed:
        """Do a shard."""
        try:
            return self._worker.do(shard, lambda _: None)
        except Exception as error:
            return _Failed.of(error)


@dataclass
class _Post:
    """A worker and what it does at the moment.

    Attributes:
        actor: the worker.
        shard: what it does, or is to do once it is there.
        ends: when it must have done that, by the clock of `time.monotonic`.
    """

    actor: Any
    shard: int
    ends: float


class _Crew:
    """The workers of a run, replaced as they are lost.

    Args:
        ray: the library, connected.
        make: makes a worker.
        settings: how many, and how long they may take.
        shards: how many there are to do.
        idle: workers that hold no model, to begin with and to leave behind; None where workers hold one. One without a
            model takes no GPU, and no more than one CPU.

    Raises:
        TokensieveError: the cluster lacks what one worker needs.
    """

    def __init__(
        self, ray: Any, make: MakeWorker, settings: EngineSettings, shards: int, idle: list[Any] | None
    ) -> None:
        self._ray, self._settings, self._idle = ray, settings, idle
        has = ray.cluster_resources()
        gpus = settings.gpus_per_worker if settings.gpus_per_worker is not None else float(has.get("GPU", 0) > 0)
        nodes = sum(node["Alive"] for node in ray.nodes())
        most = int(has.get("GPU", 0) // gpus) if gpus else nodes
        if idle is not None:
            gpus, most = 0.0, min(int(has.get("CPU", 0)), _PLAIN_WORKERS * nodes)
        self._size = min(settings.workers or most, shards)
        kind, each = ("GPU", gpus) if gpus else ("CPU", 1)
        if not self._size or each * self._size > has.get(kind, 0):
            raise TokensieveError(
                f"the cluster has {has.get(kind, 0):g} {kind}s, too few for {settings.workers or 1} workers with "
                f"{each:g} each",
                where=_WHERE,
                hint="fewer workers, or a smaller gpus_per_worker; a worker without a GPU has gpus_per_worker: 0",
            )
        # Without GPUs the workers share the cores: Ray gives each as many threads as it has CPUs.
        cpus = 1 if gpus or idle is not None else max(1, int(has.get("CPU", 1)) // max(self._size, nodes))
        self._holder = ray.remote(_Holder).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        self._make, self._has_gpu = make, bool(gpus)
        self._posts: dict[Any, _Post] = {}

    def do(self, shards: Sequence[int]) -> Iterator[Done]:
        """Yield each shard as it is done."""
        left, lost = iter(shards), Counter[int]()
        for shard in itertools.islice(left, self._size):
            self._hire_for(shard)
        while self._posts:
            ends = min(post.ends for post in self._posts.values())
            self._ray.wait(list(self._posts), timeout=max(0.0, ends - time.monotonic()))  # it returns one at most
            ready, others = self._ray.wait(list(self._posts), num_returns=len(self._posts), timeout=0)
            now = time.monotonic()
            late = [one for one in others if self._posts[one].ends <= now]
            for reference in late:
                post = self._posts.pop(reference)
                self._ray.kill(post.actor)
                self._replace(post, lost, "it was not finished in time")
            for reference in ready:
                post = self._posts.pop(reference)
                try:
                    found: Done | _Failed | None = self._ray.get(reference)
                except self._ray.exceptions.RayActorError as error:
                    self._replace(post, lost, f"the worker died: {first_line(error)}")
                    continue
                if isinstance(found, _Failed):
                    found.raise_for(post.shard)
                elif found is None:  # it is there
                    self._give(post.actor, post.shard)
                else:
                    if (following := next(left, None)) is not None:
                        self._give(post.actor, following)
                    elif self._idle is not None:
                        self._idle.append(post.actor)
                    yield found

    def dismiss(self) -> None:
        """Let go of the workers that are still at work."""
        for post in self._posts.values():
            self._ray.kill(post.actor)

    def _hire_for(self, shard: int) -> None:
        actor = self._idle.pop() if self._idle else self._holder.remote(os.getcwd(), self._has_gpu)
        self._posts[actor.open.remote(self._make)] = _Post(actor, shard, time.monotonic() + _STARTUP)

    def _give(self, actor: Any, shard: int) -> None:
        self._posts[actor.do.remote(shard)] = _Post(actor, shard, time.monotonic() + self._settings.deadline)

    def _replace(self, post: _Post, lost: Counter[int], why: str) -> None:
        """Hire another worker for the shard of one that is lost."""
        lost[post.shard] += 1
        if lost[post.shard] == _ATTEMPTS:
            raise TokensieveError(
                f"{_ATTEMPTS} workers in a row did not finish shard {post.shard}: {why}",
                where=_WHERE,
                hint="give workers more memory or time (engine.deadline), or smaller batches "
                "(measure.token_budget); what is measured is kept",
            )
        self._hire_for(post.shard)
