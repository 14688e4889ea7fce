"""Readers of recipes, of figures to import and of what a run and its store hold, under attack.

Files with a checksum get the right one here: else the checksum would be all that is ever tried.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from good_inputs import GOOD_ROWS, RECIPE
from row_targets import encoder
from target import Target

from tokensieve import json_text, yaml12
from tokensieve.containers import IGNORE_INDEX, segments
from tokensieve.data.example_store import ExampleStore, open_examples
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.imported_values import CHOICES, SCORES, ImportedValues
from tokensieve.pipeline.recipe import Recipe, dump_recipe, load_recipe
from tokensieve.runs.folder import RunFolder, RunState
from tokensieve.select.selection import Selection, SelectionIdentity
from tokensieve.store import checksum
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import LAYOUT, open_manifest, write_manifest
from tokensieve.store.sealed import SEAL
from tokensieve.store.shards import read_shard, write_parquet, write_shard

_WORDS = ["output: r", "data: a.jsonl", "models: {base: b}", *RECIPE, "&a", "*a", "<<: ", "!!int", "2020-13-45", ".inf"]
_GIVEN = ["output=runs/a", "data=a.jsonl", "models.base=b"]


def recipe_target(folder: Path) -> Target:
    """Return the reader of recipes."""
    base = {"output": "runs/a", "data": "a.jsonl", "models": {"base": "b"}}
    recipes = [base, *({**base, name: value} for name, value in RECIPE.items())]
    return Target(partial(_read_recipe, folder / "recipe.yaml"), [yaml12.dump(one).encode() for one in recipes], _WORDS)


def override_target(_: Path) -> Target:
    """Return the reader of what a command line changes in a recipe."""
    good = [f"{name}={json.dumps(value)}".encode() for name, value in RECIPE.items()]
    return Target(_read_override, good, [*_WORDS, *RECIPE["train"], "="])


def _read_recipe(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        recipe = load_recipe(path)
    except TokensieveError:
        return False
    text = dump_recipe(recipe)
    path.write_text(text, encoding="utf-8")
    assert dump_recipe(load_recipe(path)) == text
    return True


def _read_override(data: bytes) -> bool:
    text = data.replace(b"\0", b"").decode("utf-8", "surrogateescape")  # as Python reads a command line
    try:
        recipe = load_recipe(None, [*_GIVEN, text])
    except TokensieveError:
        return False
    assert isinstance(recipe, Recipe)
    return True


def import_target(folder: Path) -> Target:
    """Return the reader of scores, labels and masks for a few examples."""
    rows = folder / "pool.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in GOOD_ROWS[2:]), encoding="utf-8")
    store = prepare(DataSettings(files=(str(rows),), max_length=32), encoder(), folder / "store", lambda _: None)
    good: list[list[dict[str, Any]]] = [[] for _ in range(4)]
    for examples in store:
        for row, span in zip(examples.rows.tolist(), segments(examples.cu_seqlens), strict=True):
            ids, labels = examples.input_ids[span].tolist(), examples.labels[span].tolist()
            good[0].append({"row": row, "scores": [0.5] * len(ids)})
            good[1].append({"input_ids": ids, "score": list(range(len(ids)))})
            good[2].append({"row": row, "input_ids": ids, "labels": labels})
            good[3].append({"row": row, "kept": [int(label != IGNORE_INDEX) for label in labels]})
    files = ["".join(json.dumps(row) + "\n" for row in rows).encode() for rows in good]
    words = [*SCORES, *CHOICES, "row", "input_ids", "NaN", "1e999", "null"]
    return Target(partial(_read_import, store, folder / "import.jsonl"), files, words)


def _read_import(store: ExampleStore, path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    as_scores, as_choices = (_imported(store, path, scores) for scores in (True, False))
    return as_scores or as_choices


def _imported(store: ExampleStore, path: Path, scores: bool) -> bool:
    try:
        values = ImportedValues(store, path, scores=scores, spill=path.with_name("spill"))
        found = [values.read(number, examples) for number, examples in enumerate(store)]
    except TokensieveError:
        return False
    for one, examples in zip(found, store, strict=True):
        trainable = examples.labels != IGNORE_INDEX
        assert np.isfinite(one[trainable]).all() if scores else not one[~trainable].any()
    return True


def state_target(folder: Path) -> Target:
    """Return the reader of the state of a run."""
    good = asdict(RunState("run", "../x", {"base": "../y"}, ["full"], "loss", {"measure": 15}))
    return _object_target(partial(_read_state, RunFolder(folder)), good)


def _read_state(run: RunFolder, value: dict[str, Any]) -> None:
    _write_sealed(run.state_file, value)
    assert run.state().arms is not None


def selection_target(folder: Path) -> Target:
    """Return the reader of what an arm selected."""
    identity = SelectionIdentity("d", "c", "loss", {"fraction": 0.5}, {"name": "TopFraction", "fraction": 0.5})
    return _object_target(
        partial(_read_selection, folder / "selection.json"), Selection(identity, 9, 5, 2, 0, 2, 2).to_json()
    )


def _read_selection(path: Path, value: dict[str, Any]) -> None:
    _write_sealed(path, value)
    found = json.dumps(Selection.read(path).to_json())
    assert json.dumps(Selection.from_json(json.loads(found), str(path)).to_json()) == found


def manifest_target(folder: Path) -> Target:
    """Return the reader of what a folder of examples holds."""
    files = {"shard-00000.arrow": {"rows": 1, "tokens": 3, "xxh3_128": "a" * 32}}
    about = {"fingerprint": "f", "counts": {"rows": 1}, "turn_end_ids": [2], "sources": ["s"], "mark_types": []}
    return _object_target(
        partial(_read_manifest, folder), {"layout": LAYOUT, **about, "files": files, "xxh3_128": "b" * 32}
    )


def _read_manifest(folder: Path, value: dict[str, Any]) -> None:
    other = folder / "other"  # manifests are cached by the time of their last change, which has a coarse clock
    other.mkdir(exist_ok=True)
    (other / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(TokensieveError):  # the checksum is wrong
        open_manifest(other)
    given = value.pop("files", None)
    value.pop("xxh3_128", None)
    names = {one.name for one in fields(FileRecord)}
    files = {
        name: FileRecord(**one)
        for name, one in (given.items() if isinstance(given, dict) else ())
        if isinstance(one, dict) and one.keys() == names
    }
    try:
        write_manifest(folder, files, value)
    except (TypeError, ValueError, OverflowError):
        return  # such as a checksum that is no number
    store = open_examples(folder)
    assert len(store.starts) == len(store.first_examples) == store.shards + 1
    assert not open_manifest(folder).complete or not files


def _object_target(read: Callable[[dict[str, Any]], None], good: dict[str, Any]) -> Target:
    return Target(partial(_read_object, read), [json.dumps(good).encode()], [*good, "\\ud800", "null"])


def _write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write an object with its checksum, also one that tokensieve would not write."""
    value.pop(SEAL, None)
    seal = checksum.of_bytes(json.dumps(value, sort_keys=True).encode())
    path.write_text(json.dumps({**value, SEAL: seal}), encoding="utf-8")


def _read_object(read: Callable[[dict[str, Any]], None], data: bytes) -> bool:
    try:
        value = json_text.parse(data)
        read(value if isinstance(value, dict) else {"value": value})
    except (TokensieveError, json_text.JsonError):
        return False
    return True


def shard_target(suffix: str, folder: Path) -> Target:
    """Return the reader of shards with an ending."""
    path, cu_seqlens = folder / f"shard{suffix}", np.array([0, 2, 2, 5])
    ragged = {"score": np.linspace(0, 1, 5), "kept": np.arange(5) > 2, "ids": np.arange(5, dtype=np.int32)}
    if suffix == ".arrow":
        write_shard(path, cu_seqlens, ragged, {"row": np.arange(3)})
    else:
        write_parquet(path, cu_seqlens, ragged)
    return Target(partial(_read_shard, path), [path.read_bytes()], list(ragged))


def _read_shard(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        cu_seqlens, columns = read_shard(path)
    except TokensieveError:
        return False
    lengths = {len(cu_seqlens) - 1, int(cu_seqlens[-1])}
    assert cu_seqlens[0] == 0
    assert (np.diff(cu_seqlens) >= 0).all()
    assert all(len(values.tolist()) in lengths for values in columns.values())  # reads every value
    return True
