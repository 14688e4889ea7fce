"""How large a model is, by kind of parameter, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tokensieve.models.loading import dtype_of, model_without_weights
from tokensieve.models.settings import ModelSettings


@dataclass(frozen=True)
class ModelSize:
    """The numbers of a model that its work and its memory follow from.

    Attributes:
        embedding: parameters of the tables that rows are looked up in, which cost no operations. A table that is also
            the head counts here.
        head: parameters of the matrix from hidden states to logits, also where it is the embedding.
        tied: whether the head is the embedding.
        matrices: parameters of all other matrices.
        active: parameters of these that a token passes; fewer where it passes some of the experts of a layer only.
        vectors: parameters of norms and biases.
        layers: number of layers.
        hidden: width of the hidden states.
        attention: query heads times their width; 0 without attention.
        key_value: key heads times their width.
        intermediate: width between the two halves of a feed-forward layer.
        vocabulary: rows of the head.
        dtype: name of the precision, such as ``bfloat16``.
    """

    embedding: int
    head: int
    tied: bool
    matrices: int
    active: int
    vectors: int
    layers: int
    hidden: int
    attention: int
    key_value: int
    intermediate: int
    vocabulary: int
    dtype: str

    @property
    def parameters(self) -> int:
        """All parameters, each once."""
        return self.embedding + self.matrices + self.vectors + (0 if self.tied else self.head)

    @property
    def itemsize(self) -> int:
        """Bytes of a parameter."""
        return getattr(torch, self.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Bytes of all weights."""
        return self.parameters * self.itemsize


def model_size(model: ModelSettings) -> ModelSize:
    """Return the size of a model without its adapter; no weights are read.

    Raises:
        TokensieveError: as `model_without_weights`.
    """
    return size_of(model_without_weights(model), dtype_of(model))


def size_of(model: Any, dtype: str) -> ModelSize:
    """Return the size of a `transformers` causal language model, on any device.

    Args:
        model: the model, without an adapter.
        dtype: name of the precision that it computes in.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings().weight
    tables = {id(layer.weight): layer.weight for layer in model.modules() if isinstance(layer, nn.Embedding)}
    rest = [one for one in model.parameters() if id(one) not in tables and one is not head]
    matrices = [one for one in rest if one.dim() > 1]
    heads = getattr(config, "num_attention_heads", None) or 0
    width = (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
    return ModelSize(
        embedding=sum(one.numel() for one in tables.values()),
        head=head.numel(),
        tied=id(head) in tables,
        matrices=sum(one.numel() for one in matrices),
        active=sum(round(one.numel() * _share(one, config)) for one in matrices),
        vectors=sum(one.numel() for one in rest if one.dim() < 2),
        layers=getattr(config, "num_hidden_layers", None) or 0,
        hidden=config.hidden_size,
        attention=heads * width,
        key_value=(getattr(config, "num_key_value_heads", None) or heads) * width,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocabulary=head.shape[0],
        dtype=dtype,
    )


def _share(matrix: nn.Parameter, config: Any) -> float:
    """Return the share of a matrix that a token passes: of stacked experts, those that it is sent to."""
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    chosen = getattr(config, "num_experts_per_tok", None)
    return chosen / experts if experts and chosen and matrix.dim() == 3 and matrix.shape[0] == experts else 1.0
