"""What a stage of a run takes, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tokensieve.pipeline.forecast.rates import Training


@dataclass(frozen=True)
class Work:
    """Something that models do.

    Attributes:
        tokens: that pass through them, without padding.
        flops: operations of matrix products.
        seconds: on one device.
        memory: peak bytes of a device.
    """

    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    memory: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.tokens + other.tokens,
            self.flops + other.flops,
            self.seconds + other.seconds,
            max(self.memory, other.memory),
        )

    def times(self, number: float) -> Work:
        """Return so many times as much, one after the other."""
        return Work(number * self.tokens, number * self.flops, number * self.seconds, self.memory)


@dataclass(frozen=True)
class Stage:
    """One line of a plan.

    Attributes:
        name: such as ``measure base``.
        detail: in words.
        work: all of it, on one device.
        devices: that share the work.
        disk: bytes that it leaves in the store and the run folder.
        training: how a model is trained; None where none is.
        longest: tokens of the longest row that is trained on.
    """

    name: str
    detail: str
    work: Work
    devices: int = 1
    disk: int = 0
    training: Training | None = None
    longest: int = 0

    @property
    def seconds(self) -> float:
        """How long it takes on all its devices."""
        return self.work.seconds / self.devices
