"""UDS scores of a batch against singular value decompositions of its logits.

    python benchmarks/speed/uds.py

The baseline builds the logits of each example (N x V) and takes their singular values, as published; ours takes the
nuclear norm and the projection from hidden states. The factor of the head is made once, and not counted with a frozen
head.
"""

from __future__ import annotations

import numpy as np
import torch
from harness import Row, interleaved, main, middle, ratios, seconds

from tokensieve.train.uds import ExampleStatistics

VOCABULARY, HIDDEN, LENGTH, EXAMPLES = 32_000, 288, 200, 4


def rows(runs: int) -> list[Row]:
    """Measure the line."""
    torch.manual_seed(0)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False).requires_grad_(False)
    hidden = torch.randn(EXAMPLES, LENGTH, HIDDEN)
    figures = ExampleStatistics(head, LENGTH, 1024, 0)
    found = {}

    @torch.no_grad()
    def published() -> None:
        found["published"] = [torch.linalg.svdvals(head(rows)).sum().item() for rows in hidden]

    def ours() -> None:
        found["ours"], _, _ = figures.measure(hidden.flatten(0, 1), [LENGTH] * EXAMPLES)

    first = seconds(ours)
    slow, fast = interleaved(published, ours, runs)
    difference = float(np.abs(found["ours"] / np.array(found["published"]) - 1).max())
    return [
        Row(
            f"UDS scores of {EXAMPLES} examples of {LENGTH} tokens, vocabulary {VOCABULARY:,}",
            "SVD of N x V logits",
            "20x",
            ratios(slow, fast),
            f"{middle(slow)} to {middle(fast)}; once per head {first:.2g} s; relative difference {difference:.1e}",
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
