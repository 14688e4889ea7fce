from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tokensieve.containers import IGNORE_INDEX, Examples
from tokensieve.data.counts import Counts
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import TopFraction
from tokensieve.select.cleaned import cleaned_rows, data_files, write_cleaned, write_subset, write_training
from tokensieve.select.streaming import select_shards
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.shards import shard_name, write_shard

LENGTHS = [[3, 5, 4], [2], [6, 7]]


@pytest.fixture
def examples(tmp_path) -> ExampleStore:
    generator, files = np.random.default_rng(0), {}
    for number, lengths in enumerate(LENGTHS):
        ids = generator.integers(0, 151_000, sum(lengths)).astype(np.int32)
        labels = np.where(generator.random(len(ids)) < 0.5, ids, IGNORE_INDEX).astype(np.int32)
        labels[0] = ids[0]
        name, rows = shard_name(number), {"row": np.arange(len(lengths))}
        columns = {"input_ids": ids, "labels": labels}
        files[name] = write_shard(tmp_path / "examples" / name, offsets(lengths), columns, rows)
    write_manifest(tmp_path / "examples", files)
    return ExampleStore(tmp_path / "examples", "f", Counts(), (), len(LENGTHS))


@pytest.fixture
def scores(examples, tmp_path):
    def load(number):
        shard = examples.read(number)
        return examples.statistics(shard, {}, int(examples.starts[number])), shard.rows

    select_shards(get_method("random"), TopFraction(0.3), load, examples.shards, tmp_path / "scores")
    return tmp_path / "scores"


def expected_rows(examples, kept):
    found = []
    for number, shard in enumerate(examples):
        for start, stop in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True):
            labels = np.where(kept[number][start:stop], shard.labels[start:stop], IGNORE_INDEX).tolist()
            ids, ones = shard.input_ids[start:stop].tolist(), [1] * int(stop - start)
            masks = [int(label != IGNORE_INDEX) for label in labels]
            if any(masks):
                names = ("input_ids", "attention_mask", "labels", "assistant_masks")
                found.append(dict(zip(names, (ids, ones, labels, masks), strict=True)))
    return found


def parquet_rows(folder):
    return [row for path in data_files(folder) for row in pq.read_table(path).to_pylist()]


def test_both_formats_hold_the_examples_that_keep_a_token(examples, scores, tmp_path):
    manifest = open_manifest(scores)
    kept = [manifest.column(f"kept/{shard_name(number)}", "kept") for number in range(examples.shards)]
    expected = expected_rows(examples, kept)
    assert 0 < len(expected) < sum(map(len, LENGTHS))
    assert write_cleaned(examples, scores, tmp_path / "cleaned", jsonl=True) == len(expected)
    assert parquet_rows(tmp_path / "cleaned") == expected
    lines = (tmp_path / "cleaned/jsonl/train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert open_manifest(tmp_path / "cleaned").files["jsonl/train.jsonl"].rows == len(expected)


def test_the_same_selection_gives_the_same_bytes(examples, scores, tmp_path):
    for name in ("one", "two"):
        write_cleaned(examples, scores, tmp_path / name, jsonl=True)
    paths = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert {path.name for path in paths} >= {"manifest.json", "train.jsonl"}
    for path in paths:
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


def test_a_subset_holds_all_labels_of_the_examples_picked(examples, tmp_path):
    picked = np.array([True, False, True, False, False, True])
    assert write_subset(examples, picked, tmp_path / "subset") == 3
    bounds = examples.first_examples
    kept = [
        np.repeat(picked[start:stop], shard.lengths) & (shard.labels != IGNORE_INDEX)
        for shard, start, stop in zip(examples, bounds[:-1], bounds[1:], strict=True)
    ]
    assert parquet_rows(tmp_path / "subset") == expected_rows(examples, kept)
    assert len(data_files(tmp_path / "subset")) == 2  # no file for the shard without a row


def test_training_data_holds_every_example_with_further_columns(examples, tmp_path):
    write_training(examples, lambda number: {"weights": np.arange(sum(LENGTHS[number]))}, tmp_path / "training")
    rows = parquet_rows(tmp_path / "training")
    assert [len(row["weights"]) for row in rows] == [*itertools.chain(*LENGTHS)]
    assert np.concatenate([row["input_ids"] for row in rows]).tolist() == [
        token for shard in examples for token in shard.input_ids.tolist()
    ]


@pytest.mark.parametrize("harm", ["missing", "extra", "damaged"])
def test_a_data_set_that_is_not_as_it_was_written_is_refused(harm, examples, scores, tmp_path):
    write_cleaned(examples, scores, tmp_path / "cleaned", jsonl=False)
    path = data_files(tmp_path / "cleaned")[0]
    if harm == "missing":
        path.unlink()
    elif harm == "extra":
        path = path.with_name("train-00009-of-00010.parquet")
        path.write_bytes(b"more")
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.unlink()
        path.write_bytes(data)
    with pytest.raises(TokensieveError, match=r"missing|does not know|damaged") as error:
        data_files(tmp_path / "cleaned")
    assert error.value.where == str(path)


def test_a_selection_that_keeps_nothing_is_refused():
    shard = Examples(np.arange(3, dtype=np.int32), np.arange(3, dtype=np.int32), offsets([3]), np.arange(1))
    cu_seqlens, columns = cleaned_rows(shard, np.zeros(3, dtype=bool))
    assert cu_seqlens.tolist() == [0]
    assert {len(column) for column in columns.values()} == {0}
