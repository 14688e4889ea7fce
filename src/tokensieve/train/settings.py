"""Settings of the training stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator, Field

from tokensieve.data.settings import Files, ReadSettings, check_files_given
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.setting_types import Count, Seed, known_keys_only, shown, what_it_must_be

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

DEFAULT_CHECKPOINTS = 1
"""Checkpoints that are kept (`save_total_limit`) where a recipe does not say how many."""

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: value > 0, "above 0 and finite"),
    "num_train_epochs": (lambda value: value > 0, "above 0 and finite"),
    "per_device_train_batch_size": (lambda value: value >= 1, "at least 1"),
    "gradient_accumulation_steps": (lambda value: value >= 1, "at least 1"),
    "adam_beta1": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "adam_beta2": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "label_smoothing_factor": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "save_steps": (lambda value: value > 0, "above 0"),
    "max_steps": (lambda value: value == -1 or value >= 1, "at least 1, or -1 for num_train_epochs"),
}
_EVALUATED = "the trainer is given no data to evaluate on", "leave it out; evaluate.held_out measures trained models"
_TOKENISED = "the trainer is given tokens with labels", "leave it out; `data` says how rows become tokens"
_LOADED = "the trainer is given a loaded model", "leave it out; `models.base` says how it is loaded"
_VOID = {
    "eval_strategy": _EVALUATED,
    "eval_on_start": _EVALUATED,
    "assistant_only_loss": ("the trainer is given labels, with -100 at every prompt token", "leave it out"),
    "completion_only_loss": ("the trainer is given labels, with -100 at every prompt token", "leave it out"),
    "chat_template_path": _TOKENISED,
    "dataset_text_field": _TOKENISED,
    "dataset_kwargs": _TOKENISED,
    "eos_token": _TOKENISED,
    "model_init_kwargs": _LOADED,
    "trust_remote_code": _LOADED,
    "resume_from_checkpoint": ("a run goes on from its own last complete checkpoint", "leave it out"),
}
"""Arguments that would change nothing, by what tokensieve gives the trainer: why, and the way out."""
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
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    target_modules: str | list[str] = "all-linear"


@known_keys_only
@dataclass(frozen=True)
class TrainSettings:
    """How to fine-tune.

    Attributes:
        lora: the adapter to train; `null` trains all weights.
        merge_adapter: also write the model with the adapter merged into its weights.
        arguments: everything else under `train:` goes to TRL's `SFTConfig`. When `logging_steps` is not given, each
            step of up to 200 is logged, and 100 to 200 points of a longer training.
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
        pick: the `first` examples of the pool, or a `random` choice (by `seed`).
        files: data of its own instead of a part of the pool, in any form that `data.files` takes, and read as `data`
            where a key is not given.
        folds: above 1, the pool is cut into so many parts, and each is measured by a model that was made from the
            others, so that what a model remembers of a row does not count. Such a role has no row in the results.
        train: what differs from the recipe's `train` section.
        seed: of its training and of a random choice; the run's first when not given.
    """

    rows: Count | None = None
    pick: Literal["first", "random"] = "first"
    files: Files = ()
    folds: Count = 1
    train: dict[str, Any] = field(default_factory=dict)
    seed: Seed | None = None

    def __post_init__(self) -> None:
        check_files_given(self.files, self)
        other = "files" if self.files else "rows" if self.rows is not None else None
        if self.folds > 1 and other is not None:
            raise TokensieveError(
                f"'folds' cuts the whole pool into parts, and '{other}' names other rows",
                where=".folds",
                hint=f"leave out one of folds and {other}",
            )


@known_keys_only
@dataclass(frozen=True)
class PreferenceSettings:
    """A reward model to be made: a head on the hidden states of a frozen model, trained to rank answers.

    Attributes:
        files: rows with `chosen` and `rejected` answers, as hh-rlhf and TRL write them, or with a `prompt` and its
            `answers`, best first; each named as in `data.files`.
        held_out: share of the prompts that the head is not trained on, and that tell how often it is right.
        epochs: passes over the other prompts.
        learning_rate: of AdamW.
        width: numbers between the two layers of the head.
        seed: of the head's first weights, of the order of the prompts, and of which are held out.
    """

    files: Files
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    epochs: Count = 5
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-4
    width: Count = 256
    seed: Seed = 0


def check_arguments(arguments: dict[str, Any], section: str) -> None:
    """Check the arguments for `SFTConfig` before anything is loaded.

    Args:
        arguments: of `SFTConfig`.
        section: of the recipe that they stand in, such as ``train``.

    Raises:
        TokensieveError: an argument that TRL does not know or refuses, a value of another type or out of its range, an
            argument that tokensieve sets itself or that would change nothing, or a tracker that is not installed.
    """
    import torch
    from pydantic import TypeAdapter, ValidationError
    from trl import SFTConfig

    known = {item.name for item in fields(SFTConfig) if item.init}
    types = get_type_hints(SFTConfig)
    for name, value in arguments.items():
        if name in _SET_BY_TOKENSIEVE:
            raise TokensieveError(
                f"{section}.{name} is set by tokensieve",
                where=f"recipe: {section}.{name}",
                hint={"max_length": "use data.max_length", "seed": "use seed", "use_cpu": "use measure.device"}.get(
                    name, "use output"
                ),
            )
        if name not in known:
            raise TokensieveError(
                f"TRL's SFTConfig has no argument '{name}'{did_you_mean(name, known)}",
                where=f"recipe: {section}.{name}",
                hint="`python -c 'import trl; help(trl.SFTConfig)'` lists them",
            )
        try:
            TypeAdapter(types[name]).validate_python(value)
        except ValidationError as error:
            raise TokensieveError(
                f"{section}.{name} is {shown(value)}, it must be {what_it_must_be(error.errors())}",
                where=f"recipe: {section}.{name}",
                hint="`python -c 'import trl; help(trl.SFTConfig)'` explains it",
            ) from error
    _check_ranges(arguments, section)
    _check_void(arguments, section)
    try:
        sft_config(arguments, torch.device("cuda" if torch.cuda.is_available() else "cpu"), output_dir="unused")
    except (ValueError, ImportError) as error:
        raise TokensieveError(
            f"TRL's SFTConfig refuses the arguments: {error}",
            where=f"recipe: {section}",
            hint=f"change these arguments in the recipe's `{section}`",
        ) from error
    _check_trackers(arguments.get("report_to"), section)


def _check_ranges(arguments: Mapping[str, Any], section: str) -> None:
    """Refuse numbers that would train nothing, or something else than they say."""
    for name, value in arguments.items():
        holds, bounds = _RANGES.get(name, (math.isfinite, "finite"))
        if isinstance(value, int | float) and not (math.isfinite(value) and holds(value)):
            default = DEFAULT_ARGUMENTS.get(name)
            raise TokensieveError(
                f"{section}.{name} is {value}, it must be {bounds}",
                where=f"recipe: {section}.{name}",
                hint="leave it out for its default" if default is None else f"{name}: {default}",
            )


def _check_void(arguments: Mapping[str, Any], section: str) -> None:
    """Refuse what would be ignored."""
    for name, (why, way_out) in _VOID.items():
        if arguments.get(name) not in (None, False, "no"):
            raise TokensieveError(f"{section}.{name}: {why}", where=f"recipe: {section}.{name}", hint=way_out)


def _check_trackers(report_to: Any, section: str) -> None:
    """Refuse a tracker that transformers does not know or that is not installed."""
    from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks

    for name in [report_to] if isinstance(report_to, str) else report_to or ():
        if name in ("none", "all"):
            continue
        try:
            get_reporting_integration_callbacks([name])
        except ValueError as error:
            raise TokensieveError(str(error), where=f"recipe: {section}.report_to", hint="report_to: none") from error
        if name not in get_available_reporting_integrations():
            raise TokensieveError(
                f"{section}.report_to: {name} is not installed",
                where=f"recipe: {section}.report_to",
                hint=f"install {name} in this environment, or report_to: none",
            )


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
        # A share of the steps, rounded up: each of up to 200 steps is logged, and 100 or more of a longer training.
        "logging_steps": 0.005,
        "save_total_limit": DEFAULT_CHECKPOINTS,
    }
    return SFTConfig(**{**defaults, **arguments}, **fixed, use_cpu=on_cpu)
