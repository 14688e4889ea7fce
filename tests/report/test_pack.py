from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from tokensieve.report.analysis.sweep import PROMPT, Levels
from tokensieve.report.html.pack import BLOCK_TOKENS, Packer, marked_text, plan_blocks
from tokensieve.runs.view import load_run

BYTES = {"u8": 1, "u16": 2, "u24": 3, "f24": 3, "f32": 4, "text": 1}


def unpack(block: bytes) -> tuple[dict, dict]:
    """Return header and columns of a block, read as its description says."""
    content = gzip.decompress(block)
    size = int.from_bytes(content[:4], "little")
    header = json.loads(content[4 : 4 + size])
    at, columns = 4 + size, {}
    for name, kind, count in header["columns"]:
        part = np.frombuffer(content, np.uint8, count * BYTES[kind], at)
        at += len(part)
        if kind == "text":
            columns[name] = part.tobytes().decode()
            continue
        whole = np.zeros((count, 4), np.uint8)
        first = 4 - BYTES[kind] if kind.startswith("f") else 0
        whole[:, first : first + BYTES[kind]] = part.reshape(BYTES[kind], count).T
        columns[name] = whole.view("<f4" if kind.startswith("f") else "<u4")[:, 0]
    assert at == len(content)
    return header, columns


@pytest.fixture
def packer(demo):
    view = load_run(demo.folder)
    return Packer(view, {arm: Levels(view, arm) for arm in view.arms})


def test_a_block_holds_its_examples(demo, packer):
    header, columns = unpack(packer.block(np.array([1, 3])))
    lengths = [len(demo.ids[number]) for number in (1, 3)]
    assert header["tokens"] == lengths
    assert columns["id"].tolist() == demo.ids[1] + demo.ids[3]
    trainable = np.array(demo.labels[1] + demo.labels[3]) != -100
    assert np.array_equal(columns["level:token-cleaning"] != PROMPT, trainable)
    scores = np.array(demo.scores[1] + demo.scores[3], dtype=np.float32)
    assert np.array_equal(columns["value:score:token-cleaning"], scores)
    np.testing.assert_allclose(columns["value:reference.loss"], 2 * np.abs(scores), rtol=2**-16)
    assert columns["piece_tokens"].sum() == sum(lengths)
    assert len(columns["piece_tokens"]) == sum(header["pieces"])
    assert columns["piece_chars"].sum() == len(columns["text"].encode("utf-16-le")) // 2
    assert "中文🙂" in columns["text"]


def test_examples_of_another_shard_are_read(demo, packer):
    assert unpack(packer.block(np.array([0])))[1]["id"].tolist() == demo.ids[0]
    assert unpack(packer.block(np.array([5])))[1]["id"].tolist() == demo.ids[5]
    assert unpack(packer.block(np.array([0])))[1]["id"].tolist() == demo.ids[0]


def test_blocks_cover_the_examples_and_stay_within_a_shard():
    numbers = np.array([0, 1, 4, 5, 6, 9])
    blocks = plan_blocks(numbers, np.full(6, BLOCK_TOKENS // 2), np.array([0, 6, 10]))
    assert [block.tolist() for block in blocks] == [[0, 1], [4, 5], [6, 9]]
    assert plan_blocks(numbers[:0], numbers[:0], np.array([0, 6])) == []


def test_an_example_longer_than_a_block_has_one_of_its_own():
    blocks = plan_blocks(np.arange(3), np.array([10, 3 * BLOCK_TOKENS, 10]), np.array([0, 3]))
    assert [block.tolist() for block in blocks] == [[0, 1], [2]]


def test_what_is_invisible_stands_between_marks():
    assert marked_text("a b\n") == "a\x01·\x02b\x01¶\n\x02"
    assert marked_text("\x01\x02") == "\x01␁␂\x02"
    assert marked_text("") == "\x01⟨⟩\x02"
