"""A moving average of the trained weights, to compare the model with its own past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from tokensieve.errors import TokensieveError


class MovingAverage:
    """An exponential moving average of the parameters that are trained; of an adapter's alone where there is one.

    Under FSDP (``fully_shard``) each process averages its own shards.

    Args:
        model: the model in training.
        decay: share of the average that stays at each update.

    Raises:
        TokensieveError: no parameter is trained.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self._model, self._decay = model, decay
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise TokensieveError(
                "a moving average of the trained weights was asked for, and no weight is trained",
                hint="unfreeze the model or give it an adapter, or compare with the frozen base: history: base",
            )
        self.average = {name: p.detach().clone() for name, p in trained.items()}

    def start(self) -> None:
        """Begin at the weights as they are, where they have been sharded since the average was made."""
        for name, p in self._parameters().items():
            if isinstance(p, DTensor) and not isinstance(self.average[name], DTensor):
                self.average[name] = p.detach().clone()

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are."""
        weights = [_local(p.detach()) for p in self._parameters().values()]
        torch._foreach_lerp_([_local(value) for value in self.average.values()], weights, 1 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """Return the average by parameter, of a sharded one the part of this process."""
        return {name: _local(value).contiguous() for name, value in self.average.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned, in as many processes.

        Raises:
            TokensieveError: another number of processes or another model.
        """
        for name, value in self.state().items():
            if name not in state or state[name].shape != value.shape:
                raise TokensieveError(
                    f"the checkpoint's moving average has no part of this process for '{name}'",
                    hint="resume with the model and the number of processes that the checkpoint was written with",
                )
            value.copy_(state[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights while the block lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        _reshard(self._model)
        for name, p in self._parameters().items():
            average = self.average[name]
            if isinstance(p, DTensor):  # FSDP gathers from the storage that it knows
                mine, held = _local(p.detach()), _local(average)
                weights = mine.clone()
                mine.copy_(held)
                held.copy_(weights)
            else:
                self.average[name], p.data = p.data, average

    def _parameters(self) -> dict[str, Any]:
        """Return the trained parameters as they are now: wrappers replace and rename them, and keep their order."""
        return dict(zip(self.average, (p for p in self._model.parameters() if p.requires_grad), strict=True))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _reshard(model: Any) -> None:
    """Free what FSDP has gathered, so that the next pass gathers the weights that are there then."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
