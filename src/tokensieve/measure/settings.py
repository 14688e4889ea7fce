"""Settings of the measuring stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokensieve.setting_types import Count, Names, known_keys_only


@known_keys_only
@dataclass(frozen=True)
class RaySettings:
    """How many workers the engine `ray` has, and where.

    Attributes:
        address: of a cluster, such as `auto` or `ray://HOST:10001`. When not given, Ray is started on this machine for
            as long as measuring takes.
        workers: how many hold the model at once. When not given, as many as there are GPUs for, or, without GPUs, one
            for each machine.
        gpus_per_worker: GPUs of a worker. When not given, one where the cluster has any.
        deadline: seconds after which a shard is taken from a worker that has not finished it, and given to a new one.
    """

    address: str | None = None
    workers: Count | None = None
    gpus_per_worker: float | None = None
    deadline: Count = 3600


@known_keys_only
@dataclass(frozen=True)
class MeasureSettings:
    """How statistics are measured. None of these changes a statistic beyond rounding.

    Attributes:
        token_budget: tokens of one batch at most, padding included; a longer example goes alone. When not
            given, 1,024 on a CPU, where activations then stay in cache, and 16,384 elsewhere.
        engine: where shards are measured: `local`, this process, or `ray`, processes of a Ray cluster.
        ray: workers of the engine `ray`.
        device: `auto` is CUDA where there is a device, else the CPU.
        statistics: measure these too, for every role, whether the method needs them or not.
    """

    token_budget: Count | None = None
    engine: str = "local"
    ray: RaySettings = field(default_factory=RaySettings)
    device: str = "auto"
    statistics: Names = ()

    def batch_tokens(self, device_type: str) -> int:
        """Return the token budget on a kind of device, such as ``cpu``."""
        return self.token_budget or (1024 if device_type == "cpu" else 16_384)
