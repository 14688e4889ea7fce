from __future__ import annotations

import numpy as np
import pytest

from tokensieve.data import prepare as prepare_module
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.methods import get_method
from tokensieve.select.marked_tokens import marked_tokens
from tokensieve.select.streaming import read_selection, select_shards

WORDS = ["the", "sea", "is", "wide", "and", "cold", "two", "apples", "are", "left", "of", "three"]


@pytest.fixture
def store(tmp_path, write_jsonl, tiny_encoder, monkeypatch):
    """Rows of words, some of which are marked, in several shards."""
    monkeypatch.setattr(prepare_module, "SHARD_TOKENS", 80)
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        words = generator.choice(WORDS, 6).tolist()
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        kinds = generator.choice(["", "wrong", "odd"], 6)
        spans = [[int(at), int(at) + len(w), kind] for at, w, kind in zip(starts, words, kinds, strict=False) if kind]
        rows.append({"question": "Say it.", "answer": " ".join(words), "spans": spans})
    settings = DataSettings(files=(str(write_jsonl(*rows)),))
    return prepare(settings, tiny_encoder, tmp_path / "store", lambda _: None)


def selected(store, folder, method):
    def load(number):
        shard = store.read(number)
        return store.statistics(shard, {}, int(store.starts[number])), shard.rows

    select_shards(method, method.rule, load, store.shards, folder)
    return marked_tokens(store, folder)


def naive(store, folder, decode):
    """Counts token by token, and the share of pairs of words in which the marked one has the lower score."""
    counts = {"marked": 0, "removed": 0, "unmarked": 0, "unmarked_removed": 0}
    words: list[tuple[list[float], int]] = []
    for number, shard in enumerate(store):
        scores, kept = read_selection(folder, number)
        marks, fresh = store.marks(number), True
        for t, label in enumerate(shard.labels.tolist()):
            if label == -100:
                fresh = True
                continue
            name = "marked" if marks[t] else "unmarked"
            counts[name] += 1
            counts["removed" if marks[t] else "unmarked_removed"] += not kept[t]
            text = decode([label])
            if text == "<|end|>":
                continue
            if fresh or text.startswith(" "):
                words.append(([float(scores[t])], int(marks[t])))
            else:
                found, mark = words[-1]
                words[-1] = ([*found, float(scores[t])], max(mark, int(marks[t])))
            fresh = False
    marked, others = (
        [np.float32(np.mean(found)) for found, mark in words if (mark > 0) == kind] for kind in (True, False)
    )
    pairs = [1.0 if one < other else 0.5 if one == other else 0.0 for one in marked for other in others]
    return counts, sum(pairs) / len(pairs)


def test_counts_and_auroc_are_those_of_a_naive_loop(store, tmp_path, tiny_encoder):
    assert store.shards > 2
    found = selected(store, tmp_path / "scores", get_method("random", fraction=0.5))
    assert found is not None
    counts, area = naive(store, tmp_path / "scores", tiny_encoder.tokenizer.decode)
    assert {name: getattr(found, name) for name in counts} == counts
    assert found.auroc == pytest.approx(area)
    assert sum(one["marked"] for one in found.types.values()) == found.marked
    assert sum(one["removed"] for one in found.types.values()) == found.removed
    assert set(found.types) == {"wrong", "odd"}


def test_the_true_mask_and_the_anti_mask(store, tmp_path):
    found = selected(store, tmp_path / "true", get_method("marked"))
    assert found is not None
    assert (found.removed, found.unmarked_removed, found.auroc) == (found.marked, 0, 1.0)
    one = selected(store, tmp_path / "one", get_method("marked", types=["odd"]))
    assert one is not None
    assert one.types["odd"]["removed"] == one.types["odd"]["marked"] == one.removed
    assert (one.types["wrong"]["removed"], one.types["odd"]["auroc"], one.types["wrong"]["auroc"]) == (0, 1.0, None)
    opposite = selected(store, tmp_path / "anti", get_method("marked", keep="marked"))
    assert opposite is not None
    assert (opposite.removed, opposite.auroc) == (0, 0.0)
    assert opposite.unmarked_removed == opposite.unmarked - store.counts.examples  # turn ends are kept


def test_equal_scores_and_data_without_marks_tell_nothing(store, tmp_path, write_jsonl, tiny_encoder):
    found = selected(store, tmp_path / "full", get_method("full"))
    assert found is not None
    assert (found.removed, found.auroc) == (0, None)
    plain = write_jsonl({"question": "Say it.", "answer": "the sea"}, name="plain.jsonl")
    unmarked = prepare(DataSettings(files=(str(plain),)), tiny_encoder, tmp_path / "store", lambda _: None)
    assert selected(unmarked, tmp_path / "none", get_method("full")) is None
