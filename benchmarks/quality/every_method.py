"""Every method once through `tokensieve run`, on a real model and real data; the outcome is in `docs/real-runs.md`.

    python benchmarks/quality/every_method.py ../shared [--output runs/every-method] [--only toss,uds]

`english-3M` on 500 rows of Alpaca, one epoch, all weights; 200 more rows are held out. The controls are `full`, and
`random` at the share of tokens that a method trains on, to a percent; methods with the same share have one in common.
Statistics are measured once, in a shared store.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from real_runs import TRAIN, instructions

from tokensieve.methods import all_methods
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.train.schedules import schedule_of

WARM_UP = "{warm_up: {rows: 150, pick: random}}"
OF_THE_POOL = "{warm_up: {}}"


def harmful(source: Path, target: Path) -> Path:
    """Write AdvBench's goals and the answers that comply as rows."""
    with source.open(encoding="utf-8", newline="") as handle:
        rows = [{"prompt": row["goal"], "completion": row["target"]} for row in csv.DictReader(handle)]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return target


def overrides(method: dict[str, float | str], base: Path, pool: Path, held_out: Path, unsafe: Path) -> list[str]:
    """Return the settings of the run of one method, but for its folders."""
    name = str(method["name"])
    cls = all_methods()[name]
    roles = {role for role, _ in cls().needs} - schedule_of(cls).provides
    given = {
        # The reference of this one is trained on the whole pool, by definition.
        "reference": f"models.reference={OF_THE_POOL if name == 'rho-1-self' else WARM_UP}",
        "pool": "models.pool={warm_up: {folds: 2}}",
        "utility": f"models.utility={WARM_UP}",
        "unsafe": f"models.unsafe={{warm_up: {{files: [{unsafe}]}}}}",
    }
    return [
        f"data.files=[{pool}]",
        "data.max_length=256",
        f"models.base={base}",
        f"method={json.dumps(method)}",
        "controls=[]",
        f"evaluate.held_out=[{held_out}]",
        *(setting for role, setting in given.items() if role in roles),
        *TRAIN,
    ]


def figures(folder: Path, arm: str) -> tuple[float, float, float]:
    """Return the held-out loss of an arm, the share of tokens that it trained on and the seconds of its run."""
    view = load_run(folder)
    selection = next(row.selection for row in view.rows if row.name == arm)
    assert selection is not None
    loss = read_json(folder / "arms" / arm / "evaluation.json")["held_out"]["loss"]
    return loss, selection.kept / selection.trainable, sum(view.seconds.values())


def main() -> None:
    """Carry out every run and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/every-method"))
    parser.add_argument("--only", help="names of methods, separated by commas")
    arguments = parser.parse_args()
    data, output = arguments.shared / "data", arguments.output
    pool, held_out = instructions(data / "alpaca_subsets/random/random_9k.json", output / "data", 500, 200)
    unsafe = harmful(data / "advbench/harmful_behaviors.csv", output / "data/harmful.jsonl")
    names = arguments.only.split(",") if arguments.only else [name for name in all_methods() if name != "random"]

    def one(folder: str, **method: float | str) -> tuple[float, float, float]:
        settings = overrides(method, arguments.shared / "models/english-3M", pool, held_out, unsafe)
        run(load_recipe(None, [f"output={output / folder}", f"store={output / 'store'}", *settings]))
        return figures(output / folder, str(method["name"]))

    full, _, _ = one("full", name="full")
    lines = ["| method | kept | held-out loss | random, same share | full | seconds |", "|---|---|---|---|---|---|"]
    for name in names:
        loss, kept, seconds = one(name, name=name)
        percent = round(100 * kept)
        control = f"{one(f'random-{percent}', name='random', fraction=percent / 100)[0]:.4f}" if percent < 100 else "-"
        lines.append(f"| `{name}` | {kept:.1%} | {loss:.4f} | {control} | {full:.4f} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    print("\n".join(["", *lines]))


if __name__ == "__main__":
    main()
