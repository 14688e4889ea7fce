"""Which model to load, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelSettings:
    """A causal language model, with or without an adapter.

    Attributes:
        path: folder or Hub id of the model.
        adapter: folder or Hub id of a PEFT adapter on top of it.
        revision: Hub revision of the model.
        dtype: precision to compute in; `auto` is the one the weights are stored in.
        trust_remote_code: run the model's own Python code; only for models that you trust.
        reward_head: folder of a head that turns its hidden states into rewards (`models.reward`).
    """

    path: str
    adapter: str | None = None
    revision: str | None = None
    dtype: Dtype = "auto"
    trust_remote_code: bool = False
    reward_head: str | None = None
