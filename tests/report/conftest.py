"""A small run made by hand: two shards, three arms, text that is hard to show, and figures that are easy to check."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_tabs import Tab
from manifests import change, cut_again, record_again
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tokensieve.containers import Statistics
from tokensieve.data.counts import Counts
from tokensieve.data.decoding import TokenDecoder
from tokensieve.data.example_store import open_examples
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import TopFraction
from tokensieve.report.html.page import Report
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.joined import load_runs
from tokensieve.runs.view import RunView, load_run
from tokensieve.select.selection import LAYOUT
from tokensieve.store.atomic import read_json, write_json
from tokensieve.store.sealed import read_sealed, write_sealed
from tokensieve.store.shards import shard_name, write_shard

SCRIPT = '<script>alert("x")</script>&\''
TURN_END = "<|end|>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MERGED = ["Ġthe", "hello", "Ġworld", "Ċ", "token", "Ġtoken"]
TEXTS = [
    ("ask hello", " the world the token"),
    ("質問", "中文🙂 👨‍👩‍👧 é 🇩🇪"),
    ("q", SCRIPT),
    ("two\n lines", "tab\tand\u00a0more\n  end\u202e"),
    ("q", " the" * 30),
    ("q", " world" * 24),
]


@dataclass
class Demo:
    """A run folder with what went into it."""

    folder: Path
    ids: list[list[int]]
    labels: list[list[int]]
    kept: list[list[bool]]
    scores: list[list[float]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra dev)")
    executable = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if executable is None:
        pytest.skip(f"needs a browser, one of: {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a few words; everything else is single bytes."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in MERGED:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                merges.append((word[: end - 1], word[end - 1]))
                pieces.append(word[:end])
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    fast.add_special_tokens({"eos_token": TURN_END})
    return fast


@pytest.fixture
def decoder(tokenizer) -> TokenDecoder:
    return TokenDecoder(tokenizer.backend_tokenizer)


class Page(HTMLParser):
    """A page taken apart: its tags with their attributes, its scripts, and what is packed in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._in_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)

    @property
    def payload(self) -> dict[str, Any]:
        """What the page's script is told."""
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == "payload")
        return json.loads(gzip.decompress(base64.b64decode(text)))

    @property
    def blocks(self) -> list[bytes]:
        """The packed examples."""
        found = [text for attributes, text in self.scripts if (attributes.get("id") or "").startswith("block-")]
        return [base64.b64decode(text) for text in found]


@pytest.fixture(scope="session")
def take_apart() -> type[Page]:
    """Return what takes the HTML of a page apart."""
    return Page


@pytest.fixture
def demo(tmp_path, demo_source) -> Demo:
    """Return a run of this test's own."""
    copied = tmp_path / "demo"
    shutil.copytree(demo_source.folder.parents[1], copied)
    return replace(demo_source, folder=copied / "runs" / demo_source.folder.name)


