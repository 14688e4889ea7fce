"""An ssToken training step against a plain SFT step of the same trainer, and against the published way.

    python benchmarks/speed/training_step.py

The published way takes the attention of every layer from the eager implementation, and the loss of the history from a
second model at each step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from harness import Row, interleaved, main, middle, ratios
from measure import SHAPE_15M, random_examples
from transformers import AutoModelForCausalLM, LlamaConfig
from trl import SFTConfig, SFTTrainer

from tokensieve.containers import IGNORE_INDEX, Examples
from tokensieve.train.token_selection import TokenSelectionTrainer


def steps_of(config: Any, examples: Examples, folder: str) -> tuple[dict[str, Callable[[], None]], Any]:
    """Return a plain SFT step and an ssToken step on the same batch, and that batch."""
    bounds = examples.cu_seqlens[1:-1]
    table = {
        name: [row.tolist() for row in np.split(getattr(examples, name), bounds)] for name in ("input_ids", "labels")
    }
    steps: dict[str, Callable[[], None]] = {}
    batch: Any = None
    for name in ("plain", "sstoken"):
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=len(examples),
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
            gradient_checkpointing=False,
            max_length=2048,
            disable_tqdm=True,
        )
        given: dict[str, Any] = {
            "model": AutoModelForCausalLM.from_config(config),
            "args": arguments,
            "train_dataset": Dataset.from_dict(table),
            "processing_class": _tokenizer(),
        }
        if name == "sstoken":
            trainer: Any = TokenSelectionTrainer(**given, method="sstoken", turn_end_ids=[])
        else:
            trainer = SFTTrainer(**given)
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.state.max_steps = 1

        def step(trainer: Any = trainer, batch: Any = batch) -> None:
            trainer.model.train()
            labels = (batch["labels"] != IGNORE_INDEX).sum()
            trainer.training_step(trainer.model, dict(batch), num_items_in_batch=labels)
            trainer.model.zero_grad()

        steps[name] = step
    return steps, batch


def rows(runs: int) -> list[Row]:
    """Measure both lines."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE_15M)
    with tempfile.TemporaryDirectory() as folder:
        steps, batch = steps_of(config, random_examples(8, config.vocab_size), folder)
        eager = AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()
        history = AutoModelForCausalLM.from_config(config).eval()

        def published() -> None:
            ids, labels = batch["input_ids"], batch["labels"]
            outputs = eager(
                input_ids=ids, attention_mask=batch["attention_mask"], labels=labels, output_attentions=True
            )
            with torch.no_grad():
                history(input_ids=ids, attention_mask=batch["attention_mask"], labels=labels)
                outputs.attentions[-1].mean(1)
            outputs.loss.backward()
            eager.zero_grad()

        plain, ours = interleaved(steps["plain"], steps["sstoken"], runs)
        slow, fast = interleaved(published, steps["sstoken"], max(3, runs // 2))
    return [
        Row(
            "ssToken training step, 15M parameters, 8 examples",
            "plain SFT step (lower is better)",
            "<= 1.05x its time",
            ratios(ours, plain),
            f"{middle(plain)} to {middle(ours)}",
        ),
        Row(
            "ssToken training step, against the published way",
            "attention of all layers by the eager implementation, history loss at each step",
            "-",
            ratios(slow, fast),
            f"{middle(slow)} to {middle(fast)}",
        ),
    ]


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


if __name__ == "__main__":
    main(rows, __doc__)
