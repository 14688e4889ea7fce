"""The adapter that is trained, and which layers of a model it changes."""

from __future__ import annotations

from typing import Any

from tokensieve.errors import TokensieveError, did_you_mean, first_line
from tokensieve.models.loading import model_without_weights
from tokensieve.models.settings import ModelSettings
from tokensieve.train.settings import LoraSettings


def lora_config(lora: LoraSettings | None) -> Any:
    """Return PEFT's configuration of an adapter; None where all weights are trained."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


def check_adapter_fits(base: ModelSettings, lora: LoraSettings | None, section: str) -> None:
    """Check, without weights, that an adapter finds the layers that it names.

    Args:
        base: the model that the adapter is put on.
        lora: the adapter.
        section: of the recipe that it stands in, such as ``train``.

    Raises:
        TokensieveError: a name that no layer of the model has, or a layer that PEFT does not adapt.
    """
    if lora is None or lora.target_modules == "all-linear":
        return
    where = f"recipe: {section}.lora.target_modules"
    model = model_without_weights(base)
    names = [name for name, _ in model.named_modules()]
    last_parts = sorted({name.rpartition(".")[2] for name, layer in model.named_modules() if hasattr(layer, "weight")})
    for target in [] if isinstance(lora.target_modules, str) else lora.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise TokensieveError(
                f"no layer of the base model is named '{target}'{did_you_mean(target, last_parts)}",
                where=where,
                hint=f"one of: {', '.join(last_parts)}; or all-linear",
            )
    try:
        with_adapter(model, lora)
    except ValueError as error:
        raise TokensieveError(
            f"the adapter does not fit the base model: {first_line(error)}",
            where=where,
            hint=f"layers of the model: {', '.join(last_parts)}; or all-linear",
        ) from error


def adapter_parameters(base: ModelSettings, lora: LoraSettings | None) -> int | None:
    """Return the number of parameters of an adapter, counted without weights; None where all weights are trained."""
    if lora is None:
        return None
    model = with_adapter(model_without_weights(base).requires_grad_(False), lora)
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def with_adapter(model: Any, lora: LoraSettings) -> Any:
    """Put a new adapter on a model, in place, and return it; one without weights stays so."""
    from peft import inject_adapter_in_model

    no_weights = next(model.parameters()).is_meta
    return inject_adapter_in_model(lora_config(lora), model, low_cpu_mem_usage=no_weights)
