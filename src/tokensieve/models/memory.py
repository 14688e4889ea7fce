"""Whether an error says that there was no memory left, on a device or on this machine."""

from __future__ import annotations

import re

import torch

# PyTorch has an error of its own for devices alone: its allocator of a CPU and cuBLAS raise a RuntimeError.
_NO_MEMORY = re.compile(r"DefaultCPUAllocator|not enough memory|CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: Exception) -> bool:
    """Return whether an error says so; another attempt needs `free_unused` first, outside of the ``except`` block.

    Until the block ends the error holds what its frames hold, such as the activations of the batch.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def free_unused() -> None:
    """Give back what PyTorch holds of devices' memory without using it."""
    torch.cuda.empty_cache()
