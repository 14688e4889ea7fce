"""A server of objects for all tests of this folder, and a bucket for each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_server import ObjectServer

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[ObjectServer]:
    """Return a running server."""
    running = ObjectServer()
    yield running
    running.close()


@pytest.fixture
def use_scratch(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that gives this process a scratch folder by a name, and the credentials of the server."""

    def use(name: str) -> Path:
        folder = tmp_path / "scratch" / name
        for key, value in {**server.environment, "TOKENSIEVE_SCRATCH": str(folder)}.items():
            monkeypatch.setenv(key, value)
        return folder

    return use


@pytest.fixture
def bucket(server: ObjectServer, use_scratch: Callable[[str], Path]) -> str:
    """Return a new bucket, for which this process has the credentials and an empty scratch folder."""
    use_scratch("first")
    name = f"bucket-{next(_numbers)}"
    server.files.create_dir(name)
    return name
