"""How well each score finds the words that people marked as bad, beside what needs no model, and the ceiling.

    python benchmarks/quality/detection.py ../shared --output runs/detection [--data translations qa] [--rows 1000]

Four data sets with human marks: machine translations (what post-editors changed), answers to questions (what crowd
workers marked), comments (toxic spans) and Java methods (what a bug fix replaced). Nothing is trained on what is
selected: every method that ranks tokens by fixed models scores the rows once, and a word has the mean score of its
tokens. Beside them stand random numbers and four scores without a model: the rarity of a word, its length, its place in
the answer, and how improbable a trigram model of the clean rows finds it. The ceiling is a gradient-boosted classifier
over all scores and their means over neighbouring words, trained on the marks of other rows.

A score is read as its method means it: low = drop. AUROC is the probability that a marked word has a lower score than
an unmarked one, ties counting half, with a 95 % percentile bootstrap interval over rows; `within` compares only words
of the same answer; AP is the average precision of dropping from the lowest score up. Results go to a Parquet file too.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from real_runs import TRAIN
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from tokensieve import json_text
from tokensieve.data.words import Words, by_word
from tokensieve.methods import all_methods
from tokensieve.ops.rules import TopExamples
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.stages import run
from tokensieve.runs.view import RunView, load_run
from tokensieve.store import fingerprint
from tokensieve.train.schedules import schedule_of

DATA = {"translations": "mlqe_pe_et_en", "qa": "qa_feedback", "comments": "toxic_spans", "java": "code_refinement"}
NO_MODEL = ("random numbers", "rare words", "long words", "late words", "trigram model")
CEILING = "supervised ceiling"
_REFERENCE_ROWS, _DRAWS, _FOLDS = 500, 200, 5
_NEIGHBOURS = (2, 7)  # words on each side
_LAMBDA = (0.1, 0.3, 0.6)  # of unigrams, bigrams and trigrams

Array = NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class WordTable:
    """The words of all answers.

    Attributes:
        row: int64 ``[words]``, the example of each.
        marked: bool ``[words]``.
        text: its characters.
        scores: float64 ``[words]`` each, low = drop.
    """

    row: Array
    marked: Array
    text: tuple[str, ...]
    scores: dict[str, Array]


@dataclass(frozen=True)
class Found:
    """How well one score finds marked words.

    Attributes:
        score: its name, or names.
        auroc: by word, over all answers.
        low: lower end of its 95 % interval.
        high: upper end.
        within: the mean over answers that have marked and unmarked words, each weighted by its number of pairs; NaN
            where no answer has both.
        ap: average precision.
    """

    score: str
    auroc: float
    low: float
    high: float
    within: float
    ap: float


def lay_out(data: Path, name: str, rows: int, output: Path) -> None:
    """Write the marked rows and, of other rows, clean answers for the reference."""
    found = json_text.parse_lines((data / f"marked/{DATA[name]}.jsonl").read_bytes())
    found = [row for row in found if row["response"].strip()]
    order = np.random.default_rng(0).permutation(len(found))
    clean = [_clean(found[number]) for number in order]
    # Half of the rows at most, so that the reference gets some.
    rows = min(rows, len(found) // 2)
    others = [row for row in clean[rows:] if row is not None][:_REFERENCE_ROWS]
    pool = [{key: found[n][key] for key in ("prompt", "response", "spans")} for n in order[:rows]]
    output.mkdir(parents=True, exist_ok=True)
    for file, part in (("pool", pool), ("clean", others)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (output / f"{file}.jsonl").write_text(text, encoding="utf-8")


def score(folder: Path, base: Path, output: Path) -> RunView:
    """Score the rows with every method that ranks by fixed models."""
    clean, pool = (f"{{warm_up: {{files: [{folder / name}.jsonl]}}}}" for name in ("clean", "pool"))
    fixed = [
        name
        for name, cls in all_methods().items()
        if not isinstance(cls().rule, TopExamples)
        and schedule_of(cls).name == "once"
        and name not in ("marked", "full", "random")
    ]
    run(
        load_recipe(
            None,
            [
                f"output={output}",
                f"data.files=[{folder / 'pool.jsonl'}]",
                "data.max_length=512",
                f"models.base={base}",
                *(f"models.{role}={clean}" for role in ("reference", "utility")),
                *(f"models.{role}={pool}" for role in ("unsafe", "current")),
                "models.pool={warm_up: {folds: 2}}",
                "method=marked",
                f"controls=[{', '.join(fixed)}]",
                "measure.statistics=[loss, entropy]",
                *TRAIN,
            ],
        ),
        "select",
    )
    return load_run(output)


def words_of(view: RunView) -> WordTable:
    """Return every word of a run's examples with the scores of every arm."""
    words, arms = Words(view.decoder), [name for name in view.arms if name != "marked"]
    rows, marked, text = [], [], []
    scores: dict[str, list[Array]] = collections.defaultdict(list)
    for number, shard in enumerate(view.shards()):
        examples = shard.examples
        numbers = words.number(examples.input_ids, shard.trainable, examples.cu_seqlens)
        inside, starts = by_word(numbers)
        sizes = np.diff(starts, append=len(inside))
        example = np.repeat(np.arange(len(examples)), examples.lengths) + int(view.starts[number])
        rows.append(example[inside][starts])
        marked.append(np.maximum.reduceat(view.store.marks(number)[inside], starts) > 0)
        ids = examples.input_ids[inside]
        text += [one.strip() for one in view.decoder.texts([part.tolist() for part in np.split(ids, starts[1:])])]
        given = {**{arm: shard.value(arm, "score") for arm in arms}, **shard.statistics}
        for name, values in given.items():
            sums = np.add.reduceat(np.asarray(values, dtype=np.float64)[inside], starts)
            scores[name].append(sums / sizes)
    joined = {name: np.concatenate(parts) for name, parts in scores.items()}
    return WordTable(np.concatenate(rows), np.concatenate(marked), tuple(text), joined)


