from __future__ import annotations

from contextlib import contextmanager

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.measure.engines import Done, get_engine
from tokensieve.measure.settings import MeasureSettings


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

    done = list(get_engine("local")(make, [4, 0, 2], MeasureSettings(), tokens.append))
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
    with pytest.raises(TokensieveError, match="shard 3 is broken"):
        done.extend(get_engine("local")(make, [1, 3, 2], MeasureSettings(), lambda _: None))
    assert left == ["closed"]


def test_an_unknown_engine_is_named():
    with pytest.raises(TokensieveError, match="unknown engine 'locall'; did you mean 'local'") as error:
        get_engine("locall")
    assert error.value.hint == "one of: local, ray"
