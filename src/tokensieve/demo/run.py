"""`tokensieve demo`: a complete run on the embedded model and generated data."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from tokensieve.demo.dataset import write
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.report.terminal.runs import print_results
from tokensieve.report.terminal.tables import output_console
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run
from tokensieve.store.paths import check_local

_HERE = Path(__file__).parent


def run_demo(output: Path, seed: int) -> tuple[Path, float]:
    """Generate the data, run the recipe and write the page.

    Args:
        output: the run folder; the data is written beside it.
        seed: seed of the data, the training and the random control.

    Returns:
        The run folder, and the elapsed seconds.

    Raises:
        TokensieveError: the output folder has other content, or is one of an object store.
    """
    check_local(output, "--output")
    start = time.perf_counter()
    data = output.with_name(f"{output.name}-data-{seed}")
    if not data.is_dir():
        write(seed, data)
    folder = run(load_recipe(_HERE / "recipe.yaml", demo_overrides(output, data, seed)))
    return folder, time.perf_counter() - start


def print_demo(folder: Path, seconds: float) -> None:
    """Print the results of the demo, and the next commands to try."""
    console = output_console()
    print_results(load_run(folder), console)
    own = os.path.relpath(Path(sys.executable).with_name("tokensieve"))
    command = "tokensieve" if shutil.which("tokensieve") else own  # the environment is not activated
    console.print(f"took {seconds:.0f} s; page: {RunFolder(folder).page}", highlight=False, soft_wrap=True)
    console.print(f"look at a noisy answer:  {command} show {folder} --example 0", highlight=False, soft_wrap=True)
    console.print("try your own data:", highlight=False)
    console.print(
        f"  {command} run output=runs/mine data.files=YOUR.jsonl models.base=YOUR_MODEL "
        "'models.reference={warm_up: {rows: 1000}}'",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def demo_overrides(output: Path, data: Path, seed: int) -> list[str]:
    """Return the settings that the embedded recipe leaves open: paths and the seed."""
    return [
        f"output={output}",
        f"seed={seed}",
        f"data.files=[{data / 'pool.jsonl'}]",
        f"models.base={_HERE / 'model'}",
        f"models.reference.warm_up.files=[{data / 'warmup.jsonl'}]",
        f"evaluate.held_out=[{data / 'test.jsonl'}]",
        f"evaluate.exact_match.files=[{data / 'test.jsonl'}]",
    ]
