"""Statistics of the model in training, read from the very pass that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokensieve.containers import IGNORE_INDEX, Float32
from tokensieve.errors import TokensieveError
from tokensieve.measure.statistics import Taps, in_training, source_of
from tokensieve.methods._base import Method
from tokensieve.models.head import Head
from tokensieve.models.transformers_private import decoder
from tokensieve.ops.token_loss import token_statistics
from tokensieve.train.batches import Batch
from tokensieve.train.trl_private import FUSED_HEAD_STATISTICS

Values = dict[tuple[str, str], Float32]
"""Float32 ``[tokens]`` by role and statistic."""


class CurrentStatistics:
    """What a method reads of the model in training.

    Args:
        method: says what it needs of the role ``current``.
        model: the model in training, unwrapped.

    Raises:
        TokensieveError: a statistic that no training pass yields, a layer that the model does not have, attention that
            cannot be intercepted.
    """

    def __init__(self, method: Method, model: Any) -> None:
        names = [name for role, name in sorted(method.needs) if role == "current"]
        if unknown := [name for name in names if not in_training(name)]:
            raise TokensieveError(
                f"'{unknown[0]}' of the model in training cannot be read from its training pass",
                hint="choose a method that selects before training, or another statistic",
            )
        self._specs = [method.spec(name) for name in names]
        self._taps = Taps(model, self._specs)
        self._from_states = [
            name for name in names if source_of(name) == "logits" and name not in FUSED_HEAD_STATISTICS
        ]
        self.head = Head(model)

    def forward(self, model: Any, unwrapped: Any, arguments: dict[str, Any], batch: Batch) -> tuple[Any, Values]:
        """Run the pass that trains.

        Args:
            model: the model in training as the trainer calls it.
            unwrapped: the same without wrappers.
            arguments: of the call.
            batch: its tokens.

        Returns:
            The outputs of TRL's fused head, and the statistics of the pass.
        """
        hidden: list[Tensor] = []
        found: Mapping[str, Tensor] = {}
        with ExitStack() as stack:
            if self._from_states:
                backbone = decoder(unwrapped)
                hook = backbone.register_forward_hook(lambda _m, _a, output: hidden.append(output.last_hidden_state))
                stack.callback(hook.remove)
            if self._taps:
                stack.enter_context(self._taps)
                prompt = torch.from_numpy(np.ones(batch.shape, dtype=bool))
                prompt.view(-1)[torch.from_numpy(batch.places[batch.labels != IGNORE_INDEX])] = False
                device = arguments["input_ids"].device
                lengths = torch.from_numpy(batch.lengths).to(device)
                found = stack.enter_context(self._taps.record(prompt.to(device), lengths))
            outputs = model(**arguments)
        values: Values = {}
        for spec in self._specs:
            if spec.name in FUSED_HEAD_STATISTICS:
                values["current", spec.name] = batch.gather_shifted(FUSED_HEAD_STATISTICS[spec.name](outputs))
            elif spec.key in found:
                values["current", spec.name] = batch.gather(found[spec.key])
        if self._from_states:
            values.update(self._read_states(hidden[0], batch))
        return outputs, values

    @torch.no_grad()
    def _read_states(self, hidden: Tensor, batch: Batch) -> Values:
        """Compute statistics that TRL's head does not give, from the states that enter it."""
        trainable = np.flatnonzero(batch.labels != IGNORE_INDEX)
        places = torch.from_numpy(batch.places[trainable]).to(hidden.device)
        head = self.head.gathered()
        states = hidden.detach().flatten(0, 1)[places - 1].to(head.module.weight.dtype)
        targets = torch.from_numpy(batch.labels[trainable]).to(hidden.device)
        computed = token_statistics(states, head.logits, targets, self._from_states, head.vocabulary)
        values: Values = {}
        for name, value in computed.items():
            values["current", name] = np.zeros(len(batch.labels), dtype=np.float32)
            values["current", name][trainable] = value.cpu().numpy()
        return values
