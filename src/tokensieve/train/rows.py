"""The rows that are trained on, read from the very files that are named."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_COLUMNS = ("input_ids", "labels")


def read_rows(files: Sequence[Path], further: Collection[str] = ()) -> Any:
    """Read Parquet files into a `datasets.Dataset` that lies in memory.

    `datasets.load_dataset` takes paths for patterns and keeps a copy under their modification times, so that one run
    could train on the rows of another. All training data is opened here.

    Args:
        files: Parquet files with ``input_ids`` and ``labels``, lists of whole numbers.
        further: names of columns that are read too where the files have them.
    """
    import datasets

    with_columns = [name for name in _open(files[0]).schema_arrow.names if name in {*ROW_COLUMNS, *further}]
    tables = [_open(path).read(columns=with_columns) for path in files]
    # Its own fingerprint would be a hash of all rows, for a cache that is not used.
    return datasets.Dataset(pa.concat_tables(tables), fingerprint=uuid.uuid4().hex)


def _open(path: Path) -> pq.ParquetFile:
    """Open one file of training data."""
    return pq.ParquetFile(path.absolute())  # a relative path that begins with ~ would be another folder's
