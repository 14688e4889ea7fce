"""What a method asks of training batches, checked before a model is loaded and again by the trainer itself."""

from __future__ import annotations

from collections.abc import Collection

from tokensieve.errors import TokensieveError
from tokensieve.measure.statistics import source_of
from tokensieve.methods._base import Method
from tokensieve.ops.rules import TopExamples

KEPT = "kept"
"""Column of a training data set: what an offline selection decided of each token."""
WEIGHTS = "weights"
"""Column of a training data set: a factor for each token's loss."""


def check_batches(method: Method, batch_size: int, packed: bool, columns: Collection[str], where: str) -> None:
    """Refuse batches that a method which selects while the model trains cannot work with.

    Args:
        method: what selects.
        batch_size: examples of a batch on one device.
        packed: whether rows are joined before they are trained on.
        columns: names of the training data's columns.
        where: what holds the settings, before the name of one.

    Raises:
        TokensieveError: fewer examples in a batch than the method keeps, or packing of rows that it must see whole.
    """
    rule = method.rule
    if isinstance(rule, TopExamples) and rule.examples > batch_size:
        raise TokensieveError(
            f"method '{method.name}' keeps {rule.examples} examples of a batch of {batch_size}",
            where=f"{where}per_device_train_batch_size",
            hint=f"per_device_train_batch_size: {2 * rule.examples}, or keep {max(1, batch_size // 2)} examples",
        )
    if not packed:
        return
    # TRL packs ids and labels, and leaves every other column behind.
    figures = {KEPT, WEIGHTS, *(f"{role}.{name}" for role, name in method.needs)}
    lost = sorted(figures.intersection(columns))
    if lost or not _packable(method):
        why = f"packing loses the column '{lost[0]}'" if lost else "it reads figures of whole examples or other models"
        raise TokensieveError(
            f"method '{method.name}' cannot be packed: {why}",
            where=f"{where}packing",
            hint="packing: false",
        )


def _packable(method: Method) -> bool:
    """Whether a method reads nothing but token figures of the pass that trains."""
    own = all(role == "current" and source_of(name) == "logits" for role, name in method.needs)
    return own and method.history_decay is None and not isinstance(method.rule, TopExamples)