def without_a_model(table: WordTable, clean: Sequence[str]) -> dict[str, Array]:
    """Return the scores that need no model: low = drop, so that rare, long, late and improbable words are dropped."""
    seen = collections.Counter(word for answer in clean for word in answer.lower().split())
    first = np.flatnonzero(np.diff(table.row, prepend=-1))
    sizes = np.diff(first, append=len(table.row))
    place = (np.arange(len(table.row)) - np.repeat(first, sizes)) / np.repeat(sizes, sizes)
    found = (
        np.random.default_rng(0).random(len(table.row)),
        np.array([math.log1p(seen[word.lower()]) for word in table.text]),
        -np.array([len(word) for word in table.text], dtype=np.float64),
        -place,
        _trigrams(table, clean),
    )
    return dict(zip(NO_MODEL, found, strict=True))


def supervised(table: WordTable) -> Array:
    """Return for each word the probability of being unmarked, by a classifier that saw the marks of other rows."""
    columns = [*table.scores.values()]
    for side in _NEIGHBOURS:
        columns += [smoothed(values, table.row, side) for values in table.scores.values()]
    classifier = HistGradientBoostingClassifier(random_state=0)
    found: Array = np.asarray(
        cross_val_predict(
            classifier,
            np.stack(columns, axis=1),
            table.marked,
            groups=table.row,
            cv=GroupKFold(_FOLDS),
            method="predict_proba",
        )
    )
    return 1 - found[:, 1]


def distinct(scores: Mapping[str, Array]) -> dict[str, Array]:
    """Return each score once, under the names of all methods that have it; statistics are no scores."""
    found: dict[bytes, tuple[list[str], Array]] = {}
    for name, values in scores.items():
        if "." not in name:
            found.setdefault(values.tobytes(), ([], values))[0].append(name)
    return {", ".join(names): values for names, values in found.values()}


def judge(name: str, values: Array, table: WordTable) -> Found:
    """Return how well a score finds the marked words."""
    generator, rows = np.random.default_rng(0), np.unique(table.row)
    starts: list[int] = np.searchsorted(table.row, rows).tolist()
    ends: list[int] = np.searchsorted(table.row, rows, side="right").tolist()
    draws = []
    for _ in range(_DRAWS):
        drawn = generator.integers(0, len(rows), len(rows))
        taken = np.concatenate([np.arange(starts[one], ends[one]) for one in drawn])
        draws.append(auroc_of(values[taken], table.marked[taken]))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    pairs, area = 0, 0.0
    for start, end in zip(starts, ends, strict=True):
        part = table.marked[start:end]
        if (count := int(part.sum()) * int((~part).sum())) > 0:
            pairs += count
            area += count * auroc_of(values[start:end], part)
    ap = average_precision_score(table.marked, -values)
    within = area / pairs if pairs else math.nan
    return Found(name, auroc_of(values, table.marked), float(low), float(high), within, float(ap))


