"""The command line: wiring only. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from tokensieve.data.settings import DataSettings, Form
from tokensieve.errors import TokensieveError

_USAGE = """Choose, token by token, what a language model is fine-tuned on.

Examples:
  tokensieve demo                                    the whole job on embedded data
  tokensieve inspect train.jsonl --tokenizer MODEL   what would be trained on
  tokensieve run recipe.yaml                         score, select, train, evaluate, show
  tokensieve run recipe.yaml method.fraction=0.5 output=runs/half
  tokensieve show runs/half --example 3

Exit codes: 0 done, 1 `inspect` found errors, 2 input that cannot be used, 130 interrupted.
"""

Overrides = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="A YAML recipe, and fields that override it, such as method.fraction=0.5 or data.files=train.jsonl.",
    ),
]


def _stage(until: str, arguments: Sequence[str], dry_run: bool = False) -> None:
    recipes = [argument for argument in arguments if "=" not in argument]
    if len(recipes) > 1:
        raise TokensieveError(f"{len(recipes)} recipes given: {', '.join(recipes)}", where="command line")
    from tokensieve.config import load_recipe

    recipe = load_recipe(Path(recipes[0]) if recipes else None, [a for a in arguments if "=" in a])
    _quiet()
    if dry_run:
        from tokensieve import dry_run as dry
        from tokensieve.report.progress import StageProgress

        print("\n".join(dry.dry_run(recipe, StageProgress())))
        return
    from tokensieve import pipeline

    folder = pipeline.run(recipe, until)
    _summary(folder, until)


def run(arguments: Overrides = (), /, *, dry_run: bool = False) -> None:
    """Carry out a recipe: score, select, train, evaluate, show. What is done is skipped.

    For example:
      tokensieve run recipe.yaml
      tokensieve run recipe.yaml method.fraction=0.5 output=runs/half
      tokensieve run recipe.yaml --dry-run
      tokensieve run output=runs/a data.files=train.jsonl models.base=MODEL models.reference=BETTER_MODEL

    Args:
        arguments: recipe and overrides.
        dry_run: check everything but the weights, show what would be done, and stop. Models and data that are not on
            this machine are named and left out.
    """
    _stage("report", arguments, dry_run)


def measure(arguments: Overrides = (), /) -> None:
    """Measure per-token statistics with every model that the method needs.

    For example:
      tokensieve measure recipe.yaml
      tokensieve measure output=runs/a data.files=train.jsonl models.base=MODEL models.reference=BETTER_MODEL
    """
    _stage("measure", arguments)


def select(arguments: Overrides = (), /) -> None:
    """Score and choose tokens, and write the cleaned data.

    For example:
      tokensieve select recipe.yaml
      tokensieve select recipe.yaml method=rho-1 output=runs/rho     (measures nothing again)
    """
    _stage("select", arguments)


def train(arguments: Overrides = (), /) -> None:
    """Fine-tune the base on the cleaned data and on that of the controls.

    For example:
      tokensieve train recipe.yaml
      tokensieve train recipe.yaml train.learning_rate=2e-4 train.lora.r=16
    """
    _stage("train", arguments)


def evaluate(arguments: Overrides = (), /) -> None:
    """Evaluate the fine-tuned models: held-out loss, exact match, lm-evaluation-harness tasks.

    For example:
      tokensieve evaluate recipe.yaml
      tokensieve evaluate runs/a/recipe.yaml evaluate.tasks=[arc_challenge,boolq]
    """
    _stage("evaluate", arguments)


def inspect(
    data: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    tokenizer: str,
    examples: int = 3,
    max_length: int | None = None,
    form: Form = "auto",
    split: str = "train",
    chat_template: str | None = None,
    compare_with: str | None = None,
    json: bool = False,
) -> None:
    """Show what of a data set would be trained on, and every problem it has. Exits with 1 on errors.

    For example:
      tokensieve inspect train.jsonl --tokenizer MODEL
      tokensieve inspect "data/*.parquet" --tokenizer MODEL --max-length 4096 --json

    Args:
        data: files, globs, folders or a Hub id.
        tokenizer: folder or Hub id of the tokenizer.
        examples: number of examples to show.
        max_length: tokens of the longest example; nothing is truncated when not given.
        form: how rows are written; auto recognises it from their columns.
        split: split of a Hub data set or saved DatasetDict.
        chat_template: file with a Jinja chat template.
        compare_with: a second tokenizer that must give the same ids, such as the reference model's.
        json: print JSON.
    """
    _quiet()
    from tokensieve.plan import inspect as inspect_data

    settings = DataSettings(
        files=data, form=form, split=split, tokenizer=tokenizer, chat_template=chat_template, max_length=max_length
    )
    found, encoder = inspect_data(settings, tokenizer, examples, compare_with)
    if json:
        _print_json(found.to_json())
    else:
        from rich.console import Console

        from tokensieve.report.terminal import print_inspection

        print_inspection(found, encoder.tokenizer, Console())
    if found.has_errors:
        raise SystemExit(1)


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional], /, *, examples: int = 100, output: Path | None = None
) -> None:
    """Write the page of a run, or of several on the same data: one HTML file that needs no network.

    For example:
      tokensieve report runs/a
      tokensieve report runs/a runs/b runs/c --output compared.html

    Args:
        runs: the run folders.
        examples: number of token heat maps.
        output: the file to write; report.html in the first run folder when not given.
    """
    from tokensieve.report.joined import load_runs
    from tokensieve.report.page import write_page

    view = load_runs(runs)
    path = output or runs[0] / "report.html"
    write_page(view, path, examples)
    print(path)


def serve(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional], /, *, host: str = "127.0.0.1", port: int = 8765
) -> None:
    """Show the page with every example, for data sets too big for one file; ends with Ctrl-C.

    For example:
      tokensieve serve runs/a
      tokensieve serve runs/a runs/b --port 9000

    Args:
        runs: the run folders.
        host: address to listen at; others than this machine can read the data where it is not the default.
        port: port to listen at; 0 takes a free one.
    """
    from tokensieve.report.joined import load_runs
    from tokensieve.report.serve import make_server

    with make_server(load_runs(runs), host, port) as server:
        print(f"http://{host}:{server.server_port}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def show(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    example: int = 0,
    row: int | None = None,
    arm: str | None = None,
    value: str = "score",
) -> None:
    """Show one example's tokens in the terminal: kept underlined, dropped struck through.

    For example:
      tokensieve show runs/a --example 3
      tokensieve show runs/a --example 3 --value base.loss

    Args:
        run: the run folder.
        example: number of the example, from 0.
        row: number of its source row instead, from 0; rows that were dropped have no example.
        arm: whose selection to show; the method's when not given.
        value: what the colour stands for: score, or a statistic such as base.loss.
    """
    from rich.console import Console

    from tokensieve.report.terminal import show_example
    from tokensieve.report.view import load_run

    view = load_run(run)
    number = example if row is None else view.number_of_row(row)
    show_example(view, number, arm or view.method, value, Console())


def methods(*, json: bool = False) -> None:
    """List the methods with their scores, what they need and where they come from.

    Args:
        json: print JSON.
    """
    from tokensieve.report.terminal import method_rows, print_methods

    if json:
        _print_json(method_rows())
    else:
        from rich.console import Console

        print_methods(Console())


def demo(*, output: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Run the whole job on the embedded model and data, in about three minutes on two cores.

    Args:
        output: folder of the run.
        seed: of the data, the training and the random control.
    """
    _quiet()
    from tokensieve.demo.run import run_demo

    run_demo(output, seed)


_COMMANDS = (run, demo, inspect, measure, select, train, evaluate, report, serve, show, methods)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 on input that cannot be used."""
    app = tyro.extras.SubcommandApp()
    for command in _COMMANDS:
        app.command(command)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app.cli(prog="tokensieve", description=_USAGE, args=list(arguments) or ["--help"], config=())
    except TokensieveError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(folder: Path, until: str) -> None:
    if until == "measure":
        from tokensieve.store.atomic import read_json

        for role, statistics in read_json(folder / "run.json")["statistics"].items():
            print(f"{role}: {statistics}")
        return
    from rich.console import Console

    from tokensieve.report.terminal import results_table
    from tokensieve.report.view import load_run

    Console().print(results_table(load_run(folder)))
    if until == "report":
        print(f"page: {folder / 'report.html'}")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _quiet() -> None:
    """Silence the progress bars and chatter of the libraries; ours shows the same."""
    import warnings

    # transformers renames gradient checkpointing; TRL and PEFT still use the old name.
    warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing` is deprecated", category=FutureWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


if __name__ == "__main__":
    main()
