"""FLOPs, parameters and memory of plans, against what torch counts as the very code runs on real tiny models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MixtralConfig, TrainerCallback

from tokensieve.containers import IGNORE_INDEX, LOSS, Examples, StatisticSpec
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.models import torch_private
from tokensieve.models.settings import ModelSettings
from tokensieve.models.size import model_size, size_of
from tokensieve.ops.ragged import offsets
from tokensieve.pipeline.forecast.flops import (
    Lengths,
    Passed,
    attention_statistic_flops,
    forward_flops,
    generation_flops,
    measured_tokens,
    trained_tokens,
    training_flops,
)
from tokensieve.pipeline.forecast.memory import measuring_bytes, training_bytes
from tokensieve.train.adapter import adapter_parameters, with_adapter
from tokensieve.train.settings import LoraSettings, TrainSettings
from tokensieve.train.trainer import TrainingSetup, make_trainer

ATTENTION = StatisticSpec("attention_to_prompt")


@pytest.fixture(autouse=True)
def one_thread():
    """The counter sees its own thread alone, and measuring takes one for each core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_packed_products(monkeypatch):
    """The counter does not know them; they have the operations of those that it knows."""
    monkeypatch.setattr(torch_private, "_PACKED_BYTES", 0)


@contextlib.contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Count operations; torch's table has neither the fused attention of a CPU nor products that add in place."""
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        yield counter


def operations(counter: FlopCounterMode) -> int:
    """Return what was counted, without the table of positions: older versions of transformers make it by a product."""
    counts = counter.get_flop_counts().items()
    return counter.get_total_flops() - sum(sum(of.values()) for name, of in counts if name.endswith("rotary_emb"))


def examples(lengths: list[int], trainable: list[int], vocabulary: int = 300) -> Examples:
    generator = np.random.default_rng(0)
    cu_seqlens = offsets(lengths)
    ids = generator.integers(0, vocabulary, cu_seqlens[-1]).astype(np.int32)
    labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
    for stop, length, count in zip(cu_seqlens[1:], lengths, trainable, strict=True):
        assert count < length
        labels[stop - count : stop] = ids[stop - count : stop]
    return Examples(ids, labels, cu_seqlens, np.arange(len(lengths)))


SHARD = examples([40, 12, 90, 33, 33, 7], [10, 11, 44, 3, 20, 2])