def auroc_of(values: Array, marked: Array) -> float:
    """Return the probability that a marked word has a lower value than an unmarked one, ties counting half.

    It is NaN where there are only marked or only unmarked words.
    """
    bad, good = int(marked.sum()), int((~marked).sum())
    if not bad * good:
        return math.nan
    return float((rankdata(values)[~marked].sum() - good * (good + 1) / 2) / (bad * good))


def markdown(title: str, table: WordTable, found: Sequence[Found]) -> list[str]:
    """Return the results of one data set, the best score first."""
    rows = len(np.unique(table.row))
    lines = [
        f"### {title}",
        "",
        f"{rows:,} answers, {len(table.row):,} words, {table.marked.mean():.1%} of them marked (the AP of chance).",
        "",
        "| score | AUROC by word | within answers | AP |",
        "|---|---|---|---|",
    ]
    for one in sorted(found, key=lambda one: -one.auroc):
        name = f"`{one.score}`" if one.score in all_methods() else one.score
        lines.append(
            f"| {name} | {one.auroc:.2f} ({one.low:.2f} to {one.high:.2f}) | {one.within:.2f} | {one.ap:.2f} |"
        )
    return [*lines, ""]


def detect(shared: Path, name: str, base: str, rows: int, output: Path) -> tuple[list[str], list[Row]]:
    """Score one data set and judge every score; return the Markdown and the lines of the Parquet file."""
    folder = output / "data" / name
    lay_out(shared / "data", name, rows, folder)
    table = words_of(score(folder, shared / "models" / base, output / f"{name}-{base}"))
    clean = [row["response"] for row in json_text.parse_lines((folder / "clean.jsonl").read_bytes())]
    table.scores.update(without_a_model(table, clean))
    scores = {**table.scores, CEILING: supervised(table)}
    found = [judge(names, values, table) for names, values in distinct(scores).items()]
    facts = {"data": name, "base": base, "rows": len(np.unique(table.row)), "words": len(table.row)}
    facts |= {"marked": float(table.marked.mean()), **fingerprint.versions()}
    return markdown(f"{name}, {base}", table, found), [{**facts, **asdict(one)} for one in found]


def main() -> None:
    """Judge every score on every data set, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/detection"))
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--base", default="english-3M")
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    kept: list[Row] = []
    lines: list[str] = []
    for name in options.data:
        told, more = detect(options.shared, name, options.base, options.rows, options.output)
        kept, lines = kept + more, lines + told
        print("\n".join(told), flush=True)
        pq.write_table(pa.Table.from_pylist(kept), options.output / "detection.parquet")
    (options.output / "detection.md").write_text("\n".join(lines), encoding="utf-8")


def _clean(row: Row) -> Row | None:
    """Return a row with a good answer: the corrected one, or its own where nothing is marked."""
    answer = row.get("clean") or ("" if row["spans"] else row["response"])
    return {"prompt": row["prompt"], "response": answer} if answer.strip() else None


def smoothed(values: Array, row: Array, side: int) -> Array:
    """Return the mean of each value and those of ``side`` words before and behind it in the same answer."""
    first = np.searchsorted(row, row)
    last = np.searchsorted(row, row, side="right")
    at = np.arange(len(row))
    low, high = np.maximum(first, at - side), np.minimum(last, at + side + 1)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return (sums[high] - sums[low]) / (high - low)


def _trigrams(table: WordTable, clean: Sequence[str]) -> Array:
    """Return the log probability of each word by an interpolated trigram model of the clean answers."""
    grams: collections.Counter[tuple[str, ...]] = collections.Counter()
    contexts: collections.Counter[tuple[str, ...]] = collections.Counter()
    for answer in clean:
        words = ["", "", *answer.lower().split()]
        for end in range(3, len(words) + 1):
            for size in range(1, len(_LAMBDA) + 1):
                grams[tuple(words[end - size : end])] += 1
                contexts[tuple(words[end - size : end - 1])] += 1
    vocabulary = sum(len(gram) == 1 for gram in grams) + 1
    found, before, last = [], ("", ""), -1
    for row, word in zip(table.row.tolist(), (word.lower() for word in table.text), strict=True):
        before = before if row == last else ("", "")
        unigram = (grams[(word,)] + 1) / (contexts[()] + vocabulary)  # never 0
        longer = (grams[(*context, word)] / max(1, contexts[context]) for context in (before[1:], before))
        found.append(math.log(sum(weight * part for weight, part in zip(_LAMBDA, (unigram, *longer), strict=True))))
        before, last = (before[1], word), row
    return np.array(found)


if __name__ == "__main__":
    main()
