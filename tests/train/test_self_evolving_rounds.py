"""The rounds of self-evolving cleaning, against the same with separate plain calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokensieve.data import prepare as prepare_module
from tokensieve.data.example_store import open_examples
from tokensieve.errors import TokensieveError
from tokensieve.measure import worker as measure_module
from tokensieve.models import loading as models_module
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.ragged import offsets
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.runs.view import load_run
from tokensieve.select.streaming import read_selection
from tokensieve.store.atomic import read_json
from tokensieve.store.shards import read_shard, write_parquet
from tokensieve.train.schedules import self_evolving as rounds_module
from tokensieve.train.schedules._parts import part_bounds
from tokensieve.train.settings import LoraSettings, TrainSettings
from tokensieve.train.trainer import TrainingSetup, train

WORDS = ["apples", "Paris", "the sea", "72", "cold wind", "a small model", "two", "France", "gives one to Ben"]
ARGUMENTS: dict[str, Any] = {
    "learning_rate": 0.02,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "report_to": "none",
}
LORA = {"lora": "{r: 4, dropout: 0.1}"}
FULL = {"lora": "null"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eleven rows, some with two turns."""
    import json

    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("pool", 11, 0), ("held_out", 4, 1)):
        generator = np.random.default_rng(seed)

        def say(generator=generator) -> str:
            return " ".join(generator.choice(WORDS, generator.integers(2, 6)))

        with (folder / f"{name}.jsonl").open("w") as lines:
            for _ in range(count):
                roles = ["user", "assistant"] * int(generator.integers(1, 3))
                lines.write(json.dumps({"messages": [{"role": role, "content": say()} for role in roles]}) + "\n")
    return folder


@pytest.fixture
def run(data, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 60)  # parts begin and end within shards

    def make(output: Path, *more: str, until: str = "report", **train_section: Any) -> Path:
        section = {**ARGUMENTS, **LORA, **train_section}
        arguments = [
            f"output={output}",
            f"data.files=[{data / 'pool.jsonl'}]",
            f"models.base={tiny_model_folder('llama')}",
            "method={name: self-evolving, subsets: 3}",
            "controls=[random]",
            *(f"train.{name}={value}" for name, value in section.items()),
            *more,
        ]
        return pipeline.run(load_recipe(None, arguments), until)

    return make


def store_of(folder: Path):
    return open_examples(folder / read_json(folder / "run.json")["examples"])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "arms/self-evolving/model").glob("*.safetensors")
    return load_file(path)


def losses(model: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, :-1]
    targets = torch.from_numpy(ids[1:].astype(np.int64))
    return np.concatenate([[0], torch.nn.functional.cross_entropy(logits, targets, reduction="none").numpy()])


