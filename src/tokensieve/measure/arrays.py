"""Statistics of loaded models over token ids at hand: no folder, no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Examples, Float32, Statistics, StatisticSpec
from tokensieve.data.tokenize import turn_end_mask
from tokensieve.errors import TokensieveError
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.measure.statistics import of_a_pass
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.models.evaluating import evaluating
from tokensieve.ops.ragged import offsets

_ROWS_AT_ONCE = 2000

Rows = Sequence[Sequence[int] | NDArray[Any]]


def measure_tokens(
    models: Mapping[str, Any],
    input_ids: Rows,
    labels: Rows,
    method: Method | str,
    *,
    turn_end_ids: Sequence[int] = (),
) -> Statistics:
    """Measure what a method reads, for its `score` and `select`.

    Args:
        models: loaded `transformers` models by role, such as ``{"base": model, "reference": other}``. They are measured
            on their device, in evaluation mode, and left unchanged.
        input_ids: token ids of each example, unpadded: lists, arrays, or a column of a data set.
        labels: of the same lengths, unshifted; -100 where a token is not trainable. The first label of an example is
            treated as -100, since nothing predicts it.
        method: a method, or the name of one at its defaults.
        turn_end_ids: ids that end an assistant turn; selections keep them where they are trainable.

    Returns:
        Flat arrays; ``np.split(array, statistics.cu_seqlens[1:-1])`` gives the examples back.

    Raises:
        TokensieveError: a role without a model, a statistic that no pass of a model gives, no example or an empty one,
            rows of ids and labels that do not match, an id beyond a model's vocabulary, an example beyond its context.
    """
    method = get_method(method) if isinstance(method, str) else method
    by_role: dict[str, list[StatisticSpec]] = {}
    for role, name in sorted(method.needs):
        _check_need(method, role, name, models)
        by_role.setdefault(role, []).append(StatisticSpec.of(name, method.options(name)))
    examples = _examples(input_ids, labels)
    values: dict[tuple[str, str], Float32] = {}
    for role, specs in by_role.items():
        _check_model(examples, models[role], role)
        with evaluating(models[role]), Forward(models[role], specs) as forward:
            found = _measured(forward, examples)
        values |= {(role, spec.name): found[spec.key] for spec in specs}
    ends = turn_end_mask(examples.input_ids, examples.labels, examples.cu_seqlens, tuple(turn_end_ids))
    return Statistics(examples.cu_seqlens, examples.labels, values, ends)


def measure_rows(model: Any, dataset: Any, specs: Sequence[StatisticSpec]) -> dict[str, list[Float32]]:
    """Measure a data set of token ids: for each statistic, the values of each row."""
    found: dict[str, list[Float32]] = {spec.name: [] for spec in specs}
    with evaluating(model), Forward(model, specs) as forward:
        for start in range(0, len(dataset), _ROWS_AT_ONCE):
            rows = dataset[start : start + _ROWS_AT_ONCE]
            examples = _examples(rows["input_ids"], rows["labels"], start)
            measured = _measured(forward, examples)
            for spec in specs:
                found[spec.name] += np.split(measured[spec.key], examples.cu_seqlens[1:-1])
    return found


def _measured(forward: Forward, examples: Examples) -> dict[str, Float32]:
    return measure_shard(forward, examples, MeasureSettings().batch_tokens(forward.device.type), lambda _: None)


def _examples(input_ids: Rows, labels: Rows, first: int = 0) -> Examples:
    """Join rows, ``first`` being the number of the first one."""
    lengths, labelled = ([len(row) for row in rows] for rows in (input_ids, labels))
    faulty = [n for n, (ids, given) in enumerate(zip(lengths, labelled, strict=False)) if ids != given or ids == 0]
    if faulty or not lengths or len(lengths) != len(labelled):
        raise TokensieveError(
            f"{lengths[faulty[0]]} ids with {labelled[faulty[0]]} labels"
            if faulty
            else f"{len(lengths)} examples of ids with {len(labelled)} of labels",
            where=f"example {first + faulty[0]}" if faulty else "input_ids, labels",
            hint="give one label for each id, and no empty example",
        )
    cu_seqlens = offsets(lengths)
    ids, targets = (np.concatenate(list(rows)).astype(np.int32) for rows in (input_ids, labels))
    targets[cu_seqlens[:-1]] = IGNORE_INDEX
    return Examples(ids, targets, cu_seqlens, np.arange(first, first + len(lengths)))


def _check_need(method: Method, role: str, name: str, models: Mapping[str, Any]) -> None:
    if role not in models:
        raise TokensieveError(
            f"method '{method.name}' needs {name} of a model in the role '{role}', and none is given",
            where=f"measure_tokens: models['{role}']",
            hint="pass one; before a training the base plays the roles 'history' and 'current'"
            if role in ("history", "current")
            else f"models={{'{role}': MODEL}}",
        )
    if not of_a_pass(name):
        raise TokensieveError(
            f"'{name}', which method '{method.name}' needs, is not measured from one pass over plain token ids",
            where="measure_tokens",
            hint="use `tokensieve run`, or TokenSelectionTrainer",
        )


def _check_model(examples: Examples, model: Any, role: str) -> None:
    size = int(model.get_input_embeddings().weight.shape[0])
    wrong = np.flatnonzero((examples.input_ids < 0) | (examples.input_ids >= size))
    if len(wrong):
        row = int(np.searchsorted(examples.cu_seqlens, wrong[0], side="right")) - 1
        raise TokensieveError(
            f"token id {examples.input_ids[wrong[0]]} is not in the {size} ids of the model in the role '{role}'",
            where=f"measure_tokens: example {row}",
            hint="use the tokenizer that belongs to the model, and pad nothing",
        )
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = int(examples.lengths.argmax())
    if context and examples.lengths[longest] > context:
        raise TokensieveError(
            f"{examples.lengths[longest]} tokens are beyond the context of {context} of the model in the role '{role}'",
            where=f"measure_tokens: example {longest}",
            hint="truncate the examples",
        )
