"""Losses and selections of two real models, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokensieve.cli import main
from tokensieve.runs.view import load_run
from tokensieve.select.streaming import read_selection
from tokensieve.store.shards import read_shard

GOLDEN = Path(__file__).with_name("token_losses_real_models.npz")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    golden = np.load(GOLDEN)
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with path.open("w") as handle:
        for start, stop in zip(golden["cu_seqlens"][:-1], golden["cu_seqlens"][1:], strict=True):
            row = {name: golden[name][start:stop].tolist() for name in ("input_ids", "labels")}
            handle.write(json.dumps(row) + "\n")
    return path


def test_losses_and_both_selections(rows, shared, tmp_path):
    golden = np.load(GOLDEN)
    models = [
        f"models.{role}={shared / 'models' / name}"
        for role, name in (("base", "bitllama-1M"), ("reference", "bitllama-3M"))
    ]
    common = [
        f"data.files=[{rows}]",
        *models,
        f"store={tmp_path / 'store'}",
        "controls=[]",
        "select.keep_turn_end=false",
    ]
    for method, scope in (("token-cleaning", "dataset"), ("rho-1", "example")):
        run = tmp_path / method
        main(["select", f"output={run}", f"method={method}", *common])
        statistics = load_run(run).statistics
        for role in ("base", "reference"):
            _, columns = read_shard(statistics[role] / "loss" / "shard-00000.arrow")
            np.testing.assert_allclose(columns["loss"], golden[f"{role}_loss"], rtol=0, atol=1e-4)
        _, kept = read_selection(run / "arms" / method / "scores", 0)
        np.testing.assert_array_equal(kept, golden[f"{scope}_0.6_selected_labels"] != -100)
    assert len(list((tmp_path / "store/statistics").glob("[!.]*"))) == 2, "the second method measured again"
