"""One pass of a model over a batch, every statistic that was asked for.

The hidden states that enter the head are caught on their way, those of trainable positions are gathered,
and the head is applied to these alone, in chunks (`ops.token_loss`).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokensieve.containers import IGNORE_INDEX, Examples, Float32, Int64, StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.measure.batching import plan_batches, run_batches
from tokensieve.measure.statistics import MEASURABLE, Taps, of_a_pass, source_of
from tokensieve.models.head import Head
from tokensieve.models.memory import free_unused, out_of_memory
from tokensieve.models.torch_private import packed_layers, small
from tokensieve.models.transformers_private import decoder
from tokensieve.ops.token_loss import token_statistics

_PROBE_TOKENS = 8


class Forward:
    """A model whose head is taken out of the forward pass while the block lasts; for several threads at once.

    Args:
        model: a `transformers` causal language model, adapters included; for statistics that need no logits, one
            without a language-model head too.
        specs: what each pass is to yield: statistics `of_a_pass`.

    Raises:
        TokensieveError: a statistic that no pass yields, a model without an output embedding, logits that are not what
            the head and the known scalings give (checked on a few tokens against the model's own logits), or a layer
            that the model does not have.
    """

    def __init__(self, model: Any, specs: Sequence[StatisticSpec]) -> None:
        self._model, self.specs = model, tuple(specs)
        if other := [spec.name for spec in specs if not of_a_pass(spec.name)]:
            raise TokensieveError(
                f"'{other[0]}' is not measured by a pass over token ids",
                hint=f"one or more of: {', '.join(filter(of_a_pass, MEASURABLE))}",
            )
        self._names = [spec.name for spec in specs if source_of(spec.name) == "logits"]
        self._of_answers = [spec.key for spec in specs if source_of(spec.name) == "answers"]
        self._taps = Taps(model, specs)
        needs_head = bool(self._names or self._of_answers) or model.get_output_embeddings() is not None
        self._head = Head(model) if needs_head else None
        self._thread = threading.local()

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            if self._head is not None:
                self._enter_head(self._head)
            self._stack.enter_context(self._taps)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _enter_head(self, head: Head) -> None:
        """Catch what enters the head, and check what it gives against the model's own logits."""
        head.module.forward = self._catch
        self._stack.callback(delattr, head.module, "forward")
        expected, used = self._probed_logits(head), head
        if small(self._model):
            self._head = used = head.frozen()
            self._stack.callback(setattr, self, "_head", head)
            self._stack.enter_context(packed_layers(self._model))
        self._check(used, expected)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self._model.parameters()).device

    def needed_lengths(self, examples: Examples) -> Int64:
        """Return `needed_lengths` for the statistics of this pass."""
        return needed_lengths(examples, bool(self._taps))

    @torch.inference_mode()
    def statistics(self, sequences: Sequence[NDArray], targets: Sequence[NDArray]) -> list[dict[str, Float32]]:
        """Return, for each sequence, float32 values at its target positions, by the key of the statistic.

        Args:
            sequences: int32 ``[tokens]`` ids of each sequence.
            targets: positions whose tokens are predicted, each at least 1 and at most the number of
                tokens of its sequence less one.
        """
        found: list[dict[str, Float32]] = [{} for _ in sequences]
        if self._names or self._taps:
            found = self._in_context(sequences, targets, self._names, bool(self._taps))
        if self._of_answers:
            for values, losses in zip(found, self._without_prompt(sequences, targets), strict=True):
                values |= dict.fromkeys(self._of_answers, losses)
        return found

    def _without_prompt(self, sequences: Sequence[NDArray], targets: Sequence[NDArray]) -> list[Float32]:
        """Return, for each sequence, the losses of its targets where each answer stands alone (`answers_alone`)."""
        answers, numbers = answers_alone(sequences, targets)
        losses: list[Float32] = [np.empty(0, dtype=np.float32)] * len(answers)
        # Answers are of other lengths than the examples: together, they may be padded to more tokens.
        budget = sum(map(len, sequences))
        for batch in plan_batches(np.array([len(answer) for answer in answers]), budget):
            part = [answers[number] for number in batch]
            measured = self._in_context(part, [np.arange(1, len(answer)) for answer in part], ["loss"], False)
            for number, values in zip(batch, measured, strict=True):
                losses[number] = values["loss"]
        return [np.concatenate([losses[number] for number in of_one]) for of_one in numbers]

    def _in_context(
        self, sequences: Sequence[NDArray], targets: Sequence[NDArray], names: Sequence[str], tapped: bool
    ) -> list[dict[str, Float32]]:
        """Return what `statistics` does of one pass: statistics of the logits, and where asked those of the taps."""
        device = self.device
        # Attention is causal: no logits need anything past the last target's predecessor.
        lengths = [
            len(sequence) if tapped else int(positions[-1])
            for sequence, positions in zip(sequences, targets, strict=True)
        ]
        padded = torch.zeros(len(sequences), max(lengths), dtype=torch.long)
        for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
            padded[row, :length] = torch.from_numpy(sequence[:length].astype(np.int64))
        rows = np.repeat(np.arange(len(targets)), [len(positions) for positions in targets])
        places = torch.from_numpy(rows * padded.shape[1] + np.concatenate(targets)).to(device)
        wanted = np.concatenate([s[p] for s, p in zip(sequences, targets, strict=True)]).astype(np.int64)
        values: dict[str, Tensor] = {}
        # Right padding under causal attention needs no mask: no real token sees a later one.
        if tapped:
            prompt = torch.ones(padded.numel(), dtype=torch.bool, device=device)
            prompt[places] = False
            with self._taps.record(prompt.view(padded.shape), torch.tensor(lengths, device=device)) as found:
                hidden = self._hidden(padded.to(device))
            values |= {key: value.flatten(0, 1)[places] for key, value in found.items()}
        else:
            hidden = self._hidden(padded.to(device))
        if names:
            assert self._head is not None
            hidden = hidden.reshape(-1, hidden.shape[-1])[places - 1]
            ids = torch.from_numpy(wanted).to(device)
            values |= token_statistics(hidden, self._head.logits, ids, names, self._head.vocabulary)
        stops = np.cumsum([len(positions) for positions in targets])[:-1]
        split = {name: np.split(value.cpu().numpy(), stops) for name, value in values.items()}
        return [{name: value[row] for name, value in split.items()} for row in range(len(sequences))]

    def _hidden(self, input_ids: Tensor) -> Tensor:
        """Return what enters the head, or would if there were one: ``[rows, positions, hidden]``."""
        if self._head is None:
            return decoder(self._model)(input_ids=input_ids, use_cache=False).last_hidden_state
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
            assert self._head is not None
            return self._head.forward(hidden, *arguments, **keywords)
        caught.append(hidden)
        return hidden[..., :1]

    def _probe(self, head: Head) -> Tensor:
        return torch.arange(_PROBE_TOKENS, device=self.device)[None] % head.vocabulary

    @torch.inference_mode()
    def _probed_logits(self, head: Head) -> Tensor:
        """Return the model's own logits of the probe."""
        return self._model(input_ids=self._probe(head), use_cache=False).logits[0].float()

    @torch.inference_mode()
    def _check(self, head: Head, expected: Tensor) -> None:
        hidden = self._hidden(self._probe(head))[0]
        found = head.logits(hidden, slice(None), hidden.new_empty(len(hidden), head.vocabulary)).float()
        tolerance = 1e-3 if head.module.weight.dtype == torch.float32 else 0.05
        # NaN weights pass: their losses are refused with the rows that they spoil.
        if found.shape != expected.shape or not torch.allclose(found, expected, tolerance, tolerance, equal_nan=True):
            raise TokensieveError(
                f"the logits of {type(self._model).__name__} are not those of its head with the known scalings "
                f"(off by up to {(found - expected).abs().max().item():.3g})"
                if found.shape == expected.shape
                else f"the head of {type(self._model).__name__} gives {tuple(found.shape)}, "
                f"the model {tuple(expected.shape)}",
                hint="this architecture is not supported; please report it",
            )


