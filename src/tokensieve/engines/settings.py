"""Settings of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tokensieve.setting_types import Count, known_keys_only


@known_keys_only
@dataclass(frozen=True)
class EngineSettings:
    """Where the stages run that map over shards. The results are the same bytes everywhere.

    Attributes:
        name: `local`, this process, or `ray`, processes of a Ray cluster.
        address: of a Ray cluster, such as `auto` or `ray://HOST:10001`. When not given, Ray is started on this machine
            for as long as the run takes.
        workers: how many processes of Ray work at once. When not given, as many as there are GPUs for, or, without
            GPUs, one for each machine. Work without a model takes a core a process, on up to eight of each machine.
        gpus_per_worker: GPUs of a worker that holds a model. When not given, one where the cluster has any.
        deadline: seconds after which a shard is taken from a worker that has not finished it, and given to a new one.
    """

    name: str = "local"
    address: str | None = None
    workers: Count | None = None
    gpus_per_worker: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    deadline: Count = 3600
