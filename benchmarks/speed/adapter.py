"""A base and its LoRA adapter measured from one load, against two bare passes, and against two loads.

python benchmarks/speed/adapter.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from harness import Row, interleaved, main, middle, ratios
from measure import SHAPE_15M, random_examples
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from tokensieve.containers import LOSS
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings


def rows(runs: int) -> list[Row]:
    """Measure the line."""
    torch.manual_seed(0)
    examples = random_examples(100, SHAPE_15M["vocab_size"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    budget = MeasureSettings().batch_tokens(device.type)

    def measure(model: Any) -> None:
        with Forward(model, [LOSS]) as forward:
            measure_shard(forward, examples, budget, lambda _: None)

    with tempfile.TemporaryDirectory() as temporary:
        base, adapter = Path(temporary) / "base", Path(temporary) / "adapter"
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M))
        model.save_pretrained(str(base))
        lora = LoraConfig(r=64, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(str(adapter))
        bare, adapted = ModelSettings(str(base)), ModelSettings(str(base), str(adapter))
        held = ModelPool(str(device))

        def two_bare_passes() -> None:
            for _ in range(2):
                with held.use(bare) as loaded:
                    measure(loaded)

        def one_load() -> None:
            pool = ModelPool(str(device))
            for settings in (bare, adapted):
                with pool.use(settings, merge=True) as loaded:
                    measure(loaded)

        def two_loads() -> None:
            for settings in (bare, adapted):
                with ModelPool(str(device)).use(settings) as loaded:
                    measure(loaded)

        passes, ours = interleaved(two_bare_passes, one_load, runs)
        apart, _ = interleaved(two_loads, lambda: None, max(1, runs // 2))
    return [
        Row(
            "base and LoRA reference (rank 64), load included",
            "two bare passes of a loaded model",
            "1.05x its time",
            ratios(ours, passes),
            f"{middle(passes)} to {middle(ours)}; loaded twice, with the adapter apart: {middle(apart)}",
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
