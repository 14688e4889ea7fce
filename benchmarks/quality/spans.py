"""What a decision on spans adds to scores of single tokens, on pools whose noise is known.

    python benchmarks/quality/spans.py ../shared --noise german java --output runs/recovered

For each pool (`pools.py`), a table says how well scores find the noise by word: the losses of the base and of the
reference, the excess loss, and the loss of the reference minus that of the pool's model; each alone, and as the mean
of 15 and 31 words of the same answer. `span-ratio` joins the last one by a chain of two states. Below stands what
`span-ratio` drops by itself, at its own margin and at others. Nothing is trained on what is kept: `recovered.py` does
that, on the same pools and with the same models where it is given the same output.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from detection import WordTable, judge, markdown, smoothed, words_of
from pools import KINDS, build_pools
from recovered import Setting, recipe_of

from tokensieve.pipeline.stages import run
from tokensieve.runs.view import load_run
from tokensieve.store import fingerprint

MARGINS = (0.25, 0.5, 0.0)
"""The first is the default."""
_SIDES = (7, 15)  # words


def scores_of(table: WordTable) -> WordTable:
    """Return the words with the scores that are compared: low = drop."""
    base, clean, pool = (-table.scores[f"{role}.loss"] for role in ("base", "reference", "pool"))
    alone = {
        "loss of the base": base,
        "loss of the reference": clean,
        "excess loss (`token-cleaning`)": clean - base,
        "loss of the reference minus that of the pool": clean - pool,
    }
    found = dict(alone)
    for name, values in alone.items():
        found |= {f"{name}, mean of {2 * side + 1} words": smoothed(values, table.row, side) for side in _SIDES}
    return WordTable(table.row, table.marked, table.text, {**found, "span-ratio": table.scores["span-ratio"]})


def main() -> None:
    """Judge every score on every pool, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/recovered"))
    parser.add_argument("--noise", nargs="+", choices=(*KINDS, "translations"), default=["german", "java"])
    parser.add_argument("--share", type=float, default=0.45)
    parser.add_argument("--place", choices=("append", "insert"), default="append")
    parser.add_argument("--reference", default="reference_150_clean")
    parser.add_argument("--base", default="english-3M")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=250)
    options = parser.parse_args()
    kept = []
    data, base = options.shared / "data", options.shared / "models" / options.base
    setting = Setting(base, 256, 1, (), (options.reference,), data, options.output)
    where = options.place, options.rows, options.held_out
    pools = build_pools(data, options.output / "pools", options.noise, [options.share], *where)
    for pool, _ in pools:
        name = f"{pool.name}-{options.reference}-{options.base}"
        arms = ", ".join(f"{{name: span-ratio, margin: {margin:g}}}" for margin in MARGINS)
        recipe = recipe_of(
            pool, setting, options.reference, options.output / f"{name}-spans", f"[{arms}, token-cleaning]"
        )
        view = load_run(run(recipe, "select"))
        table = scores_of(words_of(view))
        found = [judge(one, values, table) for one, values in table.scores.items()]
        lines = markdown(name, table, found)
        for row in view.rows:
            if row.selection is not None and row.selection.method == "span-ratio" and row.selection.marks:
                marks = row.selection.marks
                dropped = marks["removed"] / marks["marked"], marks["unmarked_removed"] / marks["unmarked"]
                margin = row.selection.parameters["margin"]
                lines.append(
                    f"* margin {margin:g}: {dropped[0]:.1%} of the noise and {dropped[1]:.1%} of the rest dropped"
                )
        print("\n".join([*lines, ""]), flush=True)
        kept += [{"pool": name, **vars(one), **fingerprint.versions()} for one in found]
        pq.write_table(pa.Table.from_pylist(kept), options.output / "spans.parquet")


if __name__ == "__main__":
    main()
