"""A stop at any moment of writing a checkpoint leaves one to go on from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.online import method_of, trainer_for, weights
from tests.train.test_trainer import CPU, PLAIN
from tests.train.test_trainer import weights as weights_of
from tokensieve.errors import TokensieveError
from tokensieve.train.checkpoints import RECORD, is_complete, last_complete, remove_broken
from tokensieve.train.settings import TrainSettings
from tokensieve.train.trainer import TrainingSetup, train

SAVING = {"max_steps": 6, "save_steps": 2, "per_device_train_batch_size": 2}


@pytest.mark.parametrize(
    ("method", "stride"),
    [
        ("sstoken", 10),
        pytest.param("sstoken", 1, marks=pytest.mark.slow),
        pytest.param("none", 1, marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_file_operation_of_a_checkpoint(method, stride, base, rows, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    names = [base.path, str(tmp_path / "tokenizer"), str(rows), str(tmp_path), method, str(stride)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    script = str(Path(__file__).with_name("killed.py"))
    done = subprocess.run(
        [sys.executable, script, *names], capture_output=True, text=True, timeout=1800, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    attempts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    *kills, full = attempts
    assert len(kills) * stride > 30
    assert [attempt for attempt in attempts if not attempt["killed"]] == []
    assert full["left"] == ["checkpoint-2", "checkpoint-4"]
    assert [attempt for attempt in attempts if not attempt["same"]] == []


def interrupted(base, rows, tokenizer, output: Path) -> Path:
    """Stop a training after its fifth step; return its folder of checkpoints, of steps 2 and 4."""
    settings = TrainSettings(lora=None, arguments={**PLAIN, **SAVING, "save_total_limit": 2})

    def stop(step: int, _: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TrainingSetup(base, tokenizer, settings, 64, 0, CPU), [rows], output, on_step=stop)
    return output.with_name(f".{output.name}.checkpoints")


@pytest.fixture(scope="module")
def stopped(base, rows, tokenizer, tmp_path_factory):
    """Checkpoints of an interrupted training, and the weights of an uninterrupted one."""
    folder = tmp_path_factory.mktemp("stopped")
    settings = TrainSettings(lora=None, arguments={**PLAIN, **SAVING})
    setup = TrainingSetup(base, tokenizer, settings, 64, 0, CPU)
    whole = train(setup, [rows], folder / "whole", on_step=lambda *_: None)
    return interrupted(base, rows, tokenizer, folder / "model"), weights_of(whole.path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "resumes"),
    [
        (lambda newest: cut(newest / "model.safetensors"), 4),
        (lambda newest: cut(newest / "optimizer.pt"), 4),
        (lambda newest: (newest / "rng_state.pth").unlink(), 4),
        (lambda newest: (newest / RECORD).unlink(), 4),
        (lambda newest: (newest / RECORD).write_text('{"model.saf'), 4),
        (lambda newest: (newest / RECORD).write_text("[1]"), 4),
        (lambda newest: [path.unlink() for path in newest.iterdir()], 4),
        (lambda newest: (cut(newest / "model.safetensors"), (newest.with_name("checkpoint-2") / RECORD).unlink()), 6),
        (lambda newest: None, 2),
    ],
    ids=["model", "optimizer", "random state", "no record", "half a record", "another record", "empty", "both", "none"],
)
def test_a_damaged_checkpoint_is_passed_over(damage, resumes, stopped, base, rows, tokenizer, tmp_path):
    checkpoints, whole = stopped
    shutil.copytree(checkpoints, tmp_path / ".model.checkpoints")
    damage(tmp_path / ".model.checkpoints/checkpoint-4")
    steps = []
    settings = TrainSettings(lora=None, arguments={**PLAIN, **SAVING, "save_total_limit": 2})
    setup = TrainingSetup(base, tokenizer, settings, 64, 0, CPU)
    again = train(setup, [rows], tmp_path / "model", on_step=lambda step, _: steps.append(step))
    assert len(steps[1:]) == resumes
    for key, value in weights_of(again.path).items():
        torch.testing.assert_close(value, whole[key], rtol=1e-6, atol=1e-7)
    assert not (tmp_path / ".model.checkpoints").exists()


def test_only_as_many_checkpoints_stay_as_are_asked_for(base, tokenizer, tmp_path):
    for limit, left in ((None, ["2", "4", "6"]), (1, ["6"]), (2, ["4", "6"])):
        output = tmp_path / str(limit)
        arguments = {**SAVING, "save_strategy": "steps", "save_total_limit": limit, "num_train_epochs": 3}
        trainer = trainer_for(base, tokenizer, output, method_of("rho-1"), **arguments)
        trainer.train()
        assert sorted(path.name for path in output.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in left]
        assert all(is_complete(path) for path in output.glob("checkpoint-*"))


def test_the_trainer_goes_on_from_the_last_complete_checkpoint(base, tokenizer, tmp_path):
    def trainer():
        return trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), **SAVING, save_strategy="steps")

    with pytest.raises(TokensieveError, match="no checkpoint to resume from"):
        trainer().train(resume_from_checkpoint=True)
    whole = trainer()
    whole.train()
    expected = weights(whole)
    newest = tmp_path / "checkpoint-6"
    cut(newest / "model.safetensors")
    with pytest.raises(TokensieveError, match="files of it are missing or cut"):
        trainer().train(resume_from_checkpoint=str(newest))
    again = trainer()
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    assert len(again.seen) == 2
    for key, value in weights(again).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-7)


def test_a_checkpoint_of_another_trainer_is_neither_resumed_nor_removed(tmp_path):
    foreign, half = tmp_path / "checkpoint-3", tmp_path / "checkpoint-4"
    for folder in (foreign, half):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
    (foreign / "trainer_state.json").write_text("{}")
    with pytest.warns(UserWarning, match="checkpoint-3 has no record that it is complete"):
        remove_broken(tmp_path, unrecorded=False)
    assert last_complete(tmp_path) is None
    assert foreign.is_dir()
    assert not half.exists()
    remove_broken(tmp_path, unrecorded=True)
    assert not foreign.exists()


def test_a_checkpoint_that_is_written_over_loses_its_record_first(base, tokenizer, tmp_path, monkeypatch):
    arguments = {**SAVING, "save_strategy": "steps", "max_steps": 2}
    trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), **arguments).train()
    assert is_complete(tmp_path / "checkpoint-2")
    again = trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), **arguments)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(again, "_save_optimizer_and_scheduler", stop)
    with pytest.raises(KeyboardInterrupt):
        again.train()
    assert last_complete(tmp_path) is None


@pytest.mark.parametrize("rate", [1e38, 1e30])
def test_a_training_that_diverges_is_an_error_and_leaves_no_checkpoint(base, tokenizer, rows, tmp_path, rate):
    arguments = {**SAVING, "learning_rate": rate, "max_grad_norm": 0.0, "warmup_steps": 0, "max_steps": 4}
    settings = TrainSettings(lora=None, arguments=arguments)
    setup = TrainingSetup(base, tokenizer, settings, 64, 0, CPU)
    with pytest.raises(TokensieveError, match=r"(?s)the training diverged: .*train.learning_rate"):
        train(setup, [rows], tmp_path / "model", on_step=lambda *_: None)
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
