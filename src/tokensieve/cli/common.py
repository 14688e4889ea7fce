"""Helpers that several commands share."""

from __future__ import annotations

import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from tokensieve.errors import TokensieveError
from tokensieve.measure.share import launched_share
from tokensieve.places import told

Json = Annotated[bool, tyro.conf.arg(name="json", help="print JSON.")]
Wait = Annotated[
    float | None,
    tyro.conf.arg(
        metavar="SECONDS",
        help="seconds to wait at most for another process that writes the same place; 0 stops at once.",
    ),
]
Engine = Annotated[str | None, tyro.conf.arg(metavar="NAME")]


def print_json(value: Any) -> None:
    """Print a value as indented JSON, with escapes where the terminal shows ASCII alone."""
    ascii_alone = not sys.stdout.encoding.lower().startswith("utf")
    print(told(json.dumps(value, indent=2, ensure_ascii=ascii_alone)))


def refuse_negative(**numbers: int) -> None:
    """Refuse options that count something and are below 0.

    Raises:
        TokensieveError: one of them, by its name.
    """
    for name, number in numbers.items():
        if number < 0:
            raise TokensieveError(f"--{name} is {number}", where="command line", hint="0 or more")


def positionals_first(command: Callable[..., None], arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with its options last, since tyro wants what has no name in one piece.

    Args:
        command: its options are its keyword arguments: flags where they default to a truth value, with any number of
            values where they default to a tuple, else with one value.
        arguments: what follows the command's name.
    """
    parameters = inspect.signature(command).parameters
    flags = {name.replace("_", "-") for name, one in parameters.items() if isinstance(one.default, bool)}
    names = {f"--{prefix}{name}" for name in flags for prefix in ("", "no-")} | {"--json", "--no-json", "--help", "-h"}
    lists = {f"--{name.replace('_', '-')}" for name, one in parameters.items() if isinstance(one.default, tuple)}
    positionals: list[str] = []
    options: list[str] = []
    takes_value = takes_values = False
    for argument in arguments:
        is_option = argument.startswith("-") and not takes_value
        takes_values = argument.replace("_", "-") in lists if is_option else takes_values
        (options if is_option or takes_value or takes_values else positionals).append(argument)
        takes_value = is_option and "=" not in argument and argument.replace("_", "-") not in names
    return [*positionals, *options]


def refuse_launched() -> None:
    """Refuse one of several processes of `torchrun` or `accelerate launch` where each would do the same.

    Raises:
        TokensieveError: it is one.
    """
    if not launched_share(os.environ).is_all:
        raise TokensieveError(
            f"this command runs in one process, and WORLD_SIZE={os.environ['WORLD_SIZE']} says that there are others",
            where="torchrun, accelerate launch",
            hint="launch `measure` and `train` in several processes, and start the rest as `tokensieve COMMAND RECIPE`",
        )


def quiet() -> None:
    """Silence the progress bars and messages of the libraries; tokensieve shows its own."""
    # transformers renames gradient checkpointing; TRL and PEFT still use the old name.
    warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing` is deprecated", category=FutureWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def pairs(given: tuple[str, ...], option: str, form: str, sample: str) -> dict[str, str]:
    """Return what an option gives for each name.

    Raises:
        TokensieveError: an argument that is not of the form ``A=B``.
    """
    for one in given:
        if not all(one.partition("=")):
            raise TokensieveError(f"'{one}' is not {form}", where=option, hint=f"such as {sample}")
    return dict(one.split("=", 1) for one in given)
