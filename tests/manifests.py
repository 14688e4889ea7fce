"""What tests change in a folder by hand, recorded as the package would have done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokensieve.store.manifest import has_manifest, open_manifest, write_manifest
from tokensieve.store.shards import record_of


def record_again(folder: Path, **about: Any) -> None:
    """Write the manifest of a folder from the files that lie in it, and change what else it says."""
    known = open_manifest(folder).about if has_manifest(folder) else {}
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".arrow", ".parquet"))
    files = {path.relative_to(folder).as_posix(): record_of(path) for path in paths}
    write_manifest(folder, files, {**known, **about})
