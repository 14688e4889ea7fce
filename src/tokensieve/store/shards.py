"""Ragged columns on disk: one row an example, one list column a value of its tokens.

The store holds Arrow files, uncompressed, and mapped into memory when they are read. Data that other programs train on
is Parquet. The same arrays give the same bytes, so that a resumed run can be compared with an uninterrupted one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.store import checksum
from tokensieve.store.atomic import atomic_file
from tokensieve.store.checksum import FileRecord
from tokensieve.store.mirror import fetched

AGAIN = "run the same command again (`tokensieve run RECIPE`, or `tokensieve import` for an imported arm)"
"""What to do about a file that is missing: what a command finds missing, it makes again."""
HINT = f"delete the file and {AGAIN}: it is made again"
"""What to do about a file that is damaged."""

_SHARD = re.compile(r"shard-([0-9]{5,18})\.arrow")


def shard_name(number: int) -> str:
    """Return the file name of a shard in the store."""
    return f"shard-{number:05d}.arrow"


def number_of(name: str) -> int | None:
    """Return the number of the shard that has this file name; None where none has."""
    found = _SHARD.fullmatch(name)
    return int(found[1]) if found else None


def write_shard(
    path: Path,
    cu_seqlens: Int64,
    ragged: Mapping[str, NDArray],
    scalars: Mapping[str, NDArray] | None = None,
) -> FileRecord:
    """Write one Arrow file atomically.

    Args:
        path: file to create or replace.
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        ragged: ``[tokens]`` arrays, written as list columns of their own dtype.
        scalars: ``[examples]`` arrays, written as plain columns.

    Returns:
        What the manifest of the folder is to say of the file (`store.manifest`).
    """
    batch = _record_batch(cu_seqlens, ragged, scalars or {})

    def write(partial: Path) -> None:
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)

    return _write(path, cu_seqlens, write)


def write_parquet(path: Path, cu_seqlens: Int64, ragged: Mapping[str, NDArray]) -> FileRecord:
    """Write one Parquet file atomically; the arguments and the result are those of `write_shard`."""
    # Floating-point values are noise to a dictionary and to a compressor, which would only take time.
    compression = {name: "NONE" if np.issubdtype(v.dtype, np.floating) else "ZSTD" for name, v in ragged.items()}
    paths = {f"{name}.list.element": how for name, how in compression.items()}
    dictionary = [f"{name}.list.element" for name, v in ragged.items() if v.dtype == np.int32]
    # pyarrow's types know neither one compression a column nor a dictionary for some.
    options: dict[str, Any] = {"compression": paths, "use_dictionary": dictionary, "write_statistics": False}
    table = pa.Table.from_batches([_record_batch(cu_seqlens, ragged, {})])
    return _write(path, cu_seqlens, lambda partial: pq.write_table(table, partial, **options))


def record_of(path: Path) -> FileRecord:
    """Return what a manifest is to say of a file that `write_shard` or `write_parquet` wrote.

    Raises:
        TokensieveError: a file that cannot be read.
    """
    cu_seqlens, _ = read_shard(path)
    return FileRecord(len(cu_seqlens) - 1, int(cu_seqlens[-1]), checksum.of_file(path))


def mapped(path: Path) -> pa.Buffer:
    """Return the bytes of a file, mapped into memory.

    Raises:
        TokensieveError: a file that cannot be read.
    """
    try:
        fetched(path)
        # An empty file cannot be mapped.
        return pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
    except OSError as error:
        raise _unreadable(path, error) from error


def read_shard(path: Path, data: pa.Buffer | None = None) -> tuple[Int64, dict[str, NDArray]]:
    """Read a file that `write_shard` or `write_parquet` wrote, without a look at its checksum (`Manifest.read`).

    Args:
        path: the file.
        data: its bytes, where they are `mapped` already.

    Returns:
        The offsets, int64 ``[examples + 1]``, and every column: flat ``[tokens]`` for list columns,
        ``[examples]`` for the others. Arrays are read-only.

    Raises:
        TokensieveError: a file that cannot be read, whose list columns differ in length, or that has values of no row.
    """
    data = mapped(path) if data is None else data
    try:
        found = list(_columns(_read_table(path, data)))
    except (pa.ArrowException, OSError, LookupError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    cu_seqlens = next((offsets for _, _, offsets in found if offsets is not None), None)
    if cu_seqlens is None:
        raise TokensieveError("no list column in this file", where=str(path), hint=HINT)
    for name, values, offsets in found:
        if offsets is not None and not np.array_equal(offsets, cu_seqlens):
            raise TokensieveError(
                f"column '{name}' has rows of other lengths than the first",
                where=str(path),
                hint=HINT,
            )
        if cu_seqlens[0] or len(values) != (len(cu_seqlens) - 1 if offsets is None else cu_seqlens[-1]):
            raise TokensieveError(f"column '{name}' has values that belong to no row", where=str(path), hint=HINT)
    return cu_seqlens, {name: values for name, values, _ in found}


def _columns(table: pa.Table) -> Iterator[tuple[str, NDArray, Int64 | None]]:
    """Yield the name and the values of each column, and the offsets of one of lists."""
    for name in table.column_names:
        chunks = table[name].chunks
        # `combine_chunks` would copy a single one too.
        column = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], type=table[name].type)])
        if pa.types.is_list(column.type):
            yield name, _to_numpy(column.values), column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
        else:
            yield name, column.to_numpy(zero_copy_only=False), None


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file that `write_parquet` wrote."""
    return pq.read_schema(fetched(path)).names


