"""Every touch of what PyTorch does not document, in one place.

`Forward` compares a pass that uses these functions with one that does not, so that a change in PyTorch ends in an error
and not in wrong values; where a function is gone, PyTorch's own product takes its place.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

Product = Callable[[Tensor], Tensor]
"""``[..., in]`` to ``[..., out]``."""

# A packed copy takes as much memory as the weights do.
_PACKED_BYTES = 2**31
# For which the copy is laid out; any other number of rows gives the same values.
_ROWS = 1024


def packed(weight: Tensor, bias: Tensor | None) -> Product | None:
    """Return the product with a weight that is laid out for it once; None where this is not known to be faster.

    PyTorch's float32 products on a CPU are MKL's, which lays out the weight in each call; oneDNN's take a fifth less
    time on AMD (docs/log.md). The values differ by rounding.

    Args:
        weight: ``[out, in]``; later changes of it have no effect.
        bias: ``[out]``.
    """
    plain = type(weight.data) is Tensor and weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (plain and _available()):
        return None
    layout = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
    added = None if bias is None else bias.detach()
    return lambda values: torch.ops.mkldnn._linear_pointwise(values, layout, added, "none", [], "")


@contextmanager
def packed_layers(model: nn.Module) -> Iterator[None]:
    """Let the linear layers of a model use `packed` products while the block lasts, without gradients.

    Args:
        model: its weights must not change meanwhile. Layers of other classes stay as they are.
    """
    # A forward of its own is somebody's, such as the one that catches what enters the head.
    layers: list[Any] = [one for one in model.modules() if type(one) is nn.Linear and "forward" not in vars(one)]
    with ExitStack() as stack:
        for layer in layers:
            if product := packed(layer.weight, layer.bias):
                layer.forward = product
                stack.callback(delattr, layer, "forward")
        yield


def small(model: nn.Module) -> bool:
    """Whether a packed copy of the weights of a model takes little memory."""
    return sum(weight.nbytes for weight in model.parameters()) <= _PACKED_BYTES


@cache
def _available() -> bool:
    functions = "_reorder_linear_weight", "_linear_pointwise"
    known = all(hasattr(torch.ops.mkldnn, name) for name in functions)
    return known and torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
