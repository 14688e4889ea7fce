"""What PyTorch and NumPy raise when there is no memory left is known as that, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokensieve.models.memory import out_of_memory


@pytest.mark.parametrize("allocate", [lambda: torch.empty(2**50), lambda: np.ones(2**58)], ids=["torch", "numpy"])
def test_a_real_lack_of_memory_is_known(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as error:
        allocate()
    assert out_of_memory(error.value)


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_of_others_the_message_tells(error, known):
    assert out_of_memory(error) is known
