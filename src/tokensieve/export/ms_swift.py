"""ms-swift: one assistant message of token ids per example, with a loss scale for each token.

The documented ``loss_scale`` of a message is one number for all of its text. Rows of token ids accept one number per
token, which ms-swift uses for answers that it generates itself. The prompt is then part of the message, with a scale of
0. ms-swift must not apply a chat template, because the token ids already include it. (ms-swift 4.0 to 4.6,
``loss_scale/base.py`` and ``template/base.py``; not in its documentation.)
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokensieve.containers import segments
from tokensieve.export._base import Facts, Shard, Shards, Snippet, Target, write_lines


def _write(shards: Shards, folder: Path, facts: Facts) -> tuple[str, ...]:
    del facts
    write_lines(shards, folder, _rows)
    return ()


def _rows(shard: Shard) -> Iterator[dict[str, Any]]:
    for span in segments(shard.cu_seqlens):
        content = {"token_ids": shard.input_ids[span].tolist(), "loss_scale": shard.loss_scale[span].tolist()}
        # Otherwise ms-swift appends an EOS token to a text without one, and trains it.
        yield {"messages": [{"role": "assistant", "content": content}], "add_eos": False}


def _config(facts: Facts) -> tuple[Snippet, ...]:
    arguments = {
        "model": facts.model,
        "dataset": str(facts.folder / "data" / "train.jsonl"),
        "max_length": str(facts.max_length),
        "template": "dummy",
        "use_chat_template": "false",
        "remove_unused_columns": "false",
        "loss_scale": "default",
        **({"is_binary_loss_scale": "false"} if facts.weighted else {}),
    }
    lines = [f"  --{name} {shlex.quote(value)}" for name, value in arguments.items()]
    return (Snippet("the command that starts ms-swift", "console", " \\\n".join(["swift sft", *lines]) + "\n"),)


TARGETS = (
    Target(
        "ms-swift",
        _write,
        _config,
        "JSON lines with one assistant message of `token_ids` and the `loss_scale` of each; prompts have 0.",
        carries_weights=True,
        loads_with_datasets=True,
        note="needs ms-swift 4 or later; remove_unused_columns must stay false, or an EOS token is added and trained",
    ),
)
