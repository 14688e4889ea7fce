"""Kill -9 in the middle of tokenising and of measuring, and the same command again."""

from __future__ import annotations

import os
import signal
import time

from processes import contents, ended


def test_a_killed_measurement_goes_on_and_ends_byte_identical(start, tmp_path):
    ended(start("measure", tmp_path / "whole/run"))
    expected = contents(tmp_path / "whole", "store/statistics")
    assert len(expected) >= 13

    killed = start("measure", tmp_path / "killed/run")
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "killed/store/statistics").glob("*/*/shard-*.arrow"))) < 5:
        assert killed.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    shards = list((tmp_path / "killed/store/statistics").rglob("shard-*.arrow"))
    before = {path: path.stat().st_mtime_ns for path in shards}
    assert 5 <= len(before) < len(expected)

    ended(start("measure", tmp_path / "killed/run"))
    assert contents(tmp_path / "killed", "store/statistics") == expected
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished shard was measured twice"


def test_killed_tokenising_goes_on_and_ends_byte_identical(start, tmp_path):
    ended(start("measure", tmp_path / "whole/run"))
    killed = start("measure", tmp_path / "killed/run")
    chunks, deadline = "store/examples/.*.chunks/chunk-*/manifest.json", time.monotonic() + 300
    while len(list((tmp_path / "killed").glob(chunks))) < 2:
        assert killed.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not list((tmp_path / "killed").glob("store/examples/*/shard-*.arrow"))
    assert len(list((tmp_path / "killed").glob(chunks))) >= 2
    ended(start("measure", tmp_path / "killed/run"))
    names = ("store/examples", "store/statistics")
    assert contents(tmp_path / "killed", *names) == contents(tmp_path / "whole", *names)
