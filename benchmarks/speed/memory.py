"""Peak memory of measuring losses, at a vocabulary of 128,256 and a length of 8,192, each in a process of its own.

python benchmarks/speed/memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from harness import Row, main
from measure import naive
from transformers import AutoModelForCausalLM, LlamaConfig

from tokensieve.containers import IGNORE_INDEX, LOSS, Examples
from tokensieve.measure.forward import Forward, measure_shard

LENGTH = 8192
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": LENGTH,
}


def peak(way: str, vocabulary: int) -> None:
    """Print by how many megabytes the peak of this process grows while one example is measured."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=vocabulary, **SHAPE)).eval()
    ids = np.random.default_rng(0).integers(0, vocabulary, LENGTH).astype(np.int32)
    labels = ids.copy()
    labels[0] = IGNORE_INDEX
    examples = Examples(ids, labels, np.array([0, LENGTH]), np.array([0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "naive":
        naive(model, examples)
    else:
        with Forward(model, [LOSS]) as forward:
            measure_shard(forward, examples, 1024, lambda _: None)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def rows(runs: int) -> list[Row]:
    """Measure the line; memory does not vary, so once."""
    del runs

    def grown(way: str, vocabulary: int) -> float:
        command = [sys.executable, __file__, way, str(vocabulary)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    slow, fast, small = grown("naive", 128_256), grown("tokensieve", 128_256), grown("tokensieve", 32_000)
    return [
        Row(
            f"peak memory of measuring, vocabulary 128,256, length {LENGTH:,}",
            "full logits",
            ">= 10x less",
            (slow / fast,),
            f"{slow / 1024:.1f} GB to {fast:.0f} MB; at a vocabulary of 32,000: {small:.0f} MB",
        )
    ]


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("naive", "tokensieve"):
        peak(sys.argv[1], int(sys.argv[2]))
    else:
        main(rows, __doc__)
