"""What a method asks of training settings, checked before a model is loaded and again by the trainer itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.measure.statistics import source_of
from tokensieve.methods._base import Method
from tokensieve.ops.rules import TopExamples

KEPT = "kept"
"""Column of a training data set: what an offline selection decided of each token."""
WEIGHTS = "weights"
"""Column of a training data set: a factor for each token's loss."""

_LOSS_TYPES = ("nll", "chunked_nll", "dft")


def check_batches(method: Method, batch_size: int, packed: bool, columns: Collection[str], where: str) -> None:
    """Refuse batches that a method which selects while the model trains cannot work with.

    Args:
        method: what selects.
        batch_size: examples of a batch on one device.
        packed: whether rows are joined before they are trained on.
        columns: names of the training data's columns.
        where: what holds the settings, before the name of one.

    Raises:
        TokensieveError: no more examples in a batch than the method keeps, or packing of rows that it must see whole.
    """
    rule = method.rule
    if isinstance(rule, TopExamples) and rule.examples >= batch_size:
        raise TokensieveError(
            f"method '{method.name}' keeps {rule.examples} examples of a batch of {batch_size}, which leaves no choice",
            where=f"{where}per_device_train_batch_size",
            hint=f"per_device_train_batch_size: {2 * rule.examples}, or keep {max(1, batch_size // 2)} examples",
        )
    if not packed:
        return
    # TRL packs ids and labels, and leaves every other column behind.
    lost = sorted(readable_columns(method).intersection(columns))
    if lost or not _packable(method):
        why = f"packing loses the column '{lost[0]}'" if lost else "it reads statistics of examples or other models"
        raise TokensieveError(
            f"method '{method.name}' cannot be packed: {why}",
            where=f"{where}packing",
            hint="packing: false",
        )


def check_loss(method: Method, arguments: Mapping[str, Any], columns: Collection[str], where: str) -> None:
    """Refuse losses that TRL does not compute from the log-probabilities that a method weights.

    Args:
        method: what selects.
        arguments: of `SFTConfig`, those that are set.
        columns: names of the training data's columns.
        where: what holds the settings, before the name of one.

    Raises:
        TokensieveError: label smoothing; a ``loss_type`` that is unknown, or that weights would enter twice; a
            mixture-of-experts balance that accumulation would rescale; a sequence split over devices.
    """
    loss_type = arguments.get("loss_type") or "nll"
    weighted = method.weighted or WEIGHTS in columns
    if arguments.get("label_smoothing_factor"):
        raise TokensieveError(
            f"label smoothing computes the loss from all tokens: what '{method.name}' selects would be ignored",
            where=f"{where}label_smoothing_factor",
            hint="label_smoothing_factor: 0.0",
        )
    if loss_type not in _LOSS_TYPES or (loss_type == "dft" and weighted):
        why = "is not known to use what it selects" if loss_type not in _LOSS_TYPES else "weights by itself"
        raise TokensieveError(
            f"method '{method.name}' cannot train with the loss '{loss_type}', which {why}",
            where=f"{where}loss_type",
            hint="loss_type: nll",
        )
    if arguments.get("router_aux_loss_coef"):
        check_router_loss(method, arguments.get("gradient_accumulation_steps") or 1, where)
    check_parallelism(method, arguments.get("parallelism_config"), where)


def check_router_loss(method: Method, accumulation: int, where: str) -> None:
    """Refuse to accumulate the loss that balances a mixture of experts where the kept tokens are the denominator.

    Raises:
        TokensieveError: more than one micro-batch in an optimizer step.
    """
    if accumulation > 1 and method.divide_by == "kept":
        raise TokensieveError(
            f"method '{method.name}' divides by the kept tokens of a whole optimizer step, and accumulation would "
            "rescale the loss that balances the experts with it",
            where=f"{where}router_aux_loss_coef",
            hint="gradient_accumulation_steps: 1 with a larger batch, or router_aux_loss_coef: 0.0",
        )


def check_parallelism(method: Method, parallelism: Any, where: str) -> None:
    """Refuse to split sequences over devices.

    Args:
        method: what selects.
        parallelism: accelerate's `ParallelismConfig`, or None.
        where: what holds the settings, before the name of one.

    Raises:
        TokensieveError: context or sequence parallelism.
    """
    if parallelism is not None and (parallelism.cp_enabled or getattr(parallelism, "sp_enabled", False)):
        raise TokensieveError(
            f"method '{method.name}' must see whole examples, and context or sequence parallelism splits them",
            where=f"{where}parallelism_config",
            hint="use data parallelism or FSDP",
        )


def check_sharding(method: Method, fsdp_version: int | None, zero_stage: int | None) -> None:
    """Refuse sharded weights where a method must hold them whole or move them.

    Args:
        method: what selects.
        fsdp_version: 1 or 2; None without FSDP.
        zero_stage: of DeepSpeed; None without it.

    Raises:
        TokensieveError: a moving average of weights that are flattened or scattered, or whole examples to be scored by
            a model whose weights no process has.
    """
    if method.anchor and (fsdp_version is not None or zero_stage == 3):
        raise TokensieveError(
            f"method '{method.name}' compares with the base in every step, which sharded weights do not allow",
            where=f"accelerate: {'fsdp_version' if fsdp_version is not None else 'zero_stage'}",
            hint="train with data parallelism, or with the method dft",
        )
    if method.history_decay is not None and (fsdp_version == 1 or zero_stage == 3):
        raise TokensieveError(
            "the moving average of the weights works with FSDP 2, not with FSDP 1 or DeepSpeed's ZeRO stage 3",
            where=f"accelerate: {'fsdp_version' if fsdp_version == 1 else 'zero_stage'}",
            hint="fsdp_version: 2, or compare with the frozen base: history: base",
        )
    if isinstance(method.rule, TopExamples) and (fsdp_version is not None or zero_stage == 3):
        raise TokensieveError(
            f"method '{method.name}' runs parts of the model alone, which sharded weights do not allow",
            where=f"accelerate: {'fsdp_version' if fsdp_version is not None else 'zero_stage'}",
            hint="train with data parallelism, or with another method",
        )


def unmarked_answers(config: Any, columns: Collection[str]) -> str | None:
    """Return what to add to the arguments or the data of TRL so that prompts are not trained on.

    Args:
        config: an `SFTConfig`.
        columns: names of the training data's columns.

    Returns:
        The addition, in words; None where something tells answers from prompts.
    """
    if "labels" in columns or config.assistant_only_loss:
        return None
    if "completion" in columns or "completion_mask" in columns:
        return None if config.completion_only_loss is not False else "completion_only_loss=True to SFTConfig"
    if "messages" in columns:
        return "assistant_only_loss=True to SFTConfig"
    return "a column `labels` to the data, with -100 at each token of a prompt; text without prompts needs none"


def readable_columns(method: Method) -> set[str]:
    """Return the names of the data columns beside ids and labels that a method's training reads where they are."""
    return {KEPT, WEIGHTS, *(f"{role}.{name}" for role, name in method.needs)}


def _packable(method: Method) -> bool:
    """Whether a method reads nothing but token statistics of the pass that trains."""
    own = all(role == "current" and source_of(name) == "logits" for role, name in method.needs)
    return own and method.history_decay is None and not method.anchor and not isinstance(method.rule, TopExamples)
