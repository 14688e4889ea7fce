"""Measure what share of the true mask's gain each method recovers, on pools whose noise is known.

    python benchmarks/quality/recovered.py ../shared --noise german translations --output runs/recovered [--jobs 2]

Builds the pools (`pools.py`), then trains the base with each seed on all tokens, on the true mask (method `marked`),
and on as many tokens as the true mask keeps, chosen at random and by every method that ranks tokens. Methods that
decide by themselves how many they keep do so, and weightings keep all. The ceiling comes first: where the true mask
does not beat random tokens, no selection can be told from another by training. Results go to a Parquet file, one line
for each pool, reference, arm and seed, and to a Markdown table for each pool. `--jobs` pools are worked on side by
side, with equal shares of the processor: models this small train faster on one core each than one after the other on
all.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from every_method import harmful
from pools import KINDS, Facts, build_pools
from real_runs import TRAIN

from tokensieve.evaluate.differences import PairedDifference, holm
from tokensieve.methods import all_methods
from tokensieve.methods._base import FractionMethod
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import Outcomes, paired_outcomes, read_outcomes, recovered_gain
from tokensieve.runs.view import RunView, load_run
from tokensieve.store import fingerprint

ORACLE = "marked"
RANKED: tuple[dict[str, Any], ...] = (
    {"name": "token-cleaning"},
    {"name": "rho-1"},
    {"name": "self-evolving"},
    {"name": "sstoken"},
    {"name": "t-shirt"},
    {"name": "forgetting"},
    {"name": "toss"},
    {"name": "loss", "keep": "top"},
    {"name": "loss", "keep": "bottom"},
    {"name": "entropy", "keep": "top"},
    {"name": "entropy", "keep": "bottom"},
)
"""Every method that ranks tokens, each in both directions where it has two."""
BY_THEMSELVES = ("span-ratio", "stm", "profit", "xtf", "uds", "q-tuning", "rows-first")
"""Methods that decide how many tokens they keep."""
WEIGHTINGS = ("dft", "eaft", "talr", "p-alpha", "deft", "iw-sft", "psft", "asft", "sequence-mean", "preference-guided")
METHODS = RANKED + tuple({"name": name} for name in BY_THEMSELVES + WEIGHTINGS)
EPOCHS = "train: {num_train_epochs: 3}"
"""Of the models that are made to score with."""


@dataclass(frozen=True)
class Setting:
    """What every pool of a call is judged with.

    Attributes:
        base: folder of the model that is trained.
        max_length: of an example, in tokens of the base.
        seeds: how many trainings of each arm.
        methods: the arms beside full, random and the true mask.
        references: names of the files that references are made of, without suffix.
        data: folder of the real data sets, for the harmful rows and the preferences that some methods need.
        output: folder of the runs.
    """

    base: Path
    max_length: int
    seeds: int
    methods: tuple[dict[str, Any], ...]
    references: tuple[str, ...]
    data: Path
    output: Path


def recipe_of(pool: Path, setting: Setting, reference: str, output: Path, controls: str) -> Any:
    """Return the recipe of one pool and reference; the clean rows of the reference also make the utility model."""
    unwanted = pool / "unwanted.jsonl"
    clean = f"warm_up={{files: [{pool / f'{reference}.jsonl'}], {EPOCHS}}}"
    unsafe = harmful(setting.data / "advbench/harmful_behaviors.csv", output.parent / f"harmful-{output.name}.jsonl")
    return load_recipe(
        None,
        [
            f"output={output}",
            f"store={output.parent / 'store'}",
            f"seeds={list(range(setting.seeds))}",
            f"data.files=[{pool / 'pool.jsonl'}]",
            f"data.max_length={setting.max_length}",
            f"models.base={setting.base}",
            f"models.reference.{clean}",
            f"models.utility.{clean}",
            f"models.pool.warm_up={{folds: 2, {EPOCHS}}}",
            f"models.unsafe.warm_up={{files: [{unsafe}]}}",
            f"models.reward.preferences={setting.data / 'hh_rlhf/harmless-base/test.jsonl.gz'}",
            "method=marked",
            f"controls={controls}",
            f"evaluate.held_out=[{pool / 'held_out.jsonl'}]",
            *([f"evaluate.unwanted=[{unwanted}]"] if unwanted.stat().st_size else []),
            "report.examples=50",
            *TRAIN,
        ],
    )


def carry_out(pool: Path, setting: Setting, reference: str) -> RunView:
    """Select by the true mask, then train every arm on as many tokens; what is done is skipped."""
    output, first = setting.output / f"{pool.name}-{reference}-{setting.base.name}", "full, random"
    recipe = functools.partial(recipe_of, pool, setting, reference, output)
    if not RunFolder(output).arm(ORACLE).selected:  # controls can join a run, and not leave it
        run(recipe(controls=f"[{first}]"), "select")
    oracle = next(row.selection for row in load_run(output).rows if row.name == ORACLE)
    assert oracle is not None
    ranked = (one | _share_of(one["name"], round(oracle.share, 4)) for one in setting.methods)
    arms = (f"{{{', '.join(f'{key}: {value}' for key, value in one.items())}}}" for one in ranked)
    run(recipe(controls=f"[{', '.join([first, *arms])}]"))
    return load_run(output)


def _share_of(name: str, share: float) -> dict[str, float]:
    """Return the setting of a method that makes it keep this share; none where it decides by itself."""
    if name == "toss":
        return {"discard": round(1 - share, 4)}
    return {"fraction": share} if issubclass(all_methods()[name], FractionMethod) else {}


def outcomes_of(view: RunView, measure: str) -> dict[str, Outcomes]:
    """Return the results by seed and example of every arm."""
    found = {arm: read_outcomes(view.run_folder.arm(arm), measure, seed=0) for arm in view.arms}
    return {arm: one for arm, one in found.items() if one is not None}


def table(view: RunView, title: str) -> list[str]:
    """Return the Markdown of one pool: the ceiling in a sentence, then every arm."""
    losses, unwanted = outcomes_of(view, "held_out"), outcomes_of(view, "unwanted")
    random, oracle, full = losses["random"], losses[ORACLE], losses["full"]
    arms = [arm for arm in losses if arm != "random"]
    differences = {arm: _difference(losses[arm], random) for arm in arms}
    adjusted = dict(zip(arms, holm([differences[arm].p for arm in arms]), strict=True))
    ceiling = differences[ORACLE]
    is_open = ceiling.high < 0 and -ceiling.value > ceiling.detectable
    lines = [
        f"### {title}",
        "",
        f"True mask minus random: {_signed(ceiling)} nats; smallest detectable effect {ceiling.detectable:.3f}. "
        + ("The ceiling is open." if is_open else "The ceiling is closed: training cannot rank selections here."),
        "",
        "| arm | kept | held-out loss | minus random | Holm p | minus full | share of the gain recovered "
        "| unwanted, minus full |",
        "|---|---|---|---|---|---|---|---|",
    ]
    shares = {row.name: row.selection.share for row in view.rows if row.selection}
    for arm, one in losses.items():
        difference = f"{_signed(differences[arm])} | {adjusted[arm]:.3f}" if arm in differences else "- | -"
        other_control = _signed(_difference(one, full)) if arm != "full" else "-"
        gain = "-"
        if is_open and arm not in ("random", ORACLE):
            part = recovered_gain(one, random, oracle)
            gain = f"{part.value:+.0%} ({part.low:+.0%} to {part.high:+.0%})" if part else "unsure"
        learned = _signed(_difference(unwanted[arm], unwanted["full"])) if unwanted and arm != "full" else "-"
        cells = arm, f"{shares[arm]:.1%}", f"{one.means.mean():.4f}", difference, other_control, gain, learned
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def records(view: RunView, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one line for each arm and seed."""
    found = []
    for measure in ("held_out", "unwanted"):
        for arm, one in outcomes_of(view, measure).items():
            for seed, mean in zip(one.seeds, one.means.tolist(), strict=True):
                found.append({**facts, "measure": measure, "arm": arm, "seed": seed, "value": mean})
    return found


