"""What tests change in a folder by hand, recorded as the package would have done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokensieve.data.example_store import open_examples
from tokensieve.store.checksum import recorded
from tokensieve.store.manifest import has_manifest, open_manifest, write_manifest
from tokensieve.store.sealed import read_sealed, write_sealed
from tokensieve.store.shards import record_of


def record_again(folder: Path, **about: Any) -> None:
    """Write the manifest of a folder from the files that lie in it, and change what else it says."""
    known = open_manifest(folder).about if has_manifest(folder) else {}
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".arrow", ".parquet"))
    files = {path.relative_to(folder).as_posix(): record_of(path) for path in paths}
    files |= {f"tokenizer/{path.name}": recorded(path) for path in sorted((folder / "tokenizer").glob("*"))}
    write_manifest(folder, files, {**known, **about})


def change(path: Path, **fields: Any) -> None:
    """Change fields of a sealed file."""
    write_sealed(path, {**read_sealed(path, "it is missing", ""), **fields})


def cut_again(run: Path, examples: Path) -> None:
    """Make the arms of a run selections of examples that were cut into other shards by hand."""
    for path in run.glob("arms/*/selection.json"):
        change(path, cut=open_examples(examples).cut)
