"""Statistics of one layer's attention, taken from the queries and keys of a forward pass as it runs.

Every architecture of transformers hands its queries and keys, after the rotary embedding, to an attention function.
While a tap is open that function also passes them to `ops.attention`; the model's own result does not change. This
serves measuring and training alike.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from tokensieve.containers import StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.models.transformers_private import Attention, replaced_attention
from tokensieve.ops.attention import attention_mass, attention_settings


class AttentionTap:
    """Reads the attention statistics of forward passes while the block lasts; for several threads at once.

    Args:
        model: a `transformers` causal language model, adapters included.
        specs: attention statistics, each with the options ``layer`` (negative from the last) and ``heads``.

    Raises:
        TokensieveError: a layer that the model does not have.
    """

    def __init__(self, model: Any, specs: Sequence[StatisticSpec]) -> None:
        self._model = model
        layers = model.config.get_text_config().num_hidden_layers
        self._wanted: dict[int, dict[str, list[StatisticSpec]]] = {}
        for spec in specs:
            layer, heads = spec.option("layer", -1), spec.option("heads", "mean")
            if not -layers <= layer < layers:
                raise TokensieveError(
                    f"there is no layer {layer}: the model has {layers}", hint=f"layer: {-layers} to {layers - 1}"
                )
            self._wanted.setdefault(layer % layers, {}).setdefault(heads, []).append(spec)
        self._count = len(specs)
        self._thread = threading.local()

    def __enter__(self) -> Self:
        self._replaced = replaced_attention(self._model, self._tapped)
        self._replaced.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._replaced.__exit__(*error)

    @contextmanager
    def record(self, prompt: Tensor, lengths: Tensor) -> Iterator[dict[str, Tensor]]:
        """Take the statistics of this thread's next forward pass.

        Args:
            prompt: bool ``[B, S]``, True where a token is not trained on.
            lengths: int64 ``[B]``, real tokens of each right-padded row.

        Yields:
            Filled by the pass: float32 ``[B, S]`` by the key of each statistic.

        Raises:
            TokensieveError: the pass ended and the attention of a layer was never seen.
        """
        found: dict[str, Tensor] = {}
        self._thread.recording = (prompt, lengths, found)
        try:
            yield found
        finally:
            del self._thread.recording
        if len(found) != self._count:
            raise TokensieveError(
                f"the attention of {type(self._model).__name__} cannot be intercepted: its layers do not call an "
                "attention function of transformers",
                hint="choose a method that needs no attention, or another model",
            )

    def _tapped(self, original: Attention) -> Attention:
        """Return an attention function that also takes the statistics of a recording."""

        def attend(module: Any, query: Tensor, key: Tensor, *arguments: Any, **keywords: Any) -> Any:
            recording = getattr(self._thread, "recording", None)
            wanted = self._wanted.get(getattr(module, "layer_idx", -1))
            if recording is not None and wanted:
                prompt, lengths, found = recording
                with torch.no_grad():
                    settings = attention_settings(module, query, keywords)
                    for heads, specs in wanted.items():
                        names = [spec.name for spec in specs]
                        mass = attention_mass(query, key, prompt, lengths=lengths, names=names, heads=heads, **settings)  # type: ignore[arg-type]
                        found.update({spec.key: mass[spec.name] for spec in specs})
            return original(module, query, key, *arguments, **keywords)

        return attend
