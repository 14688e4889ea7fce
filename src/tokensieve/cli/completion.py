"""Shell completion: tyro's scripts, which complete commands and options, extended to complete files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Literal

Shell = Literal["bash", "zsh", "fish"]

# Most commands take recipes, data and run folders, which tyro's scripts do not complete.
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
    """Return the completion script for a shell.

    Args:
        shell: the shell.
        run: runs the command line with the given arguments, which print tyro's script and exit.
    """
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        run(["--tyro-print-completion", shell])
    script = written.getvalue()
    for old, new in _OFFER_FILES[shell]:
        script = script.replace(old, new)
    return script
