from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tokensieve.errors import TokensieveError
from tokensieve.models.settings import ModelSettings
from tokensieve.store.atomic import read_json
from tokensieve.train import trainer as trainer_module
from tokensieve.train.record import check_model, write_record
from tokensieve.train.settings import LoraSettings, TrainSettings, check_arguments
from tokensieve.train.trainer import TrainingSetup, train

CPU = torch.device("cpu")
PLAIN = {
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "max_steps": 1,
    "gradient_checkpointing": False,
    "report_to": "none",
}


def fit(base, rows, tokenizer, output: Path, settings: TrainSettings, max_length: int = 64) -> ModelSettings:
    setup = TrainingSetup(base, tokenizer, settings, max_length, 0, CPU)
    return train(setup, [rows], output, on_step=lambda *_: None)


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())


def test_accumulation_gives_the_step_of_the_whole_batch(base, rows, tokenizer, tmp_path):
    trained = {}
    for name, size, steps in (("whole", 8, 1), ("single", 1, 8), ("pairs", 2, 4)):
        arguments = {**PLAIN, "per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        model = fit(base, rows, tokenizer, tmp_path / name, TrainSettings(lora=None, arguments=arguments))
        trained[name] = weights(model.path)
    before = weights(base.path)
    moved = max((trained["whole"][key] - before[key]).abs().max().item() for key in before)
    assert moved > 1e-3
    for name in ("single", "pairs"):
        for key, value in trained["whole"].items():
            torch.testing.assert_close(trained[name][key], value, rtol=1e-4, atol=1e-6)


def test_the_step_is_the_gradient_of_the_mean_over_kept_tokens(base, rows, tokenizer, tmp_path):
    from tokensieve.store.shards import read_shard

    arguments = {**PLAIN, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    model = fit(base, rows, tokenizer, tmp_path / "step", TrainSettings(lora=None, arguments=arguments))
    by_hand = AutoModelForCausalLM.from_pretrained(base.path)
    cu_seqlens, columns = read_shard(rows)
    total, count = torch.zeros(()), 0
    for start, stop in itertools.pairwise(cu_seqlens):
        ids = torch.from_numpy(columns["input_ids"][start:stop].astype(np.int64))
        labels = torch.from_numpy(columns["labels"][start:stop].astype(np.int64))
        logits = by_hand(ids[None]).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
        count += int((labels[1:] != -100).sum())
    (total / count).backward()
    trained = weights(model.path)
    for key, parameter in by_hand.named_parameters():
        expected = parameter - 0.1 * parameter.grad  # pyright: ignore[reportOperatorIssue]
        torch.testing.assert_close(trained[key], expected, rtol=1e-4, atol=1e-6)


def test_an_adapter_is_written_and_merged_on_request(base, rows, tokenizer, tmp_path):
    arguments = {**PLAIN, "max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 4}
    settings = TrainSettings(LoraSettings(r=4, dropout=0.0), merge_adapter=True, arguments=arguments)
    model = fit(base, rows, tokenizer, tmp_path / "lora", settings)
    assert (model.path, model.adapter) == (base.path, str(tmp_path / "lora"))
    config = read_json(tmp_path / "lora" / "adapter_config.json")
    assert config["r"] == 4
    adapted = {name.rpartition(".")[2] for name in config["target_modules"]}
    assert adapted == {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    from peft import PeftModel

    ids = torch.arange(2, 20)[None]
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), tmp_path / "lora")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "lora" / "merged")
    torch.testing.assert_close(loaded(ids).logits, merged(ids).logits, rtol=1e-4, atol=1e-5)
    assert (merged(ids).logits - AutoModelForCausalLM.from_pretrained(base.path)(ids).logits).abs().max() > 1e-4
    curve = [entry["loss"] for entry in read_json(tmp_path / "lora" / "training.json")["log"] if "loss" in entry]
    assert curve
    assert not list(tmp_path.glob(".*checkpoints"))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]


@pytest.mark.parametrize("logging_steps", [1, 3, 50])
def test_an_interrupted_training_goes_on_from_its_checkpoint(logging_steps, base, rows, tokenizer, tmp_path):
    arguments = {**PLAIN, "max_steps": 6, "save_steps": 2, "per_device_train_batch_size": 2}
    arguments["logging_steps"] = logging_steps
    settings = TrainSettings(lora=None, arguments=arguments)
    whole = weights(fit(base, rows, tokenizer, tmp_path / "whole", settings).path)
    seen: list[int] = []

    def stop_at_five(step: int, _: int) -> None:
        seen.append(step)
        if step == 5 and len(seen) == 6:
            raise KeyboardInterrupt

    setup = TrainingSetup(base, tokenizer, settings, 64, 0, CPU)
    with pytest.raises(KeyboardInterrupt):
        train(setup, [rows], tmp_path / "cut", on_step=stop_at_five)
    assert not (tmp_path / "cut").exists()
    resumed = train(setup, [rows], tmp_path / "cut", on_step=stop_at_five)
    assert seen == [0, 1, 2, 3, 4, 5, 4, 5, 6]
    for key, value in weights(resumed.path).items():
        torch.testing.assert_close(value, whole[key], rtol=1e-5, atol=1e-7)
    records = [(tmp_path / name / "training.json").read_bytes() for name in ("whole", "cut")]
    assert records[0] == records[1], "loss, tokens and log are those of the whole training"
    assert b"train_loss" in records[0]
    assert b"train_runtime" not in records[0]
    assert read_json(tmp_path / "cut/times.json")["train_runtime"] > 0


