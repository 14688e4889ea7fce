"""Finding, checking and loading models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tokensieve.errors import TokensieveError, first_line
from tokensieve.models.settings import ModelSettings
from tokensieve.models.transformers_private import ONE_AT_A_TIME
from tokensieve.store import fingerprint
from tokensieve.store.atomic import read_json
from tokensieve.store.mirror import fetched

_WEIGHT_PATTERNS = ["*.safetensors", "*.safetensors.index.json"]
_OTHER_PATTERNS = ["*.json", "*.jinja", "*.txt", "*.model", "*.py"]


def local_folder(path: str, revision: str | None = None, *, weights: bool) -> Path:
    """Return the folder of a model or adapter; what the Hub has is fetched into its cache.

    Args:
        path: folder or Hub id.
        revision: Hub revision.
        weights: also fetch the weights; without them configuration and tokenizer are enough.

    Raises:
        TokensieveError: neither a folder nor something that the Hub gives.
    """
    if (folder := _folder_here(path)) is not None:
        return fetched(folder) if weights else folder
    from huggingface_hub import snapshot_download

    patterns = _OTHER_PATTERNS + (_WEIGHT_PATTERNS if weights else [])
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise TokensieveError(
            f"neither a folder here nor a model that the Hub gives: {first_line(error)}",
            where=path,
            hint="check the path or the id; a gated model needs `hf auth login`",
        ) from error


def _folder_here(path: str) -> Path | None:
    """Return a folder of this machine; None for what may be a Hub id."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if "://" in path:
        raise TokensieveError(
            "models are read from folders of this machine and from the Hub",
            where=path,
            hint="copy the model here first",
        )
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise TokensieveError(
            "no such model folder", where=path, hint="check the path; a Hub id is NAME/MODEL, without a leading ./ or /"
        )
    return None


def is_here(path: str, revision: str | None = None) -> bool:
    """Whether a model or adapter is on this machine, as far as its configuration goes: a folder, or cached by the Hub.

    Raises:
        TokensieveError: neither a folder nor the form of a Hub id.
    """
    if _folder_here(path) is not None:
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    names = ("config.json", "adapter_config.json", "tokenizer_config.json")
    try:
        return any(isinstance(try_to_load_from_cache(path, name, revision=revision), str) for name in names)
    except HFValidationError as error:
        raise TokensieveError(
            "neither a folder here nor the form of a Hub id", where=path, hint="give a folder, or NAME/MODEL"
        ) from error


def load_config(model: ModelSettings) -> Any:
    """Return the text configuration of a model.

    Raises:
        TokensieveError: no configuration, or one that needs code which is not trusted.
    """
    return _whole_config(model).get_text_config()


def dtype_of(model: ModelSettings) -> str:
    """Return the name of the precision that a model computes in, such as ``bfloat16``."""
    return str(load_config(model).dtype or "float32").removeprefix("torch.") if model.dtype == "auto" else model.dtype


def model_without_weights(model: ModelSettings) -> Any:
    """Return a causal language model as its configuration describes it, on the meta device, without its adapter.

    Raises:
        TokensieveError: as `load_config`, or a configuration that no causal language model can be made of.
    """
    from transformers import AutoModelForCausalLM

    config = _whole_config(model)
    try:
        with ONE_AT_A_TIME, torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=model.trust_remote_code)
    except Exception as error:
        raise TokensieveError(
            f"no causal language model can be made of this configuration: {first_line(error)}",
            where=str(local_folder(model.path, model.revision, weights=False)),
            hint="give a model that transformers loads as AutoModelForCausalLM",
        ) from error


def random_model(model: ModelSettings, device: torch.device) -> Any:
    """Return a causal language model as its configuration describes it, with random weights and without its adapter.

    Raises:
        TokensieveError: as `load_config`.
    """
    from transformers import AutoModelForCausalLM

    with ONE_AT_A_TIME, torch.random.fork_rng(), device:
        made: Any = AutoModelForCausalLM.from_config(
            _whole_config(model), dtype=getattr(torch, dtype_of(model)), trust_remote_code=model.trust_remote_code
        )
    return made.eval().requires_grad_(False)


