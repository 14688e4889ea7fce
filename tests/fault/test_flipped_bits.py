"""Bits that flip and files that end early, anywhere in a finished run and its store: nothing wrong is read silently.

`make soak` runs SOAK_FLIPS of them in place of a few.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Commands, commands_in

READERS: dict[str, tuple[str, ...]] = {
    "report": (),
    "export": (),
    "evaluate": ("run/arms/*/evaluation.json", "store/evaluations"),
    "train": ("run/arms/*/model", "run/arms/*/evaluation.json", "store/models", "store/evaluations"),
    "select": ("run/arms", "store/models", "store/evaluations"),
}
"""Commands, and what is removed before each, so that it reads what that was made from."""
UNREAD = {".lock", ".holder"}
SOAK = int(os.environ.get("SOAK_FLIPS", "0"))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[..., Path]) -> Commands:
    return commands_in(tmp_path_factory.mktemp("flips"), tiny_model_folder("llama"))


def begin(commands: Commands, reader: str) -> None:
    """Put a finished run into the folder, without what the reader is to make."""
    commands.begin("export")
    for pattern in READERS[reader]:
        for path in commands.root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def files(root: Path) -> dict[str, bytes]:
    """Return the bytes of the files that a command may read or write, by path."""
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix not in UNREAD]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found if path.name != "times.json"}


@pytest.fixture(scope="module")
def undisturbed(commands) -> dict[str, dict[str, bytes]]:
    """Return what each reader leaves where nothing is damaged."""
    left = {}
    for reader in READERS:
        begin(commands, reader)
        code, said, _ = commands.run(reader)
        assert code == 0, said
        left[reader] = files(commands.root)
    return left


def damage(path: Path, chance: random.Random) -> None:
    """Flip a bit of a file; one time in eleven let it end early instead."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    if chance.randrange(11):
        data[place] ^= 1 << chance.randrange(8)
    else:
        del data[place:]
    path.unlink()  # not through a hard link
    path.write_bytes(data)


@pytest.mark.parametrize("trial", range(SOAK or 2 * len(READERS)))
def test_damage_is_named_or_changes_nothing(trial, commands, undisturbed):
    chance, reader = random.Random(f"flip {trial}"), list(READERS)[trial % len(READERS)]
    begin(commands, reader)
    named = chance.choice([name for name, data in files(commands.root).items() if data])
    damage(commands.root / named, chance)
    code, said, _ = commands.run(reader)
    assert "Traceback" not in said, (named, said)
    assert code in (0, 2), (named, said)
    if code == 0:
        found, wanted = files(commands.root), undisturbed[reader]
        assert found.keys() == wanted.keys(), (named, said)
        assert [name for name in found if found[name] != wanted[name] and name != named] == [], said
    else:
        assert said.count("error: ") == 1, (named, said)
        assert "  hint: " in said, (named, said)
