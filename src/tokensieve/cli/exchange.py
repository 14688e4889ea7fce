"""Commands that hand results to other programs, and take theirs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from tokensieve.cli.common import Json, print_json, quiet
from tokensieve.export.settings import TargetName


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    to: TargetName,
    arm: str | None = None,
    output: Path | None = None,
    push_to_hub: str | None = None,
    as_json: Json = False,
) -> None:
    """Write what an arm chose as a trainer reads it, and print the lines to paste into its config.

    For example:
      tokensieve export runs/a --to axolotl
      tokensieve export runs/a --to trl --arm random --output exported --push-to-hub you/your-data

    Args:
        run: the run folder.
        to: the trainer, or a plain format.
        arm: whose choice to write; the method's when not given.
        output: the folder to write; exports/ARM-TO in the run folder when not given.
        push_to_hub: upload it with its card to this data set; one that does not exist is made, private.
        as_json: print JSON.
    """
    if push_to_hub is not None:
        from tokensieve.export.hub import check_push

        check_push(push_to_hub)
    quiet()
    from tokensieve.export.write import export_arm

    exported = export_arm(run, to, arm, output)
    if not as_json:
        print(exported.folder)
        for snippet in exported.snippets:
            print(f"\n# for {snippet.where}:\n{snippet.text}", end="")
        for note in exported.notes:
            print(f"\nnote: {note}", end="")
        print()
    pushed = None
    if push_to_hub is not None:
        from tokensieve.export.hub import push

        pushed = push(exported.folder, push_to_hub)
    if as_json:
        print_json({**asdict(exported), "folder": str(exported.folder), "pushed": pushed})
    elif pushed is not None:
        print(f"pushed: {pushed}")


def import_(
    run: Annotated[Path, tyro.conf.Positional],
    file: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    name: str,
    fraction: float | None = None,
    as_json: Json = False,
) -> None:
    """Make an arm of scores, labels or masks that were made elsewhere.

    For example:
      tokensieve import runs/a scores.parquet --name theirs --fraction 0.6
      tokensieve import runs/a labels.jsonl --name published

    Args:
        run: the run folder.
        file: JSON lines or Parquet, a row an example, with `row` (number of the source row) or `input_ids`, and
            `scores`, `labels` or `kept`, a number for each token.
        name: of the arm.
        fraction: share of the trainable tokens to keep by their scores; labels and masks are taken as they are.
        as_json: print JSON.
    """
    from tokensieve.pipeline.imported import import_arm

    arm = import_arm(run, file, name, fraction)
    selection = arm.selection
    if as_json:
        print_json({"folder": str(arm.folder), **selection.to_json()})
        return
    if selection.examples_absent:
        print(f"note: {selection.examples_absent:,} examples are not in the file: nothing of them is kept")
    print(f"{name}: {selection.kept:,} of {selection.trainable:,} tokens kept\n{arm.folder}")


def lm_eval(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    output: Path,
    name: str = "tokensieve",
    as_json: Json = False,
) -> None:
    """Write the exact-match questions of a run as a task of lm-evaluation-harness.

    For example:
      tokensieve lm-eval runs/mine --output tasks --name my_task

    Args:
        run: the run folder.
        output: folder for the task's YAML and data.
        name: of the task.
        as_json: print JSON.
    """
    quiet()
    from tokensieve.pipeline.lm_eval_task import write_recipe_task
    from tokensieve.pipeline.recipe import load_recipe
    from tokensieve.runs.folder import RunFolder

    file, command = write_recipe_task(load_recipe(RunFolder(run).recipe_file, []), output, name)
    if as_json:
        print_json({"file": str(file), "command": command})
    else:
        print(file, command, sep="\n")
