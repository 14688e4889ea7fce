from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests.train.online import LENGTHS, decisions, load, make_rows, method_of, trainer_for, weights
from tokensieve.containers import Statistics, StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.measure.arrays import measure_rows
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.ops.ragged import offsets

WEIGHTING = ["dft", "asft", "eaft", "p-alpha", "deft", "iw-sft", "psft", "talr"]
ONLINE = ["rho-1", "sstoken", "profit", *WEIGHTING]


def measured(method: Method, data: Dataset, models: dict[str, Any]) -> Statistics:
    """The statistics of frozen models over all rows, as the offline path measures them."""
    values = {}
    for role, name in method.needs:
        values[role, name] = np.concatenate(
            measure_rows(models[role], data, [StatisticSpec.of(name, method.options(name))])[name]
        )
    labels = np.concatenate(data["labels"])
    cu_seqlens = offsets([len(row) for row in data["input_ids"]])
    turn_end = (labels == 1) & (np.concatenate(data["input_ids"]) == 1)
    return Statistics(cu_seqlens, labels, values, turn_end)


def examples_of(statistics: Statistics) -> list[Statistics]:
    """Each example by itself."""
    found = []
    for a, b in itertools.pairwise(statistics.cu_seqlens):
        values = {need: value[a:b] for need, value in statistics.values.items()}
        turn_end = None if statistics.turn_end is None else statistics.turn_end[a:b]
        found.append(Statistics(offsets([b - a]), statistics.labels[a:b], values, turn_end))
    return found


@pytest.mark.parametrize("name", ONLINE)
def test_online_with_a_frozen_model_is_offline_token_for_token(name, base, tokenizer, tmp_path):
    method, data = method_of(name), make_rows()
    current = load(base, 2)
    models = {"base": load(base, 4), "reference": load(base, 1), "history": load(base, 3), "current": current}
    trainer = trainer_for(
        base, tokenizer, tmp_path, method, data, models, current,
        learning_rate=0.0, per_device_train_batch_size=1, gradient_accumulation_steps=8,
    )  # fmt: skip
    trainer.train()
    offline = measured(method, data, models)
    # The median loss that TALR scales by is that of what it is given: of each example here.
    by_labels = {}
    for part in examples_of(offline) if name == "talr" else [offline]:
        kept = method.rule.keep(method.score(part), part)
        expected = method.weights(part, kept, 0.0)
        for a, b in itertools.pairwise(part.cu_seqlens):
            by_labels[tuple(part.labels[a:b])] = (kept[a:b], expected[a:b])
    assert len(trainer.seen) == len(LENGTHS)
    for statistics, decided, weights_ in trainer.seen:
        want_kept, want_weights = by_labels[tuple(statistics.labels)]
        assert np.array_equal(decided, want_kept)
        np.testing.assert_allclose(weights_, want_weights, rtol=1e-4, atol=1e-5)
    if name not in WEIGHTING:
        assert 0 < trainer.counts.kept < trainer.counts.trainable
    else:
        factors = np.concatenate([weights_[statistics.trainable] for statistics, _, weights_ in trainer.seen])
        assert len(np.unique(factors)) > 10


@pytest.mark.parametrize("name", [*ONLINE[:-1], "toss", "forgetting"])
def test_accumulation_gives_the_step_of_the_whole_batch(name, base, tokenizer, tmp_path):
    data = make_rows()
    models = {role: load(base, seed) for seed, role in enumerate(("reference", "history", "utility", "unsafe", "base"))}
    if name in ("toss", "forgetting"):
        offline = get_method(name)
        statistics = measured(offline, data, models)
        kept = offline.rule.keep(offline.score(statistics), statistics)
        data = data.add_column("kept", np.split(kept, statistics.cu_seqlens[1:-1]))  # pyright: ignore[reportCallIssue]
    trained = {}
    for size, steps in ((8, 1), (1, 8), (2, 4)):
        arguments: dict[str, Any] = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        trainer = trainer_for(
            base, tokenizer, tmp_path / f"{size}", method_of(name), data, models, **arguments, max_grad_norm=0.5
        )
        before = weights(trainer)
        result = trainer.train()
        trained[size] = (weights(trainer), result.training_loss)
    whole, loss = trained[8]
    assert max((whole[key] - before[key]).abs().max().item() for key in before) > 1e-4
    for size in (1, 2):
        assert trained[size][1] == pytest.approx(loss, rel=1e-5)
        for key, value in whole.items():
            torch.testing.assert_close(trained[size][0][key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "divide_by"), [("dft", "kept"), ("profit", "kept"), ("toss", "trainable")])
