"""Tokenising conversations, against one call of the chat template and tokenizer for each message prefix.

python benchmarks/speed/tokenising.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, interleaved, main, middle, ratios

import tokensieve.demo
from tokensieve.data.formats import Conversation
from tokensieve.data.tokenize import Encoded, load_encoder
from tokensieve.demo.dataset import Sizes, generate

MODEL = Path(tokensieve.demo.__file__).parent / "model"
CONVERSATIONS = 5000


def rows(runs: int) -> list[Row]:
    """Measure the line, on a tenth of the 50,000."""
    encoder = load_encoder(str(MODEL))
    tokenizer = encoder.tokenizer
    pool = generate(0, Sizes(pool=CONVERSATIONS))["pool"]
    messages = [[{"role": m["role"], "content": m["content"]} for m in row["messages"]] for row in pool]
    found: dict[str, list[Any]] = {}

    def published() -> None:
        result = []
        for turns in messages:
            labels: list[int] = []
            for number, turn in enumerate(turns):
                ids = tokenizer.apply_chat_template(turns[: number + 1], tokenize=True, return_dict=False)
                fresh = ids[len(labels) :]
                labels += fresh if turn["role"] == "assistant" else [-100] * len(fresh)
            result.append(labels)
        found["published"] = result

    def ours() -> None:
        found["ours"] = encoder.encode([Conversation(turns) for turns in messages])

    slow, fast = interleaved(published, ours, runs)
    opening = tokenizer.convert_tokens_to_ids("<|assistant|>")
    for theirs, encoded in zip(found["published"][:200], found["ours"][:200], strict=True):
        assert isinstance(encoded, Encoded)
        # The prefix way also trains on the token that opens an answer.
        assert [-100 if label == opening else label for label in theirs] == np.array(encoded.labels).tolist()
    return [
        Row(
            f"tokenising conversations ({CONVERSATIONS:,}, times ten for 50k)",
            "one call per message prefix",
            "10x",
            ratios(slow, fast),
            f"{middle(slow)} to {middle(fast)}",
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
