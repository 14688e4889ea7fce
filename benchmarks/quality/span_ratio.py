"""How far a likelihood ratio of spans comes, as a detector of noise and as a selection to train on.

    python benchmarks/quality/span_ratio.py ../shared --noise german java --output runs/span-ratio [--train]

Two models are made from the base: one of clean rows, and one of the pool, noise included. The second is cross-fitted:
each half of the pool is measured by a model of the other half, so that what a model remembers does not count. A token's
ratio is the clean model's loss minus the pool model's; the difficulty that both see cancels. Noise comes in spans, so
a chain of two states, clean and noise, joins the ratios of an answer to the odds that each token is noise. The odds
also say how much to drop.

For each pool a table says how well that and its parts find the marked words. With ``--train``, the base is trained on
all tokens, on the true mask, on as many random tokens, and on what the span ratio keeps (`recovered.py`).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pools import KINDS, build
from real_runs import TRAIN
from recovered import ORACLE, recipe_of, records, table

from tokensieve.containers import Bool, Int64, segments
from tokensieve.pipeline.imported import import_arm
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.runs.view import RunView, load_run
from tokensieve.store import fingerprint

SPAN_RATIO = "span-ratio"
MARGIN = 0.25
"""Nats that the pool's model must be better by, a token, before noise is the likelier cause."""
SWITCH = 0.01
"""Probability of a change between clean text and noise at each token: spans of 100 tokens on average."""
_EPOCHS = 3
_NEIGHBOURS = (7, 15)  # tokens on each side

Array = NDArray[np.float64]


def noise_odds(ratio: Array, trainable: Bool, cu_seqlens: Int64, switch: float) -> Array:
    """Return float64 ``[tokens]``, the log odds that each token is noise, given all ratios of its example.

    The posterior of a Markov chain of two states that changes its state with the same probability at every trainable
    token and starts in either (the forward-backward algorithm; Rabiner, Proceedings of the IEEE, 1989).

    Args:
        ratio: float64 ``[tokens]``, log likelihood of each token as noise minus that as clean text, in nats.
        trainable: bool ``[tokens]``; others are skipped, and get 0.
        cu_seqlens: int64 ``[examples + 1]``.
        switch: probability of a change at each token, in (0, 1).
    """
    stay, change = math.log1p(-switch), math.log(switch)
    odds = np.zeros(len(ratio))

    def carried(before: float) -> float:
        """Return the log odds one token further, from those of the token before."""
        return float(np.logaddexp(change, stay + before) - np.logaddexp(stay, change + before))

    for span in segments(cu_seqlens):
        places = span.start + np.flatnonzero(trainable[span])
        own = ratio[places].tolist()
        ahead, behind = [0.0] * len(own), [0.0] * len(own)
        for at in range(1, len(own)):
            ahead[at] = carried(own[at - 1] + ahead[at - 1])
            behind[-at - 1] = carried(own[-at] + behind[-at])
        odds[places] = np.array(own) + ahead + behind
    return odds


def smoothed(values: Array, trainable: Bool, cu_seqlens: Int64, side: int) -> Array:
    """Return float64 ``[tokens]``: means of each trainable token and ``side`` before and behind it in its example."""
    found = np.zeros(len(values))
    for span in segments(cu_seqlens):
        places = span.start + np.flatnonzero(trainable[span])
        sums = np.concatenate([[0.0], np.cumsum(values[places], dtype=np.float64)])
        at = np.arange(len(places))
        low, high = np.maximum(0, at - side), np.minimum(len(places), at + side + 1)
        found[places] = (sums[high] - sums[low]) / (high - low)
    return found


def losses(data: Path, base: Path, trained_on: Path, output: Path) -> Mapping[str, Array]:
    """Return float64 ``[tokens]`` each: losses of ``base`` and of ``reference``, the base fine-tuned on other rows."""
    warm_up = f"{{files: [{trained_on}], train: {{num_train_epochs: {_EPOCHS}}}}}"
    settings = [
        f"output={output}",
        f"store={output.parent / 'store'}",
        f"data.files=[{data}]",
        "data.max_length=256",
        f"models.base={base}",
        f"models.reference.warm_up={warm_up}",
        "method=token-cleaning",
        "controls=[]",
        *TRAIN,
    ]
    run(load_recipe(None, settings), "select")
    shards = [shard.statistics for shard in load_run(output).shards()]
    return {
        role: np.concatenate([shard[f"{role}.loss"] for shard in shards]).astype(np.float64)
        for role in ("base", "reference")
    }


def cross_fitted(pool: Path, base: Path, output: Path) -> Array:
    """Return float64 ``[tokens]``, the loss of each half of a pool by a model of the other half."""
    rows = pool.read_text(encoding="utf-8").splitlines(keepends=True)
    middle = len(rows) // 2
    halves = [pool.with_name(f"half_{number}.jsonl") for number in range(2)]
    for half, part in zip(halves, (rows[:middle], rows[middle:]), strict=True):
        half.write_text("".join(part), encoding="utf-8")
    return np.concatenate(
        [
            losses(half, base, other, output.with_name(f"{output.name}-half-{number}"))["reference"]
            for number, (half, other) in enumerate(zip(halves, halves[::-1], strict=True))
        ]
    )


