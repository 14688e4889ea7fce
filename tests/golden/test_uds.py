"""The published code's own figures and selections, with a buffer that fills and wraps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tokensieve.ops.logit_geometry import Projector, diversity, head_factor, nuclear_norms

FILE = Path(__file__).with_name("uds_batch_selection.npz")
BATCHES = 6
KEPT = 2


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive}


@pytest.fixture(scope="module")
def projector(golden):
    return Projector(*(golden[name] for name in ("sign_vocab", "index_vocab", "sign_time", "index_time")))


def figures(golden, projector, batch):
    """Nuclear norms and projections; every row is scored, as the published code does."""
    hidden = golden[f"b{batch}_hidden"]
    rows, lengths = hidden.flatten(0, 1), [hidden.shape[1]] * len(hidden)
    head = golden["lm_head"]
    return nuclear_norms(rows, lengths, head_factor(head)), projector.project_ragged(
        rows, lengths, projector.head(head)
    )


def test_every_batch_is_tested(golden):
    assert {name for name in golden if name.endswith("_kept")} == {f"b{i}_kept" for i in range(BATCHES)}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_nuclear_norm_and_projection(golden, projector, batch):
    norms, projections = figures(golden, projector, batch)
    torch.testing.assert_close(norms, golden[f"b{batch}_nuclear_norm"].double(), rtol=1e-5, atol=0)
    expected = golden[f"b{batch}_projection"]
    # a figure that is small by cancellation has the rounding of the large ones, in the published code too
    torch.testing.assert_close(projections, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_diversity_score_and_selection(golden, projector):
    buffer = torch.empty(0, 40)
    for batch in range(BATCHES):
        norms, projections = figures(golden, projector, batch)
        spread = diversity(projections, buffer)
        score = norms + float(golden["alpha"]) * spread
        kept = score.topk(KEPT).indices.sort().values
        torch.testing.assert_close(spread, golden[f"b{batch}_diversity"].double(), rtol=1e-5, atol=0)
        torch.testing.assert_close(score, golden[f"b{batch}_score"].double(), rtol=1e-5, atol=0)
        assert kept.tolist() == golden[f"b{batch}_kept"].tolist()
        buffer = torch.cat([buffer, projections[kept]])[-int(golden["queue_size"]) :]
