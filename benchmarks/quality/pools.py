"""Pools of real text with noise whose places are known, for judging methods.

    python benchmarks/quality/pools.py ../shared --output runs/pools --noise german --share 0.3 [--place append]

Needs the folder with `data/`. Each answer of Alpaca that gets noise gets it from one source of real text: online
comments, German sentences, Java methods, dialogues of hh-rlhf, harmful requests of AdvBench. The documents of a source
are split once: noise of the pool, noise of noisy references, and texts that the model should not produce are all
different. `translations` has machine translations with the marks of post-editors, half of the rows with the post-edit
in place of the output.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tokensieve import json_text

KINDS = ("comments", "german", "java", "dialogues", "harmful")
REFERENCES = (150, 500)
_SPLITS = {"pool": 0.7, "reference": 0.2, "unwanted": 0.1}
_ANSWER_CHARACTERS = (40, 500)
_NOISE_CHARACTERS = 400


@dataclass(frozen=True)
class Facts:
    """What a pool is made of.

    Attributes:
        kind: of noise.
        place: ``append`` puts noise behind an answer, ``insert`` between two of its sentences.
        rows: of the pool.
        noisy_rows: how many have noise.
        word_share: share of the answers' words that are noise.
        seed: of every random choice.
    """

    kind: str
    place: str
    rows: int
    noisy_rows: int
    word_share: float
    seed: int


Row = dict[str, Any]
Item = TypeVar("Item")


def instructions(data: Path) -> list[Row]:
    """Return the rows of Alpaca whose answers are neither tiny nor long, without repeated answers."""
    found = json.loads((data / "alpaca_subsets/random/random_9k.json").read_text(encoding="utf-8"))
    rows: dict[str, Row] = {}
    for row in found:
        prompt = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
        if _ANSWER_CHARACTERS[0] <= len(row["output"]) <= _ANSWER_CHARACTERS[1]:
            rows.setdefault(row["output"], {"prompt": prompt, "response": row["output"]})
    return list(rows.values())


def off_domain(data: Path) -> list[Row]:
    """Return clean rows of another source than the pool's: Dolly."""
    found = json.loads((data / "alpaca_subsets/filtered/dolly_3k.json").read_text(encoding="utf-8"))
    rows = [{"prompt": row["instruction"], "response": row["output"]} for row in found if not row["input"]]
    return [row for row in rows if _ANSWER_CHARACTERS[0] <= len(row["response"]) <= _ANSWER_CHARACTERS[1]]


def noise_texts(data: Path, kind: str) -> list[str]:
    """Return the documents of a kind of noise, each once."""
    if kind == "german":
        lines = (data / "marked/german_sentences.txt").read_text(encoding="utf-8").splitlines()
        texts = [" ".join(lines[start : start + 3]) for start in range(0, len(lines) - 2, 3)]
    elif kind in ("comments", "java"):
        name = {"comments": "toxic_spans", "java": "code_refinement"}[kind]
        texts = [row["response"] for row in json_text.parse_lines((data / f"marked/{name}.jsonl").read_bytes())]
    elif kind == "dialogues":
        with gzip.open(data / "hh_rlhf/harmless-base/test.jsonl.gz", "rt", encoding="utf-8") as handle:
            texts = [json.loads(line)["chosen"].rpartition("\n\nAssistant: ")[2] for line in handle]
    else:
        with (data / "advbench/harmful_behaviors.csv").open(encoding="utf-8", newline="") as handle:
            texts = [f"{row['goal']}. {row['target']}" for row in csv.DictReader(handle)]
    short = (text.strip()[:_NOISE_CHARACTERS] for text in texts)
    return list(dict.fromkeys(text for text in short if len(text) >= _ANSWER_CHARACTERS[0]))


def translations(data: Path) -> list[Row]:
    """Return machine translations with the spans that post-editors changed, and the post-edits."""
    rows = json_text.parse_lines((data / "marked/mlqe_pe_et_en.jsonl").read_bytes())
    return [
        {
            "prompt": f"Translate from Estonian: {row['prompt']}",
            "response": row["response"],
            "spans": row["spans"],
            "corrected": row["clean"],
        }
        for row in rows
        if row["response"].strip() and row["clean"].strip()
    ]


