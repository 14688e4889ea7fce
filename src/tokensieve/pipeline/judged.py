"""The measures that a recipe's evaluation is set up for."""

from __future__ import annotations

from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.runs.outcomes import MEASURES


def measures_set_up(evaluate: EvaluateSettings) -> list[str]:
    """Return the names of the measures that models are judged by, in the order of tables."""
    return [name for name, measure in MEASURES.items() if _is_set_up(evaluate, measure.section(name))]


def _is_set_up(evaluate: EvaluateSettings, section: str) -> bool:
    settings = getattr(evaluate, section)
    return settings is not None and bool(settings.files)
