"""Measuring and training at real size on a GPU, with random weights; lines say "not measured" where there is none.

    python benchmarks/speed/gpu.py [--tiny]

`--tiny` runs every line with a model of two layers on whatever device there is: it tells that the script works, and its
figures say nothing.
"""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

import numpy as np
import torch
from harness import Row, finish, interleaved, middle, parser, ratios
from measure import NAIVE_BATCH, least_operations, naive, random_examples
from training_step import steps_of
from transformers import AutoModelForCausalLM, LlamaConfig
from trl.trainer.utils import add_fused_lm_head

from tokensieve.containers import IGNORE_INDEX, LOSS, Examples, StatisticSpec
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.pipeline.forecast.hardware import product_rates

SHAPES: dict[str, dict[str, Any]] = {
    "Llama-3.2-1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "Llama-3.1-8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}
TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}
VOCABULARY = 128_256
ATTENTION = StatisticSpec.of("attention_to_prompt", {"layer": -1, "heads": "mean"})


@torch.no_grad()
def fused_head(model: Any, examples: Examples) -> None:
    """Measure losses with TRL's fused head, in batches of the data's order, padded to the longest."""
    spans = [slice(*pair) for pair in zip(examples.cu_seqlens[:-1], examples.cu_seqlens[1:], strict=True)]
    for start in range(0, len(spans), NAIVE_BATCH):
        rows = spans[start : start + NAIVE_BATCH]
        longest = max(span.stop - span.start for span in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for row, span in enumerate(rows):
            ids[row, : span.stop - span.start] = torch.from_numpy(examples.input_ids[span].astype(np.int64))
            labels[row, : span.stop - span.start] = torch.from_numpy(examples.labels[span].astype(np.int64))
        ids, labels = ids.to(model.device), labels.to(model.device)
        model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs.cpu()


def measuring(name: str, shape: dict[str, Any], count: int, device: str, runs: int) -> list[Row]:
    """Measure the lines of one model: against the naive way, TRL's fused head, and a pass with attention."""
    vocabulary = shape.get("vocab_size", VOCABULARY)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            LlamaConfig(**{"vocab_size": vocabulary, "max_position_embeddings": 2048, **shape}), dtype=torch.bfloat16
        )
    model = model.eval().requires_grad_(False)
    examples, budget = random_examples(count, vocabulary), MeasureSettings().batch_tokens(device)

    def ours(*figures: StatisticSpec) -> None:
        with Forward(model, figures) as forward:
            measure_shard(forward, examples, budget, lambda _: None)

    slow, fast = interleaved(lambda: naive(model, examples), lambda: ours(LOSS), runs)
    plain, tapped = interleaved(lambda: ours(LOSS), lambda: ours(LOSS, ATTENTION), runs)
    add_fused_lm_head(model)
    fused, again = interleaved(lambda: fused_head(model, examples), lambda: ours(LOSS), runs)
    limit = least_operations(model, examples) / max(product_rates(torch.bfloat16, torch.device(device), 30))
    tokens = len(examples.input_ids)
    share = limit / statistics.median(fast)
    speeds = [f"{tokens / statistics.median(spent):,.0f}" for spent in (slow, fused, fast)]
    return [
        Row(
            f"measure loss, {name}, bfloat16",
            f"batches of {NAIVE_BATCH}, full logits",
            "4x, 60 % of the limit at 8B",
            ratios(slow, fast),
            f"{speeds[0]} to {speeds[2]} tokens/s; {share:.0%} of the matrix-product limit",
        ),
        Row("the same", "TRL's fused head, padded", "-", ratios(fused, again), f"{speeds[1]} to {speeds[2]} tokens/s"),
        Row("the same with attention to the prompt", "without", "<= 1.03x its time", ratios(tapped, plain), ""),
    ]


def rows(runs: int, tiny: bool = False) -> list[Row]:
    """Measure every line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not tiny:
        wanted = [f"measure loss, {name}, bfloat16" for name in SHAPES] + ["ssToken training step, Llama-3.2-1B"]
        return [Row(what, "-", "-", (), "not measured: no GPU") for what in wanted]
    torch.manual_seed(0)
    shapes = {"tiny": {**TINY, "vocab_size": 1000}} if tiny else SHAPES
    found = [row for name, shape in shapes.items() for row in measuring(name, shape, 40 if tiny else 600, device, runs)]
    name, shape = next(iter(shapes.items()))
    config = LlamaConfig(**{"vocab_size": VOCABULARY, "max_position_embeddings": 2048, **shape})
    with tempfile.TemporaryDirectory() as folder:
        steps, _ = steps_of(config, random_examples(8, config.vocab_size), folder)
        plain, sstoken = interleaved(steps["plain"], steps["sstoken"], runs)
    detail = f"{middle(plain)} to {middle(sstoken)}"
    return [
        *found,
        Row(f"ssToken training step, {name}", "plain SFT step", "<= 1.05x its time", ratios(sstoken, plain), detail),
    ]


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    given = arguments.parse_args()
    finish(rows(given.runs, given.tiny), given.rows)
