"""Training with weights that FSDP shards over two processes, by accelerate's own configuration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from processes import ended
from safetensors.torch import load_file

SHARDING = str(Path(__file__).with_name("sharding.py"))
CONFIGURATION = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
use_cpu: true
mixed_precision: 'no'
num_machines: 1
num_processes: 2
main_process_port: 0
fsdp_config:
  fsdp_version: {version}
  fsdp_reshard_after_forward: {reshard}
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_cpu_ram_efficient_loading: {main_alone_loads}
  fsdp_sync_module_states: {main_alone_loads}
  fsdp_use_orig_params: true
"""
FSDP_2 = CONFIGURATION.format(version=2, reshard="true", main_alone_loads="true")
FSDP_1 = CONFIGURATION.format(version=1, reshard="FULL_SHARD", main_alone_loads="false")
LORA = {"lora": {"dropout": 0.0}, "merge_adapter": True}
Train = Callable[..., Any]


@pytest.fixture
def train(start, tmp_path) -> Train:
    """Return a function that selects in a folder, and starts a training there."""

    def begin(place: str, sharded: str | None, **settings: object) -> Any:
        given = {
            "max_steps": 4, "warmup_steps": 0, "learning_rate": 0.5, "optim": "sgd", "optim_args": "momentum=0.9",
            "per_device_train_batch_size": 4 if sharded else 8, "gradient_accumulation_steps": 1, **settings,
        }  # fmt: skip
        arguments = (f"train={json.dumps(given)}", "data.limit=64", "controls=[dft]")
        output = tmp_path / place / "run"
        if not sharded:
            return start("train", output, *arguments)
        ended(start("select", output, *arguments))
        (tmp_path / "accelerate.yaml").write_text(sharded)
        launcher = ("-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "accelerate.yaml"))
        return start("train", output, *arguments, launcher=launcher, script=SHARDING)

    return begin


def same_models(root: Path) -> None:
    """Check that the models of two processes are those of one: files, settings and weights."""
    for arm in ("loss", "dft"):
        one, two = (root / place / f"run/arms/{arm}/model" for place in ("one", "two"))
        names = [{path.relative_to(model) for path in model.rglob("*")} for model in (one, two)]
        assert names[0] == names[1]
        for name in names[0]:
            if name.suffix == ".safetensors":
                same_weights(one / name, two / name)
            elif name.name not in ("times.json", "training.json", "adapter_config.json"):  # that has a set of layers
                assert not (one / name).is_file() or (one / name).read_bytes() == (two / name).read_bytes(), name


def same_weights(one: Path, two: Path) -> None:
    expected, found = load_file(one), load_file(two)
    assert found.keys() == expected.keys()
    assert len(found) >= 38
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)


def moved(root: Path) -> float:
    """Return how far the two methods' weights are apart, as both have left the base."""
    models = [next((root / f"one/run/arms/{arm}/model").glob("*.safetensors")) for arm in ("loss", "dft")]
    one, other = map(load_file, models)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_an_adapter_of_sharded_weights_is_whole_and_merged(version, train, tmp_path):
    more = LORA | ({"save_strategy": "no"} if version == 1 else {})  # a checkpoint of FSDP 1 needs GPUs
    ended(train("two", (FSDP_1, FSDP_2)[version - 1], **more))
    ended(train("one", None, **more))
    same_models(tmp_path)
    assert (tmp_path / "two/run/arms/dft/model/merged/model.safetensors").is_file()
    assert moved(tmp_path) > 1e-4


@pytest.mark.slow
def test_all_weights_sharded_go_on_from_a_checkpoint_of_a_killed_training(train, tmp_path):
    settings = {"lora": None, "save_steps": 2}
    killed = train("two", FSDP_2, **settings)
    while not list(tmp_path.rglob("checkpoint-2/complete.json")):
        assert killed.poll() is None
        time.sleep(0.01)
    for one in [*psutil.Process(killed.pid).children(recursive=True), killed]:
        one.kill()
    killed.communicate()
    assert not list(tmp_path.glob("two/run/arms/*/model"))
    (left,) = tmp_path.rglob("checkpoint-2")
    ended(train("two", FSDP_2, **settings))
    assert not left.exists()
    ended(train("one", None, **settings))
    same_models(tmp_path)
    assert moved(tmp_path) > 1e-4