def test_the_step_is_the_gradient_of_the_weighted_mean(name, divide_by, base, tokenizer, tmp_path):
    models = {"utility": load(base, 1), "unsafe": load(base, 2)}
    method = method_of(name, discard=0.5) if name == "toss" else method_of(name)
    assert method.divide_by == divide_by
    trainer = trainer_for(base, tokenizer, tmp_path, method, models=models)
    trainer.train()
    ((statistics, kept, factors),) = trainer.seen
    by_hand = load(base)
    total = torch.zeros(())
    offset = 0
    ids_by_labels = {tuple(row["labels"]): row["input_ids"] for row in make_rows()}  # pyright: ignore[reportArgumentType, reportCallIssue]
    for a, b in itertools.pairwise(statistics.cu_seqlens):
        ids = torch.tensor(ids_by_labels[tuple(statistics.labels[a:b])])
        log_p = by_hand(ids[None]).logits[0, :-1].log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
        total = total - (torch.from_numpy(factors[a + 1 : b]) * log_p).sum()
        offset = b
    assert offset == len(factors)
    (total / int(kept.sum() if divide_by == "kept" else statistics.trainable.sum())).backward()
    trained = weights(trainer)
    for key, parameter in by_hand.named_parameters():
        expected = parameter - 0.1 * parameter.grad  # pyright: ignore[reportOperatorIssue]
        torch.testing.assert_close(trained[key], expected, rtol=1e-4, atol=1e-6)


def test_a_column_of_weights_is_honoured(base, tokenizer, tmp_path):
    data = make_rows()
    factors = [np.linspace(0, 2, len(ids), dtype=np.float32) for ids in data["input_ids"]]
    trainer = trainer_for(
        base,
        tokenizer,
        tmp_path,
        "full",
        data.add_column("weights", factors),  # pyright: ignore[reportCallIssue]
    )
    trainer.train()
    ((statistics, _, used),) = trainer.seen
    by_length = {len(row): row for row in factors}
    for a, b in itertools.pairwise(statistics.cu_seqlens):
        expected = np.where(statistics.trainable[a:b], by_length[b - a], 0)
        np.testing.assert_allclose(used[a:b], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["sstoken", "eaft", "rho-1", "asft"])
def test_lora_with_gradient_checkpointing_and_bfloat16(name, base, tokenizer, tmp_path):
    from peft import LoraConfig

    trainer = trainer_for(
        base, tokenizer, tmp_path, method_of(name), peft_config=LoraConfig(target_modules="all-linear"),
        gradient_checkpointing=True, bf16=True, max_steps=2,
    )  # fmt: skip
    before = weights(trainer)
    result = trainer.train()
    assert np.isfinite(result.training_loss)
    after = weights(trainer)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert all("lora_" in key for key in moved)


def test_what_is_logged(base, tokenizer, tmp_path):
    trainer = trainer_for(base, tokenizer, tmp_path, method_of("rho-1", fraction=0.5))
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "selection/kept_share" in entry)
    ((statistics, kept, _),) = trainer.seen
    scores = method_of("rho-1").score(statistics)
    assert logged["selection/kept_share"] == pytest.approx(kept.sum() / statistics.trainable.sum())
    assert logged["selection/denominator"] == kept.sum()
    assert logged["selection/score_kept"] == pytest.approx(scores[kept].mean(), rel=1e-5)
    assert logged["selection/score_dropped"] == pytest.approx(scores[statistics.trainable & ~kept].mean(), rel=1e-5)


