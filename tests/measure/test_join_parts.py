"""Statistics of the models of several parts, as one."""

from __future__ import annotations

import numpy as np
import pytest

from tokensieve.containers import StatisticSpec
from tokensieve.measure.folds import join_parts, part_of
from tokensieve.measure.measurement import Measurement
from tokensieve.store.manifest import ensure_manifest, record


@pytest.mark.parametrize("parts", [3, 70])
def test_any_number_of_parts_is_joined(parts, example_store, tmp_path):
    examples, spec = example_store([5] * 80), StatisticSpec("loss")
    measured = [Measurement(tmp_path / str(part), examples) for part in range(parts)]
    shard = examples.read(0)
    for part, one in enumerate(measured):
        ensure_manifest(one.folder, {})
        record(one.folder, one.write(spec, 0, shard, np.full(len(shard.input_ids), part, dtype=np.float32)))
    joined = join_parts(examples, measured, [spec], tmp_path / "store")
    np.testing.assert_array_equal(joined.read(spec, 0), np.repeat(part_of(0, 80, parts), shard.lengths))
