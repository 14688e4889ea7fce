"""The card of a data set: README.md with a YAML header, as the Hugging Face Hub reads it.

The same selection gives the same bytes: no time, no path and no name of a machine is in it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensieve.export._base import yaml_lines

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)
_BEFORE_TRAINING = (
    " The method chooses anew in every step of the training; this is what it would choose before the first."
)


def cleaned_card(recipe: Mapping[str, Any], selection: Mapping[str, Any]) -> str:
    """Return the card of an arm's cleaned data; the arguments are those of `dataset_card`."""
    layout = (
        "Rows of `input_ids`, `attention_mask`, `labels` (unshifted, -100 where a token is not trained) and "
        "`assistant_masks` (1 where it is)."
    )
    return dataset_card(recipe, selection, layout=layout, loads_with_datasets=True)


def dataset_card(
    recipe: Mapping[str, Any],
    selection: Mapping[str, Any],
    *,
    layout: str,
    loads_with_datasets: bool,
    tags: tuple[str, ...] = (),
) -> str:
    """Return the card of what an arm chose.

    Args:
        recipe: the run's recipe, as YAML spells it.
        selection: what ``selection.json`` of the arm holds.
        layout: what the rows are, in a sentence.
        loads_with_datasets: whether `datasets.load_dataset` reads the folder.
        tags: further tags.
    """
    data = recipe["data"]
    header: dict[str, Any] = {"license": data.get("license") or "unknown"}
    header |= {
        "pretty_name": f"Tokens chosen by {selection['method']}",
        "task_categories": ["text-generation"],
        "tags": ["tokensieve", "token-selection", "supervised-fine-tuning", *tags],
        "size_categories": [_size(selection["examples_written"])],
    }
    # No `configs` with patterns of files: `datasets` caches a local folder that has them by its last name and by the
    # patterns alone, and would load one arm for another. It finds `data/train-*` and `data/train.jsonl` without.
    load = "The files are read as the trainer they were written for does."
    if loads_with_datasets:
        load = (
            "```python\nfrom datasets import load_dataset\n\n"
            'rows = load_dataset("FOLDER_OR_HUB_ID", split="train")\n```'
        )
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in _facts(recipe, selection).items())
    return (
        f"---\n{yaml_lines(header)}---\n\n"
        f"# Tokens chosen by {selection['method']}\n\n"
        "Tokenised data for supervised fine-tuning. Only a part of the answers' tokens is trained on; the others are "
        f"context.{_BEFORE_TRAINING if selection['online'] else ''}\n\n{layout}\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"{load}\n\nMade with tokensieve {importlib.metadata.version('tokensieve')}.\n"
    )


def _facts(recipe: Mapping[str, Any], selection: Mapping[str, Any]) -> dict[str, str]:
    models, data = recipe["models"], recipe["data"]
    base = _name(models["base"]["path"])
    kept, trainable = selection["kept"], selection["trainable"]
    found = {
        "method": selection["method"],
        "parameters": _pairs(selection["parameters"]),
        "rule": f"{selection['rule']['name']} {_pairs(_without(selection['rule'], 'name'))}",
        "trained tokens": f"{kept:,} of {trainable:,} ({100 * kept / trainable:.1f} %)",
        "examples": f"{selection['examples_written']:,}",
        "examples without a kept token": f"{selection['examples_without_kept']:,}, left out",
        "source rows": f"{selection['source_rows']:,}",
        "source": ", ".join(_name(source) for source in data["files"]),
        "source fingerprint": selection["data"],
        "tokenizer": _name(data["tokenizer"]) if data["tokenizer"] else base,
        "longest example allowed": str(data["max_length"]),
        "base model": base,
    }
    found |= {f"{role} model": _model(model, base) for role, model in models.items() if role != "base"}
    return {name: value for name, value in found.items() if value}


def _model(model: Mapping[str, Any], base: str) -> str:
    name = _name(model["path"]) if model["path"] else base
    if model["warm_up"]:
        warm_up = model["warm_up"]
        rows = f"{warm_up['rows']:,} rows" if warm_up["rows"] else "all rows"
        files = ", ".join(_name(source) for source in warm_up["files"]) or "this data"
        return f"{name}, fine-tuned on {rows} of {files}"
    return f"{name} with the adapter {_name(model['adapter'])}" if model["adapter"] else name


def _name(source: str) -> str:
    """Return a Hub id as it is and the last part of a path: the rest tells of a machine."""
    return Path(source).name if Path(source).is_absolute() else source


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _cell(text: str) -> str:
    """Return text that stays within one cell of a Markdown table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _size(examples: int) -> str:
    return next((name for limit, name in _SIZES if examples < limit), "n>1B")
