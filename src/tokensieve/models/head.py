"""The language-model head, applied to some of the vocabulary at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tokensieve.errors import TokensieveError
from tokensieve.models.torch_private import Product, packed


class Head:
    """A model's language-model head with what the model does to its logits, applied to some of the vocabulary.

    Args:
        model: a `transformers` causal language model, adapters included.

    Raises:
        TokensieveError: the model has no output embedding.
    """

    def __init__(self, model: Any) -> None:
        self.module = model.get_output_embeddings()
        if self.module is None:
            raise TokensieveError(
                f"{type(model).__name__} has no output embedding, so it gives no token losses",
                hint="give a causal language model, loaded with its head",
            )
        self.forward = self.module.forward
        self._packed: dict[tuple[int, int], Product | None] | None = None
        self._finish = _after_head(model.config.get_text_config())

    @property
    def vocabulary(self) -> int:
        """Number of logits of a row."""
        return int(self.module.weight.shape[0])

    def gathered(self) -> Head:
        """Return the head with whole weights where FSDP has sharded them, else itself; all processes must call it."""
        weight, bias = self.module.weight, getattr(self.module, "bias", None)
        if not isinstance(weight, DTensor):
            return self
        whole = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        whole.weight = nn.Parameter(weight.full_tensor().detach(), requires_grad=False)
        if isinstance(bias, DTensor):
            whole.bias = nn.Parameter(bias.full_tensor().detach(), requires_grad=False)
        head = copy.copy(self)
        head.module, head.forward = whole, whole.forward
        return head

    def frozen(self) -> Head:
        """Return the head with a copy of its weights that `logits` is faster with; later changes have no effect."""
        head = copy.copy(self)
        head._packed = {}
        return head

    def whole_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the whole vocabulary, ``[rows, vocabulary]``, through which gradients flow."""
        return self._finish(self.forward(hidden))

    def logits(self, hidden: Tensor, columns: slice, out: Tensor) -> Tensor:
        """Return the logits of some of the vocabulary, ``[rows, columns]``, in ``out`` where that can be."""
        if type(self.module) is not nn.Linear:  # an adapter on the head: its own code must run
            return self._finish(self.forward(hidden)[:, columns])
        if product := self._packed_product(columns):
            return self._finish(product(hidden))
        torch.mm(hidden, self.module.weight[columns].T, out=out)
        return self._finish(out if self.module.bias is None else out.add_(self.module.bias[columns]))

    def _packed_product(self, columns: slice) -> Product | None:
        if self._packed is None:
            return None
        first, last, _ = columns.indices(self.vocabulary)
        if (first, last) not in self._packed:
            weight, bias = self.module.weight, self.module.bias
            self._packed[first, last] = packed(weight[columns], None if bias is None else bias[columns])
        return self._packed[first, last]


def _after_head(config: Any) -> Callable[[Tensor], Tensor]:
    """Return what a model does to its logits: a scaling, a soft cap, or nothing.

    The names are those of transformers' configurations: `logit_scale` (Cohere), `lm_head_multiplier`
    (Falcon-H1), `logits_scaling` (Granite, a divisor), `final_logit_softcapping` (Gemma 2).
    """
    scale = next(
        (
            value
            for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
            if (value := getattr(config, name, None))
        ),
        1.0,
    )
    if divisor := getattr(config, "logits_scaling", None):
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    cap = getattr(config, "final_logit_softcapping", None)

    def finish(logits: Tensor) -> Tensor:
        logits = logits if scale == 1.0 else logits * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return finish
