"""The card of a data set: README.md with a YAML header, as the Hugging Face Hub reads it.

The same selection gives the same bytes: no time, no path and no name of a machine is in it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction, in_words
from tokensieve.select.selection import Selection

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)
_WITHOUT_WEIGHTS = (
    " The method also weights the loss of each token, and these rows carry no weights: train with `tokensieve train`"
)
_OF_THE_RULE = {field.name for field in dataclasses.fields(TopFraction)}


def cleaned_card(recipe: Mapping[str, Any], selection: Selection) -> str:
    """Return the card of an arm's cleaned data; the arguments are those of `dataset_card`."""
    layout = (
        "Rows of `input_ids`, `attention_mask`, `labels` (unshifted, -100 where a token is not trained) and "
        "`assistant_masks` (1 where it is)."
    )
    if not selection.imported:
        method = get_method(selection.method, **selection.parameters)
        if method.weighted:
            fixed = method.online and not selection.online
            layout += _WITHOUT_WEIGHTS + (", or export to a target that takes weights." if fixed else ".")
    return dataset_card(recipe, selection, layout=layout, loads_with_datasets=True)


def dataset_card(
    recipe: Mapping[str, Any],
    selection: Selection,
    *,
    layout: str,
    loads_with_datasets: bool,
    tags: tuple[str, ...] = (),
) -> str:
    """Return the card of what an arm chose.

    Args:
        recipe: the run's recipe, as YAML spells it.
        selection: what the arm selected.
        layout: what the rows are, in a sentence.
        loads_with_datasets: whether `datasets.load_dataset` reads the folder.
        tags: further tags.
    """
    from huggingface_hub import DatasetCardData

    data = recipe["data"]
    header = DatasetCardData(
        license=data.get("license") or "unknown",
        pretty_name=f"Tokens chosen by {selection.method}",
        task_categories=["text-generation"],
        tags=["tokensieve", "token-selection", "supervised-fine-tuning", *tags],
        size_categories=[_size(selection.examples_written)],
    )
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
        f"---\n{header.to_yaml()}\n---\n\n"
        f"# Tokens chosen by {selection.method}\n\n"
        "Tokenised data for supervised fine-tuning. "
        f"{_trained(selection)}\n\n{layout}\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"{load}\n\nMade with tokensieve {importlib.metadata.version('tokensieve')}.\n"
    )


def _trained(selection: Selection) -> str:
    if selection.online:
        return "The method chooses again in every step of the training; this is what it would choose before the first."
    if selection.kept == selection.trainable:
        return "Every token of the answers is trained on."
    return "Only a part of the answers' tokens is trained on; the others are context."


def _facts(recipe: Mapping[str, Any], selection: Selection) -> dict[str, str]:
    models, data = recipe["models"], recipe["data"]
    base = name_in_words(models["base"]["path"])
    kept, trainable = selection.kept, selection.trainable
    parameters, fitted = selection.parameters, selection.fitted or {}
    found = {
        "method": selection.method,
        "parameters": _pairs(_without_rule(parameters)),
        "found in the data": _pairs({name: fitted[name] for name in fitted if fitted[name] != parameters[name]}),
        "rule": in_words(selection.rule),
        "ends of turns": "kept whatever their score" if selection.identity.keep_turn_end else "as other tokens",
        "trained tokens": f"{kept:,} of {trainable:,} ({100 * kept / trainable:.1f} %)",
        "examples": f"{selection.examples_written:,}",
        "examples without a kept token": f"{selection.examples_without_kept:,}, left out",
        "source rows": f"{selection.source_rows:,}",
        "source": sources_in_words(data["files"]),
        "fingerprint of token ids, labels and lengths": selection.identity.data,
        "tokenizer": name_in_words(data["tokenizer"]) if data["tokenizer"] else base,
        "longest example allowed": str(data["max_length"]),
    }
    found |= {f"{role} model": _model(models[role], base) for role in models if role in _roles(models, selection)}
    return {name: value for name, value in found.items() if value}


def _roles(models: Mapping[str, Any], selection: Selection) -> set[str]:
    """Return the roles of the models that the choice used; the base stands for those that the recipe does not name."""
    read = {name.partition(".")[0] for name in selection.identity.statistics}
    read |= {"current"} if selection.online else set()
    return {role if role in models else "base" for role in read}


def _without_rule(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters without those of the rule, which the card describes in words."""
    if not parameters.keys() >= _OF_THE_RULE:
        return parameters
    return {name: value for name, value in parameters.items() if name not in _OF_THE_RULE}


def _model(model: Mapping[str, Any], base: str) -> str:
    name = name_in_words(model["path"]) if model["path"] else base
    if model["warm_up"]:
        warm_up = model["warm_up"]
        rows = f"{warm_up['rows']:,} rows" if warm_up["rows"] else "all rows"
        files = sources_in_words(warm_up["files"]) or "this data"
        folds = warm_up.get("folds", 1)
        return f"{name}, fine-tuned on {rows} of {files}{f' in {folds} folds' if folds > 1 else ''}"
    if preferences := model.get("preferences"):
        return f"{name}, with a head trained on the preferences of {sources_in_words(preferences['files'])}"
    return f"{name} with the adapter {name_in_words(model['adapter'])}" if model["adapter"] else name


def sources_in_words(files: Sequence[Any]) -> str:
    """Return the names of the entries of `files`, each a path or a mapping with one."""
    return ", ".join(name_in_words(entry if isinstance(entry, str) else entry["path"]) for entry in files)


def name_in_words(source: str) -> str:
    """Return a Hub id as it is and the last part of a path: the rest tells of a machine."""
    return Path(source).name if Path(source).is_absolute() else source


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _cell(text: str) -> str:
    """Return text that stays within one cell of a Markdown table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _size(examples: int) -> str:
    return next((name for limit, name in _SIZES if examples < limit), "n>1B")
