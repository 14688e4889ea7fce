from __future__ import annotations

from contextlib import contextmanager

import pytest

from tokensieve.engines import Done, start_engine
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError


class Worker:
    """Counts instead of measuring."""

    def do(self, shard, on_tokens):
        if shard == 3:
            raise TokensieveError("shard 3 is broken")
        on_tokens(shard * 10)
        return Done(shard, shard * 10, {})


def test_one_worker_does_every_shard_and_reports_its_tokens():
    made, tokens = [], []

    @contextmanager
    def make():
        made.append("open")
        yield Worker()
        made.append("closed")

    with start_engine(EngineSettings()) as engine:
        done = list(engine.map(make, [4, 0, 2], tokens.append))
    assert [one.shard for one in done] == [4, 0, 2]
    assert tokens == [one.tokens for one in done] == [40, 0, 20]
    assert made == ["open", "closed"]


def test_the_first_error_ends_it():
    left = []

    @contextmanager
    def make():
        try:
            yield Worker()
        finally:
            left.append("closed")

    done = []
    with start_engine(EngineSettings()) as engine, pytest.raises(TokensieveError, match="shard 3 is broken"):
        done.extend(engine.map(make, [1, 3, 2], lambda _: None))
    assert left == ["closed"]


def test_an_unknown_engine_is_named():
    with pytest.raises(TokensieveError, match="unknown engine 'locall'; did you mean 'local'") as error:
        start_engine(EngineSettings("locall"))
    assert error.value.hint == "one of: local, ray"
