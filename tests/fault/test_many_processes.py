"""Tokenising and measuring by several processes: whatever starts them and kills them, the result has the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import psutil
import pytest
import torch
from processes import contents, ended
from safetensors.torch import load_file

from tokensieve.store.atomic import read_json

LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"),
    "accelerate": (
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "3",
        "--main_process_port",
        "0",
    ),
}
LAUNCHERS["two"] = tuple("2" if part == "3" else part for part in LAUNCHERS["accelerate"])
RAY = ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one process leaves, statistics and selection."""
    return {}


@pytest.fixture
def whole(expected, start, tmp_path):
    """Return what one process leaves in the store and as its selection."""
    if not expected:
        ended(start("select", tmp_path / "whole/run"))
        expected.update(contents(tmp_path / "whole", "store/examples", "store/statistics", "run/arms"))
    return expected


def same(root, whole, start) -> None:
    """Check that what processes measured in a folder is what one measures, to the byte, and selects the same."""
    left = list((root / "store").rglob("*.partial")), list((root / "store").rglob("*.holder"))
    assert left == ([], [])
    assert not list((root / "store/examples").glob(".*.chunks"))
    before = {path: path.stat().st_mtime_ns for path in (root / "store/statistics").rglob("shard-*.arrow")}
    ended(start("select", root / "run"))
    assert contents(root, "store/examples", "store/statistics", "run/arms") == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished shard was measured twice"


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_launched_processes_measure_the_same_bytes(launcher, whole, start, tmp_path):
    errors = ended(start("measure", tmp_path / "run", launcher=LAUNCHERS[launcher]))
    assert "measure base, shards 0/" in errors
    assert "measure base, shards 1/" in errors
    measured = {path.relative_to(tmp_path) for path in (tmp_path / "store/statistics").rglob("shard-*.arrow")}
    assert measured == {path for path in whole if path.match("statistics/*/*/shard-*.arrow")}
    assert len(measured) >= 20
    same(tmp_path, whole, start)


def test_shares_by_hand_with_another_number_at_the_next_attempt(whole, start, tmp_path):
    killed = start("measure", tmp_path / "run", "--shard", "1/3")
    while len(list((tmp_path / "store/statistics").glob("*/*/shard-*.arrow"))) < 3:
        assert killed.poll() is None
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    together = [start("measure", tmp_path / "run", "--shard", f"{number}/2") for number in range(2)]
    for one in together:
        ended(one)
    same(tmp_path, whole, start)


@pytest.mark.slow  # test_kill.py kills one that tokenises, test_chunks.py tries every order and cut
def test_processes_that_are_killed_while_they_tokenise_lose_nothing(whole, start, tmp_path):
    """One of two dies with a chunk in its hands, and the other takes it over; then both, with another number."""
    together = [start("measure", tmp_path / "run", "--shard", f"{number}/2") for number in range(2)]
    while len(list((tmp_path / "store/examples").glob(".*.chunks/chunk-*/manifest.json"))) < 1:
        assert together[0].poll() is None
        time.sleep(0.002)
    os.killpg(together[0].pid, signal.SIGKILL)
    together[0].communicate()
    ended(together[1])
    ended(start("measure", tmp_path / "run", "--shard", "0/2"))
    same(tmp_path, whole, start)


@pytest.mark.slow  # a whole run on Ray does so in every test run
def test_ray_measures_the_same_bytes(whole, start, tmp_path):
    ended(start("measure", tmp_path / "run", *RAY))
    same(tmp_path, whole, start)


def test_a_run_on_ray_leaves_the_same_bytes(demo_pool, start, tmp_path):
    """Fit a threshold and decide by it alone, rank over the data set, clean, and evaluate."""
    more = (
        "method=xtf", "controls=[random]", "select.jsonl=true", f"evaluate.held_out.files=[{demo_pool}]",
    )  # fmt: skip
    for name, engine in (("local", ()), ("ray", RAY)):
        ended(start("run", tmp_path / name / "run", *more, *engine))
    found = [contents(tmp_path / name, "store/statistics", "run/arms") for name in ("local", "ray")]
    assert found[0].keys() == found[1].keys()
    assert [str(path) for path in found[0] if found[0][path] != found[1][path]] == []
    written = {path.name for path in found[0]}
    assert {"train.jsonl", "evaluation.json", "selection.json"} <= written
    assert sum(path.parent.name == "kept" for path in found[0]) >= 20


