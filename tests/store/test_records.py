"""What a manifest says of its files, packed."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.store.checksum import FileRecord
from tokensieve.store.records import FileRecords
from tokensieve.store.shards import shard_name

NAMES = st.one_of(
    st.from_regex(r"(a|b/|shard-)?[0-9]{0,20}(\.arrow|-of-00012|)", fullmatch=True),
    st.builds(shard_name, st.one_of(st.integers(0, 300), st.integers(99_990, 100_100))),
    st.text(max_size=9),
)
LARGE = st.integers(0, 2**63)
RECORDS = st.builds(FileRecord, LARGE, LARGE, st.from_regex(r"[0-9a-f]{32}", fullmatch=True))


@given(st.dictionaries(NAMES, RECORDS), st.dictionaries(NAMES, RECORDS))
def test_records_are_those_of_a_dictionary_in_order(files, further):
    packed = FileRecords(files)
    before = FileRecords(packed)
    packed.add(further)
    every = {**files, **further}
    assert dict(packed.ordered()) == every
    assert list(packed) == sorted(every)
    assert len(packed) == len(every)
    assert {name: packed[name] for name in every} == every
    assert before == files, "the copy changed"
    assert [name in before for name in every] == [name in files for name in every]


@pytest.mark.parametrize("name", ["shard-00001.arrow", "shard-00500.arrow", "shard-000000.arrow", "other"])
def test_what_is_not_recorded_is_missing(name):
    packed = FileRecords({"shard-00000.arrow": FileRecord(1, 1, "0" * 32)})
    assert name not in packed
    with pytest.raises(KeyError):
        packed[name]


@pytest.mark.parametrize("checksum", ["00", "0" * 34, "x" * 32])
def test_what_is_no_checksum_is_refused(checksum):
    with pytest.raises(ValueError, match=r"checksum|hexadecimal"):
        FileRecords({"a": FileRecord(1, 1, checksum)})


def test_a_file_takes_few_bytes_whatever_its_folder():
    packed = FileRecords()
    tracemalloc.start()
    for number in range(20_000):
        for folder in ("loss", "attention@1234567890"):
            packed[f"{folder}/{shard_name(number)}"] = FileRecord(number, 2**20, f"{number:032x}")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(packed) < 36
