"""XTF's three attributes of a corpus, against loops over positions and a pass for each attribute.

    python benchmarks/speed/xtf.py

The baseline does what the published scripts do: a pass for the attention (eager, all layers returned), a pass for the
probabilities with a softmax over the vocabulary at each position, and a pass of one token for each distinct token.
"""

from __future__ import annotations

import numpy as np
import torch
from harness import Row, interleaved, main, middle, ratios
from measure import SHAPE_15M, random_examples
from transformers import AutoModelForCausalLM, LlamaConfig

from tokensieve.containers import IGNORE_INDEX, LOSS, StatisticSpec, segments
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.relevance import relevance_table

DISTINCT = 1950  # of the 32,000 ids, as many as ARC holds in a corpus of this size


def rows(runs: int) -> list[Row]:
    """Measure the line."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M)).eval()
    eager = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE_15M), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    examples = random_examples(40, DISTINCT)
    domain = np.arange(50)
    attention = StatisticSpec.of("attention_received", {"layer": 0, "heads": "mean"})
    found = {}

    @torch.inference_mode()
    def published() -> None:
        losses, received = np.zeros(len(examples.labels)), np.zeros(len(examples.labels))
        vectors = {}
        for token in {*examples.input_ids.tolist(), *domain.tolist()}:
            vectors[token] = eager.base_model(input_ids=torch.tensor([[token]])).last_hidden_state[0, 0]
        centre = torch.stack([vectors[token] for token in domain.tolist()]).mean(0)
        relevance = [torch.cosine_similarity(vectors[t], centre, dim=0).item() for t in examples.input_ids.tolist()]
        for span in segments(examples.cu_seqlens):
            ids = torch.from_numpy(examples.input_ids[span].astype(np.int64))[None]
            share = eager(input_ids=ids, output_attentions=True).attentions[0][0].mean(0)
            seers = torch.arange(len(share), 0, -1)
            received[span] = share.sum(0) / seers
            logits = eager(input_ids=ids).logits[0]
            for position in range(1, len(logits)):
                probability = logits[position - 1].softmax(-1)[ids[0, position]]
                losses[span.start + position] = -probability.log().item()
        found["published"] = (losses, received, np.array(relevance))

    def ours() -> None:
        with Forward(model, [LOSS, attention]) as forward:
            figures = measure_shard(forward, examples, 1024, lambda _: None)
        table = relevance_table(model, domain, "hidden", DISTINCT)
        found["ours"] = (figures[LOSS.key], figures[attention.key], table[examples.input_ids])

    slow, fast = interleaved(published, ours, runs)
    trainable = examples.labels != IGNORE_INDEX
    difference = max(
        float(np.abs(a[trainable] - b[trainable]).max()) for a, b in zip(found["published"], found["ours"], strict=True)
    )
    return [
        Row(
            f"XTF's three attributes of {len(examples.labels):,} tokens",
            "loops over positions, a pass for each attribute and distinct token",
            "10x",
            ratios(slow, fast),
            f"{middle(slow)} to {middle(fast)}; largest difference {difference:.1e}",
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
