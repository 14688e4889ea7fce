"""The statistics of frozen models as columns of the training data, measured once before the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokensieve.containers import StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.measure.arrays import measure_rows
from tokensieve.methods._base import Method


def column_of(need: tuple[str, str]) -> str:
    """Return the column that holds a statistic, given as (role, name)."""
    return ".".join(need)


def with_frozen_columns(
    dataset: Any, method: Method, needs: Sequence[tuple[str, str]], models: Mapping[str, Any], own: Any
) -> Any:
    """Measure what no column holds of frozen models, and add it to the data.

    Args:
        dataset: of the ``datasets`` library, with ``input_ids`` and ``labels``.
        method: what needs the statistics.
        needs: the statistics of frozen models, as (role, name).
        models: loaded models by role.
        own: the model to be trained, as it is before its first step; replaces a missing ``base`` and ``history``.

    Returns:
        The data with a column ``ROLE.STATISTIC`` for each need, a list of float32 a row, in nats where the statistic
        has a unit.

    Raises:
        TokensieveError: the model of a role is missing.
    """
    by_role: dict[str, list[StatisticSpec]] = {}
    for role, name in needs:
        if column_of((role, name)) not in dataset.column_names:
            by_role.setdefault(role, []).append(StatisticSpec.of(name, method.options(name)))
    for role, specs in by_role.items():
        model = models.get(role)
        if model is None and role in ("base", "history"):
            model = own
        if model is None:
            raise TokensieveError(
                f"method '{method.name}' needs {specs[0].name} of a model in the role '{role}', and none is given",
                where=f"TokenSelectionTrainer: models['{role}']",
                hint=f"pass models={{'{role}': MODEL}}, or a data column '{role}.{specs[0].name}'",
            )
        for name, column in measure_rows(model, dataset, specs).items():
            dataset = dataset.add_column(column_of((role, name)), column)
    return dataset
