"""Commands that show data, methods and runs."""

from __future__ import annotations

import contextlib
import shlex
import sys
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from tokensieve.cli.common import Json, pairs, print_json, quiet, refuse_negative
from tokensieve.data.forms import Form
from tokensieve.errors import TokensieveError
from tokensieve.outputs import output_place
from tokensieve.places import place, told

if TYPE_CHECKING:
    from tokensieve.pipeline.recipe_keys import Section
    from tokensieve.progress import ProgressCallback

_LARGE_PAGE = 25e6
"""Bytes of a page that takes longer to write, and to open elsewhere, than a server takes to start."""


def inspect(
    data: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="DATA ...",
            help="files, globs, folders or a Hub id; or a YAML recipe, and keys that override it, such as "
            "data.limit=100.",
        ),
    ],
    /,
    *,
    tokenizer: str | None = None,
    examples: int = 3,
    tokens: int = 2000,
    max_length: int | None = None,
    bad_rows: Literal["error", "skip"] | None = None,
    form: Form | None = None,
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OLD=NEW")] = (),
    ignore: tuple[str, ...] = (),
    roles: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=ROLE")] = (),
    split: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    compare_with: str | None = None,
    as_json: Json = False,
) -> None:
    """Show which tokens of a data set would be trained, and every problem. Exits with 1 if there are errors.

    For example:
      tokensieve inspect train.jsonl --tokenizer MODEL
      tokensieve inspect "data/*.parquet" --tokenizer MODEL --max-length 4096 --json
      tokensieve inspect train.jsonl --tokenizer MODEL --columns QUESTION=question LONG_ANSWER=answer
      tokensieve inspect recipe.yaml

    Args:
        data: files, globs, folders or a Hub id; or a recipe.
        tokenizer: folder or Hub id of the tokenizer; with a recipe, the recipe's if not given.
        examples: number of examples to show.
        tokens: tokens of each example to show; the middle of a longer one is left out. JSON has all.
        max_length: maximum tokens per example; longer examples are truncated. If not given, the default of a recipe.
        bad_rows: skip if the run is to leave out rows that cannot be used, which are warnings then; error if not given.
        form: form of the rows; recognised by their columns if not given.
        columns: columns to rename.
        ignore: columns to leave out although they change what a row means, such as images.
        roles: known role of each speaker that has another name, such as narrator=user.
        split: split of a Hub data set or a saved DatasetDict; train if not given.
        chat_template: file with a Jinja chat template, or `training` for TRL's training version of the tokenizer's.
        trust_remote_code: run the model's own Python code; only for models that you trust.
        compare_with: a second tokenizer that must produce the same ids, such as the reference model's.
        as_json: print JSON.
    """
    if not data:
        raise TokensieveError(
            "no data given", where="command line", hint="tokensieve inspect train.jsonl or recipe.yaml"
        )
    refuse_negative(examples=examples, tokens=tokens)
    quiet()
    from tokensieve.data.settings import DataSettings
    from tokensieve.pipeline import inspection
    from tokensieve.progress import StageProgress

    given = {
        "form": form,
        "columns": pairs(columns, "--columns", "OLD=NEW", "QUESTION=question") or None,
        "ignore": ignore or None,
        "roles": pairs(roles, "--roles", "NAME=ROLE", "narrator=user") or None,
        "split": split,
        "tokenizer": tokenizer,
        "chat_template": chat_template,
        "max_length": max_length,
        "bad_rows": bad_rows,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    bar = StageProgress(shown=sys.stderr.isatty()).stage("read the data", None, "rows")
    if data[0].endswith((".yaml", ".yml")):
        from tokensieve.pipeline.recipe import load_recipe

        trusted = ["models.base.trust_remote_code=true"] if trust_remote_code else []
        recipe = load_recipe(Path(data[0]), [*data[1:], *trusted])
        recipe = replace(recipe, data=replace(recipe.data, **changes))
        with bar as on_rows:
            found, encoder = inspection.inspect_recipe(recipe, examples, compare_with, on_rows)
    elif tokenizer is None:
        raise TokensieveError(
            "no tokenizer given", where="command line", hint="--tokenizer MODEL, or inspect a recipe that names a base"
        )
    else:
        settings = DataSettings(files=data, **changes)
        with bar as on_rows:
            found, encoder = inspection.inspect(settings, tokenizer, examples, compare_with, trust_remote_code, on_rows)
    if as_json:
        print_json(found.to_json())
    else:
        from tokensieve.report.terminal.runs import print_inspection
        from tokensieve.report.terminal.tables import output_console

        print_inspection(found, encoder.tokenizer, output_console(), tokens)
    if found.has_errors:
        raise SystemExit(1)


def methods(*, as_json: Json = False) -> None:
    """List the methods with their scores, the statistics they need, and their papers."""
    from tokensieve.report.terminal.runs import method_rows, print_methods
    from tokensieve.report.terminal.tables import output_console

    if as_json:
        print_json(method_rows())
    else:
        print_methods(output_console())


def recipes(recipe: Annotated[str, tyro.conf.Positional] = "", /, *, keys: bool = False, as_json: Json = False) -> None:
    """List the recipes that come with tokensieve, or print one.

    For example:
      tokensieve recipes
      tokensieve recipes token-cleaning > recipe.yaml
      tokensieve recipes papers/xtf-paper
      tokensieve recipes --keys

    Args:
        recipe: name of the recipe to print; all are listed if not given.
        keys: print every key that a recipe may have instead, with its default.
        as_json: print JSON.
    """
    if keys:
        from tokensieve.pipeline.recipe_keys import sections

        found = list(sections())
        if as_json:
            print_json([asdict(key) for section in found for key in section.keys])
            return
        _print_keys(found)
        return
    from tokensieve.pipeline.ready_recipes import about, ready_recipe, ready_recipes

    if recipe:
        text = ready_recipe(recipe)
        print_json({"name": recipe, "recipe": text}) if as_json else print(text, end="")
        return
    rows = {name: about(path.read_text("utf-8")) for name, path in ready_recipes().items()}
    if as_json:
        print_json([{"name": name, "about": text} for name, text in rows.items()])
        return
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}")