@pytest.mark.slow  # engines/test_ray.py has errors of workers
def test_a_run_on_ray_has_its_error_as_one(start, tmp_path):
    process = start("measure", tmp_path / "run", *RAY, "--gpus-per-worker", "1")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "error: the cluster has 0 GPUs" in errors
    assert "Traceback" not in errors


def test_what_needs_everything_is_refused_for_a_share(start, tmp_path):
    process = start("select", tmp_path / "run", launcher=LAUNCHERS["torchrun"])
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "this command runs in one process, and WORLD_SIZE=2 says that there are others" in errors
    assert not (tmp_path / "run").exists()


def test_launched_processes_train_one_model(start, tmp_path):
    """Two processes with micro-batches of four rows train what one does with eight, and one process goes on."""

    def command(name, place, rows, launcher=()):
        train = {"max_steps": 2, "learning_rate": 1.0, "optim": "sgd", "per_device_train_batch_size": rows}
        train |= {"gradient_accumulation_steps": 1, "lora": {"dropout": 0.0}}
        return start(
            name,
            tmp_path / place / "run",
            f"train={json.dumps(train)}",
            "data.limit=64",
            "controls=[dft]",
            launcher=launcher,
        )

    early = command("train", "two", 4, LAUNCHERS["two"])
    _, errors = early.communicate(timeout=120)
    assert early.returncode != 0
    assert "'loss' has no selection yet, and several processes only train" in errors
    ended(command("select", "two", 4))
    measured = read_json(tmp_path / "two/run/run.json")["statistics"]
    said = ended(command("train", "two", 4, LAUNCHERS["two"]))
    assert said.count("train loss: 2 optimizer steps") == 1, "the main process alone shows progress"
    assert read_json(tmp_path / "two/run/run.json")["statistics"] == measured
    assert not list(tmp_path.rglob("*.partial"))
    ended(command("train", "one", 8))
    for arm in ("loss", "dft"):
        path = f"run/arms/{arm}/model/adapter_model.safetensors"
        one, two = (load_file(tmp_path / place / path) for place in ("one", "two"))
        assert one.keys() == two.keys()
        moved = [name for name, value in one.items() if "lora_B" in name and value.abs().max() > 1e-4]
        assert moved
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-6)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("two/run/arms/*/model/*")}
    ended(command("run", "two", 4))
    assert (tmp_path / "two/run/report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def command_of(process: psutil.Process) -> str:
    """Return the command line of a process; nothing where it has ended, as those that tokenised may have by now."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize("trial", range(int(os.environ.get("SOAK_TRIALS", "1"))))
@pytest.mark.parametrize(
    "victim", ["worker", *(pytest.param(one, marks=pytest.mark.slow) for one in ("driver", "raylet"))]
)
def test_kills_under_ray_lose_nothing(victim, trial, whole, start, tmp_path):
    chance = random.Random(f"{victim} {trial}")
    process = start("measure", tmp_path / "run", *RAY)
    while len(list((tmp_path / "store/statistics").glob("*/*/shard-*.arrow"))) < 2 + chance.randrange(8):
        assert process.poll() is None
        time.sleep(0.002)
    family = psutil.Process(process.pid).children(recursive=True)
    if victim == "driver":
        os.kill(process.pid, signal.SIGKILL)
    else:
        wanted = "ray::_Holder" if victim == "worker" else "raylet/raylet"
        chance.choice([one for one in family if wanted in command_of(one)]).kill()
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    if victim == "worker":
        assert process.returncode == 0, errors
    _, alive = psutil.wait_procs(family, timeout=120)
    assert alive == []
    ended(start("measure", tmp_path / "run"))
    same(tmp_path, whole, start)
