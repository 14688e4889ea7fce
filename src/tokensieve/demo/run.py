"""`tokensieve demo`: the whole job on the embedded model and generated data."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from tokensieve.config import load_recipe
from tokensieve.demo.audit import audit
from tokensieve.demo.dataset import write
from tokensieve.pipeline import run
from tokensieve.report.page import write_page
from tokensieve.report.terminal import results_table
from tokensieve.report.view import load_run

_HERE = Path(__file__).parent


def run_demo(output: Path, seed: int) -> None:
    """Generate the data, carry out the recipe and show what came of it.

    Args:
        output: folder of the run; the data lies beside it.
        seed: of the data, the training and the random control.

    Raises:
        TokensieveError: an output folder that holds something else.
    """
    start = time.perf_counter()
    console = Console()
    data = output.with_name(f"{output.name}-data-{seed}")
    if not data.is_dir():
        write(seed, data)
    folder = run(load_recipe(_HERE / "recipe.yaml", demo_overrides(output, data, seed)), "evaluate")
    audit(load_run(folder), data / "pool.jsonl")
    view = load_run(folder)
    write_page(view, folder / "report.html", 100)
    console.print(results_table(view))
    console.print(f"took {time.perf_counter() - start:.0f} s; page: {folder / 'report.html'}", highlight=False)
    console.print(f"look at a noisy answer:  tokensieve show {output} --example 0", highlight=False, soft_wrap=True)
    console.print("on your own data:", highlight=False)
    console.print(
        "  tokensieve run output=runs/mine data.files=YOUR.jsonl models.base=YOUR_MODEL "
        "'models.reference={warm_up: {rows: 1000}}'",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def demo_overrides(output: Path, data: Path, seed: int) -> list[str]:
    """Return what the embedded recipe leaves open: paths and the seed."""
    return [
        f"output={output}",
        f"seed={seed}",
        f"data.files=[{data / 'pool.jsonl'}]",
        f"models.base={_HERE / 'model'}",
        f"models.reference.warm_up.files=[{data / 'warmup.jsonl'}]",
        f"evaluate.held_out=[{data / 'test.jsonl'}]",
        f"evaluate.exact_match.files=[{data / 'test.jsonl'}]",
    ]
