"""Inputs that every reader takes, to be mutated: rows of every form, and a recipe with every section."""

from __future__ import annotations

from typing import Any

COLUMNS = (
    "messages", "conversations", "prompt", "completion", "instruction", "input", "output", "question", "answer", "text",
    "input_ids", "labels", "attention_mask", "tools", "system", "history", "spans", "corrected", "source", "images",
)  # fmt: skip
GOOD_ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yo", "spans": [[0, 2, "a"]]},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "1"},
            {"role": "assistant", "content": "One", "loss_mask": 0},
            {"role": "assistant", "content": "Two", "thinking": "so"},
        ],
        "tools": [{"name": "f", "parameters": {}}],
    },
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "Be kind"},
    {"prompt": "Hi", "completion": " Hello", "corrected": " Bye"},
    {"instruction": "Say", "input": "a", "output": "b", "history": [["c", "d"]]},
    {"question": "a", "answer": "b c d", "spans": [{"start": 0, "end": 1, "type": "x"}], "source": "s"},
    {"text": "a b c"},
    {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "attention_mask": [1, 1, 1], "spans": [[1, 2]]},
]

RECIPE: dict[str, Any] = {
    "method": {"name": "loss", "fraction": 0.5},
    "controls": ["full", {"name": "random", "seed": 1}],
    "seed": 1,
    "train": {"learning_rate": 1e-4, "lora": {"r": 4, "target_modules": ["q_proj"]}, "max_steps": 2},
    "evaluate": {"batch_size": 4, "exact_match": {"files": ["a.jsonl"], "max_new_tokens": 4, "extract": "a(b)"}},
    "select": {"keep_turn_end": True, "threshold": None},
    "report": {"examples": 3},
    "measure": {"token_budget": 100, "statistics": ["entropy"]},
    "engine": {"name": "local"},
    "search": {"methods": ["loss"], "minutes": 3},
}
