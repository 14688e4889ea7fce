"""Choose, token by token, what a language model is fine-tuned on.

On token ids, with loaded models, or on statistics of your own (`Statistics`):

    method = tokensieve.get_method("token-cleaning", fraction=0.6)
    statistics = tokensieve.measure_tokens({"base": model, "reference": other}, input_ids, labels, method)
    labels = method.select(statistics)

The whole job, with the stages of the command line (`tokensieve run`):

    folder = tokensieve.run(tokensieve.load_recipe("recipe.yaml", ["method.fraction=0.5"]))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokensieve.containers import (
        IGNORE_INDEX,
        Bool,
        Float32,
        Needs,
        Role,
        Rounding,
        Scope,
        Statistics,
        UInt8,
    )
    from tokensieve.data.inspection import inspect_data
    from tokensieve.errors import TokensieveError
    from tokensieve.measure.arrays import measure_tokens
    from tokensieve.methods import all_methods, get_method
    from tokensieve.methods._base import Corpus, FractionMethod, Method, StatisticMethod, WeightMethod
    from tokensieve.models.reward import add_reward_head
    from tokensieve.ops.rules import (
        DropFraction,
        Rule,
        Threshold,
        TopExamples,
        TopFraction,
        check_choice,
        check_fraction,
        check_range,
    )
    from tokensieve.pipeline.recipe import Recipe, load_recipe
    from tokensieve.pipeline.search import run
    from tokensieve.pipeline.stages import STAGES
    from tokensieve.report.html.notebook import load_run
    from tokensieve.report.html.page import write_page
    from tokensieve.select.labels import select_labels
    from tokensieve.train.callback import TokenSelectionCallback
    from tokensieve.train.schedules._base import Schedule
    from tokensieve.train.token_selection import TokenSelectionTrainer

__version__ = "0.1.0"

__all__ = [
    "IGNORE_INDEX",
    "STAGES",
    "Bool",
    "Corpus",
    "DropFraction",
    "Float32",
    "FractionMethod",
    "Method",
    "Needs",
    "Recipe",
    "Role",
    "Rounding",
    "Rule",
    "Schedule",
    "Scope",
    "StatisticMethod",
    "Statistics",
    "Threshold",
    "TokenSelectionCallback",
    "TokenSelectionTrainer",
    "TokensieveError",
    "TopExamples",
    "TopFraction",
    "UInt8",
    "WeightMethod",
    "add_reward_head",
    "all_methods",
    "check_choice",
    "check_fraction",
    "check_range",
    "get_method",
    "inspect_data",
    "load_recipe",
    "load_run",
    "measure_tokens",
    "run",
    "select_labels",
    "write_page",
]

# Imported on first use: `tokensieve --help` must not wait for torch.
_HOMES = {
    "containers": ("IGNORE_INDEX", "Bool", "Float32", "Needs", "Role", "Rounding", "Scope", "Statistics", "UInt8"),
    "data.inspection": ("inspect_data",),
    "errors": ("TokensieveError",),
    "measure.arrays": ("measure_tokens",),
    "methods": ("all_methods", "get_method"),
    "methods._base": ("Corpus", "FractionMethod", "Method", "StatisticMethod", "WeightMethod"),
    "models.reward": ("add_reward_head",),
    "ops.rules": (
        "DropFraction",
        "Rule",
        "Threshold",
        "TopExamples",
        "TopFraction",
        "check_choice",
        "check_fraction",
        "check_range",
    ),
    "pipeline.recipe": ("Recipe", "load_recipe"),
    "pipeline.search": ("run",),
    "pipeline.stages": ("STAGES",),
    "report.html.notebook": ("load_run",),
    "report.html.page": ("write_page",),
    "select.labels": ("select_labels",),
    "train.callback": ("TokenSelectionCallback",),
    "train.schedules._base": ("Schedule",),
    "train.token_selection": ("TokenSelectionTrainer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tokensieve' has no attribute '{name}'")
    return getattr(importlib.import_module(f"tokensieve.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
