"""A run from raw rows to cleaned data, against the sum of the naive stages.

    python benchmarks/speed/end_to_end.py [--data FILE]

Two random 15M-parameter Llamas with a vocabulary of 32,000 stand for base and reference. The rows are 2,000 of FILE,
in any form that `data.files` takes, or those of the demo's pool. The naive way loads both models, makes one call per
message prefix to tokenise, measures in batches of 6 with full logits, sorts Python tuples and writes JSON lines; its
measuring is timed on some rows and multiplied.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Row, finish, middle, parser, ratios, seconds
from measure import NAIVE_BATCH, SHAPE_15M, naive
from tokenising import prefix_by_prefix
from transformers import AutoModelForCausalLM, LlamaConfig

import tokensieve.demo
from tokensieve.containers import IGNORE_INDEX, Examples
from tokensieve.data.bad_rows import raise_error
from tokensieve.data.formats import Conversation, convert
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows
from tokensieve.data.tokenize import load_encoder
from tokensieve.demo.dataset import Sizes, generate
from tokensieve.ops.ragged import offsets
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run

TOKENIZER = Path(tokensieve.demo.__file__).parent / "model"
ROWS, SAMPLE, LONGEST, FRACTION = 2000, 180, 2048, 0.6


def conversations(data: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages of the rows."""
    for row in read_rows(DataSettings(files=(data,), limit=ROWS), raise_error):
        converted = convert(row.data)
        assert isinstance(converted, Conversation)
        yield converted.messages


def naive_stages(data: str, folders: list[Path], output: Path) -> float:
    """Return the seconds of the naive way."""
    tokenizer = load_encoder(str(TOKENIZER)).tokenizer
    found: dict[str, Any] = {}

    def tokenise() -> None:
        found["rows"] = [prefix_by_prefix(tokenizer, messages) for messages in conversations(data)]

    def load() -> None:
        found["models"] = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders]

    spent = seconds(tokenise) + seconds(load)
    rows = [(ids[:LONGEST], labels[:LONGEST]) for ids, labels in found["rows"]]
    sample = [rows[number] for number in np.random.default_rng(0).choice(len(rows), SAMPLE, replace=False)]
    examples = Examples(
        np.concatenate([ids for ids, _ in sample]).astype(np.int32),
        np.concatenate([labels for _, labels in sample]).astype(np.int32),
        offsets([len(ids) for ids, _ in sample]),
        np.arange(SAMPLE),
    )
    spent += len(rows) / SAMPLE * seconds(lambda: [naive(model, examples) for model in found["models"]])
    scores = [np.random.default_rng(number).random(len(ids)).tolist() for number, (ids, _) in enumerate(rows)]

    def select() -> None:
        ranked = [
            (scores[example][position], example, position)
            for example, (_, labels) in enumerate(rows)
            for position, label in enumerate(labels)
            if label != IGNORE_INDEX
        ]
        ranked.sort(key=lambda entry: entry[0], reverse=True)
        cleaned = [[IGNORE_INDEX] * len(ids) for ids, _ in rows]
        for _, example, position in ranked[: int(len(ranked) * FRACTION)]:
            cleaned[example][position] = rows[example][1][position]
        with output.open("w") as lines:
            for (ids, _), labels in zip(rows, cleaned, strict=True):
                lines.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")

    return spent + seconds(select)


def rows(runs: int, data: str | None = None) -> list[Row]:
    """Measure the line."""
    slow, fast = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if data is None:
            data = str(folder / "pool.jsonl")
            pool = generate(0, Sizes(pool=ROWS))["pool"]
            Path(data).write_text("".join(json.dumps(row) + "\n" for row in pool), encoding="utf-8")
        folders = [folder / "base", folder / "reference"]
        for seed, path in enumerate(folders):
            torch.manual_seed(seed)
            AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M)).save_pretrained(str(path))
        for number in range(runs):
            recipe = load_recipe(
                None,
                [
                    f"output={folder / f'run-{number}'}",
                    f"store={folder / f'store-{number}'}",
                    f"data={{files: [{data}], limit: {ROWS}, max_length: {LONGEST}, tokenizer: {TOKENIZER}}}",
                    f"models.base={folders[0]}",
                    f"models.reference={folders[1]}",
                    f"method={{name: token-cleaning, fraction: {FRACTION}}}",
                    "controls=[]",
                ],
            )
            slow.append(naive_stages(data, folders, folder / "naive.jsonl"))
            fast.append(seconds(lambda recipe=recipe: run(recipe, "select")))
        tokens = json.loads(next(folder.glob("store-0/examples/*/manifest.json")).read_text())["counts"]["tokens"]
    return [
        Row(
            f"`run` from raw rows to cleaned data, {ROWS:,} rows, {tokens:,} tokens, two models",
            f"the naive stages, measuring extrapolated from {SAMPLE} rows in batches of {NAIVE_BATCH}",
            "6x",
            ratios(slow, fast),
            f"{middle(slow)} to {middle(fast)}",
        )
    ]


if __name__ == "__main__":
    arguments: argparse.ArgumentParser = parser(__doc__)
    arguments.add_argument("--data", help="file of rows; the demo's pool when not given")
    given = arguments.parse_args()
    finish(rows(given.runs, given.data), given.rows)
