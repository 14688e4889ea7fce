"""The rounds of TOSS-Pro, against the same with separate plain calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokensieve.containers import Statistics
from tokensieve.data import prepare as prepare_module
from tokensieve.data.example_store import open_examples
from tokensieve.errors import TokensieveError
from tokensieve.methods.toss_pro import TossPro
from tokensieve.models import loading as models_module
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.ragged import offsets
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.select.streaming import read_selection
from tokensieve.store.atomic import read_json
from tokensieve.store.shards import write_parquet
from tokensieve.train import trainer as trainer_module
from tokensieve.train.schedules.refined_reference import Added, riskiest_examples
from tokensieve.train.settings import TrainSettings
from tokensieve.train.trainer import TrainingSetup, train

WORDS = ["apples", "Paris", "the sea", "72", "cold wind", "a small model", "two", "France", "gives one to Ben"]
ARGUMENTS: dict[str, Any] = {
    "learning_rate": 0.005,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "report_to": "none",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("pool", 10, 0), ("harmful", 3, 1)):
        generator = np.random.default_rng(seed)
        with (folder / f"{name}.jsonl").open("w") as lines:
            for _ in range(count):
                texts = [" ".join(generator.choice(WORDS, generator.integers(2, 6))) for _ in range(2)]
                messages = [{"role": r, "content": t} for r, t in zip(("user", "assistant"), texts, strict=True)]
                lines.write(json.dumps({"messages": messages}) + "\n")
    return folder


@pytest.fixture
def arguments(data, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 60)

    def make(output: Path, *more: str) -> list[str]:
        return [
            f"output={output}",
            f"data.files=[{data / 'pool.jsonl'}]",
            f"models.base={tiny_model_folder('llama')}",
            "models.utility.warm_up={rows: 4}",
            f"models.unsafe.warm_up={{files: [{data / 'harmful.jsonl'}], train: {{learning_rate: 0.01}}}}",
            "method={name: toss-pro, rounds: 2, added: 2}",
            "controls=[]",
            "train.lora=null",
            *(f"train.{name}={value}" for name, value in ARGUMENTS.items()),
            *more,
        ]

    return make


def rows_of(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (shard.input_ids[a:b], shard.labels[a:b])
        for shard in open_examples(folder)
        for a, b in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True)
    ]


def fine_tuned(rows: list[tuple[np.ndarray, np.ndarray]], base: Path, output: Path, learning_rate: float) -> Any:
    path = output.with_suffix(".data") / "train.parquet"
    columns = [np.concatenate(column).astype(np.int32) for column in zip(*rows, strict=True)]
    write_parquet(
        path, offsets([len(ids) for ids, _ in rows]), dict(zip(("input_ids", "labels"), columns, strict=True))
    )
    settings = TrainSettings(None, arguments={**ARGUMENTS, "learning_rate": learning_rate})
    tokenizer = AutoTokenizer.from_pretrained(base)
    setup = TrainingSetup(ModelSettings(str(base)), tokenizer, settings, 128, 0, torch.device("cpu"))
    train(setup, [path], output, on_step=lambda *_: None)
    return AutoModelForCausalLM.from_pretrained(output).eval()


def losses(model: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, :-1]
    targets = torch.from_numpy(ids[1:].astype(np.int64))
    return np.concatenate([[0], torch.nn.functional.cross_entropy(logits, targets, reduction="none").numpy()])


def record_of(store: Path, rounds: int) -> list[dict[str, Any]]:
    found = [read_json(path)["rounds"] for path in (store / "models").glob("*/added.json")]
    (record,) = [one for one in found if len(one) == rounds]
    return record


def test_the_rounds_are_those_of_separate_plain_calls(arguments, tiny_model_folder, tmp_path):
    folder = pipeline.run(load_recipe(None, arguments(tmp_path / "run")))
    store, base = tmp_path / "store", tiny_model_folder("llama")
    pool_folder = folder / read_json(folder / "run.json")["examples"]
    (harmful_folder,) = [
        path for path in (store / "examples").iterdir() if path.is_dir() and path.name != pool_folder.name
    ]
    pool, harmful = rows_of(pool_folder), rows_of(harmful_folder)
    assert (len(pool), len(harmful)) == (10, 3)
    utility = fine_tuned(pool[:4], base, tmp_path / "utility", 0.005)
    added: list[int] = []
    by_round = []
    for number in range(3):
        unsafe = fine_tuned(harmful + [pool[n] for n in sorted(added)], base, tmp_path / f"unsafe-{number}", 0.01)
        risks = [np.where(labels != -100, losses(utility, ids) - losses(unsafe, ids), -np.inf) for ids, labels in pool]
        if number < 2:
            highest = sorted((-float(risk.max()), n) for n, risk in enumerate(risks) if n not in added)
            by_round.append([n for _, n in highest[:2]])
            added += by_round[-1]
    record = record_of(store, 2)
    assert [one["examples"] for one in record] == by_round
    assert [one["rows"] for one in record] == by_round, "every row is an example here"
    assert len({*by_round[0], *by_round[1]}) == 4
    assert record_of(store, 1) == record[:1]
    assert all(one["risks"] == sorted(one["risks"], reverse=True) for one in record)

    scores, kept = (
        np.concatenate(parts)
        for parts in zip(
            *(read_selection(folder / "arms/toss-pro/scores", n) for n in range(open_examples(pool_folder).shards)),
            strict=True,
        )
    )
    risk = np.concatenate(risks)
    trainable = np.isfinite(risk)
    np.testing.assert_allclose(scores[trainable], -risk[trainable], atol=1e-4)
    assert kept.sum() == trainable.sum() - int(trainable.sum() * 0.1)
    assert (folder / "report.html").is_file()
    assert (folder / "arms/toss-pro/model/training.json").is_file()


def test_a_cut_run_goes_on_at_its_round_and_makes_nothing_twice(arguments, tmp_path, monkeypatch):
    whole = pipeline.run(load_recipe(None, arguments(tmp_path / "whole/run")), "select")
    fit, calls = trainer_module.fit, []

    def cut(*given, **keywords):
        calls.append(1)
        if len(calls) == 3:  # after utility and the first unsafe model
            raise KeyboardInterrupt
        return fit(*given, **keywords)

    monkeypatch.setattr(trainer_module, "fit", cut)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(load_recipe(None, arguments(tmp_path / "cut/run")), "select")
    resumed = pipeline.run(load_recipe(None, arguments(tmp_path / "cut/run")), "select")
    assert len(calls) == 5, "utility and three unsafe models, one of them begun twice"
    assert record_of(tmp_path / "whole/store", 2) == record_of(tmp_path / "cut/store", 2)
    for path in sorted((whole / "arms").rglob("*.parquet")):
        assert (resumed / path.relative_to(whole)).read_bytes() == path.read_bytes()
    for path in sorted((tmp_path / "whole/store/models").rglob("*.safetensors")):
        assert (tmp_path / "cut" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()

    # The store serves plain TOSS: its model is the one that the rounds began with.
    monkeypatch.setattr(trainer_module, "fit", lambda *_, **__: pytest.fail("trained again"))
    toss = arguments(tmp_path / "whole/toss", "method=toss")
    folder = pipeline.run(load_recipe(None, toss), "select")
    assert read_json(folder / "run.json")["statistics"] != read_json(whole / "run.json")["statistics"]
    pipeline.run(load_recipe(whole / "recipe.yaml"), "select")


def statistics(shard: int) -> tuple[Statistics, np.ndarray]:
    cu_seqlens = np.array([0, 3, 5])
    labels = np.array([-100, 1, 2, -100, 3]) if shard == 0 else np.array([-100, 4, 5, 6, 7])
    risks = [[9, 1, 4, 9, 2], [9, 4, 0, 5, 1]][shard]  # 9 where it must not count
    if shard == 1:
        labels[3] = -100
        risks[3] = 9
    values = {("utility", "loss"): np.array(risks, dtype=np.float32), ("unsafe", "loss"): np.zeros(5, dtype=np.float32)}
    return Statistics(cu_seqlens, labels, values), np.array([10 * shard, 10 * shard + 3])


def test_examples_are_ranked_by_their_riskiest_trainable_token():
    # highest risks: example 0 has 4, 1 has 2, 2 has 4, 3 has 1; the earlier of equals is taken first
    first = riskiest_examples(TossPro(added=1), statistics, 2, [])
    assert first == Added((0,), (0,), (4.0,))
    second = riskiest_examples(TossPro(added=2), statistics, 2, [first])
    assert second == Added((2, 1), (10, 3), (4.0, 2.0))
    third = riskiest_examples(TossPro(added=2), statistics, 2, [first, second])
    assert third == Added((3,), (13,), (1.0,))


def test_what_cannot_work_is_refused_before_a_model_is_loaded(
    arguments, data, tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(models_module, "load_model", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr(trainer_module, "load_model", lambda *_: pytest.fail("a model was loaded"))

    def refused(match: str, *more: str) -> None:
        with pytest.raises(TokensieveError, match=match) as error:
            pipeline.run(load_recipe(None, arguments(tmp_path / "run", *more)))
        assert error.value.where
        assert error.value.hint

    refused("a finished one is given", f"models.unsafe={tiny_model_folder('llama', 1)}")
    refused("its warm_up names no files", "models.unsafe.warm_up={rows: 3}")
    refused("none is given", f"models={{base: {tiny_model_folder('llama')}, utility: {{warm_up: {{rows: 3}}}}}}")
    refused("adds 4 examples in each of 3 rounds, and the data has 10", "method={name: toss-pro, added: 4}")
    refused("'toss' would read the model in the role 'unsafe' as 'toss-pro' refines it", "controls=[full, toss]")
