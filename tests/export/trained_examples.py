"""What an arm trains on, read from its decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tokensieve.runs.view import load_run
from tokensieve.select.streaming import read_selection

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
Example = tuple[tuple[int, ...], tuple[tuple[int, float], ...]]
"""Token ids, and position and weight of each trained token."""


def trained_examples(run: Path, arm: str) -> list[Example]:
    """Return what an arm trains on, from its decisions; examples without a trained token are left out."""
    view, found = load_run(run), []
    files = sorted((run / "arms" / arm / "training" / "data").glob("*.parquet"))
    for number, examples in enumerate(view.store):
        _, kept = read_selection(run / "arms" / arm / "scores", number)
        weights = kept.astype(np.float32)
        if files:
            weights = np.concatenate(pq.read_table(files[number])["weights"].to_pylist()).astype(np.float32)
        for start, stop in zip(examples.cu_seqlens[:-1], examples.cu_seqlens[1:], strict=True):
            positions = np.flatnonzero(kept[start:stop]).tolist()
            trained = tuple((position, float(weights[start + position])) for position in positions)
            if trained:
                found.append((tuple(examples.input_ids[start:stop].tolist()), trained))
    return found
