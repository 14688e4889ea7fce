"""What the statistics that a method reads say of a token: which sentences the page makes of their values.

They follow from the names of the statistics, so every method has them, that of another package too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.report.facts import score_in_words
from tokensieve.select.selection import Selection

_MODELS = {
    "base": "the base model",
    "reference": "the reference model",
    "pool": "the model of the pool",
    "current": "the model in training",
    "history": "the earlier model",
    "unsafe": "the unsafe model",
    "utility": "the useful model",
    "reward": "the reward model",
}
_LAST = ("utility", "pool", "base")  # what another model's loss is compared with
_UNITS = {"compare": "nats", "loss": "nats", "entropy": "nats", "span": "odds"}
_AT_START = ("current", "history")  # before the first step, both are the base


def causes(selection: Selection, statistics: Sequence[str]) -> list[dict[str, Any]]:
    """Return what can be said of each token from the statistics of an arm's method.

    Args:
        selection: of the arm.
        statistics: names of the statistics that the page holds, such as ``base.loss``.

    Returns:
        ``kind``: ``compare`` two losses, ``span``, which adds what these are over the span of a token, ``loss``,
        ``entropy``, ``other``, ``mark``, or ``text``, which holds for every token; ``values``, the names of the
        statistics; ``words``, the models in words, what spans are dropped as, or the text; of a span, ``margin``, the
        nats a token by which the first loss may be higher in a span that is kept.
    """
    if selection.method == "marked":
        return [{"kind": "mark", "values": [], "words": []}]
    method = _method(selection)
    found = _read(method, statistics) if method else {}
    losses = sorted((role for role, name in found if name == "loss"), key=lambda role: (role in _LAST, role))
    said = [
        {
            "kind": {"entropy": "entropy"}.get(name.partition("_")[0], "other"),
            "values": [value],
            "words": [_model(role), name.replace("_", " ")],
        }
        for (role, name), value in found.items()
        if name != "loss"
    ]
    values = [found[role, "loss"] for role in losses]
    if len(set(values)) == 2:
        models = [_model(role) for role in losses]
        said.insert(0, {"kind": "compare", "values": values, "words": models})
        if method and method.drops_spans_of:
            margin = getattr(method, "margin", 0.0)
            said.append({"kind": "span", "values": values, "words": [*models, method.drops_spans_of], "margin": margin})
    elif values:
        said.insert(0, {"kind": "loss", "values": values[:1], "words": [_model(losses[0])]})
    return said or [{"kind": "text", "values": [], "words": [score_in_words(selection)]}]


def words_of(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the words and units that sentences of causes have."""
    return [word for one in found for word in (*one["words"], _UNITS.get(one["kind"], ""))]


def _method(selection: Selection) -> Method | None:
    try:
        return get_method(selection.method, **selection.parameters)
    except TokensieveError:  # imported, or of a package that is not installed
        return None


def _read(method: Method, statistics: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the statistics that a method reads and the page holds, by role and name."""
    found = {}
    for role, name in sorted(method.needs):
        held = [f"{role}.{name}", *([f"base.{name}"] if role in _AT_START else [])]
        if value := next((one for one in held if one in statistics), None):
            found[role, name] = value
    return found


def _model(role: str) -> str:
    return _MODELS.get(role, f"the model '{role}'")
