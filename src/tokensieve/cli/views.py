"""Commands that show something: data, methods, runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import tyro

from tokensieve.cli.common import Json, print_json, quiet
from tokensieve.data.forms import Form


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
    as_json: Json = False,
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
        chat_template: file with a Jinja chat template, or `training` for TRL's training version of the tokenizer's.
        compare_with: a second tokenizer that must give the same ids, such as the reference model's.
        as_json: print JSON.
    """
    quiet()
    from tokensieve.data.settings import DataSettings
    from tokensieve.pipeline.plan import inspect as inspect_data

    settings = DataSettings(
        files=data, form=form, split=split, tokenizer=tokenizer, chat_template=chat_template, max_length=max_length
    )
    found, encoder = inspect_data(settings, tokenizer, examples, compare_with)
    if as_json:
        print_json(found.to_json())
    else:
        from tokensieve.report.terminal.runs import output_console, print_inspection

        print_inspection(found, encoder.tokenizer, output_console())
    if found.has_errors:
        raise SystemExit(1)


def methods(*, as_json: Json = False) -> None:
    """List the methods with their scores, what they need and where they come from."""
    from tokensieve.report.terminal.runs import method_rows, output_console, print_methods

    if as_json:
        print_json(method_rows())
    else:
        print_methods(output_console())


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    examples: int = 100,
    output: Path | None = None,
    as_json: Json = False,
) -> None:
    """Write the page of a run, or of several on the same data: one HTML file that needs no network.

    For example:
      tokensieve report runs/a
      tokensieve report runs/a runs/b runs/c --output compared.html

    Args:
        runs: the run folders.
        examples: number of token heat maps.
        output: the file to write; report.html in the first run folder when not given.
        as_json: print JSON.
    """
    from tokensieve.report.html.page import write_page
    from tokensieve.runs.joined import load_runs

    view = load_runs(runs)
    path = output or runs[0] / "report.html"
    write_page(view, path, examples)
    print_json({"page": str(path)}) if as_json else print(path)


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
    from tokensieve.report.html.serve import make_server
    from tokensieve.runs.joined import load_runs

    with make_server(load_runs(runs), host, port) as server, contextlib.suppress(KeyboardInterrupt):
        address = f"[{host}]" if ":" in host else host
        print(f"http://{address}:{server.server_port}/", flush=True)
        server.serve_forever()


def show(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    example: int = 0,
    row: int | None = None,
    arm: str | None = None,
    value: str = "score",
    as_json: Json = False,
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
        as_json: print every token with all its figures as JSON.
    """
    from tokensieve.runs.view import load_run

    view = load_run(run)
    number = example if row is None else view.number_of_row(row)
    if as_json:
        from tokensieve.report.table import example_json

        print_json(example_json(view, number, arm or view.method))
        return
    from tokensieve.report.terminal.runs import output_console, show_example

    show_example(view, number, arm or view.method, value, output_console())


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")],
    /,
    *,
    as_json: Json = False,
) -> None:
    """Compare the arms of runs: figures, differences with intervals, and how far they kept the same tokens.

    For example:
      tokensieve compare runs/a runs/half
      tokensieve compare runs/a runs/b runs/c --json

    Args:
        runs: the run folders.
        as_json: print JSON.
    """
    from tokensieve.report.analysis.comparison import compare_runs

    found = compare_runs(runs)
    if as_json:
        print_json(found.to_json())
        return
    from tokensieve.report.terminal.comparison import print_comparison
    from tokensieve.report.terminal.runs import output_console

    print_comparison(found, output_console())
