from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.containers import LOSS
from tokensieve.engines.local import Local
from tokensieve.errors import TokensieveError
from tokensieve.measure import worker
from tokensieve.measure.measure import measure, tokens_of
from tokensieve.measure.measurement import file_name
from tokensieve.measure.settings import MeasureSettings
from tokensieve.measure.share import ALL, Share, launched_share, parse_share
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.store.manifest import open_manifest

LENGTHS = [9, 8, 30, 7, 6, 5, 21, 3, 4, 11, 12]


@given(of=st.integers(1, 40), count=st.integers(0, 200))
def test_shares_are_the_shards_each_once(of, count):
    shares = [list(Share(number, of).shards(count)) for number in range(of)]
    assert sorted(number for share in shares for number in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_is_read_from_the_command_line():
    assert parse_share("3/16") == Share(3, 16)
    assert parse_share("0/1") == ALL
    assert str(Share(3, 16)) == "3/16"


@pytest.mark.parametrize("text", ["16/16", "3", "3/", "/4", "-1/4", "1.5/4", "0/0", "3 / 16"])
def test_a_wrong_share_is_refused(text):
    with pytest.raises(TokensieveError, match="no share of the shards") as error:
        parse_share(text)
    assert "from 0 to n - 1" in error.value.hint


def test_launchers_tell_the_share():
    assert launched_share({}) == ALL
    assert launched_share({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}) == ALL
    assert launched_share({"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}) == Share(5, 8, device=1)


@pytest.mark.parametrize(
    "told",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "0"},
    ],
)
def test_a_launcher_that_tells_half_is_refused(told):
    with pytest.raises(TokensieveError, match="but not which: WORLD_SIZE="):
        launched_share(told)


def test_each_process_takes_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert Share(5, 8, device=1).device_name("auto") == "cuda:1"
    assert Share(5, 8, device=5).device_name("auto") == "cuda:1"
    assert Share(5, 8, device=1).device_name("cpu") == "cpu", "what the recipe says counts"
    assert Share(5, 8).device_name("auto") == "auto", "a share by hand has CUDA_VISIBLE_DEVICES of its own"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert Share(5, 8, device=1).device_name("auto") == "auto"


@pytest.fixture
def measured(model_folder, example_store, tmp_path):
    """Return a function that measures a share into a store; the shards of the examples are six."""
    examples, model = example_store(LENGTHS, shards=6), ModelSettings(str(model_folder("llama")))

    def run(store, share=ALL, told=lambda _: None):
        settings = MeasureSettings(token_budget=64)
        return measure(examples, model, [LOSS], settings, tmp_path / store, ModelPool("cpu"), Local(), told, share)

    return run


def contents(measurement):
    return {
        path.relative_to(measurement.folder): path.read_bytes()
        for path in measurement.folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_shares_of_changing_numbers_add_up_to_the_same_bytes(measured, monkeypatch):
    whole = contents(measured("whole"))
    part = measured("parts", Share(1, 3))
    assert sorted(open_manifest(part.folder).files) == [file_name(LOSS, number) for number in (1, 4)]
    assert not part.complete([LOSS])
    measured("parts", Share(0, 2))  # another number of shares at the next attempt: shard 4 is there already
    kept = {path: path.stat().st_mtime_ns for path in part.folder.rglob("shard-*.arrow")}
    assert len(kept) == 4
    last = measured("parts", Share(1, 2))
    assert last.complete([LOSS])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a shard was measured twice"
    assert contents(last) == whole
    monkeypatch.setattr(worker, "Forward", lambda *_: pytest.fail("measured again"))
    measured("parts")


def test_shares_at_the_same_time_lose_no_record(measured):
    whole = contents(measured("whole"))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: measured("parts", Share(number, 3)), range(3)))
    assert contents(found[0]) == whole


def test_the_same_share_twice_at_the_same_time_is_one_whole_file(measured):
    whole = contents(measured("whole"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: measured("parts", Share(0, 2)), range(2)))
    assert contents(measured("parts", Share(1, 2))) == whole


def test_progress_counts_the_tokens_of_the_share(measured):
    told = []
    measurement = measured("store", Share(1, 3), told.append)
    examples = measurement.examples
    assert sum(told) == tokens_of(examples, Share(1, 3)) == sum(len(examples.read(n).input_ids) for n in (1, 4))
    assert tokens_of(examples, ALL) == sum(LENGTHS)
    assert dataclasses.replace(ALL, of=2).is_all is False
