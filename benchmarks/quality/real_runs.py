"""The main job on real models and real data; the outcome is `docs/real-runs.md`.

    python benchmarks/quality/real_runs.py ../shared --output runs/real [--write docs/real-runs.md]

Needs the folder with `models/` and `data/`. Two runs: single-turn instructions with `english-3M`, and multi-turn
dialogues with `stories260K`. Each makes its reference from a warm-up subset and compares full, random and cleaned.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.report.analysis.summary import summarise
from tokensieve.report.analysis.sweep import Levels
from tokensieve.runs.view import RunView, load_run
from tokensieve.store.atomic import read_json

TRAIN = [
    "train.lora=null",
    "train.learning_rate=5e-4",
    "train.per_device_train_batch_size=16",
    "train.gradient_accumulation_steps=1",
    "train.gradient_checkpointing=false",
    "train.save_strategy=no",
]


def dialogues(source: Path, target: Path, held_out: int) -> tuple[Path, Path]:
    """Write the chosen side of hh-rlhf as messages; return the pool and the last rows, held out."""
    rows = []
    with gzip.open(source, "rt", encoding="utf-8") as handle:
        for line in handle:
            turns = json.loads(line)["chosen"].split("\n\n")[1:]
            messages: list[dict[str, str]] = []
            for turn in turns:
                role, colon, text = turn.partition(": ")
                if colon and role in ("Human", "Assistant"):
                    messages.append({"role": "user" if role == "Human" else "assistant", "content": text})
                elif messages:
                    messages[-1]["content"] += f"\n\n{turn}"
            if messages and messages[-1]["role"] == "assistant" and messages[-1]["content"].strip():
                rows.append({"messages": messages})
    target.mkdir(parents=True, exist_ok=True)
    parts = target / "pool.jsonl", target / "held_out.jsonl"
    for path, part in zip(parts, (rows[:-held_out], rows[-held_out:]), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return parts


def instructions(source: Path, target: Path, rows: int, held_out: int) -> tuple[Path, Path]:
    """Write the first rows of an instruction set as the pool, and the next ones, held out."""
    found = json.loads(source.read_text(encoding="utf-8"))
    target.mkdir(parents=True, exist_ok=True)
    parts = target / "pool.json", target / "held_out.json"
    for path, part in zip(parts, (found[:rows], found[rows : rows + held_out]), strict=True):
        path.write_text(json.dumps(part), encoding="utf-8")
    return parts


def overrides(output: Path, base: Path, pool: Path, held_out: Path, max_length: int, seed: int) -> list[str]:
    """Return the settings of one run."""
    return [
        f"output={output}",
        f"seed={seed}",
        f"data.files=[{pool}]",
        f"data.max_length={max_length}",
        f"models.base={base}",
        "models.reference.warm_up={rows: 500, pick: random}",
        f"evaluate.held_out=[{held_out}]",
        *TRAIN,
    ]


def section(view: RunView) -> list[str]:
    """Return the Markdown of one run."""
    selection = read_json(view.folder / "arms" / view.method / "selection.json")
    counts = view.store.counts
    lines = [
        f"{counts.examples:,} examples, {counts.tokens:,} tokens, {counts.trainable_tokens:,} trainable, "
        f"{counts.turns:,} answers; threshold {selection['threshold']:.3f}.",
        "",
        "| | kept | held-out loss (95 %) | perplexity | seconds to train |",
        "|---|---|---|---|---|",
    ]
    for row in view.rows:
        held_out = read_json(view.folder / "arms" / row.name / "evaluation.json")["held_out"]
        chosen = view.folder / "arms" / row.name / "selection.json"
        kept = read_json(chosen)["kept"] / counts.trainable_tokens if chosen.is_file() else None
        seconds = view.seconds.get(f"train {row.name}", view.seconds.get(f"make {row.name}"))
        lines.append(
            f"| {row.name} | {f'{kept:.1%}' if kept is not None else '-'} "
            f"| {held_out['loss']:.4f} ({held_out['low']:.4f} to {held_out['high']:.4f}) "
            f"| {held_out['perplexity']:.2f} | {f'{seconds:.0f}' if seconds else '-'} |"
        )
    measured = sum(value for name, value in view.seconds.items() if name.startswith("measure"))
    levels = {view.method: Levels(view, view.method)}
    summary, own = summarise(view, levels), levels[view.method].sweep.own
    table = summary.tokens[view.method]
    share = dict(zip(summary.token_ids.tolist(), table[:, : own + 1].sum(axis=1) / table.sum(axis=1), strict=True))
    order = sorted(share, key=share.__getitem__, reverse=True)
    lines += ["", f"Measuring both models took {measured:.0f} s."]
    for title, tokens in (("Most kept", order[:12]), ("Least kept", order[:-13:-1])):
        shown = ", ".join(f"`{view.decoder.name(token_id)}` {share[token_id]:.0%}" for token_id in tokens)
        lines += ["", f"{title} of the {len(order)} most frequent tokens: {shown}."]
    return lines


def main() -> None:
    """Carry out both runs and print or write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/real"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["instructions", "dialogues"])
    arguments = parser.parse_args()
    models, data, output = arguments.shared / "models", arguments.shared / "data", arguments.output
    jobs = {
        "instructions": (
            models / "english-3M",
            *instructions(data / "alpaca_subsets/random/random_9k.json", output / "data-instructions", 2000, 300),
            1024,
        ),
        "dialogues": (
            models / "stories260K",
            *dialogues(data / "hh_rlhf/harmless-base/test.jsonl.gz", output / "data-dialogues", 250),
            256,
        ),
    }
    for name, (base, pool, held_out, max_length) in jobs.items():
        if arguments.only in (None, name):
            run(load_recipe(None, overrides(output / name, base, pool, held_out, max_length, arguments.seed)))
            print("\n".join([f"## {name}", "", *section(load_run(output / name))]))


if __name__ == "__main__":
    main()