def noise_scores(view: RunView, clean: Mapping[str, Array], by_pool: Array) -> dict[str, Array]:
    """Return float64 ``[tokens]`` by name, high = noise: the span ratio, and what it is made of."""
    examples = view.store.read(0)  # a pool of this size is one shard
    trainable, at = examples.labels != -100, examples.cu_seqlens
    ratio = clean["reference"] - by_pool
    found = {
        "excess loss (token-cleaning)": clean["reference"] - clean["base"],
        "loss of the base": clean["base"],
        "loss of the clean model": clean["reference"],
        "ratio": ratio,
    }
    for name in ("loss of the base", "loss of the clean model", "ratio"):
        for side in _NEIGHBOURS:
            found[f"{name}, mean of {2 * side + 1} tokens"] = smoothed(found[name], trainable, at, side)
    found[SPAN_RATIO] = noise_odds(ratio - MARGIN, trainable, at, SWITCH)
    return found


def add_arm(view: RunView, name: str, noise: Array, share: float) -> dict[str, Any]:
    """Add an arm that keeps this share of the trainable tokens, the least noisy ones; return what it does to marks."""
    examples = view.store.read(0)
    file = view.folder / "imported.jsonl"
    with file.open("w", encoding="utf-8") as handle:
        for row, span in zip(examples.rows.tolist(), segments(examples.cu_seqlens), strict=True):
            handle.write(json.dumps({"row": row, "scores": (-noise[span]).tolist()}) + "\n")
    selection = import_arm(view.folder, file, name, share).selection
    file.unlink()
    assert selection.marks is not None, "every pool has marks"
    return {"kept": selection.share, **selection.marks}


def detection(view: RunView, scores: Mapping[str, Array], own: float, oracle: float) -> tuple[list[str], list[Any]]:
    """Return the Markdown and the figures of how well each score finds the marked words.

    Args:
        view: a run of the pool that trains nothing.
        scores: float64 ``[tokens]`` by name, high = noise.
        own: share that the span ratio keeps by itself.
        oracle: share that the true mask keeps, at which the other scores are compared.
    """
    lines = ["| score | AUROC by word | kept | marked tokens dropped | other tokens dropped |", "|---|---|---|---|---|"]
    kept = []
    for number, (name, noise) in enumerate(scores.items()):
        found = add_arm(view, f"score-{number}", noise, own if name == SPAN_RATIO else oracle)
        hit, miss = found["removed"] / found["marked"], found["unmarked_removed"] / found["unmarked"]
        lines.append(f"| {name} | {found['auroc']:.2f} | {found['kept']:.1%} | {hit:.0%} | {miss:.1%} |")
        kept.append({"score": name, "auroc": found["auroc"], "kept": found["kept"], "hit": hit, "miss": miss})
    return [*lines, ""], kept


def carry_out(
    pool: Path, base: Path, reference: str, output: Path, seeds: int, *, train: bool
) -> tuple[list[str], Any]:
    """Measure one pool and, where asked, train on what is kept; return Markdown and the lines of the two files."""
    clean = losses(pool / "pool.jsonl", base, pool / f"{reference}.jsonl", output.with_name(f"{output.name}-clean"))
    by_pool = cross_fitted(pool / "pool.jsonl", base, output)
    recipe = recipe_of(pool, base, reference, output, seeds, "[full, random]")
    view = load_run(run(recipe, "select"))
    scores = noise_scores(view, clean, by_pool)
    trainable = view.store.read(0).labels != -100
    own = float((scores[SPAN_RATIO][trainable] <= 0).mean())
    oracle = next(row.selection.share for row in view.rows if row.name == ORACLE and row.selection)
    untrained = output.with_name(f"{output.name}-scores")
    lines, found = detection(
        load_run(run(recipe_of(pool, base, reference, untrained, seeds, "[]"), "select")), scores, own, oracle
    )
    if not train:
        return lines, (found, [])
    add_arm(view, SPAN_RATIO, scores[SPAN_RATIO], own)
    view = load_run(run(recipe))
    return [*lines, *table(view, f"Trained, {output.name}")], (found, records(view, {"reference": reference}))


def main() -> None:
    """Measure every pool and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/span-ratio"))
    parser.add_argument("--noise", nargs="+", choices=(*KINDS, "translations"), default=["german", "java", "comments"])
    parser.add_argument("--share", type=float, default=0.45)
    parser.add_argument("--place", choices=("append", "insert"), default="append")
    parser.add_argument("--reference", default="reference_150_clean")
    parser.add_argument("--base", default="english-3M")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    kept: dict[str, list[Any]] = {"detection": [], "training": []}
    for kind in options.noise:
        pool = options.output / "pools" / f"{kind}-{options.place}-{options.share:g}-{options.rows}"
        where = {"place": options.place, "rows": options.rows, "held_out": options.held_out, "seed": 0}
        facts = build(options.shared / "data", pool, kind, options.share, **where)
        name = f"{pool.name}-{options.reference}-{options.base}"
        base, output = options.shared / "models" / options.base, options.output / name
        lines, found = carry_out(pool, base, options.reference, output, options.seeds, train=options.train)
        print("\n".join([f"### {name}, {facts.word_share:.0%} of words", "", *lines]), flush=True)
        known = {**vars(facts), "base": options.base, **fingerprint.versions()}
        for file, part in zip(kept, found, strict=True):
            kept[file] += [{**known, **one} for one in part]
            if kept[file]:
                pq.write_table(pa.Table.from_pylist(kept[file]), options.output / f"{file}.parquet")


if __name__ == "__main__":
    main()
