"""The command line: wiring only. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from tokensieve.completion import Shell, completion_script
from tokensieve.data.settings import DataSettings, Form
from tokensieve.errors import TokensieveError
from tokensieve.export.settings import TargetName

_USAGE = """Choose, token by token, what a language model is fine-tuned on.

Examples:
  tokensieve demo                                    the whole job on embedded data
  tokensieve inspect train.jsonl --tokenizer MODEL   what would be trained on
  tokensieve run recipe.yaml                         score, select, train, evaluate, show
  tokensieve run recipe.yaml method.fraction=0.5 output=runs/half
  tokensieve show runs/half --example 3
  tokensieve compare runs/a runs/half

Exit codes: 0 done, 1 `inspect` found errors, 2 input that cannot be used, 130 interrupted.
Results go to the output stream (--json: as JSON), progress, warnings and errors to the error stream.
"""

Overrides = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="A YAML recipe, and fields that override it, such as method.fraction=0.5 or data.files=train.jsonl.",
    ),
]


Json = Annotated[bool, tyro.conf.arg(name="json", help="print JSON.")]


def _stage(until: str, arguments: Sequence[str], as_json: bool, dry_run: bool = False) -> None:
    recipes = [argument for argument in arguments if "=" not in argument]
    if len(recipes) > 1:
        raise TokensieveError(f"{len(recipes)} recipes given: {', '.join(recipes)}", where="command line")
    from tokensieve.config import load_recipe

    recipe = load_recipe(Path(recipes[0]) if recipes else None, [a for a in arguments if "=" in a])
    _quiet()
    if dry_run:
        from tokensieve import dry_run as dry
        from tokensieve.report.progress import StageProgress

        lines = dry.dry_run(recipe, StageProgress())
        _print_json({"dry_run": lines}) if as_json else print("\n".join(lines))
        return
    from tokensieve import pipeline

    folder = pipeline.run(recipe, until)
    _summary(folder, until, as_json)


def run(arguments: Overrides = (), /, *, dry_run: bool = False, as_json: Json = False) -> None:
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
        as_json: print JSON.
    """
    _stage("report", arguments, as_json, dry_run)


def measure(arguments: Overrides = (), /, *, as_json: Json = False) -> None:
    """Measure per-token statistics with every model that the method needs.

    For example:
      tokensieve measure recipe.yaml
      tokensieve measure output=runs/a data.files=train.jsonl models.base=MODEL models.reference=BETTER_MODEL
    """
    _stage("measure", arguments, as_json)


def select(arguments: Overrides = (), /, *, as_json: Json = False) -> None:
    """Score and choose tokens, and write the cleaned data.

    For example:
      tokensieve select recipe.yaml
      tokensieve select recipe.yaml method=rho-1 output=runs/rho     (measures nothing again)
    """
    _stage("select", arguments, as_json)


def train(arguments: Overrides = (), /, *, as_json: Json = False) -> None:
    """Fine-tune the base on the cleaned data and on that of the controls.

    For example:
      tokensieve train recipe.yaml
      tokensieve train recipe.yaml train.learning_rate=2e-4 train.lora.r=16 output=runs/r16
    """
    _stage("train", arguments, as_json)


def evaluate(arguments: Overrides = (), /, *, as_json: Json = False) -> None:
    """Evaluate the fine-tuned models: held-out loss, exact match, lm-evaluation-harness tasks.

    For example:
      tokensieve evaluate recipe.yaml
      tokensieve evaluate recipe.yaml evaluate.exact_match.files=[test.jsonl]
      tokensieve evaluate runs/a/recipe.yaml evaluate.tasks=[arc_challenge,boolq]
    """
    _stage("evaluate", arguments, as_json)


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
        chat_template: file with a Jinja chat template.
        compare_with: a second tokenizer that must give the same ids, such as the reference model's.
        as_json: print JSON.
    """
    _quiet()
    from tokensieve.plan import inspect as inspect_data

    settings = DataSettings(
        files=data, form=form, split=split, tokenizer=tokenizer, chat_template=chat_template, max_length=max_length
    )
    found, encoder = inspect_data(settings, tokenizer, examples, compare_with)
    if as_json:
        _print_json(found.to_json())
    else:
        from tokensieve.report.terminal import output_console, print_inspection

        print_inspection(found, encoder.tokenizer, output_console())
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
    from tokensieve.report.view import load_run

    view = load_run(run)
    number = example if row is None else view.number_of_row(row)
    if as_json:
        from tokensieve.report.table import example_json

        _print_json(example_json(view, number, arm or view.method))
        return
    from tokensieve.report.terminal import output_console, show_example

    show_example(view, number, arm or view.method, value, output_console())


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    to: TargetName,
    arm: str | None = None,
    output: Path | None = None,
    push_to_hub: str | None = None,
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
    """
    if push_to_hub is not None:
        from tokensieve.export.hub import check_push

        check_push(push_to_hub)
    _quiet()
    from tokensieve.export.write import export_arm

    exported = export_arm(run, to, arm, output)
    print(exported.folder)
    for snippet in exported.snippets:
        print(f"\n# for {snippet.where}:\n{snippet.text}", end="")
    for note in exported.notes:
        print(f"\nnote: {note}", end="")
    print()
    if push_to_hub is not None:
        from tokensieve.export.hub import push

        print(f"pushed: {push(exported.folder, push_to_hub)}")


