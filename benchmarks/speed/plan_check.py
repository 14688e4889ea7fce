"""The times that `tokensieve plan` gives for this machine, against those of the run itself.

    python benchmarks/speed/plan_check.py --models ../shared/models --data ../shared/data

Each repetition makes the plan and then carries out the run, with a store of its own, in one process. The ratio is the
estimated over the measured seconds of a stage, so that 1.00 is right; the goal is 0.75 to 1.25.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from harness import Row, finish, parser
from measure import SHAPE_15M
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from tokensieve.cli.common import quiet
from tokensieve.pipeline.forecast.forecast import Forecast, forecast
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.progress import StageProgress
from tokensieve.runs.folder import RunFolder

INSTRUCT = "llmsfromscratch_instruct/ch07/01_main-chapter-code/instruction-data.json"
ALPACA, GSM8K = "alpaca_subsets/random/random_9k.json", "gsm8k/test.jsonl"
RANDOM_15M = "random-15M"
_SHORT = "train: {gradient_accumulation_steps: 1}"
CASES: dict[str, tuple[str, str, list[str]]] = {
    "english-3M on Alpaca, LoRA": (
        "english-3M",
        ALPACA,
        ["data.limit=100", f"models.reference={{warm_up: {{rows: 48, {_SHORT}}}}}"],
    ),
    "english-3M on instructions, all weights": (
        "english-3M",
        INSTRUCT,
        [
            "data.limit=200",
            "train={lora: null, gradient_checkpointing: false}",
            f"models.reference={{warm_up: {{rows: 96, {_SHORT}}}}}",
        ],
    ),
    "stories260K on instructions, LoRA": (
        "stories260K",
        INSTRUCT,
        ["data.limit=480", f"models.reference={{warm_up: {{rows: 192, {_SHORT}}}}}"],
    ),
    "stories260K on Alpaca, all weights, batches of 16": (
        "stories260K",
        ALPACA,
        [
            "data.limit=192",
            "train={lora: null, per_device_train_batch_size: 16, gradient_accumulation_steps: 3}",
            f"models.reference={{warm_up: {{rows: 96, {_SHORT}}}}}",
        ],
    ),
    "random 15M Llama on Alpaca, LoRA": (
        RANDOM_15M,
        ALPACA,
        ["data.limit=48", f"models.reference={{warm_up: {{rows: 32, {_SHORT}}}}}"],
    ),
}


def measured_seconds(folder: Path) -> dict[str, float]:
    """Return the seconds of each stage of a finished run, as a plan names the stages."""
    seconds = RunFolder(folder).seconds()
    together = {"select": 0.0, "evaluate": 0.0}
    for name, taken in seconds.items():
        stage = name.split()[0] if name.split()[0] in together else name
        together[stage] = together.get(stage, 0.0) + taken
    return together


def compared(found: Forecast, measured: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return estimated and measured seconds by stage; all measuring, making and training as one stage each."""
    pairs: dict[str, tuple[float, float]] = {}
    for stage in found.stages:
        if measured.get(stage.name):
            kind = stage.name.split()[0]
            before = pairs.get(kind, (0.0, 0.0))
            pairs[kind] = (before[0] + stage.seconds, before[1] + measured[stage.name])
    return pairs


def rows(runs: int, models: Path, data: Path, only: str = "") -> list[Row]:
    """Compare every stage of every case."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M)).save_pretrained(str(folder / RANDOM_15M))
        AutoTokenizer.from_pretrained(models / "english-3M").save_pretrained(str(folder / RANDOM_15M))
        for name, (model, file, settings) in CASES.items():
            if only not in name:
                continue
            path = folder / model if model == RANDOM_15M else models / model
            pairs: dict[str, list[tuple[float, float]]] = {}
            for number in range(runs):
                own = folder / f"{len(found)}-{number}"
                given = [
                    f"output={own / 'run'}",
                    f"store={own / 'store'}",
                    f"data.files={data / file}",
                    f"models.base={path}",
                    f"evaluate.held_out={{files: [{data / GSM8K}], limit: 100}}",
                    f"evaluate.exact_match={{files: [{data / GSM8K}], limit: 16}}",
                    "controls=[full]",
                    "report.examples=0",
                ]
                recipe = load_recipe(None, [*given, *settings])
                estimated = forecast(recipe, "this", StageProgress(shown=False))
                run(recipe, "evaluate", progress=False)
                for stage, pair in compared(estimated, measured_seconds(own / "run")).items():
                    pairs.setdefault(stage, []).append(pair)
                    print(f"{name}, {stage}: {pair[0]:.2f} s estimated, {pair[1]:.2f} s measured", flush=True)
            for stage, both in pairs.items():
                ratio = tuple(one / other for one, other in both)
                middles = [statistics.median(column) for column in zip(*both, strict=True)]
                detail = f"{middles[0]:.3g} s estimated, {middles[1]:.3g} s measured"
                found.append(Row(f"{stage}, {name}", "the run", "0.75 to 1.25", ratio, detail))
    return found


if __name__ == "__main__":
    quiet()
    arguments = parser(__doc__)
    arguments.add_argument("--models", type=Path, required=True, help="folder of english-3M and stories260K")
    arguments.add_argument("--data", type=Path, required=True, help="folder of the data sets that CASES names")
    arguments.add_argument("--only", default="", help="cases whose name has this in it")
    arguments.add_argument(
        "--processor-time",
        action="store_true",
        help="seconds of the processor, so that other processes count less; with OMP_NUM_THREADS=1",
    )
    given = arguments.parse_args()
    if given.processor_time:
        time.perf_counter = time.process_time
    finish(rows(given.runs, given.models, given.data, given.only), given.rows)