def answers_alone(
    sequences: Sequence[NDArray], targets: Sequence[NDArray]
) -> tuple[list[NDArray[np.int32]], list[list[int]]]:
    """Cut the answers out of sequences: each becomes a sequence of its own, behind the first token of its example.

    An answer is a run of targets without a gap, such as one turn of a conversation. What stood before it, the answers
    of earlier turns included, is its prompt. The first token, which most tokenizers make the begin of the sequence, is
    what predicts the first token of the answer.

    Args:
        sequences: int32 ``[tokens]`` ids of each sequence.
        targets: rising positions of its answers' tokens, each at least 1.

    Returns:
        The ids of every answer, and for each sequence the numbers of its answers.
    """
    answers, numbers = [], []
    for sequence, positions in zip(sequences, targets, strict=True):
        runs = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)
        numbers.append(list(range(len(answers), len(answers) + len(runs))))
        answers += [np.concatenate([sequence[:1], sequence[run]]) for run in runs]
    return answers, numbers


def needed_lengths(examples: Examples, whole: bool) -> Int64:
    """Return int64 ``[examples]``, how many tokens of each must pass through a model; 0 for nothing to measure.

    Args:
        examples: a shard.
        whole: whether all tokens must pass, as for every part of a pass but the logits, which need the tokens before
            the last trainable one.
    """
    positions = np.where(examples.labels != IGNORE_INDEX, np.arange(len(examples.labels)), -1)
    last: NDArray[Any] = np.maximum.reduceat(positions, examples.cu_seqlens[:-1]) - examples.cu_seqlens[:-1]
    return np.where(last > 0, examples.lengths if whole else last, 0)


