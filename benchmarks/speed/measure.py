"""Tokens per second of measuring losses, against the naive way, interleaved in one run.

The naive way is that of published scripts: examples in order, batches of 6 padded to the longest, logits
of every position in float32, the loss computed by the model and once more per token.

    python benchmarks/speed/measure.py                        a 15M-parameter Llama, vocabulary 32,000, random weights
    python benchmarks/speed/measure.py --model FOLDER --data FILE    a real model on real data
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Row, interleaved, ratios
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaConfig

from tokensieve.containers import IGNORE_INDEX, LOSS, Examples, Float32
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.ops.ragged import offsets
from tokensieve.pipeline.forecast.hardware import product_rates
from tokensieve.select.labels import select_labels

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
        ids, mask, labels = ids.to(model.device), mask.to(model.device), labels.to(model.device)
        outputs = model(input_ids=ids, attention_mask=mask, labels=labels)
        logits = outputs.logits.float()[:, :-1].contiguous()
        losses = F.cross_entropy(
            logits.view(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=IGNORE_INDEX, reduction="none"
        )
        losses = losses.view(len(spans), -1).cpu()
        for row, span in enumerate(spans):
            out[span.start + 1 : span.stop] = losses[row, : span.stop - span.start - 1].numpy()
    return out


def least_operations(model: Any, examples: Examples) -> float:
    """Return the operations of the matrix products that no way of measuring can do without."""
    head = model.get_output_embeddings().weight
    linear = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name and p is not head]
    body = sum(p.numel() for p in linear)
    with Forward(model, [LOSS]) as forward:
        lengths = forward.needed_lengths(examples).astype(float)
    config = model.config
    width = config.num_attention_heads * config.head_dim
    attention = 2 * (lengths**2).sum() * width * config.num_hidden_layers
    trainable = int((examples.labels != IGNORE_INDEX).sum())
    return 2 * body * lengths.sum() + attention + 2 * head.numel() * trainable


def compare(model: Any, examples: Examples, dtype: str, runs: int, baseline: Any = None) -> tuple[Row, dict[str, Any]]:
    """Measure naive and ours in turn; also against a baseline model of another precision, where one is given."""
    budget, found = MeasureSettings().batch_tokens("cpu"), {}

    def slow() -> None:
        found["naive"] = naive(baseline or model, examples)

    def fast() -> None:
        with Forward(model, [LOSS]) as forward:
            found["ours"] = measure_shard(forward, examples, budget, lambda _: None)[LOSS.key]

    naive_seconds, our_seconds = interleaved(slow, fast, runs)
    tokens = len(examples.input_ids)
    difference = float(np.abs(found["naive"] - found["ours"]).max())
    limit = least_operations(model, examples) / max(product_rates(getattr(torch, dtype), torch.device("cpu"), 30))
    share = limit / statistics.median(our_seconds)
    rates = {
        name: [round(tokens / s) for s in values]
        for name, values in (("naive", naive_seconds), ("tokensieve", our_seconds))
    }
    speeds = {name: round(statistics.median(values)) for name, values in rates.items()}
    row = Row(
        f"measure loss, {model.num_parameters() / 1e6:.0f}M-parameter Llama, vocabulary {model.config.vocab_size:,}, "
        f"{dtype}",
        "batches of 6, full logits, double cross-entropy",
        "",
        ratios(naive_seconds, our_seconds),
        f"{speeds['naive']:,} to {speeds['tokensieve']:,} tokens/s; {share:.0%} of the matrix-product limit; "
        f"largest difference {difference:.1e}",
    )
    labels = examples.labels.astype(np.int64)
    kept = [select_labels(-found[name], labels, examples.cu_seqlens, fraction=0.6) for name in ("naive", "ours")]
    trainable = examples.labels != IGNORE_INDEX
    agreement = float(((kept[0] == kept[1]) & trainable).sum() / trainable.sum())
    figures = {"tokens": tokens, "tokens_per_second": rates, "ratio": row.ratio, "roofline_share": share}
    return row, {**figures, "largest_difference": difference, "selection_agreement": agreement}


def rows(runs: int) -> list[Row]:
    """Measure float32, and bfloat16 against the float32 baseline."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M)).eval().requires_grad_(False)
    examples = random_examples(60, SHAPE_15M["vocab_size"])
    single, _ = compare(model, examples, "float32", runs)
    half, figures = compare(copy.deepcopy(model).to(torch.bfloat16), examples, "bfloat16", runs, model)
    agreement = f"; the selection at 0.6 agrees on {figures['selection_agreement']:.2%} of tokens"
    return [
        dataclasses.replace(single, target="8x, 60 % of the limit"),
        dataclasses.replace(
            half, target="25x, 99 % agree", baseline="the same, in float32", detail=half.detail + agreement
        ),
    ]


def main() -> None:
    """Print the table, and write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder; a random 15M-parameter Llama when not given")
    parser.add_argument("--data", help="data file; random ids when not given")
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rows", type=Path, help="write the rows of the table (random Llama, both precisions) instead")
    arguments = parser.parse_args()
    if arguments.rows:
        arguments.rows.write_text(json.dumps([dataclasses.asdict(row) for row in rows(arguments.runs)]))
        return

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
    row, figures = compare(model, examples, arguments.dtype, arguments.runs)
    threads = torch.get_num_threads()
    print(f"{row.what}, {figures['tokens']:,} tokens, {threads} threads, {arguments.runs} runs interleaved")
    for name, rates in figures["tokens_per_second"].items():
        print(f"  {name:<12} {statistics.median(rates):>10,.0f} tokens/s   ({min(rates):,} to {max(rates):,})")
    ratio = figures["ratio"]
    print(f"  ratio        {statistics.median(ratio):>10.2f}x           ({min(ratio):.2f} to {max(ratio):.2f})")
    print(f"  {figures['roofline_share']:.0%} of the limit that the matrix products set")
    print(f"  largest difference of a loss: {figures['largest_difference']:.1e}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
