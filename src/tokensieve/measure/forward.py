"""One pass of a model over a batch, every statistic that was asked for.

The hidden states that enter the head are caught on their way, those of trainable positions are gathered,
and the head is applied to these alone, in chunks (`ops.token_loss`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tokensieve.errors import TokensieveError
from tokensieve.ops.token_loss import token_statistics
from tokensieve.types import IGNORE_INDEX, Examples, Float32

_PROBE_TOKENS = 8


class Forward:
    """A model whose head is taken out of the forward pass while the block lasts; for several threads at once.

    Args:
        model: a `transformers` causal language model, adapters included.

    Raises:
        TokensieveError: the model has no output embedding, or its logits are not what its head and the
            known scalings give (checked on a few tokens against the model's own logits).
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._head = model.get_output_embeddings()
        if self._head is None:
            raise TokensieveError(f"{type(model).__name__} has no output embedding, so it gives no token losses")
        self._finish = _after_head(model.config.get_text_config())
        self._original = self._head.forward
        self._thread = threading.local()

    def __enter__(self) -> Self:
        self._head.forward = self._catch
        try:
            self._check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        del self._head.forward

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self._model.parameters()).device

    @torch.inference_mode()
    def statistics(
        self, sequences: Sequence[NDArray], targets: Sequence[NDArray], names: Sequence[str]
    ) -> list[dict[str, Float32]]:
        """Return, for each sequence, float32 figures at its target positions.

        Args:
            sequences: int32 ``[tokens]`` ids of each sequence.
            targets: positions whose tokens are predicted, each at least 1 and at most the number of
                tokens of its sequence less one.
            names: statistics of `ops.token_loss`.
        """
        device = self.device
        # Nothing past the last target's predecessor is needed, since attention is causal.
        lengths = [int(positions[-1]) for positions in targets]
        padded = torch.zeros(len(sequences), max(lengths), dtype=torch.long)
        for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
            padded[row, :length] = torch.from_numpy(sequence[:length].astype(np.int64))
        rows = np.repeat(np.arange(len(targets)), [len(positions) for positions in targets])
        before = torch.from_numpy(rows * padded.shape[1] + np.concatenate(targets) - 1)
        wanted = np.concatenate([s[p] for s, p in zip(sequences, targets, strict=True)]).astype(np.int64)
        # Right padding under causal attention needs no mask: no real token sees a later one.
        hidden = self._hidden(padded.to(device))
        hidden = hidden.reshape(-1, hidden.shape[-1])[before.to(device)]
        figures = token_statistics(hidden, self._logits, torch.from_numpy(wanted).to(device), names, self._vocabulary)
        stops = np.cumsum([len(positions) for positions in targets])[:-1]
        split = {name: np.split(value.cpu().numpy(), stops) for name, value in figures.items()}
        return [{name: values[row] for name, values in split.items()} for row in range(len(sequences))]

    @property
    def _vocabulary(self) -> int:
        return int(self._head.weight.shape[0])

    def _logits(self, hidden: Tensor, columns: slice, out: Tensor) -> Tensor:
        """Return the logits of some of the vocabulary, ``[rows, columns]``, in ``out`` where that can be."""
        if type(self._head) is not nn.Linear:  # an adapter on the head: its own code must run
            return self._finish(self._original(hidden)[:, columns])
        torch.mm(hidden, self._head.weight[columns].T, out=out)
        return self._finish(out if self._head.bias is None else out.add_(self._head.bias[columns]))

    def _hidden(self, input_ids: Tensor) -> Tensor:
        """Return what enters the head, ``[rows, positions, hidden]``."""
        self._thread.caught = []
        try:
            self._model(input_ids=input_ids, use_cache=False)
            return self._thread.caught[0]
        finally:
            del self._thread.caught

    def _catch(self, hidden: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        """Stand in for the head: keep its input and answer with one column, cheap for any vocabulary."""
        caught = getattr(self._thread, "caught", None)
        if caught is None:
            return self._original(hidden, *arguments, **keywords)
        caught.append(hidden)
        return hidden[..., :1]

    @torch.inference_mode()
    def _check(self) -> None:
        probe = torch.arange(_PROBE_TOKENS, device=self.device)[None] % self._vocabulary
        expected = self._model(input_ids=probe, use_cache=False).logits[0].float()
        hidden = self._hidden(probe)[0]
        found = self._logits(hidden, slice(None), hidden.new_empty(len(hidden), self._vocabulary)).float()
        tolerance = 1e-3 if self._head.weight.dtype == torch.float32 else 0.05
        # NaN weights pass: their losses are refused with the rows that they spoil.
        if found.shape != expected.shape or not torch.allclose(found, expected, tolerance, tolerance, equal_nan=True):
            raise TokensieveError(
                f"the logits of {type(self._model).__name__} are not those of its head with the known scalings "
                f"(off by up to {(found - expected).abs().max().item():.3g})"
                if found.shape == expected.shape
                else f"the head of {type(self._model).__name__} gives {tuple(found.shape)}, "
                f"the model {tuple(expected.shape)}",
                mend="this architecture is not supported; please report it",
            )


def measure_examples(
    forward: Forward,
    examples: Examples,
    numbers: NDArray[np.int64],
    names: Sequence[str],
    out: dict[str, Float32],
) -> None:
    """Measure some examples of a shard together and write their figures into ``out``.

    A batch that does not fit into the device's memory is halved until it does.

    Args:
        forward: the model.
        examples: the shard.
        numbers: which of its examples.
        names: statistics.
        out: float32 ``[tokens]`` of the shard, per name; trainable positions of the examples are set.

    Raises:
        TokensieveError: one example alone does not fit into memory.
    """
    spans = [slice(examples.cu_seqlens[n], examples.cu_seqlens[n + 1]) for n in numbers]
    sequences = [examples.input_ids[span] for span in spans]
    targets = [np.flatnonzero(examples.labels[span] != IGNORE_INDEX) for span in spans]
    try:
        figures = forward.statistics(sequences, targets, names)
    except torch.OutOfMemoryError as error:
        if len(numbers) == 1:
            raise TokensieveError(
                f"row {examples.rows[numbers[0]]} with {len(sequences[0])} tokens does not fit into memory",
                mend="lower data.max_length, or measure in bfloat16",
            ) from error
        torch.cuda.empty_cache()
        for half in np.array_split(numbers, 2):
            measure_examples(forward, examples, half, names, out)
        return
    for span, positions, figure in zip(spans, targets, figures, strict=True):
        for name, value in figure.items():
            out[name][span.start + positions] = value


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