@pytest.fixture(scope="session")
def demo_source(tmp_path_factory, tokenizer) -> Demo:
    """Write a run of six examples from source rows 10, 11, ...; scores are 0, 1, 2, ... over trainable tokens."""
    ids, labels = [], []
    for prompt, answer in TEXTS:
        before = tokenizer.encode(prompt, add_special_tokens=False)
        after = tokenizer.encode(answer + TURN_END, add_special_tokens=False)
        ids.append(before + after)
        labels.append([-100] * len(before) + after)
    values = iter(range(-40, 10**6))
    scores = [[float(next(values)) if label != -100 else 1e9 for label in example] for example in labels]
    kept = [[0 <= score < 1e8 for score in example] for example in scores]

    root = tmp_path_factory.mktemp("demo")
    examples, run = root / "store" / "examples" / "x", root / "runs" / "night <b>"
    statistics = {role: root / "store" / "statistics" / role for role in ("base", "reference")}
    for number, part in enumerate((slice(0, 4), slice(4, 6))):
        flat = {name: np.concatenate(value[part]) for name, value in (("ids", ids), ("labels", labels))}
        score = np.concatenate(scores[part]).astype(np.float32)
        chosen = np.concatenate(kept[part])
        cu_seqlens = offsets([len(example) for example in ids[part]])
        rows = {"row": 10 + np.arange(6, dtype=np.int64)[part]}
        columns = {"input_ids": flat["ids"].astype(np.int32), "labels": flat["labels"].astype(np.int32)}
        sources = {"source": np.full(len(cu_seqlens) - 1, number, dtype=np.int32)}
        if number == 0:  # of the second shard, nothing is marked
            columns["marks"] = _marks(flat["ids"], flat["labels"], tokenizer)
        write_shard(examples / shard_name(number), cu_seqlens, columns, {**rows, **sources})
        for factor, folder in enumerate(statistics.values()):
            write_shard(folder / "loss" / shard_name(number), cu_seqlens, {"loss": np.abs(score) * (factor + 1)})
        for arm in ("full", "random", "token-cleaning"):
            choice = chosen if arm == "token-cleaning" else flat["labels"] != -100
            value = score if arm == "token-cleaning" else np.zeros_like(score)
            folder = run / "arms" / arm / "scores"
            write_shard(folder / shard_name(number), cu_seqlens, {"score": value}, rows)
            write_shard(folder / "kept" / shard_name(number), cu_seqlens, {"kept": choice})
    for folder in (*statistics.values(), *(run / "arms").glob("*/scores")):
        record_again(folder)
    tokenizer.save_pretrained(examples / "tokenizer")
    _write_json_files(run, examples, list(statistics), labels, kept)
    return Demo(run, ids, labels, kept, scores)


def _marks(ids, labels, tokenizer) -> np.ndarray:
    """Mark the word "world" as the first type, and "token" as the second."""
    world, token = (tokenizer.convert_tokens_to_ids(name) for name in ("Ġworld", "Ġtoken"))
    marks = np.select([ids == world, np.isin(ids, [token, token - 1])], [1, 2])
    return np.where(labels != -100, marks, 0).astype(np.uint8)


def _write_json_files(run: Path, examples: Path, roles: list[str], labels, kept) -> None:
    trainable = sum(label != -100 for example in labels for label in example)
    chosen = sum(sum(example) for example in kept)
    counts = asdict(Counts(rows=6, examples=6, trainable_tokens=trainable))
    sources = ["/data/news.jsonl", "/data/code/code.jsonl"]
    types = ["odd <b>", "wrong"]
    record_again(examples, fingerprint="f", counts=counts, turn_end_ids=[], sources=sources, mark_types=types)
    state = {
        "name": "night <b>",
        "examples": "../../store/examples/x",
        "statistics": {role: f"../../store/statistics/{role}" for role in roles},
        "arms": ["token-cleaning", "full", "random"],
        "method": "token-cleaning",
        "versions": {"tokensieve": "0.1.0"},
    }
    write_sealed(run / "run.json", state)
    write_json(run / "times.json", {"measure base": 1.25})
    for arm in state["arms"]:
        # Half a token more, so that rounding down gives the very count.
        fraction = (chosen + 0.5) / trainable if arm == "token-cleaning" else 1.0
        selection = {
            "layout": LAYOUT,
            "data": "f",
            "cut": open_examples(examples).cut,
            "examples_written": 6,
            "share_reason": f"as {arm} has it",
            "method": arm,
            "parameters": {} if arm == "full" else {"fraction": fraction},
            "rule": {"name": "TopFraction", "fraction": fraction},
            "trainable": trainable,
            "kept": chosen if arm == "token-cleaning" else trainable,
            "examples": 6,
            "examples_without_kept": 0,
            "threshold": 0.0 if arm == "token-cleaning" else None,
            "keep_turn_end": True,
            "source_rows": 6,
        }
        if arm == "token-cleaning":
            selection["marks"] = {"marked": 40, "removed": 30, "unmarked": 100, "unmarked_removed": 5, "auroc": 0.75}
        write_sealed(run / "arms" / arm / "selection.json", selection)
    for place, arm in enumerate(("full", "token-cleaning", "base")):
        loss = 1.5 - place / 10
        held_out = {"loss": loss, "perplexity": 4.0, "tokens": 9, "examples": 3, "low": loss - 0.1, "high": loss + 0.1}
        exact = {"score": 0.25, "correct": 1, "examples": 4, "low": 0.05, "high": 0.7}
        tasks = {"boolq": {"acc": 0.5, "acc_stderr": 0.1}, "arc_challenge": {"acc_norm": 0.25}}
        ArmFolder(run / "arms" / arm).write_evaluation({"held_out": held_out, "exact_match": exact, "tasks": tasks}, {})


