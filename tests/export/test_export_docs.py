"""The commands of docs/export.md are run here, and its tables are those of the code."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from tokensieve.cli import main
from tokensieve.export.targets import TARGETS
from tokensieve.imported import CHOICES, SCORES
from tokensieve.report.view import load_run

PAGE = (Path(__file__).parents[2] / "docs/export.md").read_text()


@pytest.fixture
def desk(finished, tmp_path, monkeypatch) -> Path:
    """A folder with a run, and figures of its examples that were made elsewhere."""
    shutil.copytree(finished, tmp_path / "runs/mine")
    monkeypatch.chdir(tmp_path)
    rows: dict[str, list] = {"scores": [], "labels": []}
    for examples in load_run(Path("runs/mine")).store:
        for number, row in enumerate(examples.rows.tolist()):
            span = slice(*examples.cu_seqlens[number : number + 2].tolist())
            ids, labels = examples.input_ids[span].tolist(), examples.labels[span].tolist()
            rows["scores"].append({"row": row, "scores": ids})
            rows["labels"].append({"input_ids": ids, "labels": labels})
    for name, lines in rows.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_its_commands(desk, monkeypatch, capsys):
    class Hub:
        def whoami(self): ...
        def create_repo(self, repo, **_):
            return huggingface_hub.RepoUrl(f"https://huggingface.co/datasets/{repo}")

        def upload_folder(self, **given):
            assert (Path(given["folder_path"]) / "README.md").is_file()

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    commands = re.findall(r"^\$ (tokensieve .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        main(shlex.split(command)[1:])
        assert capsys.readouterr().out
    assert (desk / "runs/mine/exports/loss-axolotl/data").is_dir()
    assert (desk / "exported/data").is_dir()
    assert load_run(desk / "runs/mine").arms == ("full", "random", "published", "theirs", "loss")


def test_its_tables():
    rows = re.findall(r"^\| (`.*?) \|.*?\|(.*?)\|", PAGE, re.MULTILINE)
    weights = {name: "yes" in cell for names, cell in rows for name in re.findall(r"`([a-z-]+)`", names)}
    assert {name: target.carries_weights for name, target in TARGETS.items()} == {
        name: weights[name] for name in TARGETS
    }
    assert all(f"`{name}`" in PAGE for name in (*SCORES, *CHOICES))
