"""Names of the targets, in a separate module that the command line can import quickly."""

from __future__ import annotations

from typing import Literal

TargetName = Literal[
    "trl",
    "axolotl",
    "llama-factory",
    "ms-swift",
    "open-instruct",
    "olmo-core",
    "megatron-bridge",
    "torchtune",
    "unsloth",
    "tinker",
    "jsonl",
    "parquet",
]
