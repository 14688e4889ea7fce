"""What a token selection keeps beside a checkpoint of the Trainer: averages, buffers and counts of one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokensieve.errors import TokensieveError
from tokensieve.train.accounting import Counts
from tokensieve.train.checkpoints import RECORD, is_complete

_COUNT, _HISTORY, _CHOSEN = "count.", "history.", "chosen"


def write_state(path: Path, counts: Counts, history: Mapping[str, Tensor], chosen: Tensor | None) -> None:
    """Write the state of one process.

    Args:
        path: of the file, in the folder of a checkpoint.
        counts: of examples and tokens so far.
        history: the moving average of the weights by name; empty where the method has none.
        chosen: projections of the examples trained on, float32 [examples, dimensions]; None where nothing reads them.
    """
    tensors = {f"{_COUNT}{name}": torch.tensor(value) for name, value in asdict(counts).items()}
    tensors |= {f"{_HISTORY}{name}": value for name, value in history.items()}
    if chosen is not None:
        tensors[_CHOSEN] = chosen.contiguous()
    save_file(tensors, path)


def read_state(path: Path) -> tuple[Counts, dict[str, Tensor], Tensor | None]:
    """Return counts, moving average and chosen projections, as `write_state` wrote them.

    Raises:
        TokensieveError: the checkpoint is broken, or holds no such state.
    """
    folder = path.parent
    if not path.is_file():
        raise TokensieveError(
            "this checkpoint holds no state of a token selection",
            where=str(folder),
            hint="resume one that TokenSelectionTrainer wrote, with as many processes",
        )
    if (folder / RECORD).exists() and not is_complete(folder):
        raise TokensieveError(
            "this checkpoint is broken: files of it are missing or cut",
            where=str(folder),
            hint="train(resume_from_checkpoint=True) takes the last complete one",
        )
    tensors = load_file(path)
    counts = Counts(**{field.name: int(tensors[f"{_COUNT}{field.name}"]) for field in fields(Counts)})
    history = {name.removeprefix(_HISTORY): one for name, one in tensors.items() if name.startswith(_HISTORY)}
    return counts, history, tensors.get(_CHOSEN)
