"""The command line with weights that FSDP shards over processes without GPUs: `python sharding.py COMMAND ...`.

accelerate takes FSDP of its configuration for GPUs alone, and trains by data parallelism where there are none. So it is
told here that the processes have GPUs, whose device is the CPU; all that follows is its own code and that of PyTorch.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FullStateDictConfig

from tokensieve.cli import main

_connect, _gather = PartialState.__init__, FullStateDictConfig.__init__


def _connected(self: Any, *args: Any, **keywords: Any) -> None:
    _connect(self, *args, **keywords)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.device = DistributedType.MULTI_GPU, torch.device("cpu")


def _gathered(self: Any, *_: Any, **keywords: Any) -> None:
    """FSDP 1 ends with a segmentation fault where it is to move weights to the CPU that are there."""
    _gather(self, **{**keywords, "offload_to_cpu": False})


PartialState.__init__, FullStateDictConfig.__init__ = _connected, _gathered

if __name__ == "__main__":
    main(sys.argv[1:])