def test_a_training_that_was_killed_after_its_last_step_takes_no_other(base, rows, tokenizer, tmp_path, monkeypatch):
    arguments = {**PLAIN, "max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 2}
    setup = TrainingSetup(base, tokenizer, TrainSettings(lora=None, arguments=arguments), 64, 0, CPU)
    whole = train(setup, [rows], tmp_path / "whole", on_step=lambda *_: None)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "write_model", stop)
        with pytest.raises(KeyboardInterrupt):
            train(setup, [rows], tmp_path / "cut", on_step=lambda *_: None)
    resumed = train(setup, [rows], tmp_path / "cut", on_step=lambda *_: None)
    for name in ("model.safetensors", "training.json"):
        assert (Path(resumed.path) / name).read_bytes() == (Path(whole.path) / name).read_bytes()


def test_wrong_arguments_are_refused_before_anything_is_loaded():
    with pytest.raises(TokensieveError, match="no argument 'learning_rat'; did you mean 'learning_rate'"):
        check_arguments({"learning_rat": 1}, "train")
    with pytest.raises(TokensieveError, match=r"use data\.max_length"):
        check_arguments({"max_length": 5}, "train")
    check_arguments(PLAIN, "train")


def test_an_adapter_that_fits_no_layer_is_refused(base, rows, tokenizer, tmp_path):
    settings = TrainSettings(LoraSettings(target_modules=["c_attn"]), arguments=PLAIN)
    with pytest.raises(TokensieveError, match="c_attn"):
        fit(base, rows, tokenizer, tmp_path / "x", settings)
    assert not (tmp_path / "x").exists()


def test_cleaned_rows_train_in_plain_trl_without_tokensieve(base, rows, tokenizer, tmp_path):
    """The very rows, through `datasets.load_dataset` and a stock `SFTTrainer`, with and without packing."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    script = f"""
import sys
sys.modules["tokensieve"] = None  # an import of it would fail
import datasets, numpy, torch
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
rows = datasets.load_dataset("parquet", data_files={str(rows)!r}, split="train", cache_dir={str(tmp_path / "cache")!r})
kept = sum(label != -100 for row in rows["labels"] for label in row)
for packing in (False, True):
    trainer = SFTTrainer(
        model={base.path!r},
        args=SFTConfig({str(tmp_path / "out")!r}, max_length=64, packing=packing, max_steps=1, use_cpu=True, bf16=False,
                       report_to="none", per_device_train_batch_size=8, gradient_checkpointing=False),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained({str(tmp_path / "tokenizer")!r}),
    )
    trained = 0
    for batch in trainer.get_train_dataloader():
        trained += int((batch["labels"] != -100).sum())
    assert trained == kept, (packing, trained, kept)
    trainer.train()
print("trained", kept)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained" in done.stdout


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4)])
def test_a_trained_model_says_nothing_of_the_folders_of_the_user(base, rows, tokenizer, tmp_path, lora):
    fit(base, rows, tokenizer, tmp_path / "model", TrainSettings(lora=lora, arguments={**PLAIN, "max_steps": 1}))
    texts = {path.name: path.read_text() for path in (tmp_path / "model").iterdir() if path.suffix in (".json", ".md")}
    assert [name for name, text in texts.items() if base.path in text or str(tmp_path) in text] == []
    if lora:
        config = read_json(tmp_path / "model" / "adapter_config.json")
        assert config["base_model_name_or_path"] == Path(base.path).name


def test_a_damaged_model_is_refused_before_it_is_loaded(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("a card")
    write_record(tmp_path, {"metrics": {}, "log": []})
    (tmp_path / "README.md").write_text("another card")
    check_model(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weightz")
    with pytest.raises(TokensieveError, match=r"(?s)the file is damaged.*adapter_model\.saf.*delete the folder"):
        check_model(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(TokensieveError, match=r"(?s)a file of a trained model is missing.*adapter_model\.safetensors"):
        check_model(tmp_path)
