from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.store.shards import number_of, read_shard, record_of, shard_name, write_parquet, write_shard

DTYPES = [np.int8, np.int32, np.int64, np.uint32, np.float32, np.float64, np.bool_]


@st.composite
def shards(draw):
    lengths = draw(st.lists(st.integers(0, 7), max_size=8))
    cu_seqlens = offsets(lengths)

    def arrays(size):
        return draw(
            st.dictionaries(
                st.sampled_from(["a", "b", "label", "é"]),
                st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, size)),
                min_size=1,
                max_size=3,
            )
        )

    scalars = {f"scalar-{name}": value for name, value in arrays(len(lengths)).items()}
    return cu_seqlens, arrays(int(cu_seqlens[-1])), draw(st.sampled_from([None, scalars]))


@settings(max_examples=40)
@given(shards())
def test_what_is_written_is_read_and_equal_arrays_give_equal_bytes(tmp_path_factory, shard):
    folder = tmp_path_factory.mktemp("shards")
    cu_seqlens, ragged, scalars = shard
    record = write_shard(folder / "a.arrow", cu_seqlens, ragged, scalars)
    assert record == record_of(folder / "a.arrow")
    assert (record.rows, record.tokens) == (len(cu_seqlens) - 1, cu_seqlens[-1])
    found, columns = read_shard(folder / "a.arrow")
    assert found.dtype == np.int64
    assert np.array_equal(found, cu_seqlens)
    expected = {**ragged, **(scalars or {})}
    assert columns.keys() == expected.keys()
    for name, value in expected.items():
        assert columns[name].dtype == value.dtype
        assert columns[name].tobytes() == value.tobytes()
    write_shard(folder / "b.arrow", cu_seqlens.copy(), {k: v.copy() for k, v in ragged.items()}, scalars)
    assert (folder / "a.arrow").read_bytes() == (folder / "b.arrow").read_bytes()


def test_empty_examples_at_both_ends_and_no_examples(tmp_path):
    for lengths in ([], [0], [0, 2, 0, 0, 1, 0]):
        cu_seqlens = offsets(lengths)
        write_shard(tmp_path / "a.arrow", cu_seqlens, {"x": np.arange(sum(lengths), dtype=np.int32)})
        found, columns = read_shard(tmp_path / "a.arrow")
        assert np.array_equal(found, cu_seqlens)
        assert np.array_equal(columns["x"], np.arange(sum(lengths)))


def test_parquet_of_several_row_groups_is_one_shard(tmp_path):
    table = pa.table({"x": [[1, 2], [], [3], [4, 5, 6]], "row": [0, 1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    cu_seqlens, columns = read_shard(tmp_path / "a.parquet")
    assert cu_seqlens.tolist() == [0, 2, 2, 3, 6]
    assert columns["x"].tolist() == [1, 2, 3, 4, 5, 6]
    assert columns["row"].tolist() == [0, 1, 2, 3]


@settings(max_examples=40)
@given(shards())
def test_parquet_holds_the_same_and_equal_arrays_give_equal_bytes(tmp_path_factory, shard):
    folder = tmp_path_factory.mktemp("shards")
    cu_seqlens, ragged, _ = shard
    record = write_parquet(folder / "a.parquet", cu_seqlens, ragged)
    assert record == record_of(folder / "a.parquet")
    found, columns = read_shard(folder / "a.parquet")
    assert np.array_equal(found, cu_seqlens)
    for name, value in ragged.items():
        assert columns[name].tobytes() == value.tobytes()
    assert write_parquet(folder / "b.parquet", cu_seqlens, ragged) == record


def test_other_libraries_read_a_shard(tmp_path):
    path = tmp_path / shard_name(0)
    write_shard(path, offsets([2, 1]), {"kept": np.array([True, False, True])}, {"row": np.array([5, 6])})
    expected = [{"row": 5, "kept": [True, False]}, {"row": 6, "kept": [True]}]
    assert pyarrow.dataset.dataset(path, format="ipc").to_table().to_pylist() == expected
    assert pd.read_feather(path)["kept"].map(list).tolist() == [[True, False], [True]]
    loaded = datasets.load_dataset("arrow", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == expected


def test_a_shard_is_uncompressed_and_mapped(tmp_path):
    values = np.random.default_rng(0).integers(0, 2, 2**20).astype(np.int32)
    write_shard(tmp_path / "a.arrow", offsets([2**20]), {"x": values})
    assert (tmp_path / "a.arrow").stat().st_size > values.nbytes
    before = pa.total_allocated_bytes()
    _, columns = read_shard(tmp_path / "a.arrow")
    assert pa.total_allocated_bytes() - before < 2**16
    assert not columns["x"].flags.owndata


def test_names_sort_by_number():
    assert shard_name(7) == "shard-00007.arrow"
    assert sorted(map(shard_name, [10, 9])) == [shard_name(9), shard_name(10)]


@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "text"])
def test_a_damaged_file_names_itself_and_the_fix(harm, tmp_path):
    path = tmp_path / "a.arrow"
    write_shard(path, offsets([3]), {"x": np.arange(3)})
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": path.read_bytes()[:-9], "text": b"hello" * 9}[harm])
    with pytest.raises(TokensieveError, match="cannot read a shard") as error:
        read_shard(path)
    assert error.value.where == str(path)
    assert "run the same command again" in error.value.hint


def test_columns_of_different_lengths_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [[1, 2], [3]], "y": [[1], [2, 3]]}), tmp_path / "a.parquet")
    with pytest.raises(TokensieveError, match="column 'y' has rows of other lengths"):
        read_shard(tmp_path / "a.parquet")


def test_a_file_without_list_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(TokensieveError, match="no list column"):
        read_shard(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"\xff\xfe\xfd\xfc\xfb\xfa", "cannot read a shard: 'utf-8' codec"),
        (b"second", "cannot read a shard: .* exists 2 times"),
    ],
)
def test_a_name_that_is_no_text_or_given_twice_is_refused(name, message, tmp_path):
    check_refused(tmp_path / "a.arrow", b"column", name, message)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([0, 5, 2**30], "cannot read a shard: .*offset"),
        ([1, 5, 12], "values that belong to no row"),
        ([0, 5, 11], "values that belong to no row"),
    ],
)
def test_offsets_that_are_not_those_of_the_values_are_refused(found, message, tmp_path):
    new = np.array(found, dtype=np.int32).tobytes()
    check_refused(tmp_path / "a.arrow", offsets([5, 7]).astype(np.int32).tobytes(), new, message)


def check_refused(path, old, new, message):
    """Check how the reading of a shard ends in which some bytes are replaced."""
    write_shard(path, offsets([5, 7]), {"column": np.arange(12)}, {"second": np.arange(2)})
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(TokensieveError, match=message) as error:
        read_shard(path)
    assert error.value.where == str(path)


def test_an_error_while_writing_keeps_the_old_shard(tmp_path):
    path = tmp_path / "a.arrow"
    write_shard(path, offsets([1]), {"x": np.arange(1)})
    with pytest.raises((pa.ArrowException, ValueError)):
        write_shard(path, offsets([1]), {"x": np.arange(1)}, {"row": np.arange(5)})
    assert read_shard(path)[1].keys() == {"x"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [0, 99_999, 100_000])
def test_a_name_tells_the_number_of_its_shard(number):
    assert number_of(shard_name(number)) == number


@pytest.mark.parametrize("name", ["shard-1.arrow", "shard-00001.arrow.partial", "shard-0000a.arrow", "hashes.arrow"])
def test_other_names_have_no_number(name):
    assert number_of(name) is None
