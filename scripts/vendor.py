"""Fetch the JavaScript that the page and its tests use, at pinned versions: `make vendor`.

Each file is checked against its SHA-256 before it replaces the one in the repository. Needs `npm`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Vendored:
    """One file of an npm package.

    Attributes:
        package: name and version.
        file: path in the package.
        sha256: of the file.
        folder: where it goes, with the package's licence beside it.
    """

    package: str
    file: str
    sha256: str
    folder: str

    @property
    def target(self) -> Path:
        """The file in the repository."""
        return ROOT / self.folder / Path(self.file).name


VENDORED = (
    Vendored(
        "d3@7.9.2",
        "dist/d3.min.js",
        "912111098ea99503a6f4967361d2bbdc9dbf58cf9c678c8e27e5b02d1a07f0c1",
        "src/tokensieve/report/html/vendor",
    ),
    Vendored(
        "@observablehq/plot@0.6.17",
        "dist/plot.umd.min.js",
        "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb",
        "src/tokensieve/report/html/vendor",
    ),
    Vendored(
        "axe-core@4.14.1",
        "axe.min.js",
        "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
        "tests/report/vendor",
    ),
)


def fetch(vendored: Vendored) -> None:
    """Download a package and put its file and licence in place."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", vendored.package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            content, licence = (_member(tar, name) for name in (vendored.file, "LICENSE"))
    found = hashlib.sha256(content).hexdigest()
    if found != vendored.sha256:
        sys.exit(f"{vendored.package}: {vendored.file} has SHA-256 {found}, expected {vendored.sha256}")
    vendored.target.parent.mkdir(parents=True, exist_ok=True)
    vendored.target.write_bytes(content)
    vendored.target.with_suffix(".LICENSE").write_bytes(licence)
    print(vendored.target.relative_to(ROOT))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(f"package/{name}")
    assert file is not None, name
    return file.read()


if __name__ == "__main__":
    for item in VENDORED:
        fetch(item)
