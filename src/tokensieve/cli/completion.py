"""Completion scripts for shells: tyro's, which know commands and options, taught to offer files for the rest."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Literal

Shell = Literal["bash", "zsh", "fish"]

# Recipes, data and run folders are what most commands take, and tyro offers nothing for them.
_OFFER_FILES: dict[Shell, tuple[tuple[str, str], ...]] = {
    "bash": (
        (
            '  COMPREPLY=("${matches[@]}")\n',
            '  COMPREPLY=("${matches[@]}")\n  [[ -n "$completions" ]] || COMPREPLY=()\n',
        ),
        ("complete -F ", "complete -o bashdefault -o default -F "),
    ),
    "zsh": (
        (
            "  _describe 'tokensieve completions' completion_array\n",
            "  [[ -n \"$completions\" ]] && _describe 'tokensieve completions' completion_array || _files\n",
        ),
    ),
    "fish": (("complete --no-files --command", "complete --command"),),
}


def completion_script(shell: Shell, run: Callable[[list[str]], None]) -> str:
    """Return the script that a shell reads.

    Args:
        shell: which one.
        run: the command line, given its arguments; it prints tyro's script and exits.
    """
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        run(["--tyro-print-completion", shell])
    script = written.getvalue()
    for old, new in _OFFER_FILES[shell]:
        script = script.replace(old, new)
    return script
