"""The command line: wiring only. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from tokensieve import __version__
from tokensieve.cli.common import positionals_first
from tokensieve.cli.completion import Shell, completion_script
from tokensieve.cli.exchange import export, import_, lm_eval
from tokensieve.cli.marks import ceiling, mark
from tokensieve.cli.signals import Stopped, stopped_by_signals
from tokensieve.cli.stages import demo, evaluate, measure, plan, run, search, select, train
from tokensieve.cli.views import compare, inspect, methods, recipes, report, serve, show
from tokensieve.errors import TokensieveError, refused_by_system
from tokensieve.places import told

_USAGE = """Choose, token by token, what a language model is fine-tuned on.

Examples:
  tokensieve demo                                    run everything on embedded data
  tokensieve inspect train.jsonl --tokenizer MODEL   show which tokens would be trained
  tokensieve plan recipe.yaml --hardware 8xH100      estimate time, memory and disk
  tokensieve run recipe.yaml                         score, select, train, evaluate, report
  tokensieve run recipe.yaml method.fraction=0.5 output=runs/half
  tokensieve recipes token-cleaning > recipe.yaml    start from a recipe that comes with tokensieve
  tokensieve search recipe.yaml --minutes 30         find the method and fraction that pay, or that none does
  tokensieve show runs/half --example 3
  tokensieve compare runs/a runs/half

`tokensieve --version` prints the version.
Exit codes: 0 success, 1 `inspect` found errors, 2 unusable input, 130 interrupted, 143 terminated.
Results go to stdout (as JSON with --json); progress, warnings and errors go to stderr.
"""


def completion(shell: Annotated[Shell, tyro.conf.Positional], /) -> None:
    """Print the completion script for a shell.

    For example:
      eval "$(tokensieve completion bash)"                          (in ~/.bashrc)
      tokensieve completion zsh > "${fpath[1]}/_tokensieve"

    Args:
        shell: the shell.
    """
    from tokensieve.pipeline.recipe_keys import override_keys

    staged = [name_of(command) for command in (run, plan, measure, select, train, evaluate, search, ceiling)]
    print(completion_script(shell, main, staged, override_keys()))


COMMANDS = (
    run,
    demo,
    inspect,
    plan,
    measure,
    select,
    train,
    evaluate,
    search,
    report,
    serve,
    show,
    compare,
    export,
    import_,
    mark,
    ceiling,
    lm_eval,
    methods,
    recipes,
    completion,
)


def name_of(command: Callable[..., None]) -> str:
    """Return the word for a command on the command line."""
    return command.__name__.rstrip("_").replace("_", "-")  # `import` is a Python keyword


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 2 on unusable input."""
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        app.command(name=name_of(command))(command)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"tokensieve {__version__}")
        return
    called = next((command for command in COMMANDS if arguments[:1] == [name_of(command)]), None)
    if called is not None:
        arguments[1:] = positionals_first(called, arguments[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show must not end the command
            stream.reconfigure(errors="backslashreplace")
    show_warning, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        with stopped_by_signals():
            app.cli(prog="tokensieve", description=_USAGE, args=arguments or ["--help"], config=())
        sys.stdout.flush()
    except TokensieveError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Stopped) and stop.number == signal.SIGTERM
        what = "terminated" if terminated else "interrupted"
        print(f"{what}: run the same command again to resume", file=sys.stderr)
        raise SystemExit(128 + (signal.SIGTERM if terminated else signal.SIGINT)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if (refused := refused_by_system(error)) is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        warnings.showwarning = show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the source line that raised it."""
    print(told(f"warning: {message}"), file=sys.stderr)
