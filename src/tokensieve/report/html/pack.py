"""Examples as compact binary blocks for the page: tokens, text and every statistic of some neighbouring examples.

A block is the gzip of the length of its header (uint32), the header (JSON), and its columns one after another. A
column of numbers is split into byte planes, the lowest first, because these compress better separately. Kinds:
``u8``, ``u16``, ``u24`` (unsigned integers), ``f32``, ``f24`` (float32 without its lowest byte, five significant
digits), ``text`` (UTF-8). All numbers are little-endian.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Examples, Int64
from tokensieve.data.decoding import Piece, visible
from tokensieve.ops.ragged import gather_segments, segment_counts
from tokensieve.ops.rules import forced_tokens
from tokensieve.report.analysis.groups import TokenClasses, answer_places
from tokensieve.report.analysis.sweep import Levels
from tokensieve.runs.view import RunView

MARK = ("\x01", "\x02")
"""These enclose the visible form of an invisible character; visible text never contains them."""
BLOCK_TOKENS = 2**15
"""Tokens after which a block is closed; a block of this size decodes in a few milliseconds."""
_PLANES = {"u8": 1, "u16": 2, "u24": 3, "f24": 3, "f32": 4}


def plan_blocks(numbers: Int64, lengths: Int64, starts: Int64) -> list[Int64]:
    """Split examples into blocks of about `BLOCK_TOKENS`; a block never crosses a shard boundary.

    Args:
        numbers: int64 ``[examples]``, rising.
        lengths: int64 ``[examples]``, tokens of each.
        starts: int64 ``[shards + 1]``, the number of each shard's first example.

    Returns:
        The numbers of the examples of each block.
    """
    shard = np.searchsorted(starts, numbers, side="right")
    blocks, first, tokens = [], 0, 0
    for place in range(len(numbers)):
        full = tokens >= BLOCK_TOKENS or (place > first and shard[place] != shard[first])
        if full:
            blocks.append(numbers[first:place])
            first, tokens = place, 0
        tokens += int(lengths[place])
    return [*blocks, numbers[first:]] if first < len(numbers) else blocks


class Packer:
    """Writes blocks of a run's examples.

    Args:
        view: the run.
        levels: the token levels of each arm.
    """

    def __init__(self, view: RunView, levels: Mapping[str, Levels]) -> None:
        self._view, self._levels = view, levels
        self._shard: tuple[int, dict[str, tuple[str, NDArray]], Int64] | None = None
        self._classes = TokenClasses(view.decoder)

    def block(self, numbers: Int64) -> bytes:
        """Return a block of examples of one shard, by their numbers."""
        view = self._view
        shard = int(np.searchsorted(view.starts, int(numbers[0]), side="right")) - 1
        if self._shard is None or self._shard[0] != shard:
            self._shard = (shard, *self._columns(shard))
        _, columns, cu_seqlens = self._shard
        places = numbers - int(view.starts[shard])
        found = {name: (kind, gather_segments(values, cu_seqlens, places)) for name, (kind, values) in columns.items()}
        lengths = np.diff(cu_seqlens)[places]
        ids = np.split(found["id"][1], np.cumsum(lengths)[:-1])
        texts: list[list[Piece]] = [view.decoder.pieces(one.tolist()) for one in ids]
        pieces = [piece for one in texts for piece in one]
        marked = [marked_text(piece.text) for piece in pieces]
        found["piece_tokens"] = ("u16", np.array([piece.stop - piece.start for piece in pieces]))
        found["piece_special"] = ("u8", np.array([piece.special for piece in pieces]))
        found["piece_chars"] = ("u24", np.array([_utf16_length(text) for text in marked]))
        found["text"] = ("text", np.frombuffer("".join(marked).encode("utf-8", "replace"), dtype=np.uint8))
        return _packed(found, {"tokens": lengths.tolist(), "pieces": [len(one) for one in texts]})

    def with_hits(self, column: str, low: float, high: float) -> Int64:
        """Return the numbers of the examples that have a trainable token whose value lies within bounds.

        Args:
            column: the name of a column of numbers, such as ``id``, ``group:class`` or ``value:base.loss``.
            low: the lower bound, inclusive.
            high: the upper bound, inclusive.

        Raises:
            KeyError: there is no such column.
        """
        view, found = self._view, []
        for number, start in enumerate(view.starts[:-1].tolist()):
            values, trainable, cu_seqlens = self._values(column, number)
            hits = trainable & (values >= low) & (values <= high)
            found.append(start + np.flatnonzero(segment_counts(hits, cu_seqlens)))
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _values(self, column: str, number: int) -> tuple[NDArray, Bool, Int64]:
        """Return one column of a shard that a chart counts by, the trainable tokens, and the offsets."""
        kind, _, name = column.partition(":")
        if kind == "value":
            shard = self._view.shard(number)
            is_score = name.startswith("score:")
            values = shard.scores[name.removeprefix("score:")] if is_score else shard.statistics[name]
            return values, shard.trainable, shard.examples.cu_seqlens
        examples = self._view.store.read(number)
        values = examples.input_ids if column == "id" else self._groups(examples)[column][1]
        return values, examples.labels != IGNORE_INDEX, examples.cu_seqlens

    def _groups(self, examples: Examples) -> dict[str, tuple[str, NDArray]]:
        """Return the groups that the page counts trainable tokens by; zero for other tokens."""
        trainable = examples.labels != IGNORE_INDEX
        groups = {
            "group:class": self._classes.of(examples.input_ids[trainable]),
            "group:position": answer_places(trainable, examples.cu_seqlens),
        }
        columns = {name: np.zeros(len(trainable), dtype=np.uint8) for name in groups}
        for name, values in groups.items():
            columns[name][trainable] = values
        return {name: ("u8", values) for name, values in columns.items()}

    def _columns(self, number: int) -> tuple[dict[str, tuple[str, NDArray]], Int64]:
        """Return a shard's columns with their kinds, and its offsets."""
        shard = self._view.shard(number)
        statistics = self._view.store.statistics(shard.examples, {}, 0)
        columns: dict[str, tuple[str, NDArray]] = {
            "id": ("u24", shard.examples.input_ids),
            "turn_end": ("u8", forced_tokens(statistics)),
            **self._groups(shard.examples),
        }
        if statistics.marks is not None:
            columns["mark"] = ("u8", statistics.marks)
        columns |= {f"value:{name}": ("f24", values) for name, values in shard.statistics.items()}
        for arm in self._levels:
            columns[f"level:{arm}"] = ("u8", self._levels[arm].shard(number))
            columns[f"value:score:{arm}"] = ("f32", shard.scores[arm])
            if arm in shard.reasons:
                columns[f"reasons:{arm}"] = ("u8", shard.reasons[arm])
            parts = self._view.parts(arm, number)
            columns |= {f"part:{arm}:{name}": ("f24", values) for name, values in parts.items()}
        return columns, shard.examples.cu_seqlens


