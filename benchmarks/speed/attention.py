"""Attention to the prompt, one layer, length 4096, against a pass that returns the attention of every layer.

    python benchmarks/speed/attention.py

Both run the whole model; the baseline with ``output_attentions=True`` (the eager implementation, as published), ours
with scaled dot-product attention and the statistic taken on the way. What the statistic itself adds to a pass is in
the figures.
"""

from __future__ import annotations

import resource
from typing import Any

import torch
from harness import Row, interleaved, main, middle, ratios, seconds
from transformers import AutoModelForCausalLM, LlamaConfig

from tokensieve.containers import StatisticSpec
from tokensieve.models.attention_tap import AttentionTap

LENGTH = 4096
SHAPE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 288,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "max_position_embeddings": LENGTH,
}


@torch.inference_mode()
def rows(runs: int) -> list[Row]:
    """Measure the line."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    eager = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    ids = torch.randint(0, SHAPE["vocab_size"], (1, LENGTH))
    prompt = torch.arange(LENGTH)[None] < LENGTH // 3
    figure = StatisticSpec.of("attention_to_prompt", {"layer": -1, "heads": "mean"})
    tap, lengths, found = AttentionTap(model, [figure]), torch.tensor([LENGTH]), {}

    def ours() -> None:
        with tap, tap.record(prompt, lengths) as recorded:
            model.base_model(input_ids=ids, use_cache=False)
        found["ours"] = recorded[figure.key]

    def published() -> None:
        attention = eager.base_model(input_ids=ids, use_cache=False, output_attentions=True).attentions[-1]
        found["published"] = attention.mean(1)[:, :, prompt[0]].sum(-1)

    ours()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    published()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    slow, fast = interleaved(published, ours, runs)
    bare = [seconds(lambda: model.base_model(input_ids=ids, use_cache=False)) for _ in range(runs)]
    difference = (found["ours"] - found["published"]).abs().max().item()
    return [
        Row(
            f"attention to the prompt, one layer, length {LENGTH:,}",
            "`output_attentions=True`",
            "10x",
            ratios(slow, fast),
            f"{middle(slow)} to {middle(fast)}, a bare pass {middle(bare)}; the published way takes {grown:.1f} GB "
            f"more; difference {difference:.1e}",
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
