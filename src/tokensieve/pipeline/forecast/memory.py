"""Peak memory of a device as it measures, trains or generates, by estimate.

What a training keeps for its backward pass was counted with `torch.autograd.graph.saved_tensors_hooks` on Llama blocks
with fused attention, in the manner of Korthikanti et al. 2022 (arXiv 2205.05198, equation 1): the constants below are
numbers a token and a layer. Not counted are what the process itself takes and what an allocator cannot use.
"""

from __future__ import annotations

from tokensieve.models.size import ModelSize
from tokensieve.ops.token_loss import block_bytes
from tokensieve.train.settings import LoraSettings

_MOMENTS = 2
"""Numbers a parameter that Adam keeps."""
_ADAPTED = 7
"""Matrices of a block that an adapter on all of them is put on."""
_HEAD_TILE = (4096, 32_768)
"""Positions and columns of the logits that TRL's head holds at a time."""
_TILES = 9
"""Tiles of float32 that its backward pass holds at once on a CPU; a GPU works within one."""


def measuring_bytes(size: ModelSize, batch_tokens: int, device_type: str, at_once: int) -> int:
    """Return the peak of measuring.

    Args:
        size: of the model.
        batch_tokens: padded tokens of a batch.
        device_type: such as ``cpu``.
        at_once: batches that run side by side.
    """
    # One block at a time: its input and norm, queries, keys and values, both halves of the feed-forward layer.
    numbers = 4 * size.hidden + size.attention + 2 * size.key_value + 3 * size.intermediate
    logits = block_bytes(device_type, size.vocabulary, size.itemsize)
    return size.bytes + at_once * (batch_tokens * numbers * size.itemsize + logits)


def training_bytes(
    size: ModelSize,
    batch_tokens: int,
    lora: LoraSettings | None,
    adapter: int | None,
    checkpointing: bool,
    half: bool,
    device_type: str,
) -> int:
    """Return the peak of training with Adam.

    Args:
        size: of the model.
        batch_tokens: padded tokens of a micro-batch.
        lora: the adapter; None where all weights are trained.
        adapter: its parameters, which are float32.
        checkpointing: whether each block keeps its input alone, and one block at a time all the rest.
        half: whether products run in bfloat16, whatever the weights are in.
        device_type: such as ``cpu``.
    """
    trained = size.bytes if adapter is None else 4 * adapter
    states = size.bytes + (0 if adapter is None else trained) + trained + _MOMENTS * trained
    wide, narrow = size.itemsize, min(size.itemsize, 2) if half else size.itemsize
    hidden, inner = size.hidden, 2 * size.attention + 2 * size.key_value + 4 * size.intermediate
    block = 6 * hidden * wide + inner * narrow
    if lora is not None:
        block = 4 * hidden * wide + inner * narrow + _ADAPTED * lora.r * narrow
        if lora.dropout:
            # Each adapted matrix keeps its input after dropout, and the mask; what that replaces is not kept.
            block += (8 * hidden + 2 * size.attention + size.intermediate) * narrow
    kept = size.layers * hidden * wide + block if checkpointing else size.layers * block
    rows, columns = min(batch_tokens, _HEAD_TILE[0]), _HEAD_TILE[1]
    logits = rows * columns * narrow if device_type == "cuda" else _TILES * rows * min(columns, size.vocabulary) * 4
    return states + batch_tokens * kept + logits


def generating_bytes(size: ModelSize, rows: int, length: int) -> int:
    """Return the peak of generating so many answers at a time; keys and values of ``length`` tokens each are kept."""
    return size.bytes + rows * length * 2 * size.layers * size.key_value * size.itemsize
