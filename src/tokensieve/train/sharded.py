"""Trainings whose weights several processes hold in parts, as FSDP and DeepSpeed do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.models.loading import model_without_weights
from tokensieve.models.settings import ModelSettings
from tokensieve.train.adapter import lora_config
from tokensieve.train.settings import LoraSettings

_BESIDE_WEIGHTS = ("config", "generation_config", "model_tags")
"""What a model saves beside its weights, which the trainer may have changed."""


def check_shards(trainer: Any) -> None:
    """Refuse to train with whole weights where accelerate was told to shard them, as it does on CPUs.

    Args:
        trainer: a `transformers.Trainer`.

    Raises:
        TokensieveError: what accelerate was told, and does not do.
    """
    for name, is_enabled in (("FSDP", trainer.is_fsdp_enabled), ("DeepSpeed", trainer.is_deepspeed_enabled)):
        asked = os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false").lower() == "true"
        if asked and not is_enabled:
            raise TokensieveError(
                f"accelerate's configuration asks for {name}, which accelerate leaves out where there are no GPUs",
                where="accelerate: distributed_type",
                hint="distributed_type: MULTI_CPU, with the whole model in every process",
            )


def whole_model(trainer: Any, base: ModelSettings, lora: LoraSettings | None) -> Any:
    """Return the model that a trainer has trained, with all of its weights; every process has to call it.

    Weights in parts are gathered in the memory of the main process, and put into a model of their own: that in
    training is wrapped, and PEFT neither finds the adapter in it nor merges it.

    Args:
        trainer: a `transformers.Trainer` at the end of its training.
        base: what was trained, without an adapter.
        lora: the adapter that was put on it; None where all weights were trained.

    Returns:
        The model, on the CPU where its weights were gathered; None in another process then.

    Raises:
        TokensieveError: weights that were not gathered.
    """
    accelerator = trainer.accelerator
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return accelerator.unwrap_model(trainer.model_wrapped)
    weights = accelerator.get_state_dict(trainer.model_wrapped)
    if not accelerator.is_main_process:
        return None
    with _models_made_whole(accelerator):
        return _model_of(weights, accelerator.unwrap_model(trainer.model_wrapped), base, lora)


@contextmanager
def _models_made_whole(accelerator: Any) -> Iterator[None]:
    """Keep transformers from dividing a model among the processes as it is made, for which this one alone would wait.

    It does so while it holds a configuration of DeepSpeed with ZeRO stage 3.
    """
    from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

    plugin = accelerator.state.deepspeed_plugin
    if plugin is None:
        yield
        return
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(plugin.dschf)


def _model_of(weights: dict[str, Any], trained: Any, base: ModelSettings, lora: LoraSettings | None) -> Any:
    model = model_without_weights(base)
    for name in _BESIDE_WEIGHTS:
        setattr(model, name, getattr(trained, name))
    if lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora_config(lora), low_cpu_mem_usage=True)
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()  # what is one tensor came back as two, or as one of them
    if lacking := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise TokensieveError(
            f"the processes that trained did not give back {lacking[0]} and {len(lacking) - 1} further weights",
            where="accelerate: the configuration of FSDP or DeepSpeed",
            hint="train with data parallelism or FSDP 2; the checkpoints are kept",
        )
    return model
