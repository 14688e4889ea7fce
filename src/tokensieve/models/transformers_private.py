"""Every touch of what transformers does not document, in one place.

What is used here may change in any release of transformers. A change ends in a `TokensieveError` that names it, and
not in wrong values; `tests/models/test_transformers_private.py` names it too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from torch import nn

from tokensieve.errors import TokensieveError

NEWEST_TESTED = "5.23"
"""The newest transformers that this module is known to work with."""

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


def _private(name: str, found: Any) -> Any:
    if found is None:
        raise _moved(name)
    return found


def _moved(name: str) -> TokensieveError:
    return TokensieveError(
        f"transformers {transformers.__version__} has no `{name}`, which attention statistics are read through",
        hint=f"install transformers {NEWEST_TESTED}, or choose a method that needs no attention",
    )