def test_a_batch_of_which_nothing_is_kept_moves_nothing(base, tokenizer, tmp_path):
    trainer = trainer_for(base, tokenizer, tmp_path, get_method("profit", probability=1.0))
    trainer._turn_end_ids = ()
    before = weights(trainer)
    result = trainer.train()
    assert result.training_loss == 0
    assert trainer.counts.empty_batches == 1
    for key, value in weights(trainer).items():
        assert torch.equal(value, before[key])


def test_turn_ends_are_kept(base, tokenizer, tmp_path):
    data = make_rows().map(lambda row: {"input_ids": [*row["input_ids"][:-1], 1], "labels": [*row["labels"][:-1], 1]})
    trainer = trainer_for(base, tokenizer, tmp_path, get_method("profit", probability=1.0), data)
    trainer.train()
    assert trainer.counts.kept == len(data)


def test_the_history_is_an_average_of_the_trained_weights(base, tokenizer, tmp_path):
    method = get_method("sstoken", history="ema", ema_decay=0.9)
    trainer = trainer_for(base, tokenizer, tmp_path, method, max_steps=3)
    expected = {name: value.clone() for name, value in weights(trainer).items()}
    steps = []

    update = trainer._history.update  # pyright: ignore[reportOptionalMemberAccess]

    def recording():
        steps.append(weights(trainer))
        update()

    trainer._history.update = recording  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    trainer.train()
    assert len(steps) == 3
    for step in steps:
        expected = {name: 0.9 * value + 0.1 * step[name] for name, value in expected.items()}
    for name, value in trainer._history.average.items():  # pyright: ignore[reportOptionalMemberAccess]
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    first, *_, last = trainer.seen
    history, current = (("history", "loss"), ("current", "loss"))
    np.testing.assert_allclose(first[0].values[history], first[0].values[current], atol=1e-5)
    assert np.abs(last[0].values[history] - last[0].values[current]).max() > 1e-3


def test_the_history_is_measured_without_dropout(base, tokenizer, tmp_path):
    method = get_method("sstoken", history="ema", ema_decay=0.9)
    trainer = trainer_for(base, tokenizer, tmp_path, method, max_steps=1)
    modes = []
    assert trainer.model is not None
    trainer.model.register_forward_pre_hook(lambda model, _: modes.append((torch.is_grad_enabled(), model.training)))
    trainer.train()
    assert set(modes) == {(False, False), (True, True)}


@pytest.mark.parametrize("name", ["sstoken", "uds", "rho-1"])
def test_a_checkpoint_brings_everything_back(name, base, tokenizer, tmp_path):
    parameters = {"sstoken": {"history": "ema", "ema_decay": 0.8}, "uds": {"examples": 1}, "rho-1": {}}[name]
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    whole = trainer_for(base, tokenizer, tmp_path / "whole", method_of(name, **parameters), **arguments)
    whole.train()
    resumed = trainer_for(base, tokenizer, tmp_path / "whole", method_of(name, **parameters), **arguments)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert dataclasses.asdict(resumed.counts) == dataclasses.asdict(whole.counts)
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[key], value, rtol=1e-6, atol=1e-7)
    assert (whole._example_statistics is not None, whole._history is not None) == (name == "uds", name == "sstoken")
    if whole._example_statistics is not None:
        torch.testing.assert_close(resumed._example_statistics.chosen, whole._example_statistics.chosen)  # pyright: ignore[reportOptionalMemberAccess]
        assert len(whole._example_statistics.chosen) == 4
    if whole._history is not None:
        for key, value in whole._history.average.items():
            torch.testing.assert_close(resumed._history.average[key], value)  # pyright: ignore[reportOptionalMemberAccess]


