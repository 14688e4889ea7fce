"""TRL's trainer on labelled token ids.

The loss is averaged over the kept tokens of a whole optimizer step: `SFTTrainer` divides by the number of
labels in all accumulated batches, so accumulation does not change it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.models.loading import load_model
from tokensieve.models.memory import out_of_memory
from tokensieve.models.settings import ModelSettings
from tokensieve.models.transformers_private import stop_where_done
from tokensieve.progress import ProgressCallback
from tokensieve.train.adapter import lora_config
from tokensieve.train.processes import ALONE, Processes
from tokensieve.train.record import write_record
from tokensieve.train.rows import read_rows
from tokensieve.train.settings import TrainSettings, sft_config
from tokensieve.train.sharded import check_shards, whole_model
from tokensieve.train.validation import readable_columns

OnStep = Callable[[int, int], None]
"""Called before the first optimizer step and after each, with the number that are done and with their total."""


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What every training of a run shares.

    Attributes:
        base: the model to start from, without an adapter.
        tokenizer: saved beside the weights, and pads.
        settings: adapter and optimizer.
        max_length: tokens of the longest example.
        seed: of the adapter's initial weights, dropout and the order of rows.
        device: CPU or CUDA.
    """

    base: ModelSettings
    tokenizer: Any
    settings: TrainSettings
    max_length: int
    seed: int
    device: torch.device


