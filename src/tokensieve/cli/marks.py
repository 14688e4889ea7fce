"""Commands for data whose bad parts are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from tokensieve.cli.common import Json, Wait, pairs, print_json, quiet, refuse_launched
from tokensieve.cli.stages import Overrides, given_recipe, print_dry_run
from tokensieve.data.forms import Form
from tokensieve.outputs import output_place
from tokensieve.places import told
from tokensieve.store.waiting import waiting_at_most


def ceiling(
    arguments: Overrides = (),
    /,
    *,
    measure: str | None = None,
    worth: float = 0.02,
    dry_run: bool = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Find out how much any selection of tokens could gain on marked data, and say so in a sentence.

    Trains on everything, on what is not marked (the true mask), on as many random tokens, on the marked tokens, and on
    corrected answers where rows have them, with three seeds.

    For example:
      tokensieve ceiling recipe.yaml data=marked.jsonl --dry-run
      tokensieve ceiling recipe.yaml data=marked.jsonl
      tokensieve ceiling recipe.yaml data=marked.jsonl 'seeds=[0,1,2,3,4]' --worth 0.05

    Args:
        arguments: the recipe, whose method and controls are not used, and keys that override it.
        measure: what the models are judged by, such as held_out; the first that the recipe measures if not given.
        worth: the smallest gain that matters: nats of a loss, or a share.
        dry_run: check everything except the weights, show what would be trained, and stop.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    refuse_launched()
    recipe = given_recipe(arguments)
    quiet()
    from tokensieve.pipeline.ceiling import ceiling_lines, find_ceiling
    from tokensieve.progress import StageProgress

    with waiting_at_most(wait):
        if dry_run:
            print_dry_run(ceiling_lines(recipe, measure, worth, StageProgress()), as_json)
            return
        found = find_ceiling(recipe, measure, worth)
    if as_json:
        print_json(found.to_json())
        return
    from tokensieve.report.terminal.tables import print_answer

    print_answer(found.table(), [found.sentence])


def mark(
    data: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    output: Path,
    rows: int = 200,
    corrected: Path | None = None,
    seed: int = 0,
    form: Form | None = None,
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OLD=NEW")] = (),
    as_json: Json = False,
) -> None:
    """Write rows to mark by hand; or rows that are marked by what their corrected answers change.

    For example:
      tokensieve mark train.jsonl --output to-mark.jsonl
      tokensieve mark train.jsonl --corrected corrected.jsonl --output marked.jsonl

    Args:
        data: files, globs, folders or a Hub id.
        output: JSON-lines file to write.
        rows: number of rows to draw.
        corrected: file of `corrected` answers, for every row of the data or for those whose number it gives as `row`.
        seed: of the draw.
        form: form of the rows; recognised by their columns if not given.
        columns: columns to rename.
        as_json: print JSON.
    """
    from tokensieve.data.settings import DataSettings
    from tokensieve.data.to_mark import rows_to_mark, rows_with_corrections, write_rows

    settings = DataSettings(
        files=data, form=form or "auto", columns=pairs(columns, "--columns", "OLD=NEW", "QUESTION=question")
    )
    found = rows_to_mark(settings, rows, seed) if corrected is None else rows_with_corrections(settings, corrected)
    output = output_place(output)
    write_rows(found, output)
    if as_json:
        print_json({"file": str(output), "rows": len(found)})
        return
    print(told(output))
    if corrected is None:
        print(
            f"{len(found):,} rows. For each bad part of an answer, add [START, END] or [START, END, TYPE] to its "
            "`spans`: the number of its first character from 0, and of the first one behind it, such as\n"
            '  "spans": [[0, 4], [10, 17, "wrong"]]\n'
            "Leave [] where nothing is bad. In place of spans, a row may have `corrected`, the corrected answer.\n"
            f"Then: tokensieve ceiling RECIPE data={told(output)}"
        )
    else:
        print(f"{len(found):,} rows with spans of what their corrected answers change")
