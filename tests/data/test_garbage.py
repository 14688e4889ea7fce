from __future__ import annotations

import gc

import pytest

from tokensieve.data.garbage import rare_collections
from tokensieve.data.inspection_worker import look
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@rare_collections()
def fail_within(first):
    assert gc.get_threshold() == (first, 10, 10)
    raise KeyError


@pytest.mark.parametrize("first", [700, 0])
def test_searches_are_as_often_as_before_also_after_an_error(first):
    before = gc.get_threshold()
    try:
        gc.set_threshold(first, 10, 10)
        with pytest.raises(KeyError):
            fail_within(100 * first)
        assert gc.get_threshold() == (first, 10, 10)
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("command", ["inspect", "run"])
def test_rows_are_read_with_rare_collections(write_jsonl, tiny_encoder, tmp_path, command):
    settings, found = DataSettings((str(write_jsonl({"messages": MESSAGES})),)), []
    before = gc.get_threshold()[0]

    def on_rows(_: int) -> None:
        found.append(gc.get_threshold()[0])

    if command == "inspect":
        look(settings, tiny_encoder, 1, read_rows, on_rows)
    else:
        prepare(settings, tiny_encoder, tmp_path, on_rows)
    assert set(found) == {100 * before}
    assert gc.get_threshold()[0] == before