@pytest.fixture
def judged(demo) -> Path:
    """A run whose method is worse than both controls in held-out loss, by example, and whose arms have loss curves."""
    arms, generator = demo.folder / "arms", np.random.default_rng(0)
    chosen = read_json(arms / "token-cleaning/selection.json")["kept"]
    fields = {"kept": chosen, "as_many_as": "token-cleaning", "rule": {"name": "TopCount", "tokens": chosen}}
    write_sealed(arms / "random/selection.json", read_json(arms / "random/selection.json") | fields)
    for place, arm in enumerate(("full", "random", "token-cleaning")):
        losses = 2 + (arm == "token-cleaning") / 10 + 0.02 * generator.standard_normal(60)
        rows = [{"rows": n, "losses": value, "tokens": 1} for n, value in enumerate(losses)]
        sections = {"held_out": {"loss": losses.mean(), "low": 1.0, "high": 3.0}}
        ArmFolder(arms / arm).write_evaluation(sections, {"held_out": rows})
        (arms / arm / "model").mkdir()
        end = (40.0, 40.1, 43.0)[place]
        log = [{"step": step, "loss": end + (4 - step) / 10} for step in range(5)]
        write_sealed(arms / arm / "model" / "training.json", {"metrics": {}, "log": log})
    return demo.folder


@pytest.fixture
def spanned(judged) -> Path:
    """The judged run, as one of the method that decides on spans; the base stands for the model of the pool."""
    statistics = read_json(judged / "run.json")["statistics"]
    change(judged / "run.json", statistics={"reference": statistics["reference"], "pool": statistics["base"]})
    rule = {"name": "Threshold", "value": 0.0}
    change(judged / "arms/token-cleaning/selection.json", method="span-ratio", parameters={}, rule=rule)
    return judged


@pytest.fixture(scope="session")
def second_source(demo_source) -> Path:
    """Write a second run on the same examples: an arm with reasons, and one that chooses otherwise."""
    run = demo_source.folder.with_name("second")
    first = read_sealed(demo_source.folder / "run.json", "it is missing", "")
    write_sealed(run / "run.json", {**first, "name": "second", "arms": ["xtf", "rho-1"], "method": "xtf"})
    write_json(run / "times.json", {"measure base": 1.25})
    trainable = sum(label != -100 for example in demo_source.labels for label in example)
    for arm in ("xtf", "rho-1"):
        kept = 0
        for number, part in enumerate((slice(0, 4), slice(4, 6))):
            labels = np.concatenate(demo_source.labels[part])
            cu_seqlens = offsets([len(example) for example in demo_source.ids[part]])
            rows = {"row": 10 + np.arange(6, dtype=np.int64)[part]}
            place = np.arange(len(labels))
            reasons = np.where(labels == -100, 0, (place % 5 == 0) + 4 * (place % 7 == 0)).astype(np.uint8)
            columns = {"score": -np.bitwise_count(reasons).astype(np.float32), "reasons": reasons}
            if arm == "rho-1":
                columns = {"score": (place % 11 / 10).astype(np.float32)}
            choice = (labels != -100) & (columns["score"] >= (0 if arm == "xtf" else 0.45))
            kept += int(choice.sum())
            folder = run / "arms" / arm / "scores"
            write_shard(folder / shard_name(number), cu_seqlens, columns, rows)
            write_shard(folder / "kept" / shard_name(number), cu_seqlens, {"kept": choice})
        record_again(run / "arms" / arm / "scores")
        selection = read_sealed(demo_source.folder / "arms" / "full" / "selection.json", "it is missing", "")
        rule = {"name": "Threshold", "value": 0.0 if arm == "xtf" else 0.45}
        reason_names = ["low reasoning importance", "known already", "off task"] if arm == "xtf" else []
        selection |= {"method": arm, "parameters": {}, "rule": rule, "trainable": trainable, "kept": kept}
        write_sealed(run / "arms" / arm / "selection.json", {**selection, "reasons": reason_names})
    return run


