"""What a run is of, in a few words: what the score means, and which model, data, settings and date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopCount, in_words
from tokensieve.report.cells import percent, spelled
from tokensieve.runs.card import name_in_words, sources_in_words
from tokensieve.runs.view import RunView
from tokensieve.select.selection import Selection

_OF_A_SHARE = ("fraction", "scope", "rounding", "discard")


def score_in_words(selection: Selection) -> str:
    """Return what the score of an arm says of a token, in a sentence; of a method that says nothing, its formula."""
    if selection.imported:
        return "The scores were read from a file; a token with a higher score is kept first."
    try:
        method = get_method(selection.method, **selection.parameters)
    except TokensieveError:  # of a package that is not installed
        return f"What the score of {selection.method} means is not known here: its package is not installed."
    return method.meaning or f"The score is {method.formula}; a token with a higher score is kept first."


def used_parameters(selection: Selection) -> dict[str, Any]:
    """Return the parameters that a selection was made by: those of a share do not count where a number was given."""
    by_count = isinstance(selection.rule, TopCount)
    return {name: value for name, value in selection.parameters.items() if not (by_count and name in _OF_A_SHARE)}


def run_facts(view: RunView) -> dict[str, str]:
    """Return model, data, method, training and date of a run, by name; those that its files have."""
    selection = view.row(view.method).selection
    assert selection is not None
    recipe = _recipe(view)
    models, data, train = (recipe.get(key) or {} for key in ("models", "data", "train"))
    base = (models.get("base") or {}).get("path")
    files = data.get("files") or view.store.sources
    given = {name: value for name, value in used_parameters(selection).items() if value not in (None, [], ())}
    settings = ", ".join(f"{name} {spelled(value)}" for name, value in given.items())
    found = {
        "model": name_in_words(base) if base else "",
        "data": f"{sources_in_words(files)}: {selection.examples:,} examples" if files else "",
        "method": f"{selection.method}{f' ({settings})' if settings else ''}; {in_words(selection.rule)}",
        "kept": f"{percent(selection.share)}, {selection.kept:,} of {selection.trainable:,} trainable tokens",
        "training": _training(train),
        "date": f"{_written(view):%Y-%m-%d}",
        "version": f"tokensieve {view.versions['tokensieve']}" if "tokensieve" in view.versions else "",
    }
    return {name: text for name, text in found.items() if text}


def _training(train: Mapping[str, Any]) -> str:
    named = {"num_train_epochs": "epochs", "learning_rate": "learning rate"}
    return ", ".join(f"{words} {spelled(train[key])}" for key, words in named.items() if key in train)


def _recipe(view: RunView) -> Mapping[str, Any]:
    try:
        return view.run_folder.recipe()
    except TokensieveError:  # a run that was put together by hand; the page shows what there is
        return {}


def _written(view: RunView) -> datetime:
    return datetime.fromtimestamp(view.run_folder.state_file.stat().st_mtime, UTC)
