"""Commands that exchange data with other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from tokensieve.cli.common import Engine, Json, Wait, print_json, quiet
from tokensieve.errors import TokensieveError
from tokensieve.export.settings import TargetName
from tokensieve.places import place, told
from tokensieve.store.atomic import waiting_at_most


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    to: TargetName,
    arm: str | None = None,
    output: Path | None = None,
    push_to_hub: str | None = None,
    engine: Engine = None,
    address: str | None = None,
    workers: int | None = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Write the selection of an arm in a trainer's format, and print the lines to paste into the trainer's config.

    For example:
      tokensieve export runs/a --to axolotl
      tokensieve export runs/a --to trl --arm random --output exported --push-to-hub you/your-data

    Args:
        run: the run folder.
        to: the trainer, or a plain format.
        arm: the arm to export; the method if not given.
        output: the folder to write; exports/ARM-TO in the run folder if not given.
        engine: where work on shards runs, `local` (the default) or `ray`.
        address: of a Ray cluster, such as `auto`; without one, Ray is started on this machine.
        workers: of Ray, how many work at once.
        push_to_hub: upload the export with its card to this Hub data set; a new one is created as private.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    if push_to_hub is not None:
        from tokensieve.export.hub import check_push

        check_push(push_to_hub)
    quiet()
    from tokensieve.engines import check_engine
    from tokensieve.engines.settings import EngineSettings
    from tokensieve.export.write import export_arm

    settings = EngineSettings(engine or "local", address, workers)
    check_engine(settings)
    with waiting_at_most(wait):
        exported = export_arm(run, to, arm, output, settings)
    if not as_json:
        print(told(exported.folder))
        for snippet in exported.snippets:
            print(told(f"\n# for {snippet.where}:\n{snippet.text}"), end="")
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
    spans: bool = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Make an arm from scores, labels or masks that another tool wrote; `tokensieve run` then trains and evaluates it.

    For example:
      tokensieve import runs/a scores.parquet --name theirs --fraction 0.6
      tokensieve import runs/a labels.jsonl --name published
      tokensieve import runs/a verdicts.jsonl --spans --name judged

    Args:
        run: the run folder.
        file: JSON lines or Parquet with one example per row: `row` (number of the source row) or `input_ids`, and
            `scores`, `labels` or `kept`, with one number per token.
        name: name of the new arm.
        fraction: share of the trainable tokens to keep, by score; only for scores.
        spans: the rows have `row` with `spans`, or with `steps` and `verdicts`; what they mark as bad is dropped.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    from tokensieve.pipeline.imported import import_arm
    from tokensieve.pipeline.imported_spans import import_spans
    from tokensieve.runs.folder import RunFolder
    from tokensieve.store.mirror import fetched

    run, file = place(run), fetched(place(file))
    if spans and fraction is not None:
        raise TokensieveError("spans have no fraction", where="--fraction", hint="leave out --fraction or --spans")
    with waiting_at_most(wait):
        arm = import_spans(run, file, name) if spans else import_arm(run, file, name, fraction)
    selection = arm.selection
    if as_json:
        print_json({"folder": str(arm.folder), **selection.to_json()})
        return
    if selection.examples_absent:
        print(f"note: {selection.examples_absent:,} examples are not in the file, so none of their tokens are kept")
    print(f"{name}: {selection.kept:,} of {selection.trainable:,} tokens kept\n{told(arm.folder)}")
    if (folder := RunFolder(run)).recipe()["train"] is not None:
        print(f"to train and evaluate it beside the other arms: tokensieve run {told(folder.recipe_file)}")


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
        output: folder to write the task's YAML and data to.
        name: name of the task.
        as_json: print JSON.
    """
    quiet()
    from tokensieve.pipeline.lm_eval_task import write_recipe_task
    from tokensieve.pipeline.recipe import recipe_of_run
    from tokensieve.runs.folder import RunFolder

    recipe = recipe_of_run(RunFolder(place(run)))
    file, command = write_recipe_task(recipe, output, name)
    if as_json:
        print_json({"file": str(file), "command": command})
    else:
        print(file, command, sep="\n")