def load(folder: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("budget", [64, 1024])
def test_measuring_takes_as_many_operations_as_torch_counts(tiny_model_folder, architecture, budget):
    model = load(tiny_model_folder(architecture))
    with Forward(model, [LOSS]) as forward, counted() as counter:
        measure_shard(forward, SHARD, budget, lambda _: None)
    found = forward_flops(size_of(model, "float32"), measured_tokens(Lengths.of([SHARD]), budget, False))
    assert found == operations(counter)


def test_attention_statistics_add_the_scores_of_one_layer(tiny_model_folder):
    model = load(tiny_model_folder("llama"))
    with Forward(model, [ATTENTION]) as forward, counted() as counter:
        measure_shard(forward, SHARD, 1024, lambda _: None)
    size = size_of(model, "float32")
    passed = replace(measured_tokens(Lengths.of([SHARD]), 1024, True), predicted=0)
    # The product with one column of indicators, and what the tap leaves out of padding, are small.
    found = forward_flops(size, passed) + attention_statistic_flops(size, passed)
    assert found == pytest.approx(operations(counter), rel=0.05)
    assert found > forward_flops(size, passed)


def test_an_adapter_that_is_not_merged_adds_its_own_products(tiny_model_folder):
    settings = ModelSettings(str(tiny_model_folder("llama")))
    lora = LoraSettings(r=4, dropout=0.0)
    model = load(settings.path)
    size = size_of(model, "float32")
    adapted = with_adapter(model, lora).eval()
    with Forward(adapted, [LOSS]) as forward, counted() as counter:
        measure_shard(forward, SHARD, 1024, lambda _: None)
    passed = measured_tokens(Lengths.of([SHARD]), 1024, False)
    assert forward_flops(size, passed, adapter_parameters(settings, lora) or 0) == operations(counter)


LORA = LoraSettings(r=8, dropout=0.0)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_takes_as_many_operations_as_torch_counts(tiny_model_folder, tmp_path, lora, checkpointing):
    folder = tiny_model_folder("llama")
    settings = ModelSettings(str(folder))
    rows = [SHARD.input_ids[a:b].tolist() for a, b in zip(SHARD.cu_seqlens, SHARD.cu_seqlens[1:], strict=False)]
    labels = [SHARD.labels[a:b].tolist() for a, b in zip(SHARD.cu_seqlens, SHARD.cu_seqlens[1:], strict=False)]
    pq.write_table(pa.table({"input_ids": rows, "labels": labels}), tmp_path / "rows.parquet")
    arguments = {"per_device_train_batch_size": len(rows), "max_steps": 1, "warmup_steps": 0, "report_to": "none"}
    arguments |= {"gradient_checkpointing": checkpointing, "save_strategy": "no"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    setup = TrainingSetup(settings, tokenizer, TrainSettings(lora, False, arguments), 128, 0, torch.device("cpu"))
    model = load(folder).requires_grad_(True)
    trainer = make_trainer(model, setup, [tmp_path / "rows.parquet"], tmp_path / "out", TrainerCallback(), adapt=True)
    with counted() as counter:
        trainer.train()
    passed = trained_tokens(Lengths.of([SHARD]), len(rows), None, every_position=True)
    found = training_flops(model_size(settings), passed, adapter_parameters(settings, lora), checkpointing)
    # The first layer may need no gradient of its input, a second forward pass ends before the last product of a block,
    # and nothing follows the last position.
    assert counter.get_total_flops() <= found <= counter.get_total_flops() * (1.04 if checkpointing or lora else 1.005)


def test_answers_take_a_pass_over_the_prompt_and_one_a_token(tiny_model_folder):
    model = load(tiny_model_folder("llama"))
    model.generation_config.eos_token_id = None
    prompts = torch.arange(30)[None].repeat(4, 1)
    with counted() as counter, torch.inference_mode():
        model.generate(prompts, max_new_tokens=9, do_sample=False, attention_mask=torch.ones_like(prompts))
    found = generation_flops(size_of(model, "float32"), [30] * 4, 8)
    assert found == pytest.approx(operations(counter), rel=0.1)


def test_parameters_are_counted_by_kind_and_each_once(tiny_model_folder):
    for architecture in ("llama", "gpt2", "gpt_neox"):
        folder = tiny_model_folder(architecture)
        model, size = load(folder), model_size(ModelSettings(str(folder)))
        assert size.parameters == sum(one.numel() for one in model.parameters())
        assert size.bytes == 4 * size.parameters
        assert size.tied == (architecture == "gpt2")
        assert size.head == model.config.vocab_size * 32
        assert size.embedding == size.head + (128 * 32 if architecture == "gpt2" else 0)
    size = model_size(ModelSettings(str(tiny_model_folder("llama")), dtype="bfloat16"))
    block = 32 * (32 + 16 + 16 + 32) + 3 * 32 * 64
    assert (size.matrices, size.active, size.vectors) == (2 * block, 2 * block, 5 * 32)
    assert (size.attention, size.key_value, size.bytes) == (32, 16, 2 * size.parameters)


def test_a_token_passes_some_of_the_experts_of_a_layer():
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 100}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(MixtralConfig(**shape, num_local_experts=8, num_experts_per_tok=2))
    size = size_of(model, "float32")
    experts, router = 2 * 8 * 3 * 32 * 64, 2 * 8 * 32
    assert size.matrices == experts + router + 2 * 4 * 32 * 32
    assert size.active == experts // 4 + router + 2 * 4 * 32 * 32


def test_a_training_batch_is_padded_to_its_longest():
    lengths = Lengths.of([examples([10, 10, 10, 10], [2, 2, 2, 2])])
    assert trained_tokens(lengths, 3, None, every_position=False) == Passed(40, 400, 8)
    assert trained_tokens(lengths, 3, None, every_position=True) == Passed(40, 400, 40)
    assert trained_tokens(lengths, 3, 16, every_position=False) == Passed(48, 768, 8), "packed into 3 rows"
    uneven = Lengths.of([examples([4, 20], [2, 2])])
    assert trained_tokens(uneven, 2, None, every_position=False) == Passed(40, 800, 4)
    assert trained_tokens(uneven, 1, None, every_position=False) == Passed(24, 416, 4)


def saved_bytes(model: Any, ids: torch.Tensor) -> int:
    """Return the bytes that a forward pass of the blocks keeps for the backward pass, weights aside."""
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=ids, use_cache=False)
    return sum(one.untyped_storage().nbytes() for one in kept.values())


@pytest.mark.parametrize("lora", [None, LoraSettings(r=16, dropout=0.0), LoraSettings(r=16, dropout=0.1)])
@pytest.mark.parametrize("shape", [(64, 192, 8, 2), (96, 256, 4, 4)])
def test_activations_are_what_a_pass_keeps(lora, shape):
    hidden, intermediate, heads, key_heads = shape
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=6,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
    )
    model = AutoModelForCausalLM.from_config(config).train()
    size = size_of(model, "float32")
    adapter = None
    if lora is not None:
        model = with_adapter(model, lora)
        model.enable_input_require_grads()
        adapter = sum(one.numel() for one in model.parameters() if one.requires_grad)
    ids = torch.randint(0, 50, (3, 64))
    without = training_bytes(size, 0, lora, adapter, checkpointing=False, half=False, device_type="cpu")
    with_batch = training_bytes(size, ids.numel(), lora, adapter, checkpointing=False, half=False, device_type="cpu")
    logits = 9 * 4 * ids.numel() * 50
    assert with_batch - without - logits == pytest.approx(saved_bytes(model, ids), rel=0.1)


def test_memory_is_weights_gradients_moments_and_activations(tiny_model_folder):
    settings = ModelSettings(str(tiny_model_folder("llama")))
    size, adapter = model_size(settings), adapter_parameters(settings, LORA) or 0
    assert training_bytes(size, 0, None, None, True, False, "cpu") == 4 * size.bytes
    assert training_bytes(size, 0, LORA, adapter, True, False, "cpu") == size.bytes + 16 * adapter
    kept = {one: training_bytes(size, 4096, LORA, adapter, one, False, "cuda") for one in (False, True)}
    assert kept[True] < kept[False]
    assert training_bytes(size, 4096, LORA, adapter, False, True, "cuda") < kept[False], "products in half precision"
    assert measuring_bytes(size, 0, "cpu", 1) > size.bytes
    more = measuring_bytes(size, 1024, "cpu", 2) - measuring_bytes(size, 1024, "cpu", 1)
    assert more == measuring_bytes(size, 1024, "cpu", 1) - size.bytes
