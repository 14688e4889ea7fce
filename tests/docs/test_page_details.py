"""What single pages promise beyond their blocks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import warnings

import pytest
import trl
from pages import ROOT, CpuConfig, blocks


def texts(page: str, language: str) -> list[str]:
    return [block.text for block in blocks(page) if block.language == language]


@pytest.fixture
def whole(desk, monkeypatch):
    """A desk at which trainings of the pages run to their end, over few rows."""
    monkeypatch.setattr(trl, "SFTConfig", CpuConfig)
    rows = (desk / "train.jsonl").read_text().splitlines(keepends=True)
    (desk / "train.jsonl").write_text("".join(rows[:16]))
    return desk


def run(source: str) -> dict:
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(compile(source, "page", "exec"), names)
    return names


def test_the_trainer_selects_its_share_in_a_few_lines(whole):
    (source,) = texts("docs/trainer.md", "python")
    assert len(source.strip().splitlines()) <= 12
    trainer = run(source)["trainer"]
    assert trainer.state.global_step == 6  # three epochs of two batches
    assert 0.5 < trainer.counts.kept / trainer.counts.trainable < 0.7


def test_the_callback_logs_what_the_page_says(whole):
    logged = [
        entry for entry in run(texts("docs/ecosystem.md", "python")[2])["trainer"].state.log_history if "loss" in entry
    ]
    described = set(re.findall(r"^\| `(selection/\w+)`", (ROOT / "docs/ecosystem.md").read_text(), re.MULTILINE))
    assert {name for name in logged[0] if name.startswith("selection/")} == described
    kept = json.loads((whole / "runs/mine/arms/token-cleaning/selection.json").read_text())["kept"]
    assert logged[-1]["selection/trained_tokens"] == 3 * kept  # three epochs


def test_the_plug_in_is_found_when_installed(tmp_path):
    (project,) = texts("docs/ecosystem.md", "toml")
    method, check, _ = texts("docs/ecosystem.md", "python")
    (tmp_path / "calm_tokens.py").write_text(method)
    info = tmp_path / "calm_tokens-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: calm-tokens\nVersion: 1.0\n")
    ((group, points),) = tomllib.loads(project)["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    code = f"from calm_tokens import Calm\n{check}\nimport tokensieve\nassert tokensieve.get_method('calm') == Calm()"
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
