"""Several runs on the same examples as one: their arms together, under names that do not clash."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tokensieve.errors import TokensieveError
from tokensieve.runs.results import Evaluation, Row
from tokensieve.runs.view import RunView, load_run

Value = TypeVar("Value")


def load_runs(folders: Sequence[Path]) -> RunView:
    """Open one or more run folders; several on the same examples become one view of all their arms.

    An arm that another run has too, with the same selection and no other evaluation, is there once. Where names clash,
    the run's name follows in brackets.

    Raises:
        TokensieveError: as `load_run`; runs on different examples; the same run twice.
    """
    if not folders:
        raise TokensieveError("no run given", where="command line", hint="tokensieve report runs/a")
    views = [load_run(folder) for folder in folders]
    first = views[0]
    if len(views) == 1:
        return first
    for view in views[1:]:
        if view.store.fingerprint != first.store.fingerprint:
            raise TokensieveError(
                "these runs are on different examples, so their tokens cannot be shown side by side",
                where=f"{first.folder}, {view.folder}",
                hint="give runs on the same data, tokenizer and max_length, or one page each",
            )
    if len({view.folder.resolve() for view in views}) < len(views):
        raise TokensieveError(
            "the same run is given twice",
            where=", ".join(str(view.folder) for view in views),
            hint="name each run once",
        )
    labels = _labels(views)
    rows = _distinct([(label, view, row) for label, view in zip(labels, views, strict=True) for row in view.rows])
    names = _names([(label, row.name) for label, _, row in rows])
    named = list(zip(names, rows, strict=True))
    leader = first.row(first.method)
    return RunView(
        first.folder,
        " + ".join(labels),
        next(name for name, (_, _, row) in named if row is leader or _stands_for(row, leader)),
        tuple(
            sorted(
                (dataclasses.replace(row, name=name) for name, (_, _, row) in named),
                key=lambda row: row.selection is None,
            )
        ),
        first.store,
        _merged([(label, view.statistics) for label, view in zip(labels, views, strict=True)]),
        _prefixed(labels, [view.seconds for view in views]),
        first.versions,
        {name: view.folders[row.name] for name, (_, view, row) in named if row.selection is not None},
        _prefixed(labels, [view.tokens for view in views]),
        list(dict.fromkeys(warning for view in views for warning in view.warnings)),
    )


def _labels(views: Sequence[RunView]) -> list[str]:
    """Return the runs' names, or their paths where names are the same."""
    counts = Counter(view.name for view in views)
    return [view.name if counts[view.name] == 1 else str(view.folder) for view in views]


def _distinct(rows: list[tuple[str, RunView, Row]]) -> list[tuple[str, RunView, Row]]:
    """Leave out rows that say nothing that an earlier one does not; of equals, the one with an evaluation stays."""
    found: list[tuple[str, RunView, Row]] = []
    for label, view, row in rows:
        for place, (_, _, other) in enumerate(found):
            if not _stands_for(row, other):
                continue
            if row.evaluation in (Evaluation(), other.evaluation):
                break
            if other.evaluation == Evaluation():
                found[place] = (label, view, row)
                break
        else:
            found.append((label, view, row))
    return found


def _stands_for(row: Row, other: Row) -> bool:
    if row.selection is None or other.selection is None:
        return row.selection is other.selection and row.name == other.name
    return row.selection == other.selection and not (row.selection.online or row.selection.rounds)


def _names(pairs: list[tuple[str, str]]) -> list[str]:
    counts = Counter(name for _, name in pairs)
    return [name if counts[name] == 1 else f"{name} ({label})" for label, name in pairs]


def _merged(parts: list[tuple[str, Mapping[str, Path]]]) -> dict[str, Path]:
    """Put together the statistics of all runs; a role that is another model elsewhere gets that run's name."""
    found: dict[str, Path] = {}
    for label, statistics in parts:
        for role, folder in statistics.items():
            # The name of the folder is the fingerprint of examples and model.
            known = next((name for name, other in found.items() if other.name == folder.name), None)
            if known is None:
                found[role if role not in found else f"{role} ({label})"] = folder
            elif len(_figures(folder)) > len(_figures(found[known])):  # another store, where more was measured
                found[known] = folder
    return found


def _figures(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.is_dir()]


def _prefixed(labels: Sequence[str], parts: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    return {
        f"{label}: {name}": value for label, part in zip(labels, parts, strict=True) for name, value in part.items()
    }
