"""Preferences among the answers of a prompt: the forms that they are written in, and the answers as rows to tokenise.

A row has ``chosen`` and ``rejected``, as hh-rlhf (two transcripts) and TRL (texts or messages, with a ``prompt`` or
with the prompt inside) write them, or a ``prompt`` and its ``answers``, best first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX
from tokensieve.data.bad_rows import BadRows
from tokensieve.data.columns import SYSTEM, TOOLS, is_transcript
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.formats import transcript
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import read_rows, source_fingerprint
from tokensieve.errors import TokensieveError
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_file

_LAYOUT = 1
_FORMS = "`chosen` and `rejected`, or a `prompt` and its `answers`, best first"


@dataclass(frozen=True)
class Answer:
    """One answer of a prompt.

    Attributes:
        shard: that it is in.
        places: int64 ``[tokens]``, the positions of its tokens in the shard.
    """

    shard: int
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Two or more answers of a prompt.

    Attributes:
        prompt: fingerprint of the prompt as it is written: rankings of one prompt have the same.
        answers: best first.
    """

    prompt: str
    answers: tuple[Answer, ...]


def ranked_answers(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the answers of a row, best first, each as a row of the form ``prompt-completion``.

    Raises:
        TokensieveError: a row of another form, fewer than two answers, or an answer without its prompt.
    """
    answers = [row["chosen"], row["rejected"]] if row.keys() >= {"chosen", "rejected"} else row.get("answers")
    if not isinstance(answers, list):
        raise TokensieveError(
            f"a row with the columns {', '.join(sorted(row)) or '(none)'} ranks no answers",
            hint=f"a row has {_FORMS}",
        )
    if len(answers) < 2:
        raise TokensieveError(f"{len(answers)} answers, where two are needed to prefer one", hint=f"a row has {_FORMS}")
    around = {name: row[name] for name in (*SYSTEM, *TOOLS) if row.get(name) is not None}
    return [{**around, **_with_prompt(row.get("prompt"), answer)} for answer in answers]


def _with_prompt(prompt: Any, answer: Any) -> dict[str, Any]:
    """Return an answer with its prompt, which a transcript and a whole conversation have inside."""
    if isinstance(answer, str) and prompt is None and is_transcript(answer):
        answer = transcript(answer)
    if not isinstance(answer, list) or (prompt is not None and _speaker(answer[:1]) == "assistant"):
        if prompt is None:
            raise TokensieveError(
                "an answer without its prompt",
                hint="add a column `prompt`, or give whole conversations: messages, or text that begins with `Human:`",
            )
        return {"prompt": prompt, "completion": answer}
    if len(answer) < 2 or _speaker(answer[-1:]) != "assistant":
        raise TokensieveError(
            "a conversation that does not end with an answer of the assistant",
            hint="end it with the answer that is preferred to others, or others to it",
        )
    return {"prompt": answer[:-1], "completion": answer[-1:]}


def _speaker(messages: list[Any]) -> Any:
    return messages[0].get("role") if messages and isinstance(messages[0], dict) else None


@dataclass(frozen=True)
class AnswerRows:
    """The answers of preference data, written out as rows to tokenise.

    Attributes:
        settings: how these rows are read.
        counts: answers of each row of the preference data.
        prompts: fingerprint of the prompt of each row.
    """

    settings: DataSettings
    counts: tuple[int, ...]
    prompts: tuple[str, ...]

    def rankings(self, examples: ExampleStore) -> list[Ranking]:
        """Return the rankings of the answers once they are tokenised; each has two usable answers or more.

        Raises:
            TokensieveError: no ranking is left.
        """
        ranking_of = np.repeat(np.arange(len(self.counts)), self.counts)
        answers = dict[int, list[Answer]]()
        for row, answer in _tokenised(examples):
            answers.setdefault(int(ranking_of[row]), []).append(answer)
        found = [Ranking(self.prompts[number], tuple(one)) for number, one in sorted(answers.items()) if len(one) > 1]
        if not found:
            raise TokensieveError(
                "no prompt has two answers that can be used",
                where="recipe: models.reward.preferences",
                hint="look at the rows that were left out, and at data.max_length",
            )
        return found


def _tokenised(examples: ExampleStore) -> Iterator[tuple[int, Answer]]:
    """Yield the row and the answer of each example; rows rise."""
    for shard, part in enumerate(examples):
        for number, (start, stop) in enumerate(zip(part.cu_seqlens[:-1], part.cu_seqlens[1:], strict=True)):
            places = start + np.flatnonzero(part.labels[start:stop] != IGNORE_INDEX)
            if len(places):
                yield int(part.rows[number]), Answer(shard, places)


def write_answers(preferences: DataSettings, data: DataSettings, store: Path) -> AnswerRows:
    """Write the answers of preference data into the store, unless they are there.

    Args:
        preferences: where the rows are.
        data: of the recipe, whose `max_length` holds for the answers too; a longer one loses the start of its prompt.
        store: folder shared by runs.

    Raises:
        TokensieveError: the first row that cannot be used, unless `data.bad_rows` leaves them out.
    """
    # A store of objects does not get what has a dot before its name: each machine writes the answers for itself.
    made_from = [_LAYOUT, source_fingerprint(preferences), preferences.bad_rows, preferences.max_row_bytes]
    path = store / ".preferences" / f"{fingerprint.of_value(made_from)[:16]}.jsonl"
    rows, on_error = list[list[dict[str, Any]]](), BadRows(preferences)
    for row in read_rows(preferences, on_error):
        try:
            rows.append(ranked_answers(row.data))
        except TokensieveError as error:
            on_error(row.bad(error))
    on_error.check(len(rows))
    if not path.is_file():
        with atomic_file(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(json.dumps(answer, ensure_ascii=False) + "\n" for row in rows for answer in row)
    written = DataSettings(files=(str(path),), form="prompt-completion", truncation="keep-end")
    settings = dataclasses.replace(
        written, max_length=data.max_length, bad_rows=data.bad_rows, max_row_bytes=data.max_row_bytes
    )
    prompts = tuple(fingerprint.of_value(row[0]["prompt"]) for row in rows)
    return AnswerRows(settings, tuple(map(len, rows)), prompts)
