from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from tokensieve.data.decoding import Piece, TokenDecoder, visible, visible_text
from tokensieve.report.heatmap import LEVELS, Scale, percentile_scale, styled_runs, value_ends


def pieces_of(tokenizer, decoder, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = decoder.pieces(ids)
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].stop) == (0, len(ids))
    return pieces


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("中文", ["中", "文"]),
        ("a🙂b", ["a", "🙂", "b"]),
        ("👨‍👩‍👧!", ["👨‍👩‍👧", "!"]),
        ("👍🏽", ["👍🏽"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("e\u0301x", ["e\u0301", "x"]),
        ("hello the world", ["hello", " the", " world"]),
        ("hi<|end|>", ["h", "i", "<|end|>"]),
    ],
)
def test_every_token_shows_whole_characters(tokenizer, decoder, text, shown):
    assert [piece.text for piece in pieces_of(tokenizer, decoder, text)] == shown


def test_special_tokens_are_marked(tokenizer, decoder):
    assert [piece.special for piece in pieces_of(tokenizer, decoder, "h<|end|>")] == [False, True]


def test_broken_characters_stand_alone(tokenizer, decoder):
    ids = tokenizer.encode("中a", add_special_tokens=False)
    pieces = decoder.pieces(ids[:2] + ids[3:])  # the third byte of the character is missing
    assert [(piece.text, piece.stop - piece.start) for piece in pieces] == [("�", 1), ("�", 1), ("a", 1)]


def test_a_replacement_character_in_the_data_stays_one(tokenizer, decoder):
    assert "".join(piece.text for piece in pieces_of(tokenizer, decoder, "a�b")).replace("�", "") == "ab"


def test_ids_without_text_are_named(decoder):
    assert decoder.pieces([99999]) == [Piece(0, 1, "")]
    assert decoder.name(99999) == "⟨id=99999⟩"


def test_names_number_the_parts_of_a_character(tokenizer, decoder):
    ids = [*tokenizer.encode(" the中", add_special_tokens=False), 99999]
    names = decoder.names(ids, decoder.pieces(ids))
    assert names == ["·the", "中 (1 of 3)", "中 (2 of 3)", "中 (3 of 3)", "⟨id=99999⟩"]


def test_byte_fallback_and_leading_spaces():
    bytes_ = {f"<0x{value:02X}>": value for value in range(256)}
    vocabulary = {**bytes_, "▁hello": 256, "▁world": 257}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)  # pyright: ignore[reportAttributeAccessIssue]
    ids = [256, 257, *"中".encode(), 257]
    assert [piece.text for piece in TokenDecoder(backend).pieces(ids)] == ["hello", " world", "中", " world"]


def test_whitespace_and_hidden_characters_are_visible():
    assert visible("a b\n") == [("a", False), ("·", True), ("b", False), ("¶\n", True)]
    assert visible_text("\t\u00a0\u202e\x1b\x85\u200b") == "→␣⟨U+202E⟩␛⟨U+0085⟩⟨U+200B⟩"
    assert visible_text("👩‍👧") == "👩‍👧"


def test_masked_tokens_do_not_widen_the_scale():
    values = np.array([1e9, -1.0, 0.5, -1e9], dtype=np.float32)
    scale = percentile_scale(*value_ends(values, np.array([False, True, True, False])))
    assert scale.signed
    assert scale.high == -scale.low == pytest.approx(1.0, rel=0.02)


def test_outliers_are_clipped_at_the_percentiles():
    values = np.concatenate([np.linspace(0, 1, 1001), [1e6]]).astype(np.float32)
    scale = percentile_scale(*value_ends(values, np.ones(1002, dtype=bool)))
    assert not scale.signed
    assert (scale.low, scale.high) == (pytest.approx(0.01, abs=1e-3), pytest.approx(0.99, abs=2e-3))
    assert (scale.level(-5), scale.level(0.5), scale.level(1e6)) == (0, LEVELS // 2, LEVELS)


def test_levels_of_a_signed_scale():
    scale = Scale(-2.0, 2.0, signed=True)
    assert [scale.level(value) for value in (-9, -2, -1, 0, 1, 9)] == [-8, -8, -4, 0, 4, 8]


@pytest.mark.parametrize("trainable", [[False, False], [True, True]])
def test_a_scale_without_extent_has_one_level(trainable):
    scale = percentile_scale(*value_ends(np.array([3.0, 3.0], dtype=np.float32), np.array(trainable)))
    assert scale.level(3.0) == 0


def runs_of(kept, values, trainable=None, longest=None, pieces=None):
    pieces = pieces or [Piece(i, i + 1, str(i)) for i in range(len(kept))]
    trainable = np.array(trainable or [True] * len(kept))
    scale = Scale(-8.0, 8.0, signed=True)
    values = np.array(values, dtype=np.float32)
    return styled_runs(pieces, trainable, np.array(kept), values, scale, longest=longest)


def test_equal_styles_merge():
    runs = runs_of([True, True, False, False, True], [1, 1, 1, 2, 1])
    assert [len(run.pieces) for run in runs] == [2, 1, 1, 1]
    assert [run.style.state for run in runs] == ["kept", "dropped", "dropped", "kept"]


def test_prompt_merges_whatever_stands_there():
    runs = runs_of([True, False, True], [5, -5, 0], trainable=[False, False, True], longest=1)
    assert [(run.style.state, len(run.pieces)) for run in runs] == [("prompt", 2), ("kept", 1)]


def test_longest_ends_a_run():
    assert [len(run.pieces) for run in runs_of([True] * 5, [1] * 5, longest=2)] == [2, 2, 1]


def test_a_character_of_kept_and_dropped_tokens_is_mixed():
    (run,) = runs_of([True, False], [2, 4], pieces=[Piece(0, 2, "中")])
    assert (run.style.state, run.style.level) == ("mixed", 3)
