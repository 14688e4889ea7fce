"""Spans and step verdicts of another tool, as the mask of an imported arm: what they mark is dropped."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokensieve.containers import IGNORE_INDEX, segments
from tokensieve.data.bad_rows import raise_error
from tokensieve.data.formats import Conversation, Converted, PlainText, convert
from tokensieve.data.marks import KEYS, read_spans
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row, read_rows
from tokensieve.data.to_mark import answer_of
from tokensieve.data.tokenize import load_encoder, truncate
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.imported import ImportedArm, import_arm
from tokensieve.pipeline.imported_values import ids_digest
from tokensieve.pipeline.inputs import with_max_length
from tokensieve.pipeline.plan import base_model
from tokensieve.pipeline.recipe import recipe_of_run
from tokensieve.runs.view import load_run

_STEPS = ("steps", "verdicts")


def import_spans(run: Path, file: Path, name: str) -> ImportedArm:
    """Make an arm that drops what a file marks in the answers of a run; examples that it does not have stay whole.

    Args:
        run: the run folder.
        file: rows of ``row``, the number of the source row, and ``spans``, as rows of data have them; or ``steps``, the
            parts of the answer in their order, and ``verdicts``, false or 0 for each that is bad.
        name: of the arm.

    Raises:
        TokensieveError: a row that does not fit the data of the run, and what `import_arm` refuses.
    """
    given: dict[int, Row] = {}
    for row in read_rows(DataSettings(files=(glob.escape(str(file)),)), raise_error):
        number = row.data.get("row")
        if type(number) is not int or number in given:
            raise TokensieveError(
                f"'row' is {number!r}" + (", as in an earlier row" if number in given else ""),
                where=row.where,
                hint="the number of the source row, from 0, each once",
            )
        given[number] = row
    with TemporaryDirectory() as folder:
        masks = Path(folder) / f"{file.stem}.jsonl"
        masks.write_text("".join(f"{json.dumps(one)}\n" for one in _masks(run, given)))
        return import_arm(run, masks, name)


def _masks(run: Path, given: dict[int, Row]) -> Iterator[dict[str, Any]]:
    view = load_run(run)
    recipe = recipe_of_run(view.run_folder)
    settings = with_max_length(recipe.data, base_model(recipe))
    encoder = load_encoder(str(view.store.tokenizer))
    examples = {
        int(row): ids_digest(shard.input_ids[span])
        for shard in view.store
        for row, span in zip(shard.rows, segments(shard.cu_seqlens), strict=True)
    }
    if unknown := sorted(given.keys() - examples):
        raise TokensieveError(
            f"no example came from source row {unknown[0]}",
            where=given[unknown[0]].where,
            hint="rows count from 0; rows with nothing to train on were dropped",
        )
    for row in read_rows(settings, lambda _: None):
        if row.number not in examples:
            continue
        marks = given.get(row.number)
        data = {key: value for key, value in row.data.items() if key not in KEYS}
        try:
            converted = convert(data, row.form, (*row.ignore, *KEYS))
            if marks is not None:
                given_spans = marks.data.get("spans")
                converted = _marked(converted, _bad_steps(marks, row) if given_spans is None else given_spans)
            (encoded,) = encoder.encode([converted])
            if isinstance(encoded, TokensieveError):
                raise encoded
        except TokensieveError as error:
            raise TokensieveError(error.what, where=(marks or row).where, hint=error.hint) from error
        kept = truncate(encoded, settings)
        if ids_digest(kept.input_ids) != examples[row.number]:
            raise TokensieveError(
                "the row does not have the tokens that it had when the run was made: the data changed since",
                where=row.where,
                hint="restore the row, or run the recipe again with another output",
            )
        mask = (kept.labels != IGNORE_INDEX) & (True if kept.marks is None else kept.marks == 0)
        yield {"row": row.number, "kept": mask.astype(int).tolist()}


def _marked(row: Converted, spans: Any) -> Converted:
    """Return a row whose only answer has these spans."""
    if isinstance(row, PlainText):
        return replace(row, spans=read_spans(spans, row.completion))
    if isinstance(row, Conversation) and len(row.trained) == 1:
        number = row.trained[0]
        return replace(row, spans={number: read_spans(spans, row.messages[number].get("content") or "")})
    raise TokensieveError(
        "the row has not one answer that is trained on, so that it is not clear what the spans are about",
        hint="leave it out; or give its messages `spans` in the data, and use the method 'marked'",
    )


def _bad_steps(marks: Row, row: Row) -> list[list[int]]:
    """Return the spans of the steps whose verdict is false."""
    steps, verdicts = (marks.data.get(name) for name in _STEPS)
    if not isinstance(steps, list) or not isinstance(verdicts, list) or len(steps) != len(verdicts):
        raise TokensieveError(
            "neither spans nor steps with a verdict for each",
            hint='such as "spans": [[0, 4]], or "steps": ["First.", "Second."] and "verdicts": [1, 0]',
        )
    text, at, spans = answer_of(row), 0, []
    for step, verdict in zip(steps, verdicts, strict=True):
        place = text.find(step, at) if isinstance(step, str) and step else -1
        if place < 0 or verdict not in (0, 1):
            raise TokensieveError(
                f"the answer does not have the step {step!r:.60} there" if place < 0 else f"the verdict is {verdict!r}",
                hint="steps are parts of the answer in their order; a verdict is true or false, 1 or 0",
            )
        at = place + len(step)
        spans += [] if verdict else [[place, at]]
    return spans
