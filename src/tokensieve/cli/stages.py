"""Commands that run a recipe, up to one of its stages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tokensieve.cli.common import Engine, Json, Wait, print_json, quiet, refuse_launched
from tokensieve.errors import TokensieveError
from tokensieve.measure.share import ALL, launched_share, parse_share
from tokensieve.places import told
from tokensieve.store.waiting import waiting_at_most

if TYPE_CHECKING:
    from tokensieve.pipeline.recipe import Recipe

Overrides = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="A YAML recipe, and keys that override it, such as method.fraction=0.5 or data.files=train.jsonl.",
    ),
]


def run(
    arguments: Overrides = (),
    /,
    *,
    engine: Engine = None,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    dry_run: bool = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Run a recipe: score, select, train, evaluate, report. Stages that are already done are skipped.

    For example:
      tokensieve run recipe.yaml
      tokensieve run recipe.yaml method.fraction=0.5 output=runs/half
      tokensieve run recipe.yaml --dry-run
      tokensieve run output=runs/a data.files=train.jsonl models.base=MODEL models.reference=BETTER_MODEL
      tokensieve run recipe.yaml --engine ray --workers 4

    Args:
        arguments: the recipe and overrides.
        engine: where work on shards runs, `local` or `ray`, in place of the recipe's.
        address: of a Ray cluster, such as `auto`; without one, Ray is started on this machine.
        workers: of Ray, how many hold the model at once.
        gpus_per_worker: of Ray, GPUs of each.
        dry_run: check everything except the weights, show what would be done and what is missing here, and stop.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    workers_given = _engine_overrides(engine, address, workers, gpus_per_worker)
    _stage("report", (*arguments, *workers_given), as_json, wait, dry_run=dry_run)


def plan(arguments: Overrides = (), /, *, hardware: str = "this", wait: Wait = None, as_json: Json = False) -> None:
    """Estimate the tokens, FLOPs, time, memory and disk of each stage of a run, and say what does not fit.

    The data is tokenised into the store, where a run finds it. Of the models only configurations are read, no weights.

    For example:
      tokensieve plan recipe.yaml
      tokensieve plan recipe.yaml --hardware 8xH100
      tokensieve plan recipe.yaml train.lora=null --hardware A100-80GB --json

    Args:
        arguments: the recipe and overrides.
        hardware: `this` machine, which is measured, or [N x] the name of a GPU, such as 8xH100.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON, times in seconds, memory and disk in bytes.
    """
    recipe = given_recipe(arguments)
    quiet()
    from tokensieve.pipeline.forecast.forecast import forecast
    from tokensieve.progress import StageProgress

    with waiting_at_most(wait):
        found = forecast(recipe, hardware, StageProgress())
    if as_json:
        print_json(found.to_json())
        return
    from tokensieve.report.terminal.tables import print_answer

    print_answer(found.table(), found.lines)


def measure(
    arguments: Overrides = (),
    /,
    *,
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None,
    engine: Engine = None,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Measure per-token statistics with every model that the methods need.

    Several processes measure a share each where `torchrun` or `accelerate launch` starts them, or where `--shard` says
    so. They need nothing but the same store.

    For example:
      tokensieve measure recipe.yaml
      tokensieve measure output=runs/a data.files=train.jsonl models.base=MODEL models.reference=BETTER_MODEL
      tokensieve measure recipe.yaml --shard 3/16
      tokensieve measure recipe.yaml --engine ray --workers 4

    Args:
        arguments: the recipe and overrides.
        shard: measure share I of N alone, counted from 0.
        engine: where work on shards runs, `local` or `ray`, in place of the recipe's.
        address: of a Ray cluster, such as `auto`; without one, Ray is started on this machine.
        workers: of Ray, how many hold the model at once.
        gpus_per_worker: of Ray, GPUs of each.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    workers_given = _engine_overrides(engine, address, workers, gpus_per_worker)
    _stage("measure", (*arguments, *workers_given), as_json, wait, shard=shard)


def select(arguments: Overrides = (), /, *, wait: Wait = None, as_json: Json = False) -> None:
    """Score and select tokens, and write the cleaned data.

    For example:
      tokensieve select recipe.yaml
      tokensieve select recipe.yaml method=rho-1 output=runs/rho     (reuses the statistics)
    """
    _stage("select", arguments, as_json, wait)


def train(arguments: Overrides = (), /, *, wait: Wait = None, as_json: Json = False) -> None:
    """Fine-tune the base on the selection of the method and of each control.

    Several processes train together where `accelerate launch` starts them, once everything is selected.

    For example:
      tokensieve train recipe.yaml
      accelerate launch --num_processes 8 -m tokensieve train recipe.yaml
      tokensieve train recipe.yaml train.learning_rate=2e-4 train.lora.r=16 output=runs/r16
    """
    _stage("train", arguments, as_json, wait)


def evaluate(arguments: Overrides = (), /, *, wait: Wait = None, as_json: Json = False) -> None:
    """Evaluate the fine-tuned models: held-out loss, exact match, unwanted texts, corrected answers, harness tasks.

    For example:
      tokensieve evaluate recipe.yaml
      tokensieve evaluate recipe.yaml evaluate.unwanted=unwanted.jsonl
      tokensieve evaluate recipe.yaml evaluate.exact_match.files=[test.jsonl]
      tokensieve evaluate runs/a/recipe.yaml evaluate.tasks=[arc_challenge,boolq]
    """
    _stage("evaluate", arguments, as_json, wait)


def search(
    arguments: Overrides = (),
    /,
    *,
    minutes: float | None = None,
    probes: int | None = None,
    dry_run: bool = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Find the method and the fraction that pay on your data, or that none does.

    Trains short probes of every candidate beside `full` and `random`, keeps the better half in each rung, and confirms
    the winner on held-out rows and with seeds that no rung has. Interrupted, the same command goes on.

    For example:
      tokensieve search recipe.yaml --minutes 30
      tokensieve search recipe.yaml --probes 40 search.methods=[token-cleaning,entropy] output=runs/two
      tokensieve search recipe.yaml --dry-run

    Args:
        arguments: the recipe and overrides.
        minutes: budget in minutes, in place of the recipe's.
        probes: budget in trained models, in place of minutes.
        dry_run: check everything except the weights, show what would be trained, and stop.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    refuse_launched()
    given = {"minutes": minutes, "probes": probes}
    if any(value is not None for value in given.values()):  # both are refused with the recipe
        budget = [f"search.{name}={'null' if value is None else value}" for name, value in given.items()]
        arguments = (*arguments, *budget)
    recipe = given_recipe(arguments)
    quiet()
    from tokensieve.pipeline import search as pipeline
    from tokensieve.progress import StageProgress

    with waiting_at_most(wait):
        if dry_run:
            print_dry_run(pipeline.search_lines(recipe, StageProgress()), as_json)
            return
        report = pipeline.search(recipe, StageProgress())
    if as_json:
        print_json(report.to_json())
        return
    from tokensieve.report.terminal.search import print_search
    from tokensieve.report.terminal.tables import output_console

    print_search(report, output_console())


def demo(*, output: Path = Path("runs/demo"), seed: int = 0, wait: Wait = None, as_json: Json = False) -> None:
    """Run everything on an embedded model and data set, in one to three minutes on two cores.

    Args:
        output: the run folder.
        seed: seed of the data, the training and the random control.
        wait: seconds to wait at most for another process that writes the same place; 0 stops at once.
        as_json: print JSON.
    """
    refuse_launched()
    quiet()
    from tokensieve.demo.run import print_demo, run_demo

    with waiting_at_most(wait):
        folder, seconds = run_demo(output, seed)
    if as_json:
        _summary(folder, "report", as_json)
    else:
        print_demo(folder, seconds)


def _engine_overrides(
    engine: str | None, address: str | None, workers: int | None, gpus_per_worker: float | None
) -> list[str]:
    given = {
        "name": engine,
        "address": address,
        "workers": workers,
        "gpus_per_worker": gpus_per_worker,
    }
    return [f"engine.{key}={value}" for key, value in given.items() if value is not None]


def _stage(
    until: str,
    arguments: Sequence[str],
    as_json: bool,
    wait: float | None,
    *,
    dry_run: bool = False,
    shard: str | None = None,
) -> None:
    share = ALL
    if until not in ("measure", "train") or shard is not None:
        refuse_launched()
    else:
        share = launched_share(os.environ)
    if shard is not None:
        share = parse_share(shard)
    recipe = given_recipe(arguments)
    quiet()
    from tokensieve.pipeline import dry_run as checks
    from tokensieve.pipeline import search as pipeline
    from tokensieve.progress import StageProgress

    with waiting_at_most(wait):
        if dry_run:
            print_dry_run(checks.dry_run(recipe, StageProgress()), as_json)
            return
        folder = pipeline.run(recipe, until, share=share)
    if share.is_all or (until == "train" and share.number == 0):
        _summary(folder, until, as_json)
    elif until == "train":
        return  # the first of the processes prints the results
    elif as_json:
        print_json({"run": str(folder), "shards": str(share)})
    else:
        print(f"{told(folder)}: shards {share} are measured")


def given_recipe(arguments: Sequence[str]) -> Recipe:
    """Return the recipe that is named on the command line, with the keys that override it.

    Raises:
        TokensieveError: two recipes, or one that cannot be read.
    """
    # A folder may be named after an override, such as runs/lr=0.1.
    recipes = [argument for argument in arguments if "=" not in argument or os.path.isfile(argument)]
    overrides = [argument for argument in arguments if argument not in recipes]
    if len(recipes) > 1:
        raise TokensieveError(
            f"got {len(recipes)} recipes: {', '.join(recipes)}",
            where="command line",
            hint="pass one recipe; all other arguments are key=value",
        )
    from tokensieve.pipeline.recipe import load_recipe

    return load_recipe(Path(recipes[0]) if recipes else None, overrides)


def print_dry_run(lines: Sequence[str], as_json: bool) -> None:
    """Print what a dry run says."""
    print_json({"dry_run": list(lines)}) if as_json else print("\n".join(lines))


def _summary(folder: Path, until: str, as_json: bool) -> None:
    if until == "measure":
        from tokensieve.runs.folder import RunFolder

        measured = RunFolder(folder)
        statistics = {role: told(measured.place_of(path)) for role, path in measured.state().statistics.items()}
        if as_json:
            print_json({"run": str(folder), "statistics": statistics})
        else:
            print("\n".join(f"{role}: {path}" for role, path in statistics.items()))
        return
    from tokensieve.runs.view import load_run

    view = load_run(folder)
    page = view.run_folder.page
    if as_json:
        from tokensieve.report.as_json import results_json

        print_json({**results_json(view), "page": str(page) if until == "report" else None})
        return
    from tokensieve.report.terminal.runs import print_results
    from tokensieve.report.terminal.tables import output_console

    print_results(view, output_console())
    if until == "report":
        print(f"page: {told(page)}")
