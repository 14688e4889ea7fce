"""How large the page of a run is, and how long it takes to write or serve it, to open it, to slide and to search.

tokensieve demo
python benchmarks/speed/page_sizes.py runs/demo --folder /tmp/page --examples 500 5000 50000 100000

The examples of the run, which must have one shard, are repeated until there are as many. The browser is a headless
Chromium. In brackets is the processor time, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Browser, sync_playwright

from tokensieve.containers import Int64
from tokensieve.data.example_store import open_examples
from tokensieve.ops.ragged import gather_segments, offsets
from tokensieve.report.html.page import write_page
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.sealed import write_sealed
from tokensieve.store.shards import shard_name, write_shard

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SHARD_EXAMPLES = 25_000
_LARGEST_FILE = 50_000  # examples; a page with more is served
_WORD = "question"
_MOVES = """async () => {
  const slider = document.getElementById("ratio"), took = [];
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (let setting = 5; setting < 85; setting += 4) {
    await painted();
    const start = performance.now();
    slider.value = setting;
    slider.dispatchEvent(new Event("input"));
    await painted();
    took.push(performance.now() - start);
  }
  return took;
}"""
_SEARCH = """async (word) => {
  const listed = document.getElementById("listed"), before = listed.innerText, start = performance.now();
  document.getElementById("search").value = word;
  document.getElementById("list-bar").requestSubmit();
  while (listed.innerText === before) await new Promise((done) => requestAnimationFrame(done));
  return performance.now() - start;
}"""


@dataclass(frozen=True)
class Opened:
    """What a browser took.

    Attributes:
        open: milliseconds until the page is ready.
        slide: median milliseconds of a step of the slider, until it is painted.
        search: milliseconds until the first hits are listed.
    """

    open: float
    slide: float
    search: float

    def __str__(self) -> str:
        """Return the figures as cells of a table."""
        return f"{self.open / 1000:.1f} s | {self.slide:.0f} ms | {self.search:.0f} ms"


def opened(browser: Browser, url: str) -> Opened:
    """Open a page with its examples in view, move its slider, and search."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(f"{url}#examples")
    page.wait_for_selector(".tokens")
    ready = page.evaluate("performance.now()")
    moves = statistics.median(page.evaluate(_MOVES))
    page.click("#own")  # the slider rests at the run's own setting while the search runs
    found = page.evaluate(_SEARCH, _WORD)
    page.close()
    return Opened(ready, moves, found)


@dataclass(frozen=True)
class Took:
    """Seconds of the clock and of the processor."""

    clock: float
    processor: float

    def __str__(self) -> str:
        """Return both as a cell of a table."""
        return f"{self.clock:.1f} s ({self.processor:.1f} s)"


@contextmanager
def served(run: Path) -> Iterator[tuple[str, Took]]:
    """Serve a run; give its address, and what it took from the command until it listens."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "tokensieve", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield url, Took(time.perf_counter() - start, sum(psutil.Process(process.pid).cpu_times()[:2]))
        process.terminate()


def lines(run: Path, browser: Browser, page: Path) -> Iterator[str]:
    """Yield the lines of the table for one run."""
    view = load_run(run)
    if len(view) <= _LARGEST_FILE:
        start, before = time.perf_counter(), time.process_time()
        write_page(view, page, len(view))
        took = Took(time.perf_counter() - start, time.process_time() - before)
        size = page.stat().st_size / 1e6
        yield f"| {len(view):,} | file | {size:.1f} MB | {took} | {opened(browser, page.as_uri())} |"
    with served(run) as (url, took):
        yield f"| {len(view):,} | `serve` | - | {took} | {opened(browser, url)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where the runs are written")
    parser.add_argument("--examples", type=int, nargs="+", default=[500, 5_000, 50_000, 100_000])
    arguments = parser.parse_args()
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    print("| examples | page | size | written, or served after | opens in | slider | search |")
    print("|---" * 7 + "|")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for examples in arguments.examples:
            run = repeated(arguments.run, arguments.folder, examples)
            for line in lines(run, browser, arguments.folder / "page.html"):
                print(line, flush=True)
        browser.close()


def repeated(run: Path, folder: Path, examples: int) -> Path:
    """Write the run below a folder, with its examples repeated until there are so many."""
    state, new = RunFolder(run).state(), folder / f"runs/{examples}"
    store, target = RunFolder(run).place_of(state.examples), folder / f"examples-{examples}"
    counts = open_examples(store).counts
    more = examples / counts.examples
    places = np.arange(examples) % counts.examples
    _repeat(store, target, places)
    trainable = round(counts.trainable_tokens * more)
    counts = replace(counts, rows=examples, examples=examples, trainable_tokens=trainable)
    manifest = open_manifest(target)
    shutil.copytree(store / "tokenizer", target / "tokenizer", dirs_exist_ok=True)
    tokenizer = {name: record for name, record in open_manifest(store).files.items() if name.startswith("tokenizer/")}
    write_manifest(target, {**manifest.files, **tokenizer}, {**manifest.about, "counts": vars(counts)})
    for role, place in state.statistics.items():
        _repeat(RunFolder(run).place_of(place), folder / f"{role}-{examples}", places)
    for arm in state.arms:
        own, copy = run / "arms" / arm, new / "arms" / arm
        shutil.copytree(own, copy, ignore=shutil.ignore_patterns("model", "cleaned", "scores"), dirs_exist_ok=True)
        _repeat(own / "scores", copy / "scores", places)
        selection = read_json(own / "selection.json")
        totals = {name: round(selection[name] * more) for name in ("trainable", "kept", "examples", "examples_written")}
        about = {**selection, **totals, "cut": open_examples(target).cut}
        if selection["threshold"] is not None:  # a fraction of repeated scores would cut between equal ones
            about["rule"] = {"name": "Threshold", "value": selection["threshold"]}
        write_sealed(copy / "selection.json", about)
    statistic_folders = {role: f"../../{role}-{examples}" for role in state.statistics}
    about = {"examples": f"../../{target.name}", "statistics": statistic_folders}
    write_sealed(new / "run.json", {**read_json(run / "run.json"), **about})
    for name in ("recipe.yaml", "times.json"):
        shutil.copyfile(run / name, new / name)
    return new


def _repeat(source: Path, target: Path, places: Int64) -> None:
    """Write the one shard of each kind that a folder has, as some shards of the examples at these places."""
    manifest, files = open_manifest(source), {}
    parts = range(-(-len(places) // _SHARD_EXAMPLES))
    for name in manifest.files:
        if Path(name).name != shard_name(0):
            continue
        cu_seqlens, columns = manifest.read(name)
        flat = {key for key, values in columns.items() if len(values) == cu_seqlens[-1]}
        for number in parts:
            first = number * _SHARD_EXAMPLES
            here = places[first : first + _SHARD_EXAMPLES]
            ragged = {key: gather_segments(columns[key], cu_seqlens, here) for key in flat}
            scalars = {key: values[here] for key, values in columns.items() if key not in flat}
            if "row" in scalars:
                scalars["row"] = first + np.arange(len(here))
            path = name.replace(shard_name(0), shard_name(number))
            files[path] = write_shard(target / path, offsets(np.diff(cu_seqlens)[here]), ragged, scalars)
    write_manifest(target, files, manifest.about)


if __name__ == "__main__":
    main()
