"""The demo for several seeds: figures of every arm, and the margin of the cleaned model over both controls.

python benchmarks/quality/demo_seeds.py --seeds 5
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from tokensieve.demo.run import run_demo
from tokensieve.store.atomic import read_json

ARMS = ("full", "random", "token-cleaning")


def main() -> None:
    """Run the demo for each seed and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10, help="0 to 9 were seen while the demo was built")
    parser.add_argument("--output", type=Path, default=Path("runs/demo-seeds"))
    arguments = parser.parse_args()
    exact: dict[str, list[float]] = {arm: [] for arm in ARMS}
    loss: dict[str, list[float]] = {arm: [] for arm in ARMS}
    removed: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        output = arguments.output / f"seed-{seed}"
        run_demo(output, seed)
        for arm in ARMS:
            evaluation = read_json(output / "arms" / arm / "evaluation.json")
            exact[arm].append(evaluation["exact_match"]["score"])
            loss[arm].append(evaluation["held_out"]["loss"])
            marks = read_json(output / "arms" / arm / "selection.json")["marks"]
            removed[arm].append(marks["removed"] / marks["marked"])
    print("| arm | exact match | held-out loss | planted noise removed |\n|---|---|---|---|")
    for arm in ARMS:
        print(f"| {arm} | {_row(exact[arm], '.1%')} | {_row(loss[arm], '.3f')} | {_row(removed[arm], '.1%')} |")
    for control in ARMS[:2]:
        margins = [clean - other for clean, other in zip(exact["token-cleaning"], exact[control], strict=True)]
        gains = [other - clean for clean, other in zip(loss["token-cleaning"], loss[control], strict=True)]
        print(f"over {control}: exact match +{min(margins):.1%} at least, loss -{min(gains):.3f} at least")


def _row(values: list[float], spec: str) -> str:
    """Return the mean and every seed's figure."""
    return f"{statistics.mean(values):{spec}} ({', '.join(f'{value:{spec}}' for value in values)})"


if __name__ == "__main__":
    main()
