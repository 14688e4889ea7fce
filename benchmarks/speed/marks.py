"""What marks cost data that has none: tokenising it, and `inspect`, with the code of marks and without it.

    python benchmarks/speed/marks.py --data FILE [FILE ...] --tokenizer FOLDER [--runs 3]

Without: the functions that look for marks in a row, number them and write them do nothing. Both are timed in turn, in
seconds of the processor: the difference is smaller than what other processes change of the time on the wall.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness import Row, finish, middle, parser, ratios

from tokensieve.data import chunk_worker, counts, formats, prepare
from tokensieve.data.bad_rows import raise_error
from tokensieve.data.inspection import inspect_data
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows
from tokensieve.data.tokenize import load_encoder

ROWS = 20_000


@contextmanager
def without_marks() -> Iterator[None]:
    """Let nothing look for marks."""
    with (
        patch.object(formats, "_with_marks", lambda conversation, *_: conversation),
        patch.object(counts, "_marked", lambda _: 0),
        patch.object(chunk_worker.ChunkMarks, "column", lambda *_: None),
        patch.object(chunk_worker, "marks_as_bytes", lambda _: b""),
    ):
        yield


def rows(files: list[str], tokenizer: str, runs: int) -> list[Row]:
    """Measure both lines; rows are repeated until there are enough."""
    given = [row.data for row in read_rows(DataSettings(tuple(files)), raise_error)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in islice(cycle(given), ROWS)), encoding="utf-8")
        settings, encoder = DataSettings((str(path),), max_length=1024), load_encoder(tokenizer)
        found: list[str] = []

        def tokenise() -> None:
            with tempfile.TemporaryDirectory() as store:
                found.append(prepare.prepare(settings, encoder, Path(store), lambda _: None).fingerprint)

        def inspect() -> None:
            inspect_data(settings, encoder, 3)

        both = [
            _inside(f"code of marks while tokenising {ROWS:,} rows without marks", tokenise, runs),
            _row(f"tokenising {ROWS:,} rows without marks", tokenise, runs),
            _row(f"`inspect` of {ROWS:,} rows without marks", inspect, runs),
        ]
        assert len(set(found)) == 1, "the same data, with and without"
    return both


def _processor_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _inside(what: str, work: Callable[[], None], runs: int) -> Row:
    """Repeat the calls of the functions of marks by themselves: they take too little to see in the whole."""
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls.append((function, given))
            return function(*given)

        return call

    def again() -> None:
        for function, given in calls:
            function(*given)

    columns = chunk_worker.ChunkMarks
    with (
        patch.object(formats, "_with_marks", noted(formats._with_marks)),
        patch.object(counts, "_marked", noted(counts._marked)),
        patch.object(columns, "column", noted(columns.column)),
        patch.object(chunk_worker, "marks_as_bytes", noted(chunk_worker.marks_as_bytes)),
    ):
        whole = _processor_seconds(work)
    taken = [_processor_seconds(again) for _ in range(runs)]
    shares = tuple(one / whole for one in taken)
    return Row(
        what, "all of the tokenising", "0.02x", shares, f"{middle(taken)} of {whole:.1f} s, {len(calls):,} calls"
    )


def _row(what: str, work: Callable[[], None], runs: int) -> Row:
    def bare() -> None:
        with without_marks():
            work()

    for each in (bare, work):
        each()
    both = [(_processor_seconds(bare), _processor_seconds(work)) for _ in range(runs)]
    without, with_marks = zip(*both, strict=True)
    detail = f"{middle(without)} to {middle(with_marks)} of the processor"
    return Row(what, "the same without the code of marks", "1.02x its time", ratios(with_marks, without), detail)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--data", nargs="+", required=True, help="files of rows without marks")
    arguments.add_argument("--tokenizer", required=True, help="folder of a tokenizer")
    arguments.set_defaults(runs=3)
    given = arguments.parse_args()
    finish(rows(given.data, given.tokenizer, given.runs), given.rows)
