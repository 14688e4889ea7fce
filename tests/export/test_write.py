"""Where an export goes, what is refused, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trained_examples import MODEL

from tokensieve.cli import main
from tokensieve.data import prepare
from tokensieve.errors import TokensieveError
from tokensieve.export.write import export_arm
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run as carry_out
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed

KILLED = """
import os, signal, sys, time
from tokensieve.export.arm import ArmData
original = ArmData.shard
def killed(self, number):
    if number == 2:
        time.sleep(0.5)  # until those before it are written
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, number)
ArmData.shard = killed
from tokensieve.cli import main
main(sys.argv[1:])
"""


def trained(role: str, rows: int = 8) -> str:
    """Return the override that makes a model from the base in one step."""
    return f"models.{role}.warm_up={{rows: {rows}, train: {{max_steps: 1, warmup_steps: 0, learning_rate: 1e-3}}}}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_command_prints_the_folder_the_lines_and_the_notes(run, capsys):
    main(["export", str(run), "--to", "trl"])
    printed = capsys.readouterr().out
    folder = run / "exports" / "loss-trl"
    assert printed.startswith(f"{folder}\n")
    assert f'load_dataset("{folder}", split="train")' in printed
    assert "max_length=256" in printed
    assert "note: max_length defaults to 1024, which truncates" in printed
    main(["export", str(run), "--to", "jsonl", "--arm", "random", "--output", str(run.parent / "out")])
    assert len((run.parent / "out/data/train.jsonl").read_text().splitlines()) > 10


def test_the_same_command_twice_writes_once(run, capsys):
    main(["export", str(run), "--to", "olmo-core"])
    first = capsys.readouterr().out
    stamps = {path: path.stat().st_mtime_ns for path in (run / "exports/loss-olmo-core").rglob("*")}
    main(["export", str(run), "--to", "olmo-core"])
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize("to", ["trl", "llama-factory", "olmo-core", "megatron-bridge", "ms-swift", "tinker"])
def test_equal_runs_give_equal_bytes(to, run, finished, tmp_path):
    one, other = export_arm(run, to, output=tmp_path / "a"), export_arm(finished, to, output=tmp_path / "b")
    assert contents(one.folder) == contents(other.folder)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(run, tmp_path):
    photo = tmp_path / "holiday" / "photo.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"x")
    with pytest.raises(TokensieveError, match="not empty and not an export"):
        export_arm(run, "trl", output=photo.parent)
    assert list(photo.parent.iterdir()) == [photo]
    with pytest.raises(TokensieveError, match="is a file, and a folder is needed"):
        export_arm(run, "trl", output=photo)
    with pytest.raises(TokensieveError, match="not empty and not an export"):
        export_arm(run, "trl", output=run)
    out = export_arm(run, "trl", output=tmp_path / "out").folder
    with pytest.raises(TokensieveError, match="arm: 'loss' there, 'random' here"):
        export_arm(run, "trl", "random", out)
    with pytest.raises(TokensieveError, match="target: 'trl' there, 'axolotl' here"):
        export_arm(run, "axolotl", output=out)


def test_an_export_of_an_earlier_selection_is_refused(run, tmp_path):
    out = export_arm(run, "trl", output=tmp_path / "out").folder
    path = run / "arms/loss/selection.json"
    write_sealed(path, {**read_json(path), "kept": 1})
    with pytest.raises(TokensieveError, match="selection: "):
        export_arm(run, "trl", output=out)


def test_a_licence_that_came_later_is_on_the_card_and_not_passed_over(run, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_TOKENS", 300)  # as the run was cut
    out = export_arm(run, "trl", output=tmp_path / "out").folder
    selected = (run / "arms/loss/selection.json").read_bytes()
    carry_out(load_recipe(run / "recipe.yaml", [f"output={run}", "data.license=cc-by-4.0"]), "select")
    assert (run / "arms/loss/selection.json").read_bytes() == selected
    with pytest.raises(TokensieveError, match=r"license: None there, 'cc-by-4\.0' here"):
        export_arm(run, "trl", output=out)
    later = export_arm(run, "trl", output=tmp_path / "later").folder
    assert "license: cc-by-4.0" in (later / "README.md").read_text()


@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_a_link_to_nothing_is_refused(target, run, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(TokensieveError, match="is a link to nothing, and a folder is needed"):
        export_arm(run, "jsonl", output=link)
    assert link.is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_an_empty_folder_is_fine(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert (export_arm(run, "trl", output=tmp_path / "out").folder / "export.json").is_file()


@pytest.mark.parametrize("to", ["jsonl", "olmo-core"])
def test_a_killed_export_leaves_nothing_that_looks_whole(to, run, tmp_path):
    whole = export_arm(run, to, output=tmp_path / "whole").folder
    command = [sys.executable, "-c", KILLED, "export", str(run), "--to", to, "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list(tmp_path.glob(".out.*.partial")), "killed before it wrote anything"
    assert not (tmp_path / "out").exists()
    assert contents(export_arm(run, to, output=tmp_path / "out").folder) == contents(whole)
    assert not list(tmp_path.glob(".out.*.partial"))


def test_a_failed_export_leaves_nothing(run, tmp_path):
    shard = sorted((run / "arms/loss/scores/kept").iterdir())[-1]
    shard.write_bytes(b"not Parquet")
    with pytest.raises(TokensieveError, match="damaged: its checksum is wrong"):
        export_arm(run, "trl", output=tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("out", ".out")) and path.is_dir()]


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("error: ") == 1
    assert "Traceback" not in printed.err
    return printed.err


def test_bad_input_ends_in_one_error(run, tmp_path, capsys):
    assert "this folder holds no run" in fails(capsys, "export", str(tmp_path), "--to", "trl")
    assert "no arm 'lots'; did you mean 'loss'?" in fails(capsys, "export", str(run), "--to", "trl", "--arm", "lots")
    assert "no arm 'base'" in fails(capsys, "export", str(run), "--to", "trl", "--arm", "base")
    (run / "arms/random/selection.json").unlink()
    assert "not selected yet" in fails(capsys, "export", str(run), "--to", "trl")
    assert not (run / "exports").exists()


def test_an_arm_that_chooses_while_the_model_trains_is_refused(make_run, tmp_path, capsys):
    online = make_run(tmp_path / "run", "method=sstoken", "controls=[]")
    printed = fails(capsys, "export", str(online), "--to", "jsonl")
    assert "arm 'sstoken' selects tokens while the model trains" in printed
    assert "models.current" in printed
    assert not (online / "exports").exists()


def test_an_anchor_that_no_file_can_say_is_refused(make_run, tmp_path):
    run = make_run(tmp_path / "anchored", "method=asft", f"models.current={MODEL}", "controls=[]")
    with pytest.raises(TokensieveError, match="held near the base while it trains"):
        export_arm(run, "parquet", "asft")


def test_weights_that_change_while_the_model_trains_are_refused(make_run, tmp_path, capsys):
    run = make_run(tmp_path / "run", "method=forgetting", trained("reference"), "controls=[]")
    printed = fails(capsys, "export", str(run), "--to", "jsonl")
    assert "arm 'forgetting' weights tokens while the model trains" in printed
    assert "models.current" not in printed


def test_a_method_that_is_gone_is_refused_where_it_weighs(run, weighted, tmp_path):
    for folder, arm in ((run, "loss"), (Path(shutil.copytree(weighted, tmp_path / "weighted")), "dft")):
        path = folder / "arms" / arm / "selection.json"
        write_sealed(path, {**read_json(path), "method": "gone"})
    assert export_arm(run, "jsonl").notes == ()
    with pytest.raises(TokensieveError, match="unknown method 'gone'"):
        export_arm(tmp_path / "weighted", "jsonl")


def test_another_normalisation_is_said(make_run, tmp_path):
    run = make_run(tmp_path / "run", "method=toss", trained("utility"), trained("unsafe", 12), "controls=[]")
    notes = export_arm(run, "trl").notes
    assert any("toss divides the loss of a step by all trainable tokens" in note for note in notes)


def test_nothing_of_the_run_is_touched(run):
    before = contents(run)
    export_arm(run, "trl")
    after = {name: content for name, content in contents(run).items() if not name.startswith("exports/")}
    assert after == before
    shutil.rmtree(run / "exports")
    assert json.loads((run / "run.json").read_text())["arms"] == ["loss", "full", "random"]
