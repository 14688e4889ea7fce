"""A few steps of a training, timed batch by batch."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from tokensieve.models.loading import random_model
from tokensieve.models.settings import ModelSettings
from tokensieve.train.settings import DEFAULT_ARGUMENTS, LoraSettings, TrainSettings
from tokensieve.train.timing import time_steps
from tokensieve.train.trainer import TrainingSetup

LENGTHS = [5, 9, 30, 12, 7, 21, 3, 17]


@pytest.fixture
def timed(tiny_model_folder, tmp_path):
    """Time a training of some seconds; return its times and the weights before and after."""
    folder = tiny_model_folder("llama")
    rows = [list(range(3, 3 + length)) for length in LENGTHS]
    pq.write_table(pa.table({"input_ids": rows, "labels": rows}), tmp_path / "rows.parquet")

    def time(lora, seconds, **arguments):
        settings = TrainSettings(lora, False, {**DEFAULT_ARGUMENTS, "per_device_train_batch_size": 2, **arguments})
        base, device = ModelSettings(str(folder)), torch.device("cpu")
        setup = TrainingSetup(base, AutoTokenizer.from_pretrained(folder), settings, 64, 0, device)
        return time_steps(random_model(base, device).requires_grad_(True), setup, [tmp_path / "rows.parquet"], seconds)

    return time


@pytest.mark.parametrize("lora", [None, LoraSettings(r=2)], ids=["all weights", "LoRA"])
def test_every_batch_has_its_time_and_its_padded_shape(timed, tmp_path, lora):
    times = timed(lora, 0.0)
    assert len(times.batches) == len(times.shapes) == 4, "as few as there may be, the first left out"
    assert {rows for rows, _ in times.shapes} == {2}
    assert {longest for _, longest in times.shapes} <= set(LENGTHS)
    assert all(0 < one < 60 for one in times.batches)
    assert 0 < times.optimizer < 60
    assert 0 < times.start < 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"], "nothing is written"


def test_more_batches_are_timed_in_more_seconds(timed):
    assert len(timed(None, 2.0).batches) > 4


def test_the_settings_of_a_recipe_do_not_save_or_log(timed, tmp_path):
    times = timed(None, 0.0, save_steps=1, logging_steps=1, gradient_accumulation_steps=7)
    assert len(times.batches) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]
