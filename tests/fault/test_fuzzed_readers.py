"""The targets of the fuzzer (`fuzz_readers`) without it: good inputs are taken, mutations by chance break nothing."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys

import fuzz_readers
import pytest
from fuzz_targets import TARGETS
from target import Target

MUTATIONS = 100


@pytest.fixture(scope="module", params=TARGETS)
def target(request, tmp_path_factory) -> Target:
    return TARGETS[request.param](tmp_path_factory.mktemp("fuzzed"))


def mutated(target: Target, chance: random.Random) -> bytes:
    """Return a good input with some parts replaced, removed, doubled, or by words."""
    data = bytearray(chance.choice(target.good))
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.randrange(9))
        new = chance.randbytes(stop - start), b"", 2 * data[start:stop], chance.choice(target.words).encode()
        data[start:stop] = chance.choice(new)
    return bytes(data)


def test_good_inputs_are_taken_and_no_mutation_breaks_the_reader(target):
    assert [data for data in target.good if not target.read(data)] == []
    chance = random.Random(0)
    assert {target.read(mutated(target, chance)) for _ in range(MUTATIONS)} <= {True, False}


def test_the_fuzzer_starts_from_good_inputs_and_knows_the_words(tmp_path):
    (tmp_path / "corpus").mkdir()
    fuzz_readers.begin(Target(lambda _: True, [b"a", b"\xff"], ["é", '"']), tmp_path)
    assert sorted(path.read_bytes() for path in (tmp_path / "corpus").iterdir()) == [b"a", b"\xff"]
    assert (tmp_path / "words").read_text() == '"\\xc3\\xa9"\n"\\x22"\n'


def test_the_fuzzer_runs_where_it_is_installed_and_says_how_to_install_it_elsewhere(tmp_path):
    command = [
        sys.executable,
        fuzz_readers.__file__,
        "--minutes",
        "0.02",
        "--kept",
        str(tmp_path),
        "--reader",
        "selection",
    ]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if importlib.util.find_spec("atheris") is None:
        assert done.returncode == 1
        assert "pip install -c constraints.txt -e '.[fuzz]'" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "selection: " in done.stdout