def judge(pool: Path, facts: Facts, setting: Setting) -> tuple[list[str], list[dict[str, Any]]]:
    """Carry out the runs of one pool; return their tables and the lines of the Parquet file."""
    lines: list[str] = []
    kept: list[dict[str, Any]] = []
    for reference in setting.references:
        view = carry_out(pool, setting, reference)
        base = setting.base.name
        kept += records(view, {**vars(facts), "base": base, "reference": reference, **fingerprint.versions()})
        lines += table(view, f"{facts.kind} ({facts.place}), {facts.word_share:.0%} of words, {base}, {reference}")
    return lines, kept


def main() -> None:
    """Build the pools, carry out every run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/recovered"))
    parser.add_argument("--noise", nargs="+", choices=(*KINDS, "translations"), default=["german", "translations"])
    parser.add_argument("--share", type=float, nargs="+", default=[0.45])
    parser.add_argument("--reference", nargs="+", default=["reference_150_clean"])
    names = sorted({one["name"] for one in METHODS})
    main_table = ["sequence-mean", "span-ratio", *sorted({one["name"] for one in RANKED})]
    parser.add_argument("--methods", nargs="+", choices=[*names, "all"], default=main_table)
    parser.add_argument("--base", default="english-3M")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--place", choices=("append", "insert"), default="append")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    setting = Setting(
        options.shared / "models" / options.base,
        options.max_length,
        options.seeds,
        tuple(one for one in METHODS if {one["name"], "all"} & {*options.methods}),
        tuple(options.reference),
        options.shared / "data",
        options.output,
    )
    where = options.place, options.rows, options.held_out
    pools = build_pools(options.shared / "data", options.output / "pools", options.noise, options.share, *where)
    kept: list[dict[str, Any]] = []
    lines: list[str] = []
    threads = max(1, len(os.sched_getaffinity(0)) // options.jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, torch.set_num_threads, (threads,)) as workers:
        for told, more in workers.map(judge, *zip(*pools, strict=True), [setting] * len(pools)):
            kept, lines = kept + more, lines + told
            print("\n".join(told), flush=True)
            pq.write_table(pa.Table.from_pylist(kept), options.output / "results.parquet")
            (options.output / "tables.md").write_text("\n".join(lines), encoding="utf-8")


def _difference(one: Outcomes, other: Outcomes) -> PairedDifference:
    found = paired_outcomes(one, other)
    assert found is not None, "arms of one run are evaluated on the same examples"
    return found


def _signed(one: PairedDifference) -> str:
    return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


if __name__ == "__main__":
    main()
