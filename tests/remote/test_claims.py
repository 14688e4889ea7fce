"""Locks in an object store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from object_server import end, start

from tokensieve.errors import TokensieveError
from tokensieve.places import place
from tokensieve.store import claims
from tokensieve.store.atomic import locked
from tokensieve.store.claims import claimed
from tokensieve.store.processes import host
from tokensieve.store.waiting import waiting_at_most

COUNT = """
import sys
from tokensieve.places import place
from tokensieve.store.atomic import locked, write_text
path = place(sys.argv[1])
for _ in range(5):
    with locked(path):
        number = int(path.read_text()) if path.is_file() else 0
        write_text(path, str(number + 1))
"""


def never(who: str) -> None:
    raise AssertionError(who)


def test_one_process_at_a_time_holds_a_lock(server, bucket, tmp_path):
    url = f"s3://{bucket}/count.txt"
    end(*(start(server, tmp_path / name, "-c", COUNT, url) for name in "abc"))
    assert server.read(f"{bucket}/count.txt") == b"15"
    assert server.names(bucket) == ["count.txt"]


def test_a_lock_says_who_holds_it_and_is_gone_with_its_block(server, bucket):
    with locked(place(f"s3://{bucket}/run")):
        (name,) = server.names(bucket)
        assert name.startswith(f".run.lock/{host()}.{os.getpid()}.")
        assert server.read(f"{bucket}/{name}").startswith(f"process {os.getpid()} on ".encode())
    assert server.names(bucket) == []


def test_who_waits_is_told_who_holds_the_lock(server, bucket, use_scratch, monkeypatch):
    monkeypatch.setattr(claims, "_PAUSE", 0.05)
    server.put(f"{bucket}/.run.lock/elsewhere.17.0123abcd", b"process 17 on elsewhere since yesterday")
    threading.Timer(1, server.files.delete_file, [f"{bucket}/.run.lock/elsewhere.17.0123abcd"]).start()
    told = rf"s3://{bucket}/run is in use by process 17 on elsewhere since yesterday; waiting"
    with waiting_at_most(0), pytest.raises(TokensieveError, match="is in use by process 17 on elsewhere"):
        locked(place(f"s3://{bucket}/run")).__enter__()
    with pytest.warns(UserWarning, match=told), locked(place(f"s3://{bucket}/run")):
        pass


def test_the_claim_of_a_dead_process_of_this_host_is_taken_over_at_once(server, bucket):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    server.put(f"{bucket}/.run.lock/{host()}.{dead.pid}.0123abcd", b"")
    with claimed(place(f"s3://{bucket}/run"), never):
        assert len(server.names(bucket)) == 1


def test_a_claim_that_is_not_renewed_is_taken_over(server, bucket, monkeypatch):
    monkeypatch.setattr(claims, "EXPIRES", 1.0)
    monkeypatch.setattr(claims, "_PAUSE", 0.1)
    server.put(f"{bucket}/.run.lock/elsewhere.17.0123abcd", b"process 17 on elsewhere")
    start_at, told = time.monotonic(), []
    with claimed(place(f"s3://{bucket}/run"), told.append):
        assert time.monotonic() - start_at > 1
    assert set(told) == {"process 17 on elsewhere"}
    assert server.names(bucket) == []


def test_a_claim_that_is_held_is_renewed_and_not_taken_over(server, bucket, monkeypatch):
    monkeypatch.setattr(claims, "EXPIRES", 2.0)  # a store tells whole seconds
    monkeypatch.setattr(claims, "_PAUSE", 0.1)
    monkeypatch.setattr(claims, "_is_dead_here", lambda name: False)
    path, order = place(f"s3://{bucket}/run"), []

    def other() -> None:
        with claimed(path, order.append):
            order.append("second")

    with claimed(path, never):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(3)
        order.append("first done")
    thread.join(30)
    assert [one for one in order if not one.startswith("process")] == ["first done", "second"]


def test_a_claim_that_goes_while_it_is_read_is_no_error(server, bucket, monkeypatch):
    path = place(f"s3://{bucket}/a")
    calls = iter([["other"], ["other"], []])
    monkeypatch.setattr(claims._Others, "living", lambda _: next(calls, []))
    monkeypatch.setattr(claims, "_PAUSE", 0.01)

    def gone(_):
        raise TokensieveError("the object store fails", where="s3://a", hint="again")

    monkeypatch.setattr(claims.remote, "read", gone)
    said = []
    with claims.claimed(path, said.append):
        assert said == []
