"""Tokenising conversations, against one call of the chat template and tokenizer for each message prefix.

    python benchmarks/speed/tokenising.py

The limit is the tokenizer itself: one call of its batch encoder on texts that are rendered already.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, interleaved, main, middle, ratios, seconds

import tokensieve.demo
from tokensieve.data.formats import Conversation
from tokensieve.data.tokenize import Encoded, Encoder, load_encoder
from tokensieve.demo.dataset import generate

MODEL = Path(tokensieve.demo.__file__).parent / "model"
CONVERSATIONS = 5000
# Exchanges of a conversation and their shares; median words of a question and of an answer: hh-rlhf, first 2,000 rows.
EXCHANGES = {1: 0.29, 2: 0.25, 3: 0.26, 4: 0.15, 5: 0.05}
WORDS = {"user": 10, "assistant": 22}


def conversations(count: int) -> list[list[dict[str, str]]]:
    """Return conversations of the demo's words, as long as those of a real data set."""
    generator = np.random.default_rng(0)
    words = " ".join(m["content"] for row in generate(0)["pool"] for m in row["messages"]).split(" ")

    def message(role: str) -> dict[str, str]:
        start = int(generator.integers(len(words)))
        length = 1 + int(generator.lognormal(np.log(WORDS[role]), 0.8))
        return {"role": role, "content": " ".join(words[start : start + length]).strip() or "Hi"}

    exchanges = generator.choice(list(EXCHANGES), count, p=list(EXCHANGES.values()))
    return [[message(role) for _ in range(number) for role in ("user", "assistant")] for number in exchanges]


def prefix_by_prefix(tokenizer: Any, messages: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Return ids and labels of a conversation, the way published scripts find the answers."""
    ids: list[int] = []
    labels: list[int] = []
    for number, message in enumerate(messages):
        ids = tokenizer.apply_chat_template(messages[: number + 1], tokenize=True, return_dict=False)
        fresh = ids[len(labels) :]
        labels += fresh if message["role"] == "assistant" else [-100] * len(fresh)
    return ids, labels


def rows(runs: int) -> list[Row]:
    """Measure both lines, on a tenth of the 50,000."""
    marked = load_encoder(str(MODEL))
    unmarked = load_encoder(str(MODEL), re.sub(r"\{%-? (end)?generation %\}", "", marked.template))
    messages = conversations(CONVERSATIONS)
    what = f"tokenising conversations of 1 to 5 exchanges ({CONVERSATIONS:,}, times ten for 50k)"
    return [
        _row(what, marked, messages, runs),
        _row("the same, by a template that does not mark the answers", unmarked, messages, runs),
    ]


def _row(what: str, encoder: Encoder, messages: list[list[dict[str, str]]], runs: int) -> Row:
    tokenizer = encoder.tokenizer
    found: dict[str, list[Any]] = {}

    def published() -> None:
        found["published"] = [prefix_by_prefix(tokenizer, turns)[1] for turns in messages]

    def ours() -> None:
        found["ours"] = encoder.encode([Conversation(turns) for turns in messages])

    slow, fast = interleaved(published, ours, runs)
    opening = tokenizer.convert_tokens_to_ids("<|assistant|>")
    for theirs, encoded in zip(found["published"][:200], found["ours"][:200], strict=True):
        assert isinstance(encoded, Encoded)
        # The prefix way also trains on the token that opens an answer.
        assert [-100 if label == opening else label for label in theirs] == encoded.labels.tolist()
    texts = [encoder.render(Conversation(turns)) for turns in messages]
    alone = [seconds(lambda: tokenizer.backend_tokenizer.encode_batch(texts)) for _ in range(runs)]
    return Row(
        what,
        "one call per message prefix",
        "10x",
        ratios(slow, fast),
        f"{middle(slow)} to {middle(fast)}; the tokenizer alone {middle(alone)}",
    )


if __name__ == "__main__":
    main(rows, __doc__)