def _record_batch(cu_seqlens: Int64, ragged: Mapping[str, NDArray], scalars: Mapping[str, NDArray]) -> pa.RecordBatch:
    offsets = pa.array(cu_seqlens, type=pa.int32())
    columns: dict[str, pa.Array] = {name: pa.array(value) for name, value in scalars.items()}
    columns |= {name: pa.ListArray.from_arrays(offsets, _to_arrow(value)) for name, value in ragged.items()}
    # Nothing is ever missing, and saying so spares a third of the time of a Parquet file.
    schema = pa.schema([_present(name, column.type) for name, column in columns.items()])
    return pa.record_batch(list(columns.values()), schema=schema)


def _to_arrow(values: NDArray) -> pa.Array:
    if values.dtype != np.bool_:
        return pa.array(values)
    # One bit a token, packed by numpy in a fifteenth of the time.
    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, packed])


def _to_numpy(values: pa.Array) -> NDArray:
    if values.type != pa.bool_() or values.offset or not len(values):
        return values.to_numpy(zero_copy_only=False)
    bits = np.frombuffer(values.buffers()[1], dtype=np.uint8)
    return np.unpackbits(bits, count=len(values), bitorder="little").view(np.bool_)


def _present(name: str, kind: pa.DataType) -> pa.Field:
    if pa.types.is_list(kind):
        kind = pa.list_(pa.field("element", kind.value_type, nullable=False))
    return pa.field(name, kind, nullable=False)


def _write(path: Path, cu_seqlens: Int64, write: Callable[[Path], None]) -> FileRecord:
    with atomic_file(path) as partial:
        write(partial)
        return FileRecord(len(cu_seqlens) - 1, int(cu_seqlens[-1]), checksum.of_file(partial))


def _read_table(path: Path, data: pa.Buffer) -> pa.Table:
    is_parquet = path.suffix == ".parquet"
    table = pq.ParquetFile(pa.BufferReader(data)).read() if is_parquet else pa.ipc.open_file(data).read_all()
    table.validate(full=True)  # offsets and lengths that lead out of the file would end the process
    return table


def _unreadable(path: Path, error: Exception) -> TokensieveError:
    return TokensieveError(f"cannot read a shard: {error}", where=str(path), hint=HINT)
