"""Whole runs in an object store, by the command line."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from object_server import Hold, end, environment_of
from small_shards import tokensieve
from warm import Warm

from tokensieve.cli import main
from tokensieve.data import prepare
from tokensieve.store import remote

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
OTHER = ("times.json", "report.html", "run.json")
"""Files that have seconds in them, or the URL of the data."""
SHARD_TOKENS = 400


def recipe(output: str, data: str, **keys: str) -> list[str]:
    """Return overrides of a run that makes a reference, trains two arms of a few steps and evaluates them."""
    given = {
        "output": output,
        "data.files": f"[{data}]",
        "data.limit": "40",
        "models.base": str(MODEL),
        "models.reference": "{warm_up: {rows: 10, train: {max_steps: 3}}}",
        "method": "token-cleaning",
        "controls": "[random]",
        "train": "{max_steps: 2, learning_rate: 0.01, warmup_steps: 0, per_device_train_batch_size: 2, lora: {r: 2}}",
        "evaluate.held_out.files": f"[{data}]",
        "evaluate.held_out.limit": "5",
        **keys,
    }
    return [f"{key}={value}" for key, value in given.items()]


def local(root: Path) -> dict[str, bytes]:
    found = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def comparable(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out what has seconds in it, and the output itself in the recipe, with the checksum."""
    kept = {name: data for name, data in contents.items() if not name.endswith(OTHER)}
    lines = kept["a/recipe.yaml"].splitlines(True)[:-1]
    kept["a/recipe.yaml"] = b"".join(line for line in lines if b"output:" not in line)
    return kept


@pytest.fixture
def data(server, bucket, demo_pool) -> str:
    """Return the URL of the demo's pool, in the bucket of the test."""
    server.put(f"{bucket}/data/pool.jsonl", demo_pool.read_bytes())
    return f"s3://{bucket}/data/pool.jsonl"


def test_a_run_has_the_bytes_of_a_local_one_and_is_carried_out_once(
    server, bucket, data, use_scratch, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    output = f"s3://{bucket}/runs/a"
    main(["run", *recipe(output, data)])
    said = capfd.readouterr()
    assert f"page: {output}/report.html" in said.out
    assert str(tmp_path) not in said.out + said.err

    main(["run", *recipe("local/a", data)])
    capfd.readouterr()
    there = server.contents(bucket, "runs/")
    assert there.keys() == local(tmp_path / "local").keys()
    assert comparable(there) == comparable(local(tmp_path / "local"))
    assert not any(str(tmp_path).encode() in content for content in there.values())

    for scratch in ("first", "empty"):
        use_scratch(scratch)
        before = len(server.requests)
        main(["run", f"{output}/recipe.yaml"])
        again = {path.partition("/runs/")[2] for method, path in server.requests[before:] if method in ("PUT", "POST")}
        written = {path for path in again if ".lock/" not in path}
        assert written == {"a/recipe.yaml", "a/run.json", "a/times.json", "a/report.html"}
        assert comparable(server.contents(bucket, "runs/")) == comparable(there)

    use_scratch("reader")
    capfd.readouterr()
    main(["show", output, "--example", "3", "--json"])
    assert json.loads(capfd.readouterr().out)["example"] == 3
    main(["compare", output, "--json"])
    main(["report", output, "--output", f"s3://{bucket}/page.html"])
    assert capfd.readouterr().out.splitlines()[-1] == f"s3://{bucket}/page.html"
    assert server.read(f"{bucket}/page.html").startswith(b"<!")
    main(["export", output, "--to", "trl", "--output", f"s3://{bucket}/exported"])
    assert capfd.readouterr().out.splitlines()[0] == f"s3://{bucket}/exported"
    assert {"exported/README.md", "exported/export.json"} < set(server.names(bucket, "exported"))
    main(["plan", *recipe(output, data), "--hardware", "H100", "--json"])
    assert [path.name for path in tmp_path.iterdir() if ":" in path.name] == []


@pytest.fixture
def start(server, monkeypatch):
    """Return a function that starts a command over small shards, which this process makes too."""
    monkeypatch.setattr(prepare, "SHARD_TOKENS", SHARD_TOKENS)

    def begin(scratch, *arguments: str) -> Warm:
        environment = environment_of(server, scratch)
        return Warm(tokensieve, [*arguments], SHARD_TOKENS, prepare.CHUNK_ROWS, environment=environment)

    return begin


def measuring(output: str, data: str) -> list[str]:
    """Return overrides of a run that measures the base and selects, without a training."""
    given = recipe(output, data, method="loss", train="null")
    return [one for one in given if not one.startswith(("models.reference", "evaluate"))]


def test_shares_in_two_scratch_folders_and_a_run_in_a_third(server, bucket, data, start, tmp_path, use_scratch):
    given = measuring(f"s3://{bucket}/runs/a", data)
    shares = (("0/2", "one"), ("1/2", "two"))
    end(*(start(tmp_path / name, "measure", *given, "--shard", share) for share, name in shares))
    (manifest,) = (name for name in server.names(bucket, "runs/store/statistics") if name.endswith("manifest.json"))
    shards = {name for name in server.names(bucket, "runs/store/statistics") if name.endswith(".arrow")}
    folder = manifest.removesuffix("manifest.json")
    assert {f"{folder}{name}" for name in json.loads(server.read(f"{bucket}/{manifest}"))["files"]} == shards
    assert len(shards) >= 3

    use_scratch("third")
    before = len(server.requests)
    main(["run", *given])
    put = [path for method, path in server.requests[before:] if method == "PUT"]
    assert [path for path in put if "/statistics/" in path and path.endswith(".arrow")] == []
    assert "runs/a/arms/loss/selection.json" in server.names(bucket)


def test_a_run_that_is_killed_in_the_middle_of_an_upload_goes_on(server, bucket, data, start, tmp_path, use_scratch):
    given = measuring(f"s3://{bucket}/runs/a", data)
    hold = Hold("PUT", "shard-00001.arrow")
    with server.failing(lambda method, path: hold(method, path) if "/statistics/" in path else None):
        process = start(use_scratch("killed"), "run", *given)
        assert hold.reached.wait(100)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hold.released.set()
    names = server.names(bucket, "runs/store/statistics")
    assert [name.rpartition("/")[2] for name in names if name.endswith(".arrow")] == ["shard-00000.arrow"]
    main(["run", *given])
    use_scratch("whole")
    main(["run", *measuring(f"s3://{bucket}/whole/a", data)])
    killed, whole = (comparable(server.contents(bucket, folder)) for folder in ("runs/", "whole/"))
    assert killed == whole


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("s3://nobody/runs/a", "there is no bucket 'nobody'"),
        ("s3://bucket-alone", "cannot be written to"),
        ("hf://datasets/you/yours", "cannot be written to"),
        ("s3://bucket/.hidden/a", "cannot be written to"),
        ("ftp://host/runs/a", "cannot be written to"),
    ],
)
def test_an_output_that_cannot_be_is_one_error(bucket, data, output, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["run", *recipe(output, data)])
    assert f"error: {message}" in (said := capfd.readouterr().err.replace(f"'{output}' ", ""))
    assert "tokenise" not in said
    assert [path.name for path in tmp_path.iterdir() if path.name != "scratch"] == []