def measure_examples(
    forward: Forward,
    examples: Examples,
    numbers: NDArray[np.int64],
    out: dict[str, NDArray],
) -> None:
    """Measure some examples of a shard together and write their statistics into ``out``.

    A batch that does not fit into memory, of the device or of this machine, is halved until it does, with a warning.

    Args:
        forward: the model.
        examples: the shard.
        numbers: which of its examples.
        out: float32 ``[tokens]`` of the shard, by statistic key; trainable positions of the examples are set. More
            than one number a token is allowed where the statistic has them.

    Raises:
        TokensieveError: one example alone does not fit into memory.
    """
    spans = [slice(examples.cu_seqlens[n], examples.cu_seqlens[n + 1]) for n in numbers]
    sequences = [examples.input_ids[span] for span in spans]
    targets = [np.flatnonzero(examples.labels[span] != IGNORE_INDEX) for span in spans]
    measured = None
    try:
        measured = forward.statistics(sequences, targets)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if len(numbers) == 1:
            raise TokensieveError(
                f"row {examples.rows[numbers[0]]} with {len(sequences[0])} tokens does not fit into memory",
                hint="lower data.max_length, or measure in bfloat16",
            ) from error
    if measured is None:
        free_unused()
        warnings.warn(
            "a batch does not fit into memory and is halved: the statistics are the same up to rounding, and a lower "
            "measure.token_budget takes less time",
            stacklevel=2,
        )
        for half in np.array_split(numbers, 2):
            measure_examples(forward, examples, half, out)
        return
    for span, positions, values in zip(spans, targets, measured, strict=True):
        for key, value in values.items():
            out[key][span.start + positions] = value


def measure_shard(
    forward: Forward, shard: Examples, token_budget: int, on_tokens: Callable[[int], None]
) -> dict[str, Float32]:
    """Measure all examples of a shard in batches of similar length.

    Returns:
        float32 ``[tokens]`` by the key of each statistic of ``forward``; 0 where a token is not trainable.
    """
    values = {spec.key: np.zeros(len(shard.input_ids), dtype=np.float32) for spec in forward.specs}
    measure_into(values, forward, shard, token_budget, on_tokens)
    return values


def measure_into(
    out: dict[str, NDArray], forward: Forward, shard: Examples, token_budget: int, on_tokens: Callable[[int], None]
) -> None:
    """Do what `measure_shard` does into arrays at hand, ``[tokens, ...]`` by the key of each statistic."""
    lengths = forward.needed_lengths(shard)
    on_tokens(int(shard.lengths[lengths == 0].sum()))
    run_batches(
        lambda numbers: measure_examples(forward, shard, numbers, out),
        plan_batches(lengths, token_budget),
        forward.device,
        lambda numbers: on_tokens(int(shard.lengths[numbers].sum())),
    )
