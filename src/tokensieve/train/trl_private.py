"""Every use of TRL that its public API does not promise.

`SFTTrainer` computes its loss from per-token log-probabilities of a *fused head*, ``model(..., fused_lm_head=True)``;
`WeightedSFTTrainer` weights them on their way. `check_trl` says which of the names below a version of TRL lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import trl
import trl.trainer.utils
from torch import Tensor
from trl import SFTTrainer

from tokensieve.errors import TokensieveError

Forward = Callable[[dict[str, Any]], Any]
"""Runs the model on keyword arguments, and returns the outputs of the fused head with weighted ``log_probs``."""

FUSED_HEAD_STATISTICS: dict[str, Callable[[Any], Tensor]] = {
    "loss": lambda outputs: -outputs.log_probs,
    "entropy": lambda outputs: outputs.entropy,
    "top1": lambda outputs: outputs.is_top1,
}
"""Statistics that the fused head computes on the way, ``[B, S - 1]``."""

_TRAINER_METHODS = ("compute_loss", "_set_signature_columns_if_needed")
_OUTPUT_FIELDS = ("loss", "log_probs", "entropy", "is_top1", "label_mask", "aux_loss")
_TRAINER_ATTRIBUTES = ("_metrics", "_total_train_tokens", "aux_loss_enabled", "router_aux_loss_coef")


def check_trl(trainer: SFTTrainer | None = None) -> None:
    """Refuse a TRL that lacks what this module relies on.

    Args:
        trainer: a trainer that was made, whose attributes are looked at as well.

    Raises:
        TokensieveError: with the first name that is missing.
    """
    missing = [f"SFTTrainer.{name}" for name in _TRAINER_METHODS if not hasattr(SFTTrainer, name)]
    if not hasattr(trl.trainer.utils, "add_fused_lm_head"):
        missing.append("trainer.utils.add_fused_lm_head")
    outputs = getattr(trl.trainer.utils, "FusedCausalLMOutput", None)
    has = {field.name for field in dataclasses.fields(outputs)} if outputs is not None else set()
    missing += [f"trainer.utils.FusedCausalLMOutput.{name}" for name in _OUTPUT_FIELDS if name not in has]
    if trainer is not None:
        missing += [f"SFTTrainer().{name}" for name in _TRAINER_ATTRIBUTES if not hasattr(trainer, name)]
    if missing:
        raise TokensieveError(
            f"TRL {trl.__version__} has no {missing[0]}, which selecting tokens in training relies on",
            hint="install a version of trl that tokensieve's requirements name",
        )


def training_metrics(trainer: Any) -> dict[str, list[float]]:
    """Return the metrics that a TRL trainer averages into its next log entry of the training.

    Raises:
        TokensieveError: a trainer without them.
    """
    metrics = getattr(trainer, "_metrics", None)
    if metrics is None:
        raise TokensieveError(
            f"{type(trainer).__name__} does not take further metrics into its log",
            hint="give a trainer of TRL, such as SFTTrainer",
        )
    return metrics["train"]


def running_counts(trainer: Any) -> dict[str, Any]:
    """Return the tokens that a TRL trainer has counted, and the metrics of its next log entry, as JSON values.

    Raises:
        TokensieveError: a trainer without them.
    """
    metrics = {name: list(values) for name, values in training_metrics(trainer).items()}
    return {"num_tokens": trainer._total_train_tokens, "metrics": metrics}


def restore_running_counts(trainer: Any, found: dict[str, Any]) -> None:
    """Let a TRL trainer go on with what `running_counts` returned."""
    trainer._total_train_tokens = found["num_tokens"]
    metrics = training_metrics(trainer)
    metrics.clear()
    metrics.update({name: list(values) for name, values in found["metrics"].items()})


class WeightedSFTTrainer(SFTTrainer):
    """An `SFTTrainer` whose training passes go through a function that weights their log-probabilities.

    Attributes:
        carried: names of data columns that its batches carry beside TRL's own.
    """

    carried: Sequence[str] = ()

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        self._signature_columns = list(dict.fromkeys([*columns, *self.carried]))

    def weighted_loss(
        self, model: Any, inputs: Any, forward: Forward, return_outputs: bool, num_items_in_batch: Any
    ) -> tuple[Tensor, Tensor | float, tuple[Any, ...]]:
        """Compute TRL's loss of one training pass from log-probabilities that ``forward`` weights.

        Args:
            model: the model in training.
            inputs: as for `SFTTrainer.compute_loss`.
            forward: runs the training pass.
            return_outputs: as for `SFTTrainer.compute_loss`.
            num_items_in_batch: as for `SFTTrainer.compute_loss`.

        Returns:
            The loss of the tokens, the part of the loss that balances a mixture of experts, and what else TRL returns.

        Raises:
            TokensieveError: TRL ran a pass that trains and was not weighted, or ran none or several.
        """
        passes: list[Tensor | None] = []

        def weighted(**arguments: Any) -> Any:
            if not torch.is_grad_enabled():  # for metrics or logits: it trains nothing
                return model(**arguments)
            if not arguments.get("fused_lm_head"):
                raise _not_weighted("TRL calls the model without its fused head")
            outputs = forward(arguments)
            passes.append(outputs.aux_loss)
            # The head's own loss does not know the weights.
            return dataclasses.replace(outputs, loss=None)

        result: Any = super().compute_loss(cast(Any, weighted), inputs, return_outputs, num_items_in_batch)
        if len(passes) != 1:
            raise _not_weighted(f"TRL runs {len(passes)} training passes for a batch, not 1")
        loss, *rest = result if return_outputs else (result,)
        balance: Tensor | float = 0.0
        if self.aux_loss_enabled and passes[0] is not None:
            steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            balance = self.router_aux_loss_coef * passes[0] / steps
        return loss - balance, balance, tuple(rest)


def _not_weighted(why: str) -> TokensieveError:
    return TokensieveError(
        f"{why}, so the selection would be ignored",
        where=f"trl {trl.__version__}",
        hint="train with SFTConfig's own loss (loss_type: nll), and report this together with the SFTConfig",
    )
