"""What rounds decided part by part, as `select_shards` writes scores and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import Bool, Float32, Int64, Statistics
from tokensieve.data.example_store import ExampleStore
from tokensieve.methods.token_cleaning import TokenCleaning
from tokensieve.select.streaming import select_shards
from tokensieve.store.manifest import open_manifest

TOKENS = "tokens.arrow"
"""The file of a round with ``row``, ``score`` and ``kept`` of the tokens of its part."""


def round_folders(rounds: Path) -> list[Path]:
    """Return the folders of the rounds that are complete, in order."""
    return sorted((path.parent for path in rounds.glob("*/round.json")), key=lambda path: int(path.name))


def write_round_scores(examples: ExampleStore, rounds: Path, folder: Path) -> dict[str, Any]:
    """Write what the rounds decided as `select_shards` writes scores and decisions, by the shards of the pool.

    Args:
        examples: the pool.
        rounds: folder of all its rounds.
        folder: gets the files.

    Returns:
        The counts of `select_shards`; ``threshold`` is None, since every part has its own.
    """
    manifests = [open_manifest(path) for path in round_folders(rounds)]
    parts = np.cumsum([0, *(manifest.files[TOKENS].tokens for manifest in manifests)]).tolist()
    shards = np.cumsum([0, *(len(shard.input_ids) for shard in examples)]).tolist()

    def load(number: int) -> tuple[Statistics, Int64]:
        shard, first, stop = examples.read(number), shards[number], shards[number + 1]
        found = [
            {key: manifest.column(TOKENS, key[1])[max(0, first - start) : stop - start] for key in _RECORDED}
            for manifest, start, end in zip(manifests, parts[:-1], parts[1:], strict=True)
            if start < stop and first < end
        ]
        values = {key: np.concatenate([one[key] for one in found]) for key in _RECORDED}
        return Statistics(shard.cu_seqlens, shard.labels, values), shard.rows

    rule: Any = _RecordedRule()
    return select_shards(_Recorded(), rule, load, examples.shards, folder)


_RECORDED = (("current", "score"), ("current", "kept"))


class _Recorded(TokenCleaning):
    """Scores as a round wrote them down, so that `select_shards` alone knows how a selection lies on disk."""

    def score(self, statistics: Statistics) -> Float32:
        return statistics.values["current", "score"]


class _RecordedRule:
    """Decisions as a round wrote them down."""

    def keep(self, scores: Float32, statistics: Statistics) -> Bool:
        del scores
        return statistics.values["current", "kept"] > 0