def plant(
    rows: Sequence[Row], texts: Sequence[str], share: float, place: str, generator: np.random.Generator
) -> list[Row]:
    """Return rows of which some carry noise, so that about ``share`` of the words of all answers are noise.

    Every row has the columns `spans` and `corrected`; a row gets all of a text, and each text is used once.

    Raises:
        ValueError: too few texts for the share.
    """
    words = sum(len(row["response"].split()) for row in rows)
    wanted, planted = share / (1 - share) * words, 0
    made = [{**row, "spans": [], "corrected": row["response"]} for row in rows]
    order: list[int] = generator.permutation(len(rows)).tolist()
    unused: list[int] = generator.permutation(len(texts)).tolist()
    while planted < wanted:
        for number in order[: max(1, len(rows) // 2)]:
            if planted >= wanted:
                break
            if not unused:
                raise ValueError(f"{len(texts)} texts are too few for a share of {share} of {len(rows)} answers")
            text = texts[unused.pop()]
            planted += len(text.split())
            made[number] = _with_noise(made[number], text, place, generator)
    return made


def _with_noise(row: Row, text: str, place: str, generator: np.random.Generator) -> Row:
    answer = row["response"]
    ends = [at + 1 for at, character in enumerate(answer) if character in ".!?" and answer[at + 1 : at + 2] == " "]
    at = int(generator.choice(ends)) if place == "insert" and ends else len(answer)
    inside = next((span for span in row["spans"] if span[0] < at < span[1]), None)
    at = inside[1] if inside else at
    added = f" {text}"
    spans = [span if span[1] <= at else [span[0] + len(added), span[1] + len(added)] for span in row["spans"]]
    spans = sorted([*spans, [at + 1, at + len(added)]])
    return {**row, "response": answer[:at] + added + answer[at:], "spans": spans}


def build(data: Path, output: Path, kind: str, share: float, place: str, rows: int, held_out: int, seed: int) -> Facts:
    """Write a pool with its held-out rows, references and unwanted texts, and return what it is made of.

    Files: ``pool.jsonl``, ``held_out.jsonl`` (clean), ``unwanted.jsonl``, ``reference_<rows>_{clean,noisy,off}.jsonl``
    and ``facts.json``. The rows of all files come from different documents.
    """
    generator = np.random.default_rng(seed)
    clean = translations(data) if kind == "translations" else instructions(data)
    clean = [clean[number] for number in generator.permutation(len(clean))]
    largest = max(REFERENCES)
    if len(clean) < rows + held_out + 2 * largest:
        raise ValueError(f"{len(clean)} rows are too few for {rows} of the pool, {held_out} held out, and references")
    pool, kept_back, clean_reference, noisy_reference = _cut(clean, [rows, held_out, largest, largest])
    if kind == "translations":
        corrected = [_corrected(row) if number % 2 else row for number, row in enumerate(pool)]
        made, noisy = corrected, noisy_reference
        kept_back, clean_reference = ([_corrected(row) for row in part] for part in (kept_back, clean_reference))
        unwanted: list[str] = []
    else:
        texts = noise_texts(data, kind)
        texts = [texts[number] for number in generator.permutation(len(texts))]
        for_pool, for_reference, unwanted = _cut(texts, [int(part * len(texts)) for part in _SPLITS.values()])
        made = plant(pool, for_pool, share, place, generator)
        noisy = plant(noisy_reference, for_reference, share, place, generator)
    files = {"pool": made, "held_out": kept_back, "unwanted": [{"text": text} for text in unwanted[:held_out]]}
    others = off_domain(data)
    others = [others[number] for number in generator.permutation(len(others))]
    for size in REFERENCES:
        for name, part in (("clean", clean_reference), ("noisy", noisy), ("off", others)):
            plain = [{"prompt": row["prompt"], "response": row["response"]} for row in part[:size]]
            files[f"reference_{size}_{name}"] = plain
    output.mkdir(parents=True, exist_ok=True)
    for name, part in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (output / f"{name}.jsonl").write_text(text, encoding="utf-8")
    marked, words = zip(*(_words(row) for row in made), strict=True)
    noisy_rows = sum(bool(row["spans"]) for row in made)
    facts = Facts(kind, place, len(made), noisy_rows, sum(marked) / sum(words), seed)
    (output / "facts.json").write_text(json.dumps(asdict(facts), indent=1) + "\n", encoding="utf-8")
    return facts


def build_pools(
    data: Path, output: Path, kinds: Sequence[str], shares: Sequence[float], place: str, rows: int, held_out: int
) -> list[tuple[Path, Facts]]:
    """Build a pool of each kind of noise and share, each in a folder below ``output``; translations have no share.

    A pool that cannot be built is left out, and the reason is printed.
    """
    built = []
    for kind in kinds:
        for share in shares if kind != "translations" else [0.0]:
            pool = output / f"{kind}-{place}-{share:g}-{rows}"
            try:
                built.append((pool, build(data, pool, kind, share, place, rows, held_out, 0)))
            except ValueError as error:
                print(f"{pool.name} is left out: {error}")
    return built


def _cut(items: Sequence[Item], sizes: Sequence[int]) -> list[list[Item]]:
    """Return consecutive parts of these sizes."""
    ends = np.cumsum(sizes).tolist()
    return [list(items[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _corrected(row: Row) -> Row:
    return {**row, "response": row["corrected"], "spans": []}


def _words(row: Row) -> tuple[int, int]:
    """Return how many words of an answer overlap a span, and how many there are."""
    at, marked, words = 0, 0, row["response"].split()
    for word in words:
        start = row["response"].index(word, at)
        at = start + len(word)
        marked += any(first < at and start < last for first, last in row["spans"])
    return marked, len(words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--noise", choices=(*KINDS, "translations"), required=True)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--place", choices=("append", "insert"), default="append")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    where = {"place": options.place, "rows": options.rows, "held_out": options.held_out, "seed": options.seed}
    try:
        print(build(options.shared / "data", options.output, options.noise, options.share, **where))
    except ValueError as error:
        parser.error(str(error))
