"""The part of the shards that one of several processes measures, which share nothing but the store.

Any number of processes, on any machines that see the same store, measure the same recipe, each its own share. They
never wait for each other, so shares may be uneven, started at any time, and of another number at the next attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tokensieve.errors import TokensieveError


@dataclass(frozen=True)
class Share:
    """Every ``of``-th shard, from ``number`` on.

    Attributes:
        number: of this share, from 0.
        of: how many shares there are.
        device: number of the process on its machine, whose CUDA device it takes; None where all processes may take the
            same one.
    """

    number: int = 0
    of: int = 1
    device: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether there is no other share."""
        return self.of == 1

    def shards(self, count: int) -> range:
        """Return the numbers of the shards of this share, of so many in all."""
        return range(self.number, count, self.of)

    def device_name(self, name: str) -> str:
        """Return the device that this process takes, where the recipe names this one."""
        import torch

        devices = torch.cuda.device_count() if name == "auto" and self.device is not None else 0
        return f"cuda:{self.device % devices}" if devices and self.device is not None else name

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


ALL = Share()
"""What a process measures that has no others beside it."""


def parse_share(text: str) -> Share:
    """Read ``3/16``.

    Raises:
        TokensieveError: something else, or a number that is not below the number of shares.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = map(int, found.groups()) if found else (0, 0)
    if number >= of:
        raise TokensieveError(
            f"'{text}' is no share of the shards",
            where="--shard",
            hint="i/n, with i from 0 to n - 1: --shard 0/16 to --shard 15/16",
        )
    return Share(number, of)


def launched_share(environment: Mapping[str, str]) -> Share:
    """Return the share of a process that `torchrun` or `accelerate launch` started, by what they tell it.

    Args:
        environment: variables of the process: ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``, as PyTorch reads them.

    Raises:
        TokensieveError: variables that do not fit together.
    """
    told = [environment.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")]
    if told[0] in ("", "1"):
        return ALL
    of, number, device = (int(text) if text.isdigit() else -1 for text in told)
    if not 0 <= number < of or device < 0:
        raise TokensieveError(
            "this process is told that it is one of several, but not which: "
            + ", ".join(f"{name}={environment.get(name)}" for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")),
            where="the environment",
            hint="start it by torchrun or accelerate launch, give --shard I/N, or unset WORLD_SIZE",
        )
    return Share(number, of, device)