@pytest.fixture(scope="session")
def joined(demo_source, second_source) -> RunView:
    return load_runs([demo_source.folder, second_source])


@pytest.fixture(scope="session")
def file(joined, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(Report(joined, 100).render(), encoding="utf-8")
    return path


@pytest.fixture
def open_tab(browser, file) -> Iterator[Any]:
    """Return a function that opens the page; after the test it must have been silent and alone."""
    tabs: list[Tab] = []

    def open_it(hash="", url=None, **options):
        tabs.append(Tab(browser, url or file.as_uri(), hash=hash, **options))
        return tabs[-1]

    yield open_it
    for tab in tabs:
        origin = re.match(r"file:|http://[^/]+/", tab.asked[0])
        assert origin is not None
        assert tab.said == []
        assert all(url.startswith((origin[0], "data:")) for url in tab.asked)
        tab.page.close()


@pytest.fixture
def open_run(open_tab, tmp_path) -> Callable[..., Tab]:
    """Return a function that opens the page of a run in a window of some size, as a phone does if it is narrow."""

    def open_it(run, width=1440, height=900, hash="", examples=10):
        path = tmp_path / "report.html"
        path.write_text(Report(load_run(run), examples).render(), encoding="utf-8")
        tab = open_tab(hash, path.as_uri(), width=width, has_touch=width < 600)
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.wait_for_selector("#reason .why", state="attached")
        return tab

    return open_it


@pytest.fixture
def make_large(demo, tokenizer) -> Callable[..., RunView]:
    """Return a function that writes a run of a given number of examples, each of a given number of tokens."""
    return partial(write_large, demo, tokenizer)


def write_large(demo: Demo, tokenizer, examples: int, tokens: int, prompt: Iterable[int] = range(100)) -> RunView:
    """Write a run of equally long examples over ``demo``; these places of each are prompt, all others are trainable."""
    random = np.random.default_rng(0)
    shape = examples * tokens
    words = [i for word, i in tokenizer.get_vocab().items() if word[0] in "\u0120\u010a" or word.isascii()]
    ids = random.choice(sorted(words), shape).astype(np.int32)
    cu_seqlens = np.arange(0, shape + 1, tokens)
    labels = np.where(np.isin(np.arange(shape) % tokens, [*prompt]), -100, ids).astype(np.int32)
    view = load_run(demo.folder)
    rows = {"row": np.arange(examples), "source": np.zeros(examples, dtype=np.int32)}
    write_shard(view.store.folder / shard_name(0), cu_seqlens, {"input_ids": ids, "labels": labels}, rows)
    (view.store.folder / shard_name(1)).unlink()
    record_again(view.store.folder)
    for role in view.statistics.values():
        loss = random.exponential(2.0, shape).astype(np.float32)
        write_shard(role / "loss" / shard_name(0), cu_seqlens, {"loss": loss})
        record_again(role)
    statistics = Statistics(cu_seqlens, labels.astype(np.int64))
    for arm in view.arms:
        rule = TopFraction(1.0 if arm == "full" else 0.6)
        scores = np.where(labels == -100, 0, random.normal(size=shape)).astype(np.float32)
        folder = demo.folder / "arms" / arm
        write_shard(folder / "scores" / shard_name(0), cu_seqlens, {"score": scores}, {"row": rows["row"]})
        kept = {"kept": rule.keep(scores, statistics)}
        write_shard(folder / "scores" / "kept" / shard_name(0), cu_seqlens, kept)
        record_again(folder / "scores")
        given = {"rule": {"name": "TopFraction", "fraction": rule.fraction}, "keep_turn_end": False}
        parameters = {} if arm == "full" else {"fraction": rule.fraction}
        change(folder / "selection.json", **given, parameters=parameters)
    cut_again(demo.folder, view.store.folder)
    return load_run(demo.folder)
