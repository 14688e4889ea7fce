"""What tests change in a folder by hand, recorded as the package would have done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokensieve.data.example_store import open_examples
from tokensieve.store.atomic import read_json, write_json
from tokensieve.store.manifest import has_manifest, open_manifest, write_manifest
from tokensieve.store.shards import record_of


def record_again(folder: Path, **about: Any) -> None:
    """Write the manifest of a folder from the files that lie in it, and change what else it says."""
    known = open_manifest(folder).about if has_manifest(folder) else {}
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".arrow", ".parquet"))
    files = {path.relative_to(folder).as_posix(): record_of(path) for path in paths}
    write_manifest(folder, files, {**known, **about})


def cut_again(run: Path, examples: Path) -> None:
    """Make the arms of a run selections of examples that were cut into other shards by hand."""
    for path in run.glob("arms/*/selection.json"):
        write_json(path, {**read_json(path), "cut": open_examples(examples).cut})
