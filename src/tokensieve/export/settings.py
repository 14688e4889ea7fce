"""Names of the targets, apart so that the command line need not import what writes them."""

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
