"""Every setting of TRL that changes the loss is either honoured together with a selection, or refused."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import AutoModelForCausalLM, MixtralConfig
from trl import SFTConfig, SFTTrainer

from tests.train.online import load, make_rows, method_of, trainer_for, weights
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.train.trl_private import check_trl
from tokensieve.train.validation import check_loss, check_parallelism

LEAVES_THE_LOSS = {
    # The optimizer and its schedule, which work on gradients.
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon", "optim_target_modules", "max_grad_norm", "num_train_epochs",
    "max_steps", "warmup_ratio",  # until transformers 5.14
    # Precision, memory and kernels: the same loss up to rounding, through the same fused head.
    "bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "activation_checkpointing",
    "activation_checkpointing_kwargs", "gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_compile",
    "torch_compile_backend", "torch_compile_mode", "use_liger_kernel", "liger_kernel_config", "use_cache",
    "torch_empty_cache_steps", "auto_find_batch_size", "activation_offloading", "use_cpu", "full_determinism",
    # Where the loss is computed.
    "accelerator_config", "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers",
    "ddp_static_graph", "ddp_backend", "ddp_timeout", "fsdp", "fsdp_config", "deepspeed", "local_rank",
    # Which rows come when, and which model is loaded.
    "seed", "data_seed", "dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory",
    "dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context",
    "dataloader_in_order", "remove_unused_columns", "label_names", "train_sampling_strategy", "length_column_name",
    "shuffle_dataset", "dataset_text_field", "dataset_kwargs", "dataset_num_proc", "eos_token", "pad_token",
    "chat_template_path", "model_init_kwargs", "trust_remote_code", "ignore_data_skip",
    # Logs, evaluation, checkpoints and the Hub.
    "output_dir", "logging_dir", "logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node",
    "logging_nan_inf_filter", "include_num_input_tokens_seen", "log_level", "log_level_replica", "disable_tqdm",
    "report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
    "eval_strategy", "eval_steps", "eval_delay", "per_device_eval_batch_size", "prediction_loss_only", "eval_on_start",
    "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps", "include_for_metrics",
    "batch_eval_metrics", "eval_packing", "save_only_model", "save_strategy", "save_steps", "save_on_each_node",
    "save_total_limit", "enable_jit_checkpoint", "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id",
    "hub_strategy", "hub_always_push", "hub_revision", "load_best_model_at_end", "metric_for_best_model",
    "greater_is_better", "restore_callback_states_from_checkpoint", "debug", "skip_memory_metrics", "do_train",
    "do_eval", "do_predict", "resume_from_checkpoint",
}  # fmt: skip

HONOURED: dict[str, dict[str, Any]] = {
    "per_device_train_batch_size": {"per_device_train_batch_size": 4, "max_steps": 2},
    "gradient_accumulation_steps": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "average_tokens_across_devices": {"average_tokens_across_devices": False},
    "neftune_noise_alpha": {"neftune_noise_alpha": 5.0},
    "loss_type": {"loss_type": "dft"},
    "max_length": {"max_length": 20},
    "truncation_mode": {"max_length": 20, "truncation_mode": "keep_start"},
    "pad_to_multiple_of": {"pad_to_multiple_of": 16},
    "padding_free": {"padding_free": True, "max_length": None},
    "packing": {"packing": True},
    "packing_strategy": {"packing": True, "packing_strategy": "wrapped"},
    "completion_only_loss": {"completion_only_loss": True},
    "assistant_only_loss": {"assistant_only_loss": True},
}
REFUSED: dict[str, dict[str, Any]] = {
    "label_smoothing_factor": {"label_smoothing_factor": 0.1},
    "router_aux_loss_coef": {"router_aux_loss_coef": 0.1, "gradient_accumulation_steps": 2},
    "parallelism_config": {"parallelism_config": SimpleNamespace(cp_enabled=True, sp_enabled=False)},
}


def rows_for(setting: str) -> Dataset:
    """Rows in the form that a setting asks for: text where TRL is to find the labels, else ids and labels."""
    if setting not in ("completion_only_loss", "assistant_only_loss"):
        return make_rows()
    generator = np.random.default_rng(1)
    texts = [["".join(f"w{i} " for i in generator.integers(0, 30, 12)).strip() for _ in range(2)] for _ in range(8)]
    if setting == "completion_only_loss":
        return Dataset.from_dict({"prompt": [a for a, _ in texts], "completion": [" " + b for _, b in texts]})
    roles = ("user", "assistant")
    return Dataset.from_dict(
        {"messages": [[{"role": r, "content": c} for r, c in zip(roles, row, strict=True)] for row in texts]}
    )


def test_every_field_is_decided_upon():
    """A new field of TRL fails here until somebody decides whether it changes the loss."""
    names = {field.name for field in dataclasses.fields(SFTConfig)}
    decided = [*LEAVES_THE_LOSS, *HONOURED, *REFUSED]
    assert len(decided) == len(set(decided))
    assert names - set(decided) == set()


@pytest.mark.filterwarnings("ignore::UserWarning")  # packing without FlashAttention
@pytest.mark.parametrize("setting", HONOURED)
def test_a_setting_is_honoured_with_a_selection(setting, base, words, tmp_path):
    """The step is that of a plain trainer, with the same setting, on rows whose dropped labels are gone."""
    packed = setting in ("packing", "packing_strategy", "padding_free")
    method = get_method("profit", probability=0.032) if packed else method_of("rho-1", scope="example", rounding="ceil")
    data = rows_for(setting)
    trainer = trainer_for(base, words, tmp_path / "selected", method, data, **HONOURED[setting])
    trainer.train()
    assert 0 < trainer.counts.kept < trainer.counts.trainable
    kept_of = {}
    for statistics, kept, _ in trainer.seen:
        for a, b in itertools.pairwise(statistics.cu_seqlens):
            labels = np.where(kept[a:b], statistics.labels[a:b], -100)
            kept_of[tuple(statistics.labels[a:b].tolist())] = labels.tolist()
    plain = {**HONOURED[setting], "assistant_only_loss": False, "completion_only_loss": None}
    prepared: Any = trainer.train_dataset
    if setting == "packing_strategy":  # rows cut without regard to examples, and padded like any other
        plain["packing"] = False
    elif packed:
        prepared = data
    ids, labels = [], []
    for row in prepared:
        first_is_context = (-100, *row["labels"][1:])
        if first_is_context in kept_of:
            ids.append(row["input_ids"])
            labels.append(kept_of[first_is_context])
    assert len(ids) == len(prepared)
    masked = Dataset.from_dict({"input_ids": ids, "labels": labels})
    everything = Dataset.from_dict({"input_ids": ids, "labels": [row["labels"] for row in prepared]})
    stepped = {}
    for name, rows in (("kept", masked), ("full", everything)):
        stepped[name] = plain_step(load(base), words, tmp_path / name, rows, trainer.args, plain)
    selected = weights(trainer)
    for key, value in stepped["kept"].items():
        torch.testing.assert_close(selected[key], value, rtol=1e-4, atol=1e-6)
    assert max((selected[key] - value).abs().max() for key, value in stepped["full"].items()) > 1e-4


def plain_step(model, tokenizer, output, rows, like, arguments) -> dict[str, torch.Tensor]:
    names = ("learning_rate", "lr_scheduler_type", "optim", "max_grad_norm", "max_steps", "per_device_train_batch_size",
             "gradient_checkpointing", "report_to", "use_cpu", "bf16", "disable_tqdm", "save_strategy", "max_length",
             "dataloader_pin_memory")  # fmt: skip
    shared = {name: getattr(like, name) for name in names}
    trainer = SFTTrainer(
        model,
        SFTConfig(output_dir=str(output), **{**shared, **arguments}),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    return weights(trainer)


@pytest.mark.parametrize("setting", REFUSED)
def test_a_setting_that_a_selection_cannot_keep_is_refused(setting):
    with pytest.raises(TokensieveError) as error:
        check_loss(method_of("rho-1"), REFUSED[setting], (), "recipe: train.")
    assert error.value.where == f"recipe: train.{setting}"
    assert error.value.hint


def test_the_trainer_refuses_as_the_recipe_does(base, tokenizer, tmp_path):
    with pytest.raises(TokensieveError, match="label smoothing"):
        trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), label_smoothing_factor=0.1)
    with pytest.raises(TokensieveError, match="compute_loss_func"):
        trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), compute_loss_func=lambda *_, **__: None)
    with pytest.raises(TokensieveError, match="loss 'dft', which weights by itself"):
        trainer_for(base, tokenizer, tmp_path, "dft", loss_type="dft")
    factors = [np.ones(len(ids), dtype=np.float32) for ids in make_rows()["input_ids"]]
    data = make_rows().add_column("weights", factors)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TokensieveError, match="loss 'dft', which weights by itself"):
        trainer_for(base, tokenizer, tmp_path, "full", data, loss_type="dft")


@pytest.mark.parametrize(("size", "steps"), [(8, 1), (2, 4)])
def test_dft_is_the_dft_of_trl(size, steps, base, tokenizer, tmp_path):
    """Loss and step of the method `dft` are those of TRL's own `loss_type`, which weights the tokens by itself."""
    batches: dict[str, Any] = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
    found = {}
    for method, loss_type in (("dft", "nll"), ("full", "dft"), ("full", "nll")):
        folder = tmp_path / f"{method}-{loss_type}"
        trainer = trainer_for(base, tokenizer, folder, method, loss_type=loss_type, **batches)
        found[method, loss_type] = (trainer.train().training_loss, weights(trainer))
    ours, theirs, plain = found.values()
    assert ours[0] == pytest.approx(theirs[0], abs=1e-6)
    for key, value in theirs[1].items():
        torch.testing.assert_close(ours[1][key], value, rtol=0, atol=1e-6)
    assert abs(plain[0] - theirs[0]) > 0.1


