from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.store.shards import read_shard, shard_name, write_shard

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
    write_shard(folder / "a.parquet", cu_seqlens, ragged, scalars)
    found, columns = read_shard(folder / "a.parquet")
    assert found.dtype == np.int64
    assert np.array_equal(found, cu_seqlens)
    expected = {**ragged, **(scalars or {})}
    assert columns.keys() == expected.keys()
    for name, value in expected.items():
        assert columns[name].dtype == value.dtype
        assert columns[name].tobytes() == value.tobytes()
    write_shard(folder / "b.parquet", cu_seqlens.copy(), {k: v.copy() for k, v in ragged.items()}, scalars)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


def test_empty_examples_at_both_ends_and_no_examples(tmp_path):
    for lengths in ([], [0], [0, 2, 0, 0, 1, 0]):
        cu_seqlens = offsets(lengths)
        write_shard(tmp_path / "a.parquet", cu_seqlens, {"x": np.arange(sum(lengths), dtype=np.int32)})
        found, columns = read_shard(tmp_path / "a.parquet")
        assert np.array_equal(found, cu_seqlens)
        assert np.array_equal(columns["x"], np.arange(sum(lengths)))


def test_a_file_of_several_row_groups_is_one_shard(tmp_path):
    table = pa.table({"x": [[1, 2], [], [3], [4, 5, 6]], "row": [0, 1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    cu_seqlens, columns = read_shard(tmp_path / "a.parquet")
    assert cu_seqlens.tolist() == [0, 2, 2, 3, 6]
    assert columns["x"].tolist() == [1, 2, 3, 4, 5, 6]
    assert columns["row"].tolist() == [0, 1, 2, 3]


def test_names_sort_by_number():
    assert shard_name(7) == "shard-00007.parquet"
    assert sorted(map(shard_name, [10, 9])) == [shard_name(9), shard_name(10)]


@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "text"])
def test_a_damaged_file_names_itself_and_the_mend(harm, tmp_path):
    path = tmp_path / "a.parquet"
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


def test_an_error_while_writing_keeps_the_old_shard(tmp_path):
    path = tmp_path / "a.parquet"
    write_shard(path, offsets([1]), {"x": np.arange(1)})
    with pytest.raises((pa.ArrowException, ValueError)):
        write_shard(path, offsets([1]), {"x": np.arange(1)}, {"row": np.arange(5)})
    assert read_shard(path)[1].keys() == {"x"}
    assert list(tmp_path.iterdir()) == [path]
