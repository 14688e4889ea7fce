from __future__ import annotations

from pathlib import Path

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.evaluation_store import evaluate_once
from tokensieve.runs.arm_folder import ArmFolder

IDENTITY = {"model": "a", "data": "b"}


@pytest.fixture
def evaluated(tmp_path):
    """Evaluate for an arm; return the arm, and how often a model was evaluated so far."""
    calls = []

    def evaluate():
        calls.append(1)
        return {"held_out": {"loss": 1.5}}, {"held_out": [{"loss": 1.0}, {"loss": 2.0}]}

    def call(arm: str) -> tuple[ArmFolder, int]:
        folder = ArmFolder(tmp_path / arm)
        folder.path.mkdir(exist_ok=True)
        evaluate_once(tmp_path / "store", IDENTITY, folder, evaluate)
        return folder, len(calls)

    return call


def stored(tmp_path: Path, name: str) -> Path:
    (found,) = (tmp_path / "store/evaluations").glob(f"*/{name}")
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_evaluation_is_made_once_and_every_arm_has_a_copy(evaluated):
    one, _ = evaluated("one")
    other, calls = evaluated("other")
    assert calls == 1
    assert contents(one.path) == contents(other.path)
    assert set(contents(one.path)) == {"evaluation.json", "held_out.jsonl"}


@pytest.mark.parametrize("name", ["evaluation.json", "held_out.jsonl"])
@pytest.mark.parametrize("bit", [0, 40, -9])
def test_no_flipped_bit_is_copied(name, bit, evaluated, tmp_path):
    evaluated("one")
    path = stored(tmp_path, name)
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(TokensieveError, match="the file is damaged") as error:
        evaluated("other")
    assert error.value.where == str(path)
    path.unlink()  # as the hint says
    other, calls = evaluated("other")
    assert calls == 2
    assert set(contents(other.path)) == {"evaluation.json", "held_out.jsonl"}


@pytest.mark.parametrize("name", ["evaluation.json", "held_out.jsonl", "manifest.json"])
def test_what_is_deleted_is_made_again(name, evaluated, tmp_path):
    one, _ = evaluated("one")
    stored(tmp_path, name).unlink()
    other, calls = evaluated("other")
    assert calls == 2
    assert contents(one.path) == contents(other.path)