def _print_keys(found: Sequence[Section]) -> None:
    from tokensieve.report.terminal.tables import output_console

    width = output_console().width
    for section in found:
        print(f"\n# {section.name or 'top level'}: {section.summary}")
        for key in section.keys:
            default = "required" if key.default == "required" else f"default: {key.default}"
            print(f"\n{key.name}  ({default})")
            print(textwrap.fill(key.meaning, width, initial_indent="    ", subsequent_indent="    "))


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    examples: int = 100,
    output: Path | None = None,
    as_json: Json = False,
) -> None:
    """Write the report page of one or more runs on the same data: one HTML file that needs no network.

    For example:
      tokensieve report runs/a
      tokensieve report runs/a runs/b runs/c --output compared.html

    Args:
        runs: the run folders.
        examples: maximum number of token heat maps.
        output: the file to write; report.html in the first run folder if not given.
        as_json: print JSON.
    """
    refuse_negative(examples=examples)
    from tokensieve.report.cells import in_bytes
    from tokensieve.report.html.page import write_page
    from tokensieve.runs.joined import load_runs

    view = load_runs(runs)
    path = output_place(output or view.run_folder.page)
    write_page(view, path, examples, _stage)
    print_json({"page": str(path)}) if as_json else print(told(path))
    if (size := path.stat().st_size) > _LARGE_PAGE:
        command = shlex.join(["tokensieve", "serve", *map(str, runs)])
        print(f"note: the page has {in_bytes(size)}; `{command}` shows every example without a file", file=sys.stderr)


def _stage(description: str) -> AbstractContextManager[ProgressCallback]:
    from tokensieve.progress import StageProgress

    return StageProgress().stage(description, None, "tokens")


def serve(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional], /, *, host: str = "127.0.0.1", port: int = 8765
) -> None:
    """Serve the report page with every example, for data sets too big for one file; stop it with Ctrl-C.

    For example:
      tokensieve serve runs/a
      tokensieve serve runs/a runs/b --port 9000

    Args:
        runs: the run folders.
        host: address to listen on; with any other than the default, other machines may be able to read the data.
        port: port to listen on; 0 picks a free one.
    """
    from tokensieve.report.html.serve import make_server
    from tokensieve.runs.joined import load_runs

    with make_server(load_runs(runs), host, port, _stage) as server, contextlib.suppress(KeyboardInterrupt):
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
    tokens: int = 2000,
    as_json: Json = False,
) -> None:
    """Show one example's tokens in the terminal: kept tokens underlined, dropped tokens struck through.

    For example:
      tokensieve show runs/a --example 3
      tokensieve show runs/a --example 3 --value base.loss

    Args:
        run: the run folder.
        example: number of the example, from 0.
        row: number of the example's source row, from 0, instead of `--example`; unusable rows have no example.
        arm: the arm whose selection to show; the method if not given.
        value: what the colour shows: score, or a statistic such as base.loss.
        tokens: tokens of the example to show; the middle of a longer one is left out. JSON has all.
        as_json: print every token with all its statistics as JSON.
    """
    refuse_negative(tokens=tokens)
    from tokensieve.runs.view import load_run

    view = load_run(run)
    number = example if row is None else view.number_of_row(row)
    if as_json:
        from tokensieve.report.as_json import example_json

        print_json(example_json(view, number, arm or view.method))
        return
    from tokensieve.report.terminal.runs import show_example
    from tokensieve.report.terminal.tables import output_console

    show_example(view, number, arm or view.method, value, output_console(), tokens)


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")],
    /,
    *,
    as_json: Json = False,
) -> None:
    """Compare the arms of runs: results, differences with intervals, and how far they keep the same tokens.

    For example:
      tokensieve compare runs/a runs/half
      tokensieve compare runs/a runs/b runs/c --json

    Args:
        runs: the run folders.
        as_json: print JSON.
    """
    from tokensieve.report.analysis.comparison import compare_runs

    found = compare_runs([place(run) for run in runs])
    if as_json:
        print_json(found.to_json())
        return
    from tokensieve.report.terminal.comparison import print_comparison
    from tokensieve.report.terminal.tables import output_console

    print_comparison(found, output_console())
