from __future__ import annotations

import numpy as np
import pytest

from tokensieve.containers import IGNORE_INDEX, LOSS
from tokensieve.evaluate.intervals import bootstrap_ratio
from tokensieve.measure.loss_differences import compare_losses
from tokensieve.measure.measurement import Measurement

LENGTHS = [9, 2, 5, 30, 7]


@pytest.fixture(params=[1, 3])
def measured(request, example_store, tmp_path):
    """Return a function that writes losses as those of a model: one number a token of all examples."""
    examples = example_store(LENGTHS, shards=request.param)

    def make(name: str, losses: np.ndarray) -> Measurement:
        measurement = Measurement(tmp_path / name, examples)
        for number, shard in enumerate(examples):
            start, stop = examples.starts[number : number + 2]
            measurement.write(LOSS, number, shard, losses[start:stop].astype(np.float32))
        return measurement

    return make


def losses(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=sum(LENGTHS))


def test_equals_a_loop_over_the_tokens(measured):
    before, after = losses(0).astype(np.float32), losses(1).astype(np.float32)
    base, reference = measured("base", before), measured("reference", after)
    found = compare_losses(base, reference)
    gains, counts, position = [], [], 0
    for shard in base.examples:
        for start, stop in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True):
            gain = count = 0
            for label in shard.labels[start:stop]:
                if label != IGNORE_INDEX:
                    gain, count = gain + float(before[position]) - float(after[position]), count + 1
                position += 1
            gains.append(gain)
            counts.append(count)
    np.testing.assert_allclose(found.gains, gains, rtol=1e-12)
    assert found.tokens.tolist() == counts
    assert found.rows.tolist() == list(range(len(LENGTHS)))
    assert found.mean == pytest.approx(sum(gains) / sum(counts))
    assert found.differing == sum(counts)
    assert not found.ties
    low, high = bootstrap_ratio(found.gains, found.tokens)
    assert low < found.mean < high


def test_a_reference_that_equals_the_base_ties_everywhere(measured):
    found = compare_losses(measured("base", losses(0)), measured("reference", losses(0)))
    assert found.ties
    assert found.mean == 0


def test_one_token_that_differs_in_its_last_bit_is_no_tie(measured):
    base = measured("base", losses(0))
    changed, shard = losses(0).astype(np.float32), base.examples.read(0)
    place = int(np.flatnonzero(shard.labels != IGNORE_INDEX)[0])
    changed[place] = np.nextafter(changed[place], np.float32(9))
    found = compare_losses(base, measured("reference", changed))
    assert (found.differing, found.ties) == (1, False)
    assert found.mean < 0


def test_tokens_that_are_not_trained_on_do_not_count(measured):
    base, changed, start = measured("base", losses(0)), losses(0), 0
    for shard in base.examples:
        changed[start : start + len(shard.labels)][shard.labels == IGNORE_INDEX] += 1
        start += len(shard.labels)
    assert compare_losses(base, measured("reference", changed)).ties