def naive(folder: Path, base: Path, work: Path, *, lora: bool) -> tuple[list[list[np.ndarray]], dict[str, Any]]:
    """Do the rounds with a separate load, pass and training each; return the kept tokens of each round and weights."""
    from peft import LoraConfig, PeftModel
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    pool = []
    for shard in store_of(folder):
        pool += [
            (shard.input_ids[a:b], shard.labels[a:b])
            for a, b in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True)
        ]
    model_path, kept_of_rounds = base, []
    for number, numbers in enumerate(np.array_split(np.arange(len(pool)), 3)):
        part = [pool[n] for n in numbers]
        keep = [labels != -100 for _, labels in part]
        if number:
            before = AutoModelForCausalLM.from_pretrained(base)
            after = AutoModelForCausalLM.from_pretrained(base if lora else model_path)
            after = PeftModel.from_pretrained(after, model_path) if lora else after
            tokens = []
            for example, (ids, labels) in enumerate(part):
                excess = losses(before, ids) - losses(after, ids)
                tokens += [
                    (ids[t] != end, -excess[t], example, t) for t in range(len(ids)) if labels[t] != -100
                ]  # turn ends come first, then the highest scores, then the earlier token
            keep = [np.zeros(len(ids), dtype=bool) for ids, _ in part]
            for *_, example, t in sorted(tokens)[: int(len(tokens) * 0.6)]:
                keep[example][t] = True
        kept_of_rounds.append(keep)
        rows = [(ids, np.where(k, labels, -100)) for (ids, labels), k in zip(part, keep, strict=True) if k.any()]
        path = work / f"{number}/train.parquet"
        columns = [np.concatenate(column).astype(np.int32) for column in zip(*rows, strict=True)]
        write_parquet(
            path, offsets([len(ids) for ids, _ in rows]), dict(zip(("input_ids", "labels"), columns, strict=True))
        )
        output = work / f"model-{number}"
        if lora:
            import datasets

            loaded = AutoModelForCausalLM.from_pretrained(base)
            config = LoraConfig(
                r=4, lora_alpha=16, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            if number:
                loaded = PeftModel.from_pretrained(loaded, model_path, is_trainable=True)
            trainer = SFTTrainer(
                loaded,
                SFTConfig(str(work / "out"), max_length=128, seed=0, use_cpu=True, bf16=False, disable_tqdm=True,
                          dataloader_pin_memory=False, weight_decay=0.0, **ARGUMENTS),
                train_dataset=datasets.load_dataset("parquet", data_files=str(path), split="train"),
                processing_class=tokenizer,
                peft_config=None if number else config,
            )  # fmt: skip
            trainer.train()
            trained: Any = trainer.model
            trained.save_pretrained(output)
        else:
            settings = TrainSettings(None, arguments={**ARGUMENTS, "weight_decay": 0.0})
            setup = TrainingSetup(ModelSettings(str(model_path)), tokenizer, settings, 128, 0, torch.device("cpu"))
            train(setup, [path], output, on_step=lambda *_: None)
        model_path = output
    (path,) = model_path.glob("*.safetensors")
    return kept_of_rounds, load_file(path)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_rounds_are_those_of_separate_plain_calls(run, tiny_model_folder, tmp_path, kind):
    folder = run(tmp_path / "run", until="train", **(LORA if kind == "lora" else FULL))
    kept, expected = naive(folder, tiny_model_folder("llama"), tmp_path / "naive", lora=kind == "lora")
    arm = folder / "arms/self-evolving"
    for number, part in enumerate(kept):
        cu_seqlens, columns = read_shard(arm / f"rounds/{number}/tokens.arrow")
        assert np.diff(cu_seqlens).tolist() == [len(mask) for mask in part]
        np.testing.assert_array_equal(columns["kept"], np.concatenate(part))
    found = weights_of(folder)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_a_whole_run_is_recorded_evaluated_and_shown(run, data, tmp_path, monkeypatch):
    measured = []
    plain = measure_module.measure_shard
    for module, who in ((measure_module, "store"), (rounds_module, "rounds")):

        def counted(forward, shard, *rest, who=who):
            measured.append((who, len(shard.input_ids)))
            return plain(forward, shard, *rest)

        monkeypatch.setattr(module, "measure_shard", counted)
    folder = run(tmp_path / "run", f"evaluate.held_out=[{data / 'held_out.jsonl'}]", gradient_checkpointing="true")
    store, arm = store_of(folder), folder / "arms/self-evolving"
    assert store.shards > 3
    lengths = np.concatenate([shard.lengths for shard in store])
    bounds = part_bounds(11, 3)
    assert bounds == [(0, 4), (4, 8), (8, 11)]
    assert [n for who, n in measured if who == "store"] == [len(shard.input_ids) for shard in store], "the base, once"
    assert [n for who, n in measured if who == "rounds"] == [int(lengths[a:b].sum()) for a, b in bounds[1:]]

    selection = read_json(arm / "selection.json")
    rounds = selection["rounds"]
    assert [one["round"] for one in rounds] == [0, 1, 2]
    assert [(one["first_example"], one["examples"]) for one in rounds] == [(0, 4), (4, 4), (8, 3)]
    assert rounds[0]["kept"] == rounds[0]["trainable"]
    for one in rounds[1:]:
        assert one["kept"] == int(one["trainable"] * 0.6)
        assert one["mean_score_kept"] > one["mean_score_dropped"]
    assert selection["kept"] == sum(one["kept"] for one in rounds)
    assert selection["trainable"] == sum(one["trainable"] for one in rounds) == store.counts.trainable_tokens
    assert all(np.isfinite([one["training_loss"], one["held_out_loss"]]).all() for one in rounds)
    evaluation = read_json(arm / "evaluation.json")
    assert rounds[-1]["held_out_loss"] == pytest.approx(evaluation["held_out"]["loss"], rel=1e-5)

    flat: dict[str, list[np.ndarray]] = {"score": [], "kept": []}
    for number, shard in enumerate(store):
        cu_seqlens, columns = read_shard(arm / f"scores/shard-{number:05d}.arrow")
        np.testing.assert_array_equal(cu_seqlens, shard.cu_seqlens)
        np.testing.assert_array_equal(columns["row"], shard.rows)
        for values, found in zip(flat.values(), read_selection(arm / "scores", number), strict=True):
            values.append(found)
    for name, parts in flat.items():
        of_rounds = [read_shard(arm / f"rounds/{number}/tokens.arrow")[1][name] for number in range(3)]
        np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(of_rounds))
    rows = [row for path in sorted((arm / "cleaned/data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert sum(label != -100 for row in rows for label in row["labels"]) == selection["kept"]

    random = read_json(folder / "arms/random/selection.json")
    assert random["kept"] == selection["kept"], "the control keeps as many tokens"
    view = load_run(folder)
    assert view.row("self-evolving").selection is not None
    assert (folder / "report.html").is_file()
    log = read_json(arm / "model/training.json")["log"]
    assert {entry["round"] for entry in log} == {0, 1, 2}

    monkeypatch.setattr(rounds_module, "fit", lambda *_, **__: pytest.fail("trained again"))
    run(tmp_path / "run", f"evaluate.held_out=[{data / 'held_out.jsonl'}]", gradient_checkpointing="true")


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("where", ["training", "writing"])
def test_a_run_cut_in_round_two_ends_as_an_uninterrupted_one(run, tmp_path, monkeypatch, kind, where):
    section = {**(LORA if kind == "lora" else FULL), "save_strategy": "no"}
    whole = run(tmp_path / "whole", until="select", **section)
    fit, loads = rounds_module.fit, []

    def cut(*arguments, **keywords):
        if len(calls) == 2:
            if where == "training":
                keywords["on_step"] = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            else:
                fit(*arguments, **keywords)
                raise KeyboardInterrupt
        calls.append(1)
        return fit(*arguments, **keywords)

    calls: list[int] = []
    monkeypatch.setattr(rounds_module, "fit", cut)
    own_store = f"store={tmp_path / 'of-cut'}"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", own_store, until="select", **section)
    arm = tmp_path / "cut/arms/self-evolving"
    (stored,) = (tmp_path / "of-cut/models").glob("*/rounds")
    assert {path.name for path in stored.glob("[0-9]*")} == {"0", "1"}
    assert not (arm / "model").exists()
    assert not (stored.parent / "model").exists()
    load = models_module.load_model
    monkeypatch.setattr(rounds_module, "fit", fit)
    monkeypatch.setattr(rounds_module, "load_model", lambda *a: loads.append(a) or load(*a))
    resumed = run(tmp_path / "cut", own_store, until="select", **section)
    assert len(loads) == 1
    assert {path.name for path in (arm / "rounds").iterdir()} == {"0", "1", "2"}
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for path in sorted((whole / "arms/self-evolving").rglob("*.[ap]*r*")):
        assert (tmp_path / "cut" / path.relative_to(whole)).read_bytes() == path.read_bytes()
    kept = [read_json(one / "arms/random/selection.json")["kept"] for one in (whole, resumed)]
    assert kept[0] == kept[1]


def test_a_round_goes_on_from_its_checkpoint(run, tmp_path, monkeypatch):
    section = {"save_strategy": "steps", "save_steps": 1}
    whole = run(tmp_path / "whole", until="select", **section)
    fit, steps = rounds_module.fit, []

    def watched(*arguments, on_step, **keywords):
        def told(step: int, total: int) -> None:
            steps.append(step)
            on_step(step, total)
            if len(steps) == 9:  # before the first of four steps of round 0, and of three of round 1
                raise KeyboardInterrupt

        return fit(*arguments, on_step=told, **keywords)

    monkeypatch.setattr(rounds_module, "fit", watched)
    own_store = f"store={tmp_path / 'of-cut'}"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", own_store, until="select", **section)
    resumed = run(tmp_path / "cut", own_store, until="select", **section)
    assert steps == [0, 1, 2, 3, 4, 0, 1, 2, 3, 2, 3, 4, 0, 1, 2, 3, 4]
    for name, value in weights_of(whole).items():
        torch.testing.assert_close(weights_of(resumed)[name], value, rtol=1e-5, atol=1e-7)


def test_rounds_are_those_of_another_run_that_is_made_from_the_same(run, data, tmp_path, monkeypatch, capsys):
    first = run(tmp_path / "first", until="train")
    fit = rounds_module.fit
    monkeypatch.setattr(rounds_module, "fit", lambda *_, **__: pytest.fail("trained again"))
    second = run(tmp_path / "second", "controls=[random, full]", until="select")
    assert "is made from the same, and is reused" in capsys.readouterr().err
    arms = [folder / "arms/self-evolving" for folder in (first, second)]
    for part in ("rounds", "model", "scores", "cleaned/data"):
        files = [{path.relative_to(arm): path.read_bytes() for path in (arm / part).rglob("*.*")} for arm in arms]
        assert files[0]
        assert files[0].keys() == files[1].keys()
        assert all(files[0][name] == files[1][name] for name in files[0] if name.name != "manifest.json"), part

    trained = []
    monkeypatch.setattr(rounds_module, "fit", lambda *a, **k: trained.append(1) or fit(*a, **k))
    held_out = f"evaluate.held_out=[{data / 'held_out.jsonl'}]"
    for number, other in enumerate(("seed=7", "select.keep_turn_end=false", held_out, "train.weight_decay=0.1")):
        trained.clear()
        run(tmp_path / f"other-{number}", other, until="select")
        assert len(trained) == 3, other


def test_a_deleted_file_of_a_round_comes_from_the_store_and_then_from_the_rounds_again(run, tmp_path):
    folder = run(tmp_path / "run", until="select")
    tokens, stored = folder / "arms/self-evolving/rounds/1/tokens.arrow", tmp_path / "store/models"
    before = tokens.read_bytes()
    tokens.unlink()
    run(tmp_path / "run", until="select")
    assert tokens.read_bytes() == before
    for path in stored.glob("*/rounds/1/tokens.arrow"):
        path.unlink()
    tokens.unlink()
    run(tmp_path / "run", until="select")
    assert tokens.read_bytes() == before


def test_rounds_of_other_data_are_not_taken_where_a_kill_left_no_selection(run, data, tmp_path):
    rows = (data / "pool.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(rows), encoding="utf-8")
    given = (tmp_path / "run", f"data.files=[{pool}]", "controls=[]")
    before = weights_of(run(*given, until="select"))
    (tmp_path / "run/arms/self-evolving/selection.json").unlink()
    pool.write_text("".join([rows[1], rows[0], *rows[2:]]), encoding="utf-8")
    after = weights_of(run(*given, until="select"))
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_a_finished_arm_outlives_the_store(run, tmp_path, monkeypatch):
    import shutil

    folder = run(tmp_path / "run", until="train")
    shutil.rmtree(tmp_path / "store/models")
    monkeypatch.setattr(rounds_module, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert run(tmp_path / "run", until="train") == folder


def test_what_cannot_work_is_refused_before_a_model_is_loaded(run, tmp_path, monkeypatch):
    for module in (models_module, rounds_module):
        monkeypatch.setattr(module, "load_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(TokensieveError, match="12 subsets, and it has 11 examples"):
        run(tmp_path / "a", "method={name: self-evolving, subsets: 12}")
    with pytest.raises(TokensieveError, match="trains as it selects, and the recipe trains nothing"):
        pipeline.run(load_recipe(None, [
            f"output={tmp_path / 'b'}", "data.files=[x.jsonl]", "models.base=y", "method=self-evolving", "train=null",
        ]))  # fmt: skip
    with pytest.raises(TokensieveError, match="within each training batch"):
        run(tmp_path / "c", "method={name: self-evolving, scope: batch}")


def test_parts_are_those_of_array_split():
    for examples in range(2, 20):
        for parts in range(2, examples + 1):
            split = np.array_split(np.arange(examples), parts)
            assert part_bounds(examples, parts) == [(int(one[0]), int(one[-1]) + 1) for one in split]


def test_settings_of_the_tests_are_those_of_the_recipe():
    assert LoraSettings(r=4, dropout=0.1).alpha == 16


def test_a_round_in_which_every_score_ties_is_refused_before_it_trains(run, tmp_path):
    """A learning rate of next to nothing leaves the model of round 1 where the base is.

    One example a batch: products of other shapes may round otherwise.
    """
    with pytest.raises(TokensieveError, match="self-evolving, round 2 of 3' gives every token the same score"):
        run(tmp_path / "run", "measure.token_budget=1", until="select", learning_rate=1e-30)
    assert sorted(path.name for path in (tmp_path / "store/models").glob("*/rounds/[0-9]*")) == ["0"]


def test_the_loss_curve_goes_on_over_the_rounds(run, tmp_path, capsys):
    folder = run(tmp_path / "run", until="select")
    log = read_json(folder / "arms/self-evolving/model/training.json")["log"]
    assert [entry["step"] for entry in log if "loss" in entry] == [*range(1, 13)]
    told = capsys.readouterr().err
    assert "warning: train self-evolving: " not in told, "training comes after this call"
    for number in (1, 2, 3):
        assert f"self-evolving: round {number} of 3: train: 4 optimizer steps" in told
