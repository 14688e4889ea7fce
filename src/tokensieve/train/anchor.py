"""The divergence of the model in training from the base, as a term of the loss."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tokensieve.models.evaluating import evaluating
from tokensieve.models.head import Head
from tokensieve.models.transformers_private import decoder

_ROWS = 1024  # whose logits exist together


class Anchor:
    """Measures ``KL(base || current)`` at some positions of a batch, with a gradient for the model in training.

    The base is a model that is given; else the model in training without its adapter; else a copy of it as it is now,
    which takes as much memory again. Logits exist for some rows at a time, in the pass back as well.

    Args:
        model: the model in training, unwrapped.
        base: the base, on the same device, or None.
    """

    def __init__(self, model: Any, base: Any | None) -> None:
        self._model = model
        self._adapted = base is None and hasattr(model, "disable_adapter")
        if base is None:
            base = model if self._adapted else copy.deepcopy(model).eval().requires_grad_(False)
        self._base: Any = base
        self._head, self._base_head = Head(model), Head(base)

    @contextmanager
    def record(self) -> Iterator[list[Tensor]]:
        """Take the states that enter the head, ``[B, S, hidden]``, from the model's passes while the block lasts."""
        states: list[Tensor] = []
        hook = decoder(self._model).register_forward_hook(
            lambda _m, _a, output: states.append(output.last_hidden_state)
        )
        try:
            yield states
        finally:
            hook.remove()

    def divergence(self, states: Tensor, arguments: Mapping[str, Any], places: Tensor) -> Tensor:
        """Return float32 ``[n]``, the divergence at each token, in nats.

        Args:
            states: ``[B, S, hidden]`` of the model in training, with their graph.
            arguments: of its call; ids, and what says which of them are real.
            places: int64 ``[n]``, where the tokens lie in the flattened batch; each is predicted by the one before it.
        """
        inputs = {
            name: arguments[name] for name in ("input_ids", "attention_mask", "position_ids") if name in arguments
        }
        with torch.no_grad(), self._as_base():
            found = decoder(self._base)(**inputs, use_cache=False).last_hidden_state
        mine, theirs = (found.flatten(0, 1)[places - 1] for found in (states, found))
        parts = [
            checkpoint(
                self._divergence, mine[start : start + _ROWS], theirs[start : start + _ROWS], use_reentrant=False
            )
            for start in range(0, len(places), _ROWS)
        ]
        return torch.cat(parts) if parts else states.new_zeros(0, dtype=torch.float32)

    def _divergence(self, mine: Tensor, theirs: Tensor) -> Tensor:
        with torch.no_grad(), self._as_base():
            expected = self._base_head.whole_logits(theirs).float().log_softmax(dim=-1)
        found = self._head.whole_logits(mine).float().log_softmax(dim=-1)
        # A head that masks tokens with -inf has 0 * (-inf - -inf) there.
        difference = (expected - found).nan_to_num(nan=0.0)
        return (expected.exp() * difference).sum(dim=-1)

    @contextmanager
    def _as_base(self) -> Iterator[None]:
        with evaluating(self._base), self._base.disable_adapter() if self._adapted else nullcontext():
            yield
