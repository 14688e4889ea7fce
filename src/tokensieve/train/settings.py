"""Settings of the training stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator

from tokensieve.data.settings import Files, ReadSettings, check_files_given
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.setting_types import Count, Share, known_keys_only, shown, what_it_must_be

if TYPE_CHECKING:
    import torch

DEFAULT_ARGUMENTS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.03,
    "weight_decay": 0.0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 6,
    "report_to": "none",
}
"""Token Cleaning's settings (arXiv 2502.01968, appendix): batches of 48, one epoch, linear decay."""

_SET_BY_TOKENSIEVE = ("output_dir", "max_length", "seed", "use_cpu")


@known_keys_only
@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter, trained through PEFT.

    Attributes:
        r: rank.
        alpha: scaling numerator; updates are scaled by alpha / r.
        dropout: dropout on the adapter's input while training.
        target_modules: names of the layers to adapt, or `all-linear` (in a Llama: all seven projections).
    """

    r: Count = 64
    alpha: Count = 16
    dropout: Share = 0.1
    target_modules: str | list[str] = "all-linear"


@known_keys_only
@dataclass(frozen=True)
class TrainSettings:
    """How to fine-tune.

    Attributes:
        lora: the adapter to train; `null` trains all weights.
        merge_adapter: also write the model with the adapter merged into its weights.
        arguments: everything else under `train:` goes to TRL's `SFTConfig`.
    """

    lora: LoraSettings | None = field(default_factory=LoraSettings)
    merge_adapter: bool = False
    arguments: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_ARGUMENTS))


def _collect_arguments(values: Any) -> Any:
    """Move the keys of a `train` section that are not our own to its `arguments`."""
    if not isinstance(values, Mapping):
        return values
    own = {item.name for item in fields(TrainSettings)} - {"arguments"}
    arguments = {**DEFAULT_ARGUMENTS, **{key: value for key, value in values.items() if key not in own}}
    return {**{key: values[key] for key in values if key in own}, "arguments": arguments}


Train = Annotated[TrainSettings, BeforeValidator(_collect_arguments)]
"""Training settings as a recipe spells them."""


@known_keys_only
@dataclass(frozen=True)
class WarmUp(ReadSettings):
    """A reference model to be made: the base, fine-tuned on a subset with every token.

    Attributes:
        rows: number of examples of the pool; all rows of `files` when these are given.
        pick: the `first` examples of the pool, or a `random` choice (by the run's seed).
        files: data of its own instead of a part of the pool, in any form that `data.files` takes, and read as `data`
            where a key is not given.
        train: what differs from the recipe's `train` section.
    """

    rows: Count | None = None
    pick: Literal["first", "random"] = "first"
    files: Files = ()
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_files_given(self.files, self)


def check_arguments(arguments: dict[str, Any]) -> None:
    """Check the arguments for `SFTConfig` before anything is loaded.

    Raises:
        TokensieveError: an argument that TRL does not know or refuses, a value of another type, or an argument that
            tokensieve sets itself.
    """
    import torch
    from pydantic import TypeAdapter, ValidationError
    from trl import SFTConfig

    known = {item.name for item in fields(SFTConfig) if item.init}
    types = get_type_hints(SFTConfig)
    for name, value in arguments.items():
        if name in _SET_BY_TOKENSIEVE:
            raise TokensieveError(
                f"train.{name} is set by tokensieve",
                where=f"recipe: train.{name}",
                hint={"max_length": "use data.max_length", "seed": "use seed", "use_cpu": "use measure.device"}.get(
                    name, "use output"
                ),
            )
        if name not in known:
            raise TokensieveError(
                f"TRL's SFTConfig has no argument '{name}'{did_you_mean(name, known)}",
                where=f"recipe: train.{name}",
                hint="`python -c 'import trl; help(trl.SFTConfig)'` lists them",
            )
        try:
            TypeAdapter(types[name]).validate_python(value)
        except ValidationError as error:
            raise TokensieveError(
                f"train.{name} is {shown(value)}, it must be {what_it_must_be(error.errors())}",
                where=f"recipe: train.{name}",
                hint="`python -c 'import trl; help(trl.SFTConfig)'` explains it",
            ) from error
    try:
        sft_config(arguments, torch.device("cuda" if torch.cuda.is_available() else "cpu"), output_dir="unused")
    except (ValueError, ImportError) as error:
        raise TokensieveError(
            f"TRL's SFTConfig refuses the arguments: {error}",
            where="recipe: train",
            hint="change these arguments in the recipe's `train`",
        ) from error


def sft_config(arguments: Mapping[str, Any], device: torch.device, **fixed: Any) -> Any:
    """Return TRL's `SFTConfig`.

    Args:
        arguments: what a recipe says.
        device: where the model is trained.
        fixed: what tokensieve sets itself.

    Raises:
        ValueError, ImportError: what TRL and transformers find wrong with the arguments.
    """
    import torch
    from trl import SFTConfig

    on_cpu = device.type == "cpu"
    defaults = {
        # TRL would autocast to bfloat16 everywhere; most CPUs emulate it, slowly.
        "bf16": not on_cpu and torch.cuda.is_bf16_supported() and not arguments.get("fp16"),
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "save_total_limit": 1,
    }
    return SFTConfig(**{**defaults, **arguments}, **fixed, use_cpu=on_cpu)
