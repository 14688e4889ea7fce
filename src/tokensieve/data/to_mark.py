"""Files of rows to mark by hand, and rows that are marked by corrected answers."""

from __future__ import annotations

import glob
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokensieve.data.bad_rows import raise_error
from tokensieve.data.formats import Conversation, Converted, PlainText, convert
from tokensieve.data.marks import KEYS, changed_words
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row, read_rows
from tokensieve.errors import TokensieveError
from tokensieve.store.atomic import write_text
from tokensieve.store.mirror import sync

_TURNS = ("messages", "conversations", "completion")


def rows_to_mark(settings: DataSettings, count: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of a data set with empty spans to fill in, drawn at random, in the order of the data.

    A row with one answer that is trained on gets `spans` itself; of others, each message that is trained on.

    Args:
        settings: the data.
        count: rows to draw; all where there are fewer.
        seed: of the draw.

    Raises:
        TokensieveError: a row that cannot be used.
    """
    rows = [(row, convert(row.data, row.form, row.ignore)) for row in read_rows(settings, raise_error)]
    chosen = sorted(random.Random(seed).sample(range(len(rows)), min(count, len(rows))))
    return [_with_empty_spans(*rows[place]) for place in chosen]


def rows_with_corrections(settings: DataSettings, corrections: Path) -> list[dict[str, Any]]:
    """Return the rows that have a corrected answer in a file, with it and the spans of what it changes.

    Marks that these rows have already are replaced.

    Args:
        settings: the data.
        corrections: rows of `corrected` and, where the file does not have one for every row of the data in its order,
            `row`, the number of the row from 0.

    Raises:
        TokensieveError: a correction without text, of a row that there is not, twice of one, or of a row that has not
            one answer; or files of different lengths.
    """
    rows = list(read_rows(settings, raise_error))
    given = list(read_rows(DataSettings(files=(glob.escape(str(corrections)),)), raise_error))
    numbered = any("row" in one.data for one in given)
    if not numbered and len(given) != len(rows):
        raise TokensieveError(
            f"{len(given)} corrected answers for {len(rows)} rows",
            where=str(corrections),
            hint="give one for each row of the data, or name the row of each as `row`, counted from 0",
        )
    found: dict[int, dict[str, Any]] = {}
    for place, one in enumerate(given):
        number, corrected = one.data.get("row") if numbered else place, one.data.get("corrected")
        if type(number) is not int or not 0 <= number < len(rows) or number in found:
            raise TokensieveError(
                f"'row' is {number!r}" + (", as in an earlier row" if number in found else ""),
                where=one.where,
                hint=f"a number from 0 to {len(rows) - 1}, each once",
            )
        if not isinstance(corrected, str) or not corrected.strip():
            raise TokensieveError(
                f"'corrected' is {corrected!r:.60}, no answer", where=one.where, hint="the text of the corrected answer"
            )
        row = rows[number]
        spans = [_span(span) for span in changed_words(answer_of(row), corrected)]
        found[number] = {**_unmarked(row.data), "spans": spans, "corrected": corrected}
    return [found[number] for number in sorted(found)]


def write_rows(rows: list[dict[str, Any]], output: Path) -> None:
    """Write rows as JSON lines into a new file.

    Raises:
        TokensieveError: the file exists.
    """
    sync(output)
    if output.exists():
        raise TokensieveError(
            "the file exists, and may hold marks", where=str(output), hint="give another --output, or delete it"
        )
    write_text(output, "".join(_lines(rows)))


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, default=str) + "\n"


def _with_empty_spans(row: Row, converted: Converted) -> dict[str, Any]:
    if not isinstance(converted, Conversation) or len(converted.trained) == 1:
        has_marks = _unmarked(row.data) != row.data
        return row.data if has_marks else {"spans": [], **row.data}
    key = next(key for key in _TURNS if isinstance(row.data.get(key), list))
    turns = row.data[key]
    shift = len(converted.messages) - len(turns)  # a system prompt, or the prompt, that stands elsewhere
    marked = [
        {**turn, "spans": turn.get("spans") or []} if place + shift in converted.trained else turn
        for place, turn in enumerate(turns)
    ]
    return {**row.data, key: marked}


def _unmarked(data: dict[str, Any]) -> dict[str, Any]:
    """Return a row without marks, also of its messages."""

    def bare(value: Any) -> Any:
        return {key: item for key, item in value.items() if key not in KEYS} if isinstance(value, dict) else value

    turns = {key: [bare(turn) for turn in data[key]] for key in _TURNS if isinstance(data.get(key), list)}
    return bare({**data, **turns})


def answer_of(row: Row) -> str:
    """Return the answer of a row that has one.

    Raises:
        TokensieveError: it has none, or several.
    """
    converted = convert(row.data, row.form, row.ignore)
    if isinstance(converted, PlainText):
        return converted.completion
    if isinstance(converted, Conversation) and len(converted.trained) == 1:
        return converted.messages[converted.trained[0]].get("content") or ""
    raise TokensieveError(
        "the row has not one answer that is trained on, so that it is not clear what was corrected",
        where=row.where,
        hint="give its answers `corrected` in their messages",
    )


def _span(span: Any) -> list[Any]:
    return list(asdict(span).values())
