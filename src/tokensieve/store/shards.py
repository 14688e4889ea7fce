"""Ragged columns in Parquet: one row an example, one list column a figure.

The same arrays give the same bytes, so that a resumed run can be compared with an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.store.atomic import atomic_file

_HINT = "delete the file and run the same command again"


def shard_name(number: int) -> str:
    """Return the file name of a shard in the store."""
    return f"shard-{number:05d}.parquet"


def write_shard(
    path: Path,
    cu_seqlens: Int64,
    ragged: Mapping[str, NDArray],
    scalars: Mapping[str, NDArray] | None = None,
) -> None:
    """Write one Parquet file atomically.

    Args:
        path: file to create or replace.
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        ragged: ``[tokens]`` arrays, written as list columns of their own dtype.
        scalars: ``[examples]`` arrays, written as plain columns.
    """
    offsets = pa.array(cu_seqlens, type=pa.int32())
    columns: dict[str, pa.Array] = {name: pa.array(value) for name, value in (scalars or {}).items()}
    columns |= {name: pa.ListArray.from_arrays(offsets, pa.array(value)) for name, value in ragged.items()}
    # Nothing is ever missing, and saying so spares a third of the time of a file.
    schema = pa.schema([_present(name, column.type) for name, column in columns.items()])
    # Figures are noise to a dictionary and to a compressor, which would only take time.
    compression = {name: "NONE" if np.issubdtype(v.dtype, np.floating) else "ZSTD" for name, v in ragged.items()}
    paths = {f"{name}.list.element": how for name, how in compression.items()}
    dictionary = [f"{name}.list.element" for name, v in ragged.items() if v.dtype == np.int32]
    with atomic_file(path) as partial:
        # pyarrow's types know neither one compression a column nor a dictionary for some.
        options: dict[str, Any] = {"compression": paths, "use_dictionary": dictionary, "write_statistics": False}
        pq.write_table(pa.table(columns, schema=schema), partial, **options)


def _present(name: str, kind: pa.DataType) -> pa.Field:
    if pa.types.is_list(kind):
        kind = pa.list_(pa.field("element", kind.value_type, nullable=False))
    return pa.field(name, kind, nullable=False)


def count_values(path: Path, name: str) -> int:
    """Return the number of tokens of one list column, from the file's footer alone; no example may be empty."""
    metadata = pq.ParquetFile(path).metadata
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(column.num_values for column in columns if column.path_in_schema.split(".")[0] == name)


def read_column(path: Path, name: str) -> NDArray:
    """Read one list column of a file, flat: ``[tokens]``."""
    column = pq.ParquetFile(path).read(columns=[name])[name].combine_chunks()
    return column.values.to_numpy(zero_copy_only=False)


def read_shard(path: Path) -> tuple[Int64, dict[str, NDArray]]:
    """Read one Parquet file.

    Returns:
        The offsets, int64 ``[examples + 1]``, and every column: flat ``[tokens]`` for list columns,
        ``[examples]`` for the others.

    Raises:
        TokensieveError: a file that is not Parquet, or whose list columns differ in length.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise TokensieveError(
            f"cannot read a shard: {error}",
            where=str(path),
            hint=_HINT,
        ) from error
    cu_seqlens: Int64 | None = None
    columns: dict[str, NDArray] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # a table without rows
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
        if not pa.types.is_list(column.type):
            columns[name] = column.to_numpy(zero_copy_only=False)
            continue
        found = column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
        if cu_seqlens is not None and not np.array_equal(found, cu_seqlens):
            raise TokensieveError(
                f"column '{name}' has rows of other lengths than the first",
                where=str(path),
                hint=_HINT,
            )
        cu_seqlens = found
        columns[name] = column.values.to_numpy(zero_copy_only=False)
    if cu_seqlens is None:
        raise TokensieveError("no list column in this file", where=str(path), hint=_HINT)
    return cu_seqlens, columns
