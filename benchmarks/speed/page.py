"""How large the page of a run is, and how long it takes to write, to serve, to open, to slide and to search.

tokensieve demo
python benchmarks/speed/page.py runs/demo --folder /tmp/page --examples 500 5000 50000 100000

The examples of the run are repeated, shard by shard, until there are as many; their texts are short. The browser is a
headless Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.data.example_store import open_examples
from tokensieve.ops.ragged import gather_segments, offsets
from tokensieve.report.html.page import write_page
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json, write_json
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.shards import shard_name, write_shard

_SHARD_EXAMPLES = 25_000
_WORD = "question"
_SETTINGS = range(5, 85, 4)
_MOVES = """async (settings) => {
  const slider = document.getElementById("ratio"), took = [];
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (const setting of settings) {
    await painted();
    slider.value = setting;
    const start = performance.now();
    slider.dispatchEvent(new Event("input"));
    await painted();
    took.push(performance.now() - start);
  }
  return took;
}"""
_SEARCH = """async (word) => {
  const field = document.getElementById("search"), listed = document.getElementById("listed"), before = listed.innerText;
  const start = performance.now();
  field.value = word;
  document.getElementById("list-bar").requestSubmit();
  while (listed.innerText === before) await new Promise((done) => requestAnimationFrame(done));
  return performance.now() - start;
}"""


def repeated(run: Path, folder: Path, examples: int) -> Path:
    """Write a run of one shard anew below a folder, its examples repeated until there are so many."""
    state, new = RunFolder(run).state(), folder / f"runs/{examples}"
    store = RunFolder(run).place_of(state.examples)
    counts = open_examples(store).counts
    size = counts.examples
    parts = np.array_split(np.arange(examples), -(-examples // _SHARD_EXAMPLES))
    factor = examples / size
    _repeat(store, folder / f"examples-{examples}", parts, size)
    manifest = open_manifest(folder / f"examples-{examples}")
    numbers = replace(counts, rows=examples, examples=examples, trainable_tokens=round(counts.trainable_tokens * factor))
    write_manifest(manifest.folder, manifest.files, {**manifest.about, "counts": vars(numbers)})
    shutil.copytree(store / "tokenizer", manifest.folder / "tokenizer", dirs_exist_ok=True)
    cut = open_examples(manifest.folder).cut
    for role, place in state.statistics.items():
        _repeat(RunFolder(run).place_of(place), folder / f"{role}-{examples}", parts, size)
    for arm in state.arms:
        shutil.copytree(run / "arms" / arm, new / "arms" / arm, ignore=shutil.ignore_patterns("model", "cleaned", "scores"))
        _repeat(run / "arms" / arm / "scores", new / "arms" / arm / "scores", parts, size)
        selection = read_json(run / "arms" / arm / "selection.json")
        totals = {name: round(selection[name] * factor) for name in ("trainable", "kept", "examples", "examples_written")}
        write_json(new / "arms" / arm / "selection.json", {**selection, **totals, "cut": cut})
    places = {role: f"../../{role}-{examples}" for role in state.statistics}
    about = {**read_json(run / "run.json"), "examples": f"../../examples-{examples}", "statistics": places}
    write_json(new / "run.json", about)
    for name in ("recipe.yaml", "times.json"):
        shutil.copyfile(run / name, new / name)
    return new


def _repeat(source: Path, target: Path, parts: list[Int64], size: int) -> None:
    """Write the one shard of each kind that a folder has, as some shards of repeated examples."""
    manifest, files = open_manifest(source), {}
    for name in manifest.files:
        if Path(name).name != shard_name(0):
            continue
        cu_seqlens, columns = manifest.read(name)
        for number, part in enumerate(parts):
            places = part % size
            ragged = {key: gather_segments(one, cu_seqlens, places) for key, one in columns.items() if _is_ragged(one, size)}
            scalars = {key: one[places] for key, one in columns.items() if key not in ragged}
            if "row" in scalars:
                scalars["row"] = part
            path = f"{name.removesuffix(shard_name(0))}{shard_name(number)}"
            lengths = np.diff(cu_seqlens)[places]
            files[path] = write_shard(target / path, offsets(lengths), ragged, scalars)
    write_manifest(target, files, manifest.about)


def _is_ragged(values: NDArray[Any], size: int) -> bool:
    return len(values) != size
