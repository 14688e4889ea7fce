"""Measures how much of the planted noise each arm removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX
from tokensieve.demo.dataset import planted_noise
from tokensieve.runs.view import RunView


def audit(view: RunView, pool: Path) -> None:
    """Write ``planted_noise.json`` into a run folder.

    For each arm, the file has the planted and the clean trainable tokens, how many of each were dropped, and the area
    under the ROC curve of the score (low scores for noise), or None if all scores are equal.

    Args:
        view: the run.
        pool: the generated rows, with their noise spans.
    """
    from transformers import AutoTokenizer

    rows = [json.loads(line) for line in pool.read_text(encoding="utf-8").splitlines()]
    examples = view.store
    masks = planted_noise(rows, AutoTokenizer.from_pretrained(examples.folder / "tokenizer"))
    figures = {}
    for arm in view.arms:
        noise, kept, scores = [], [], []
        for number, shard in enumerate(examples):
            shard_scores, shard_kept = view.read_scores(arm, number)
            trainable = shard.labels != IGNORE_INDEX
            noise += [masks[row] for row in shard.rows]
            kept.append(shard_kept[trainable])
            scores.append(shard_scores[trainable])
        figures[arm] = _figures(*(np.concatenate(part) for part in (noise, kept, scores)))
    view.run_folder.write_planted_noise(figures)


def _figures(
    noise: NDArray[np.bool_], kept: NDArray[np.bool_], scores: NDArray[np.float32]
) -> dict[str, int | float | None]:
    informative = len(np.unique(scores)) > 1
    return {
        "planted": int(noise.sum()),
        "removed": int((noise & ~kept).sum()),
        "clean": int((~noise).sum()),
        "clean_removed": int((~noise & ~kept).sum()),
        "auroc": auroc(scores[noise], scores[~noise]) if informative else None,
    }


def auroc(low: Sequence[float] | NDArray[np.float32], high: Sequence[float] | NDArray[np.float32]) -> float:
    """Return the probability that a random member of ``low`` is below one of ``high``; ties count half.

    >>> auroc([1, 2], [2, 3])
    0.875
    """
    from scipy.stats import mannwhitneyu

    # In float32 the sum of many ranks would be rounded.
    above, below = (np.asarray(values, dtype=np.float64) for values in (high, low))
    return float(mannwhitneyu(above, below, method="asymptotic").statistic / (len(above) * len(below)))
