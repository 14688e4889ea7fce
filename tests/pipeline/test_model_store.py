"""Models in the store: made once, and verified whenever they are found again."""

from __future__ import annotations

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.model_store import MODEL, make_once


@pytest.fixture
def make(tmp_path):
    """Make a model in a store; return its folder, and whether it was made now."""

    def write(folder):
        (folder / MODEL).mkdir(parents=True)
        (folder / MODEL / "adapter_model.safetensors").write_bytes(b"weights")
        return {"result": 1}

    return lambda: make_once(tmp_path / "store", {"seed": 0}, write)


def test_a_model_is_made_once(make):
    folder, made = make()
    assert made
    assert make() == (folder, False)


@pytest.mark.parametrize("damage", [b"weighs", b"weightz"])
def test_a_damaged_model_is_named_and_made_again_once_the_file_is_deleted(make, damage):
    path = make()[0] / MODEL / "adapter_model.safetensors"
    path.write_bytes(damage)
    with pytest.raises(TokensieveError, match="its checksum is wrong") as error:
        make()
    assert error.value.where == str(path)
    assert "delete the file and run the same command again" in error.value.hint
    path.unlink()
    assert make()[1]
    assert path.read_bytes() == b"weights"
    assert not make()[1]