def test_a_checkpoint_of_another_trainer_is_refused(base, tokenizer, tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    trainer = trainer_for(base, tokenizer, tmp_path, "dft")
    with pytest.raises(TokensieveError, match="no state of a token selection"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_uds_trains_on_the_best_examples_alone(base, tokenizer, tmp_path):
    trainer = trainer_for(base, tokenizer, tmp_path, get_method("uds", examples=3, alpha=0.0))
    trainer.train()
    ((statistics, _, weighted),) = trainer.seen
    assert len(statistics) == 3
    assert np.array_equal(weighted > 0, statistics.trainable)
    model, norms = load(base), []
    for row in make_rows():
        with torch.no_grad():
            norms.append(torch.linalg.matrix_norm(model(torch.tensor([row["input_ids"]])).logits[0], ord="nuc").item())  # pyright: ignore[reportArgumentType, reportCallIssue]
    best = sorted(LENGTHS[i] for i in np.argsort(norms)[-3:])
    assert sorted(np.diff(statistics.cu_seqlens)) == best
    logged = next(entry for entry in trainer.state.log_history if "selection/kept_share" in entry)
    # Each token counts with the score of its example; the first token of a row has no label.
    of_tokens = {True: [], False: []}
    labels: Any = make_rows()["labels"]
    for number, (norm, row) in enumerate(zip(norms, labels, strict=True)):
        trainable = sum(label != -100 for label in row[1:])
        of_tokens[number in np.argsort(norms)[-3:]] += [norm] * trainable
    assert logged["selection/score_kept"] == pytest.approx(np.mean(of_tokens[True]), rel=1e-4)
    assert logged["selection/score_dropped"] == pytest.approx(np.mean(of_tokens[False]), rel=1e-4)
    assert logged["selection/kept_share"] == pytest.approx(len(of_tokens[True]) / sum(map(len, of_tokens.values())))
    assert logged["selection/denominator"] == len(of_tokens[True])


@pytest.mark.parametrize(("batch", "drawn"), [(4, [3, 3]), (5, [3, 3])])
def test_a_random_control_draws_as_many_examples_of_each_batch_as_uds(batch, drawn, base, tokenizer, tmp_path):
    """With a batch of 5 the last one of the epoch has 3 examples, which are all kept."""
    seen = {}
    for name in ("uds", "random"):
        trainer = trainer_for(
            base, tokenizer, tmp_path, get_method(name, examples=3), per_device_train_batch_size=batch, max_steps=2
        )
        trainer.train()
        seen[name] = [len(statistics) for statistics, _, _ in trainer.seen]
        assert trainer.counts.examples == 6
    assert seen["uds"] == seen["random"] == drawn


def test_a_random_control_draws_as_many_tokens_of_each_batch(base, tokenizer, tmp_path):
    kept = {}
    for name in ("rho-1", "random"):
        method = method_of(name, fraction=0.4, scope="batch", rounding="ceil")
        trainer = trainer_for(base, tokenizer, tmp_path, method, per_device_train_batch_size=4, max_steps=4)
        trainer.train()
        kept[name] = [kept.sum() for _, kept, _ in trainer.seen]
        decided = [tuple(kept.tolist()) for _, kept, _ in trainer.seen]
        assert len(set(decided)) == len(decided), "drawn again in each batch"
    assert kept["rho-1"] == kept["random"]


def test_a_random_control_draws_as_many_tokens_of_each_batch_as_a_threshold_keeps(base, tokenizer, tmp_path):
    profit = get_method("profit", probability=0.03)
    method = get_method("random", as_many_as={"name": "profit", "probability": 0.03}, seed=3)
    trainer = trainer_for(base, tokenizer, tmp_path, method, per_device_train_batch_size=4, max_steps=4)
    trainer.train()
    wanted = [profit.select(statistics) != -100 for statistics, _, _ in trainer.seen]
    drawn = [kept for _, kept, _ in trainer.seen]
    assert [kept.sum() for kept in drawn] == [kept.sum() for kept in wanted]
    assert len({kept.sum() for kept in drawn}) > 1, "the number follows the model"
    assert not any(np.array_equal(kept, other) for kept, other in zip(drawn, wanted, strict=True))


_SCRIPT = """
import json
import sys
import torch
sys.path.insert(0, {tests!r})
from tests.train.online import decisions, method_of, trainer_for, weights
from types import SimpleNamespace
from transformers import AutoTokenizer
base = SimpleNamespace(path={base!r})
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
trainer = trainer_for(base, tokenizer, {output!r}, method_of({name!r}, **{parameters!r}), per_device_train_batch_size=2,
                      gradient_accumulation_steps=2)
trainer.train()
decided = decisions(trainer)
with open({output!r} + f"/decided-{{trainer.accelerator.process_index}}.json", "w") as file:
    json.dump([[list(labels), kept] for labels, kept in decided.items()], file)
if trainer.accelerator.is_main_process:
    torch.save(weights(trainer), {output!r} + "/weights.pt")
    assert trainer.accelerator.num_processes == 2
"""


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sstoken", {}),
        pytest.param("profit", {}, marks=pytest.mark.slow),
        ("rho-1", {"scope": "batch"}),
        pytest.param("rho-1", {"scope": "dataset", "rounding": "ceil"}, marks=pytest.mark.slow),
    ],
)
def test_two_processes_are_one(name, parameters, base, tokenizer, tmp_path):
    """Two processes with two micro-batches of two rows each decide and step as one with two of four."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    output = tmp_path / "two"
    output.mkdir()
    script = tmp_path / "script.py"
    names = {"tests": str(Path(__file__).parents[2]), "base": base.path, "tokenizer": str(tmp_path / "tokenizer")}
    script.write_text(_SCRIPT.format(**names, output=str(output), name=name, parameters=parameters))
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    one = trainer_for(
        base, tokenizer, tmp_path / "one", method_of(name, **parameters), per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    one.train()
    of_two = [json.loads((output / f"decided-{rank}.json").read_text()) for rank in range(2)]
    assert [len(decided) for decided in of_two] == [4, 4]
    assert {tuple(labels): kept for decided in of_two for labels, kept in decided} == decisions(one)
    two = torch.load(output / "weights.pt", weights_only=True)
    for key, value in weights(one).items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)


def test_packing(base, tokenizer, tmp_path):
    with pytest.raises(TokensieveError, match="'sstoken' cannot be packed"):
        trainer_for(base, tokenizer, tmp_path, "sstoken", packing=True)
    with pytest.raises(TokensieveError, match="'rho-1' cannot be packed"):
        trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), packing=True)
    rows = make_rows()
    rows = rows.add_column("kept", [[1] * len(ids) for ids in rows["input_ids"]])
    with pytest.raises(TokensieveError, match="packing loses the column 'kept'"):
        trainer_for(base, tokenizer, tmp_path, "full", data=rows, packing=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["dft", "profit"])
def test_packed_rows_are_examples_of_their_own(name, base, tokenizer, tmp_path):
    trainer = trainer_for(base, tokenizer, tmp_path, method_of(name), packing=True, per_device_train_batch_size=8)
    trainer.train()
    lengths = sorted(length for statistics, _, _ in trainer.seen for length in np.diff(statistics.cu_seqlens).tolist())
    assert [length for length in lengths if length > 1] == sorted(LENGTHS)
    assert 0 < trainer.counts.kept <= trainer.counts.trainable


@pytest.mark.parametrize(
    ("method", "parameters", "match"),
    [
        ("rho-1", {"current": "current"}, "needs loss of a model in the role 'reference'"),
        ("sstoken", {"layer": 7}, "there is no layer 7: the model has 2"),
        ("uds", {"examples": 9}, "keeps 9 examples of a batch of 8"),
        ("uds", {"examples": 8}, "keeps 8 examples of a batch of 8, which leaves no choice"),
    ],
)
def test_bad_input(method, parameters, match, base, tokenizer, tmp_path):
    with pytest.raises(TokensieveError, match=match):
        trainer_for(base, tokenizer, tmp_path, get_method(method, **parameters), models={"none": None})


def test_an_average_of_frozen_weights_is_refused(base, tokenizer, tmp_path):
    model = load(base).requires_grad_(False)
    with pytest.raises(TokensieveError, match="no weight is trained"):
        trainer_for(base, tokenizer, tmp_path, get_method("sstoken", history="ema"), model=model)