@pytest.mark.parametrize("key", ["output", "store", "data.files"])
def test_credentials_that_are_refused_are_one_error(server, bucket, data, key, tmp_path, capfd):
    given = {"output": str(tmp_path / "a"), "store": str(tmp_path / "store"), "data.files": data}
    given[key] = f"s3://{bucket}/private/rows.jsonl"

    def fault(method: str, path: str) -> str | None:
        return "403 Forbidden" if "private" in path else None

    with server.failing(fault), pytest.raises(SystemExit, match="2"):
        main(["run", *recipe(given["output"], given["data.files"], store=given["store"])])
    said = capfd.readouterr().err
    assert "error: the object store refuses: " in said
    assert f"  at: s3://{bucket}/private/rows.jsonl" in said
    assert "AWS_ACCESS_KEY_ID" in said
    assert "measure" not in said


def test_a_store_that_does_not_answer_is_one_error(bucket, data, capfd, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    before = time.monotonic()
    with pytest.raises(SystemExit, match="2"):
        main(["run", *recipe(f"s3://{bucket}/runs/a", data)])
    said = capfd.readouterr().err
    assert "error: the object store cannot be reached: " in said
    assert "AWS_ENDPOINT_URL" in said
    assert time.monotonic() - before < 30
    remote._file_system.cache_clear()


def test_a_model_in_an_object_store_is_refused(bucket, data, tmp_path, capfd):
    with pytest.raises(SystemExit, match="2"):
        main(["run", *recipe(str(tmp_path / "a"), data, **{"models.base": f"s3://{bucket}/model"})])
    assert (
        f"models are read from folders of this machine and from the Hub\n  at: s3://{bucket}/model"
        in capfd.readouterr().err
    )


def test_the_demo_is_refused_before_it_writes_data(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--output", "s3://bucket/demo"])
    assert "'s3://bucket/demo' is a URL" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