def _whole_config(model: ModelSettings) -> Any:
    from transformers import AutoConfig

    folder = local_folder(model.path, model.revision, weights=False)
    if not (folder / "config.json").is_file():
        raise TokensieveError(
            "no config.json in this model folder",
            where=str(folder),
            hint="for an adapter give models.*.path the base model and models.*.adapter this folder"
            if (folder / "adapter_config.json").is_file()
            else "",
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    except Exception as error:
        raise TokensieveError(
            f"the model's configuration cannot be read: {first_line(error)}",
            where=str(folder),
            hint="a model with code of its own needs trust_remote_code: true, if you trust it",
        ) from error


def check_model(
    model: ModelSettings, largest_id: int, largest_id_at: str, longest: int, *, weights: bool = True
) -> None:
    """Check what can be known about a model and the data without loading weights.

    Args:
        model: the model.
        largest_id: largest token id of the data.
        largest_id_at: the row that holds it.
        longest: tokens of the longest example.
        weights: whether a folder must have weights.

    Raises:
        TokensieveError: a token id beyond the embedding, examples longer than the context, a folder
            without safetensors, an adapter that is not there or is not of a supported kind.
    """
    config = load_config(model)
    folder = Path(model.path).expanduser()
    if weights and folder.is_dir():
        check_weights(folder)
    if largest_id >= config.vocab_size:
        raise TokensieveError(
            f"token id {largest_id} is beyond the model's embedding of {config.vocab_size} rows",
            where=f"{largest_id_at}; model {model.path}",
            hint="the tokenizer in use is not that of this model: name a model and a tokenizer that belong together",
        )
    context = context_of(model)
    if context and longest > context:
        raise TokensieveError(
            f"the longest example has {longest} tokens, the model's context is {context}",
            where=model.path,
            hint=f"data.max_length: {context}",
        )
    if model.adapter is not None:
        check_adapter(model.adapter)


def check_adapter(adapter: str) -> Path:
    """Return the folder of an adapter that can be measured.

    Raises:
        TokensieveError: a folder without an adapter, or an adapter that adds virtual tokens.
    """
    folder = local_folder(adapter, weights=True)
    for name in fingerprint.ADAPTER_FILES:
        if not (folder / name).is_file():
            raise TokensieveError(
                f"no {name} in this adapter folder",
                where=str(folder),
                hint="save it with PEFT: `model.save_pretrained(folder)`",
            )
    kind = _adapter_kind(folder / "adapter_config.json")
    if kind in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"):
        raise TokensieveError(
            f"adapters of type {kind} add virtual tokens and cannot be measured",
            where=str(folder),
            hint="give an adapter that changes weights, such as LoRA",
        )
    return folder


def _adapter_kind(path: Path) -> str | None:
    try:
        return dict(read_json(path)).get("peft_type")
    except (ValueError, TypeError) as error:
        raise TokensieveError(
            f"the adapter's configuration is damaged: {first_line(error)}",
            where=str(path),
            hint="save it with PEFT again; of a run, delete the folder of the model and run the same command",
        ) from error


def context_of(model: ModelSettings) -> int | None:
    """Return the longest sequence that a model takes, None where its configuration sets no bound."""
    return getattr(load_config(model), "max_position_embeddings", None)


def pick_device(device: str) -> torch.device:
    """Return the torch device of a name; ``auto`` is CUDA where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise TokensieveError(f"unknown device '{device}'", hint="auto, cpu, cuda or cuda:0") from error


def load_model(model: ModelSettings, device: torch.device) -> Any:
    """Load a causal language model, or one that scores hidden states, for inference, without its adapter.

    Raises:
        TokensieveError: weights that cannot be loaded.
    """
    folder, auto = local_folder(model.path, model.revision, weights=True), _auto_class(model)
    try:
        with ONE_AT_A_TIME:
            loaded: Any = auto.from_pretrained(
                folder, dtype=model.dtype, trust_remote_code=model.trust_remote_code, use_safetensors=True
            )
    except Exception as error:
        raise TokensieveError(
            f"the model cannot be loaded: {error}",
            where=str(folder),
            hint=f"check that transformers loads it: {auto.__name__}.from_pretrained(folder)",
        ) from error
    return loaded.to(device).eval().requires_grad_(False)


def scores_states(model: ModelSettings) -> bool:
    """Whether a model has a score for each hidden state in place of a language-model head, as reward models do."""
    return _auto_class(model).__name__ != "AutoModelForCausalLM"


def _auto_class(model: ModelSettings) -> Any:
    """Return the class of transformers that loads a model, by what its configuration says that it is.

    Raises:
        TokensieveError: as `load_config`, or a process reward model whose code is not trusted.
    """
    import transformers

    names = getattr(_whole_config(model), "architectures", None) or ()
    if any(name.endswith("ForProcessRewardModel") for name in names):
        if not model.trust_remote_code:
            raise TokensieveError(
                "a process reward model scores with code of its own",
                where=model.path,
                hint="set trust_remote_code: true for it, if you trust it",
            )
        return transformers.AutoModel  # for which that code is registered
    kinds = ("TokenClassification", "SequenceClassification")
    kind = next((kind for kind in kinds if any(name.endswith(f"For{kind}") for name in names)), "CausalLM")
    return getattr(transformers, f"AutoModelFor{kind}")


def check_weights(folder: Path) -> None:
    """Raise ``TokensieveError`` unless a model folder has safetensors."""
    if not any(folder.glob("*.safetensors")):
        raise TokensieveError(
            "no .safetensors weights in this model folder",
            where=str(folder),
            hint="convert other formats with `model.save_pretrained(folder)`; pickled weights are never loaded",
        )