@lru_cache(2**16)  # a block has the same pieces many times
def marked_text(text: str) -> str:
    """Return text in which marks enclose the visible form of each invisible character."""
    start, end = MARK
    return "".join(f"{start}{part}{end}" if marked else part for part, marked in visible(text)) or f"{start}⟨⟩{end}"


def plain_text(text: str) -> str:
    """Return text as the search compares it: lower case, with single spaces."""
    return " ".join(text.split()).lower()


@lru_cache(2**16)
def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _packed(columns: Mapping[str, tuple[str, NDArray]], header: Mapping[str, object]) -> bytes:
    layout = [[name, kind, len(values)] for name, (kind, values) in columns.items()]
    start = json.dumps({**header, "columns": layout}, separators=(",", ":")).encode()
    parts = [np.uint32(len(start)).tobytes(), start]
    for kind, values in columns.values():
        parts += [values.tobytes()] if kind == "text" else _planes(kind, values)
    return gzip.compress(b"".join(parts), compresslevel=6, mtime=0)


def _planes(kind: str, values: NDArray) -> Iterator[bytes]:
    if kind.startswith("f"):
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        if kind == "f24":  # rounded; the largest numbers of the range stay finite
            bits = np.where(bits & 0x7FFFFF80 < 0x7F7FFF80, bits + np.uint32(0x80), bits)
    else:
        bits = values.astype("<u4")
    whole = np.ascontiguousarray(bits).view(np.uint8).reshape(-1, 4)
    planes: Sequence[int] = range(4 - _PLANES[kind], 4) if kind.startswith("f") else range(_PLANES[kind])
    return (np.ascontiguousarray(whole[:, plane]).tobytes() for plane in planes)