def import_(
    run: Annotated[Path, tyro.conf.Positional],
    file: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    name: str,
    fraction: float | None = None,
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
    """
    from tokensieve.imported import import_arm

    arm = import_arm(run, file, name, fraction)
    selection = arm.selection
    if selection["examples_absent"]:
        print(f"note: {selection['examples_absent']:,} examples are not in the file: nothing of them is kept")
    print(f"{name}: {selection['kept']:,} of {selection['trainable']:,} tokens kept\n{arm.folder}")


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
    from tokensieve.report.comparison import compare_runs

    found = compare_runs(runs)
    if as_json:
        _print_json(found.to_json())
        return
    from tokensieve.report.comparison_text import print_comparison
    from tokensieve.report.terminal import output_console

    print_comparison(found, output_console())


def lm_eval(run: Annotated[Path, tyro.conf.Positional], /, *, output: Path, name: str = "tokensieve") -> None:
    """Write the exact-match questions of a run as a task of lm-evaluation-harness.

    For example:
      tokensieve lm-eval runs/mine --output tasks --name my_task

    Args:
        run: the run folder.
        output: folder for the task's YAML and data.
        name: of the task.
    """
    _quiet()
    from tokensieve.config import load_recipe
    from tokensieve.lm_eval_task import write_recipe_task

    print("\n".join(write_recipe_task(load_recipe(run / "recipe.yaml", []), output, name)))


def methods(*, as_json: Json = False) -> None:
    """List the methods with their scores, what they need and where they come from."""
    from tokensieve.report.terminal import method_rows, output_console, print_methods

    if as_json:
        _print_json(method_rows())
    else:
        print_methods(output_console())


def demo(*, output: Path = Path("runs/demo"), seed: int = 0, as_json: Json = False) -> None:
    """Run the whole job on the embedded model and data, in about three minutes on two cores.

    Args:
        output: folder of the run.
        seed: of the data, the training and the random control.
        as_json: print JSON.
    """
    _quiet()
    from tokensieve.demo.run import print_demo, run_demo

    folder, seconds = run_demo(output, seed)
    if as_json:
        _summary(folder, "report", as_json)
    else:
        print_demo(folder, seconds)


def completion(shell: Annotated[Shell, tyro.conf.Positional], /) -> None:
    """Print the script that lets a shell complete commands and options.

    For example:
      eval "$(tokensieve completion bash)"                          (in ~/.bashrc)
      tokensieve completion zsh > "${fpath[1]}/_tokensieve"

    Args:
        shell: which one.
    """
    print(completion_script(shell, main))


_COMMANDS = (
    run,
    demo,
    inspect,
    measure,
    select,
    train,
    evaluate,
    report,
    serve,
    show,
    compare,
    export,
    import_,
    lm_eval,
    methods,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 on input that cannot be used."""
    app = tyro.extras.SubcommandApp()
    for command in _COMMANDS:
        app.command(name=command.__name__.rstrip("_").replace("_", "-"))(command)  # `import` is a word of Python
    arguments = sys.argv[1:] if arguments is None else arguments
    show_warning, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        app.cli(prog="tokensieve", description=_USAGE, args=list(arguments) or ["--help"], config=())
        sys.stdout.flush()
    except TokensieveError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        warnings.showwarning = show_warning


def _summary(folder: Path, until: str, as_json: bool) -> None:
    if until == "measure":
        from tokensieve.store.atomic import read_json

        statistics = read_json(folder / "run.json")["statistics"]
        if as_json:
            _print_json({"run": str(folder), "statistics": statistics})
        else:
            print("\n".join(f"{role}: {path}" for role, path in statistics.items()))
        return
    from tokensieve.report.view import load_run

    view, page = load_run(folder), folder / "report.html"
    if as_json:
        from tokensieve.report.table import results_json

        _print_json({**results_json(view), "page": str(page) if until == "report" else None})
        return
    from tokensieve.report.terminal import output_console, print_results

    print_results(view, output_console())
    if until == "report":
        print(f"page: {page}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as the user's business, without the line of code that it came from."""
    print(f"warning: {message}", file=sys.stderr)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _quiet() -> None:
    """Silence the progress bars and chatter of the libraries; ours shows the same."""
    # transformers renames gradient checkpointing; TRL and PEFT still use the old name.
    warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing` is deprecated", category=FutureWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


if __name__ == "__main__":
    main()
