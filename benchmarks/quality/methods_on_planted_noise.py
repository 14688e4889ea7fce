"""How well every method's score finds the demo's planted noise; the outcome is `docs/methods-on-planted-noise.md`.

    python benchmarks/quality/methods_on_planted_noise.py [--seeds 3] [--write docs/methods-on-planted-noise.md]

Nothing is fine-tuned on what is selected: each method scores the pool once, with fixed models in all its roles, and its
own default rule decides. The model in training is stood for by the base after one epoch over the pool.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from tokensieve.demo.dataset import write
from tokensieve.demo.run import demo_overrides
from tokensieve.methods import all_methods
from tokensieve.ops.rules import TopExamples
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.store.atomic import read_json

RECIPE = Path(__file__).parents[2] / "src/tokensieve/demo/recipe.yaml"
MARK = "<!-- figures -->"
CLEAN = "{files: [%s], train: {learning_rate: 2e-3, num_train_epochs: 4}}"  # the reference of the demo
POOL = "{warm_up: {}}"  # the base after one epoch over the whole pool, noise and all
SPECIAL = {
    "rho-1-self": "models.reference={warm_up: {}}",  # its reference is trained on the pool by definition
    "toss-pro": "models.unsafe={warm_up: {files: [%s]}}",  # the set that it adds to has to have files of its own
}


def measure(output: Path, seed: int) -> dict[str, dict[str, float | None]]:
    """Score and select with every method; return its AUROC and what its rule removed."""
    data = output / f"data-{seed}"
    if not data.is_dir():
        write(seed, data)
    clean = CLEAN % (data / "warmup.jsonl")
    found = {}
    for name, cls in all_methods().items():
        if isinstance(cls().rule, TopExamples):
            continue  # chooses whole examples of a training batch
        folder = output / f"{name}-{seed}"
        overrides = [
            *demo_overrides(folder, data, seed),
            f"store={output / 'store'}",
            f"models.reference={{warm_up: {clean}}}",
            "models.pool={warm_up: {folds: 2}}",
            f"models.utility={{warm_up: {clean}}}",
            f"models.unsafe={POOL}",
            f"models.current={POOL}",
            f"method={{name: {name}}}",
            "controls=[]",
            *([SPECIAL[name].replace("%s", str(data / "pool.jsonl"))] if name in SPECIAL else []),
        ]
        run(load_recipe(RECIPE, overrides), "select")
        figures = read_json(folder / "arms" / name / "selection.json")["marks"]
        found[name] = {
            "auroc": figures["auroc"],
            "noise": figures["removed"] / figures["marked"],
            "clean": figures["unmarked_removed"] / figures["unmarked"],
        }
    return found


def table(found: Sequence[dict[str, dict[str, float | None]]]) -> str:
    """Return the Markdown table, the best score first."""
    names = sorted(found[0], key=lambda name: -_mean([seed[name]["auroc"] for seed in found]))
    lines = ["| method | AUROC, mean (each seed) | noise removed | clean removed |", "|---|---|---|---|"]
    for name in names:
        figures = {key: [seed[name][key] for seed in found] for key in ("auroc", "noise", "clean")}
        lines.append(
            f"| `{name}` | {_row(figures['auroc'], '.3f')} | {_row(figures['noise'], '.1%')} "
            f"| {_row(figures['clean'], '.1%')} |"
        )
    skipped = sorted(set(all_methods()) - set(names))
    return "\n".join([*lines, *(f"| `{name}` | not applicable: it selects examples | - | - |" for name in skipped)])


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else -1.0


def _row(values: Sequence[float | None], spec: str) -> str:
    """Return the mean and every seed's figure."""
    if None in values:
        return "- (every score is the same)"
    if not any(values):
        return "none"
    return f"{_mean(values):{spec}} ({', '.join(f'{value:{spec}}' for value in values)})"


def main() -> None:
    """Measure for each seed and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=20, help="0 to 9 were seen while the demo was built")
    parser.add_argument("--output", type=Path, default=Path("runs/planted-noise"))
    parser.add_argument("--write", type=Path, help=f"page whose part between two lines {MARK} is replaced")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    found = table([measure(arguments.output, seed) for seed in seeds])
    print(found)
    if arguments.write:
        before, _, after = arguments.write.read_text(encoding="utf-8").split(MARK)
        arguments.write.write_text(f"{before}{MARK}\n\n{found}\n\n{MARK}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