def train(
    setup: TrainingSetup,
    data_files: list[Path],
    output: Path,
    *,
    on_step: OnStep,
    method: Method | None = None,
    turn_end_ids: Sequence[int] = (),
    processes: Processes = ALONE,
) -> ModelSettings:
    """Fine-tune the base and write it; go on from the last complete checkpoint of an interrupted attempt.

    Args:
        setup: base, tokenizer and settings.
        data_files: Parquet files with ``input_ids`` and ``labels``.
        output: gets the adapter (or the whole model), its record (`train.record`), and ``merged/`` when asked. Appears
            when training has ended; checkpoints lie beside it until then.
        on_step: called before the first optimizer step and after each.
        method: selects or weights tokens as the model trains; None trains on every label.
        turn_end_ids: ids that end an assistant turn, which ``method`` keeps whatever their score.
        processes: those that train together; each calls this.

    Returns:
        The fine-tuned model.

    Raises:
        TokensieveError: as for `fit`.
    """
    checkpoints = checkpoints_of(output)
    model = load_model(setup.base, setup.device).requires_grad_(True)
    fitted = fit(
        model,
        setup,
        data_files,
        checkpoints,
        on_step=on_step,
        method=method,
        turn_end_ids=turn_end_ids,
        adapt=True,
        processes=processes,
    )
    with processes.writing(output) as partial:
        if partial is not None:
            write_model(fitted.model, setup.tokenizer, setup.settings, partial)
            write_record(partial, fitted.record)
            shutil.rmtree(checkpoints, ignore_errors=True)
    return trained_model(setup.base, setup.settings, output)


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        model: the model, wrapped by PEFT where it has an adapter; see `train.sharded.whole_model`.
        record: ``metrics``, ``log`` (the loss curve) and, where tokens were selected in training, ``selection``.
        loss: mean training loss.
    """

    model: Any
    record: dict[str, Any]
    loss: float


def fit(
    model: Any,
    setup: TrainingSetup,
    data_files: list[Path],
    checkpoints: Path,
    *,
    on_step: OnStep,
    method: Method | None = None,
    turn_end_ids: Sequence[int] = (),
    adapt: bool,
    processes: Processes = ALONE,
) -> Fitted:
    """Train a loaded model in place, with an optimizer and a learning-rate schedule of its own.

    Args:
        model: what is trained further.
        setup: tokenizer and settings; its base is not loaded.
        data_files: as for `train`.
        checkpoints: folder of the trainer's checkpoints; the last complete one is resumed, broken ones are removed.
        on_step: as for `train`.
        method: as for `train`.
        turn_end_ids: as for `train`.
        adapt: put the adapter of the settings on the model first; False where the model has it already.
        processes: as for `train`.

    Raises:
        TokensieveError: an adapter that fits no layer of the model; a batch or example that does not fit into memory;
            weights that were to be sharded and are not, or that did not come back whole; or a training that diverged:
            the checkpoints are then removed.
    """
    from tokensieve.train.checkpoints import last_complete, remove_broken
    from tokensieve.train.token_selection import TokenSelectionTrainer

    trainer = make_trainer(
        model, setup, data_files, checkpoints, _progress(on_step), method=method, turn_end_ids=turn_end_ids, adapt=adapt
    )
    check_shards(trainer)
    if processes.is_main:
        remove_broken(checkpoints, unrecorded=True)
    last = processes.agree(last_complete(checkpoints))
    try:
        result = trainer.train(resume_from_checkpoint=None if last is None else str(last))
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise _batch_too_large(setup.settings) from error
        raise
    trained = whole_model(trainer, setup.base, setup.settings.lora)
    _check_finite(float(result.training_loss), trained, checkpoints)
    record: dict[str, Any] = {"metrics": result.metrics, "log": trainer.state.log_history}
    if isinstance(trainer, TokenSelectionTrainer):
        record["selection"] = dataclasses.asdict(trainer.counts)
    return Fitted(trained, record, float(result.training_loss))


def _batch_too_large(settings: TrainSettings) -> TokensieveError:
    size = settings.arguments.get("per_device_train_batch_size")
    return TokensieveError(
        "a batch does not fit into memory" + ("" if size is None else f" (train.per_device_train_batch_size: {size})"),
        where="recipe: train",
        hint="lower train.per_device_train_batch_size and raise train.gradient_accumulation_steps as much, set "
        "train.gradient_checkpointing: true, or lower data.max_length",
    )


def _check_finite(loss: float, model: Any | None, checkpoints: Path) -> None:
    """Refuse a training that diverged, and remove its checkpoints: they would go on from what is no number.

    Where the main process alone has the model, the others look at the loss.

    Raises:
        TokensieveError: the mean loss, or a weight of the model that was trained, is NaN or infinite.
    """
    parameters = () if model is None else model.named_parameters()
    trained = ((name, weight) for name, weight in parameters if weight.requires_grad)
    bad = next((name for name, weight in trained if not bool(weight.detach().isfinite().all())), None)
    if math.isfinite(loss) and bad is None:
        return
    shutil.rmtree(checkpoints, ignore_errors=True)
    what = f"the mean training loss is {loss}" if bad is None else f"the weight {bad} has NaN or infinite values"
    raise TokensieveError(
        f"the training diverged: {what}",
        where="recipe: train",
        hint="lower train.learning_rate, set train.max_grad_norm, or train in bf16 in place of fp16; no model was kept",
    )


def make_trainer(
    model: Any,
    setup: TrainingSetup,
    data_files: list[Path],
    checkpoints: Path,
    callback: Any,
    *,
    method: Method | None = None,
    turn_end_ids: Sequence[int] = (),
    adapt: bool,
) -> Any:
    """Return the trainer of a loaded model, ready to train; ``callback`` is a `transformers.TrainerCallback`.

    Other arguments and errors are those of `fit`.
    """
    from transformers import PrinterCallback

    from tokensieve.train.checkpoints import CompleteCheckpoints
    from tokensieve.train.halving import HalvingSFTTrainer
    from tokensieve.train.running_totals import RunningTotals
    from tokensieve.train.token_selection import TokenSelectionTrainer

    settings = setup.settings
    given: dict[str, Any] = {
        "model": model,
        "args": sft_config(
            settings.arguments,
            setup.device,
            output_dir=str(checkpoints),
            max_length=setup.max_length,
            seed=setup.seed,
        ),
        "train_dataset": read_rows(data_files, () if method is None else readable_columns(method)),
        "processing_class": _with_pad_token(setup.tokenizer),
        "peft_config": lora_config(settings.lora) if adapt else None,
        "callbacks": [callback],
    }
    try:
        if method is None:
            trainer = HalvingSFTTrainer(**given)
            trainer.add_callback(RunningTotals(trainer))
            trainer.add_callback(CompleteCheckpoints(trainer))
        else:
            trainer = TokenSelectionTrainer(**given, method=method, turn_end_ids=turn_end_ids)
    except TokensieveError:
        raise
    except ValueError as error:
        raise TokensieveError(
            f"the trainer refuses: {error}",
            where="recipe: train",
            hint="change the arguments that it names in the recipe's `train`",
        ) from error
    trainer.remove_callback(PrinterCallback)
    stop_where_done(trainer)
    return trainer


def save_model(model: Any, folder: Path) -> None:
    """Write a model or adapter; where it says what it was made from, by the name of the folder, not by its path.

    Args:
        model: the model, wrapped by PEFT where it has an adapter.
        folder: gets its files.
    """
    model.save_pretrained(folder)
    base = str(getattr(model.config, "_name_or_path", "") or "")
    if not os.path.isabs(base):
        return
    for path in (folder / "adapter_config.json", folder / "README.md", folder / "config.json"):
        if path.is_file() and base in (text := path.read_text("utf-8")):
            path.write_text(text.replace(base, Path(base).name), encoding="utf-8")


def write_model(model: Any, tokenizer: Any, settings: TrainSettings, folder: Path) -> None:
    """Write a trained model into a folder; with ``settings.merge_adapter`` its adapter is merged afterwards.

    Args:
        model: the model.
        tokenizer: written beside it.
        settings: whether it has an adapter.
        folder: gets all of it.
    """
    save_model(model, folder)
    tokenizer.save_pretrained(folder)
    if settings.lora and settings.merge_adapter:
        model.merge_and_unload().save_pretrained(folder / "merged")
        tokenizer.save_pretrained(folder / "merged")


def on_steps(advance: ProgressCallback) -> OnStep:
    """Return a function that passes the steps since its last call, and their total, on to ``advance``."""
    done = 0

    def on_step(step: int, steps: int) -> None:
        nonlocal done
        advance(step - done, total=steps)
        done = step

    return on_step


def checkpoints_of(output: Path) -> Path:
    """Return the folder of the checkpoints of a training, which exists until its output does."""
    return output.with_name(f".{output.name}.checkpoints")


def trained_model(base: ModelSettings, settings: TrainSettings, output: Path) -> ModelSettings:
    """Return how to load what `train` wrote."""
    if settings.lora is None:
        return dataclasses.replace(base, path=str(output), adapter=None, revision=None)
    return dataclasses.replace(base, adapter=str(output))


def _with_pad_token(tokenizer: Any) -> Any:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _progress(on_step: OnStep) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_step(state.global_step, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_step(state.global_step, state.max_steps)

    return Progress()
