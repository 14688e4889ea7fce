"""Tokens per second of measuring losses, against the naive way, interleaved in one run.

The naive way is that of published scripts: examples in order, batches of 6 padded to the longest, logits
of every position in float32, the loss computed by the model and once more per token.

    python benchmarks/speed/measure.py                        a 15M-parameter Llama, vocabulary 32,000, random weights
    python benchmarks/speed/measure.py --model FOLDER --data FILE    a real model on real data
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaConfig

from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.measure.forward import Forward
from tokensieve.measure.measure import measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.ops.ragged import offsets
from tokensieve.types import IGNORE_INDEX, LOSS, Examples, Float32

NAIVE_BATCH = 6
# Share of the pool; median and standard deviation of the logarithm of prompt and of answer tokens. Measured with a
# 4,096-token tokenizer on 2,000 rows each of Alpaca, Dolly, GSM8K and hh-rlhf, and 300 of Glaive's tool calls.
SOURCES = (
    (0.24, 24, 0.45, 48, 1.14),
    (0.24, 30, 1.04, 70, 1.08),
    (0.24, 71, 0.35, 119, 0.42),
    (0.24, 42, 0.70, 83, 1.04),
    (0.04, 96, 0.86, 224, 1.09),
)
SHAPE_15M: dict[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 288,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}


def random_examples(count: int, vocabulary: int, seed: int = 0) -> Examples:
    """Return random ids whose prompts and answers are as long as those of a pool of real data sets."""
    generator = np.random.default_rng(seed)
    source = np.array(SOURCES)[generator.choice(len(SOURCES), count, p=[row[0] for row in SOURCES])]
    prompts = generator.lognormal(np.log(source[:, 1]), source[:, 2]).astype(np.int64) + 1
    lengths = np.minimum(prompts + generator.lognormal(np.log(source[:, 3]), source[:, 4]).astype(np.int64) + 1, 2048)
    cu_seqlens = offsets(lengths)
    ids = generator.integers(0, vocabulary, cu_seqlens[-1]).astype(np.int32)
    position = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], lengths)
    labels = np.where(position < np.repeat(prompts, lengths), IGNORE_INDEX, ids).astype(np.int32)
    return Examples(ids, labels, cu_seqlens, np.arange(count))


@torch.no_grad()
def naive(model: Any, examples: Examples) -> Float32:
    """Return float32 ``[tokens]`` losses, the way published scripts compute them."""
    out = np.zeros(len(examples.input_ids), dtype=np.float32)
    for start in range(0, len(examples), NAIVE_BATCH):
        spans = [
            slice(examples.cu_seqlens[i], examples.cu_seqlens[i + 1])
            for i in range(start, min(start + NAIVE_BATCH, len(examples)))
        ]
        longest = max(span.stop - span.start for span in spans)
        ids = torch.zeros(len(spans), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORE_INDEX)
        for row, span in enumerate(spans):
            length = span.stop - span.start
            ids[row, :length] = torch.from_numpy(examples.input_ids[span].astype(np.int64))
            labels[row, :length] = torch.from_numpy(examples.labels[span].astype(np.int64))
            mask[row, :length] = 1
        outputs = model(input_ids=ids, attention_mask=mask, labels=labels)
        logits = outputs.logits.float()[:, :-1].contiguous()
        losses = F.cross_entropy(
            logits.view(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=IGNORE_INDEX, reduction="none"
        ).view(len(spans), -1)
        for row, span in enumerate(spans):
            out[span.start + 1 : span.stop] = losses[row, : span.stop - span.start - 1].numpy()
    return out


def timed(work: Callable[[], Float32]) -> tuple[float, Float32]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    """Print the table, and write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder; a random 15M-parameter Llama when not given")
    parser.add_argument("--data", help="data file; random ids when not given")
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()

    dtype = getattr(torch, arguments.dtype)
    torch.manual_seed(0)
    if arguments.model:
        model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M), dtype=dtype)
    model = model.eval().requires_grad_(False)
    if arguments.data:
        data = DataSettings(files=(arguments.data,), limit=arguments.examples)
        with tempfile.TemporaryDirectory() as folder:
            examples = prepare(data, load_encoder(arguments.model), Path(folder), lambda _: None).read(0)
    else:
        examples = random_examples(arguments.examples, model.config.vocab_size)
    tokens = len(examples.input_ids)
    budget = MeasureSettings().batch_tokens("cpu")

    def ours() -> Float32:
        with Forward(model, [LOSS]) as forward:
            return measure_shard(forward, examples, budget, lambda _: None)[LOSS.key]

    figures: dict[str, list[float]] = {"naive": [], "tokensieve": []}
    naive(model, examples)  # warm-up
    ours()
    difference = 0.0
    for _ in range(arguments.runs):
        slow, expected = timed(lambda: naive(model, examples))
        fast, found = timed(ours)
        figures["naive"].append(slow)
        figures["tokensieve"].append(fast)
        difference = max(difference, float(np.abs(expected - found).max()))
    ratios = [slow / fast for slow, fast in zip(figures["naive"], figures["tokensieve"], strict=True)]
    result = {
        "model": Path(arguments.model).name if arguments.model else "random Llama, 15M parameters",
        "vocabulary": model.config.vocab_size,
        "dtype": arguments.dtype,
        "examples": len(examples),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tokens_per_second": {name: [round(tokens / s) for s in seconds] for name, seconds in figures.items()},
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "largest_difference": difference,
    }
    print(
        f"{result['model']}, vocabulary {result['vocabulary']:,}, {arguments.dtype}, {tokens:,} tokens, "
        f"{result['threads']} threads, {arguments.runs} runs interleaved"
    )
    for name, seconds in figures.items():
        rates = sorted(tokens / s for s in seconds)
        print(f"  {name:<12} {statistics.median(rates):>10,.0f} tokens/s   ({rates[0]:,.0f} to {rates[-1]:,.0f})")
    print(f"  ratio        {statistics.median(ratios):>10.2f}x           ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"  largest difference of a loss: {difference:.1e}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
