"""Every touch of what transformers does not document, in one place.

What is used here may change in any release of transformers. A change ends in a `TokensieveError` that names it, and
not in wrong values; `tests/models/test_transformers_private.py` names it too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from torch import nn

from tokensieve.errors import TokensieveError

NEWEST_TESTED = "5.23"
"""The newest transformers that this module is known to work with."""

ONE_AT_A_TIME = threading.Lock()
"""Held while a model is made: transformers replaces functions of its classes meanwhile, such as what ties weights.

Of two threads that do so at once, the second would put back what the first had put in their place, for good.
"""

Attention = Callable[..., Any]


@contextmanager
def replaced_attention(model: Any, replace: Callable[[Attention], Attention]) -> Iterator[None]:
    """Replace the attention function of a model's layers, and put it back when the block ends.

    The registry of these functions is one per process: other models that use the same function are affected too.

    Args:
        model: a `transformers` model.
        replace: given the function that the layers call, returns the one that they shall call.

    Raises:
        TokensieveError: a model without such a function, or a transformers that holds it elsewhere.
    """
    registry = _private("modeling_utils.ALL_ATTENTION_FUNCTIONS", _registry())
    own = _private("modeling_utils.AttentionInterface._local_mapping", getattr(registry, "_local_mapping", None))
    config = model.config.get_text_config()
    if not hasattr(config, "_attn_implementation"):
        raise _moved("PreTrainedConfig._attn_implementation")
    name = config._attn_implementation or "eager"
    before = own.get(name)
    # The eager function is not in the registry: each model's file has one of its own.
    registry[name] = replace(registry.get(name) or _eager_attention(model))
    try:
        yield
    finally:
        del registry[name]
        if before is not None:
            registry[name] = before


def decoder(model: Any) -> nn.Module:
    """Return the part of a causal language model that turns ids into the hidden states which enter the head.

    Raises:
        TokensieveError: a model that does not say which part that is.
    """
    found = getattr(model, "get_decoder", lambda: None)()
    if found is None or found is model:
        raise TokensieveError(
            f"{type(model).__name__} does not say which of its parts is the decoder (`get_decoder`)",
            hint="give a causal language model of transformers",
        )
    return found


def _registry() -> Any:
    return getattr(transformers.modeling_utils, "ALL_ATTENTION_FUNCTIONS", None)


def _eager_attention(model: nn.Module) -> Attention:
    for module in model.modules():
        function = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    raise TokensieveError(
        f"the attention of {type(model).__name__} cannot be intercepted",
        hint="choose a method that needs no attention, or another model",
    )


_RUNNING_LOSS = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged")


def running_loss(trainer: Any) -> dict[str, float]:
    """Return what a `transformers.Trainer` sums up for its log and its mean training loss, as JSON values.

    Raises:
        TokensieveError: a transformers whose Trainer sums up otherwise.
    """
    if missing := [name for name in _RUNNING_LOSS if not hasattr(trainer, name)]:
        raise TokensieveError(
            f"transformers {transformers.__version__} has no `Trainer.{missing[0]}`, which checkpoints keep",
            hint=f"install transformers {NEWEST_TESTED}, or save no checkpoints (`train.save_strategy: no`)",
        )
    return {name: float(getattr(trainer, name)) for name in _RUNNING_LOSS}


def restore_running_loss(trainer: Any, found: dict[str, float]) -> None:
    """Let a Trainer, at the begin of its training, go on with what `running_loss` returned."""
    trainer._tr_loss.fill_(found["_tr_loss"])
    trainer._total_loss_scalar = found["_total_loss_scalar"]
    trainer._globalstep_last_logged = int(found["_globalstep_last_logged"])
    # Newer versions take the mean over the steps since this one.
    trainer._initial_global_step = 0


def stop_where_done(trainer: Any) -> None:
    """Keep a Trainer that resumes from the checkpoint of its last step from taking one step more.

    It looks at the number of steps after a step alone, so that the model would change with each resume.

    Raises:
        TokensieveError: a transformers whose Trainer has no method for an epoch.
    """
    run_epoch = getattr(trainer, "_run_epoch", None)
    if run_epoch is None:
        raise TokensieveError(
            f"transformers {transformers.__version__} has no `Trainer._run_epoch`, which trainings end through",
            hint=f"install transformers {NEWEST_TESTED}",
        )

    def run(*arguments: Any, **keywords: Any) -> None:
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer.control.should_training_stop = True
        else:
            run_epoch(*arguments, **keywords)

    trainer._run_epoch = run


def _private(name: str, found: Any) -> Any:
    if found is None:
        raise _moved(name)
    return found


def _moved(name: str) -> TokensieveError:
    return TokensieveError(
        f"transformers {transformers.__version__} has no `{name}`, which attention statistics are read through",
        hint=f"install transformers {NEWEST_TESTED}, or choose a method that needs no attention",
    )