def test_parallelism_over_sequences_is_refused():
    split = SimpleNamespace(cp_enabled=False, sp_enabled=True)
    with pytest.raises(TokensieveError, match="splits them"):
        check_parallelism(method_of("rho-1"), split, "accelerate: ")
    check_parallelism(method_of("rho-1"), SimpleNamespace(cp_enabled=False, sp_enabled=False), "accelerate: ")


@pytest.mark.parametrize(
    ("compute_loss", "says"),
    [
        (lambda self, model, inputs, *_, **__: model(**inputs).loss, "without its fused head"),
        (lambda self, model, inputs, *_, **__: self.model(**inputs).loss, "runs 0 training passes"),
        (
            lambda self, model, inputs, *_, **__: [model(**inputs, fused_lm_head=True) for _ in "ab"],
            "runs 2 training passes",
        ),
    ],
    ids=["unfused", "never called", "called twice"],
)  # fmt: skip
def test_a_training_pass_that_was_not_weighted_is_an_error(compute_loss, says, base, tokenizer, tmp_path, monkeypatch):
    trainer = trainer_for(base, tokenizer, tmp_path, method_of("rho-1"))
    before = weights(trainer)
    monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)
    with pytest.raises(TokensieveError, match=says):
        trainer.train()
    for key, value in weights(trainer).items():
        assert torch.equal(value, before[key])


