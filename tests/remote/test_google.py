"""Google Cloud Storage, spoken with an emulator: the client and all above it are the same as of S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_server import GoogleServer, end, start
from test_claims import COUNT
from test_object_runs import comparable, local, measuring, recipe

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.places import place
from tokensieve.store import remote


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleServer]:
    """Return a running server."""
    running = GoogleServer()
    running.files.create_dir("bucket")
    yield running
    running.close()


@pytest.fixture
def use_machine(google, tmp_path, monkeypatch) -> Callable[[str], None]:
    """Return a function that gives this process the scratch folder of a machine, and the address of the server."""

    def use(name: str) -> None:
        for key, value in {**google.environment, "TOKENSIEVE_SCRATCH": str(tmp_path / "scratch" / name)}.items():
            monkeypatch.setenv(key, value)

    use("first")
    monkeypatch.chdir(tmp_path)
    return use


def test_objects_are_put_listed_read_and_deleted(google, use_machine):
    folder = place("gs://bucket/objects")
    assert remote.listed(folder) == {}
    large = bytes(range(256)) * 2**16
    for name, data in (("a/small", b"one"), ("large", large)):
        remote.put(data, folder / name)
    assert {name: stamp.size for name, stamp in remote.listed(folder).items()} == {"a/small": 3, "large": 2**24}
    assert remote.read(folder / "a/small") == b"one"
    assert google.read("bucket/objects/large") == large
    assert remote.get(folder / "large", Path("copy")) == remote.stamp_of(folder / "large")
    assert Path("copy").read_bytes() == large
    assert remote.read(folder / "none") is remote.stamp_of(folder / "none") is None
    remote.delete(folder / "large")
    remote.delete(folder / "large")
    remote.delete_folder(folder)
    assert google.names("bucket", "objects") == []


def test_a_bucket_that_is_not_there_is_one_error(use_machine):
    with pytest.raises(TokensieveError, match="there is no bucket 'nowhere'"):
        remote.listed(place("gs://nowhere/a"))


def test_one_process_at_a_time_holds_a_lock(google, use_machine, tmp_path):
    end(*(start(google, tmp_path / name, "-c", COUNT, "gs://bucket/locks/count.txt") for name in "ab"))
    assert google.read("bucket/locks/count.txt") == b"10"
    assert google.names("bucket", "locks/") == ["locks/count.txt"]


@pytest.mark.parametrize("given", [measuring, pytest.param(recipe, marks=pytest.mark.slow)])
def test_a_run_has_the_bytes_of_a_local_one(given, google, use_machine, demo_pool, tmp_path, capfd):
    folder = given.__name__
    google.put(f"bucket/{folder}/pool.jsonl", demo_pool.read_bytes())
    data, output = f"gs://bucket/{folder}/pool.jsonl", f"gs://bucket/{folder}/runs/a"
    command = "select" if given is measuring else "run"
    main([command, *given(output, data)])
    main([command, *given("local/a", data)])
    there = google.contents("bucket", f"{folder}/runs/")
    assert there.keys() == local(tmp_path / "local").keys()
    assert comparable(there) == comparable(local(tmp_path / "local"))
    use_machine("other")
    main([command, f"{output}/recipe.yaml"])
    assert comparable(google.contents("bucket", f"{folder}/runs/")) == comparable(there)
    capfd.readouterr()
    main(["show", output, "--example", "3", "--json"])
    assert '"example": 3' in capfd.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if ":" in path.name] == []