def test_the_loss_of_the_fused_head_itself_cannot_be_trained_on(base, tokenizer, tmp_path, monkeypatch):
    """It is computed before the weights."""
    trainer = trainer_for(base, tokenizer, tmp_path, method_of("rho-1"))
    seen = []

    def compute_loss(self, model, inputs, *_, **__):
        seen.append(model(**inputs, fused_lm_head=True).loss)
        return torch.zeros((), requires_grad=True)

    monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)
    trainer.train()
    assert seen == [None]


def mixture() -> Any:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=64, router_aux_loss_coef=0.5,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def test_the_balance_of_a_mixture_of_experts_is_not_divided_by_the_kept_tokens(base, tokenizer, tmp_path):
    # TRL drops rows without any label: each keeps one here, so that both batches hold the same rows.
    method = method_of("rho-1", scope="example", rounding="ceil")
    trainer = trainer_for(base, tokenizer, tmp_path, method, model=mixture())
    rows: Any = make_rows()
    trainer.train()
    assert 0 < trainer.counts.kept < trainer.counts.trainable
    ((statistics, kept, _),) = trainer.seen
    masked = {}
    for a, b in itertools.pairwise(statistics.cu_seqlens):
        masked[tuple(statistics.labels[a:b].tolist())] = np.where(kept[a:b], statistics.labels[a:b], -100).tolist()
    labels = [masked[tuple(row["labels"])] for row in rows]
    data = Dataset.from_dict({"input_ids": rows["input_ids"], "labels": labels})
    stepped = plain_step(mixture(), tokenizer, tmp_path / "plain", data, trainer.args, {})
    for key, value in stepped.items():
        torch.testing.assert_close(weights(trainer)[key], value, rtol=1e-4, atol=1e-6)
    with pytest.raises(TokensieveError, match="balances the experts"):
        trainer_for(base, tokenizer, tmp_path, method_of("rho-1"), model=mixture(), gradient_accumulation_steps=2)


def test_the_installed_trl_has_every_name_that_is_used(base, tokenizer, tmp_path, monkeypatch):
    check_trl(trainer_for(base, tokenizer, tmp_path, "dft"))
    monkeypatch.delattr(trl.trainer.utils, "add_fused_lm_head")
    with pytest.raises(TokensieveError, match=r"TRL .* has no trainer\.utils\.add_fused_lm_head"):
        check_trl()
