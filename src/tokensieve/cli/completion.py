"""Shell completion: tyro's scripts, which complete commands and options, extended to complete files.

Since 1.0.17 tyro offers files for the values of options, but not for positional arguments: the recipes, data and run
folders that most commands take.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Literal

Shell = Literal["bash", "zsh", "fish"]

# The part that is Python prints words, or a mark in place of files.
_FILES_WHERE_NO_WORD_FITS = (
    "for completion in completions:",
    "for completion in completions or ['__TYRO_COMPLETE_FILES__']:",
)
# Bash's own completion of files, which quotes spaces and goes on within folders, in place of a bare list.
_FILES_BY_BASH = (
    ('COMPREPLY=($(compgen -f -- "$cur"))', "COMPREPLY=()"),
    ("complete -F ", "complete -o bashdefault -o default -F "),
)
CHANGES: dict[Shell, tuple[tuple[str, str], ...]] = {
    "bash": (_FILES_WHERE_NO_WORD_FITS, *_FILES_BY_BASH),
    "zsh": (_FILES_WHERE_NO_WORD_FITS,),
    "fish": (("complete --no-files --command", "complete --command"),),
}
"""What is replaced in tyro's script, and by what; a version that writes another one gives its script as it is."""


def completion_script(shell: Shell, run: Callable[[list[str]], None]) -> str:
    """Return the completion script for a shell.

    Args:
        shell: the shell.
        run: runs the command line with the given arguments, which print tyro's script and exit.
    """
    script = tyro_script(shell, run)
    if not all(old in script for old, _ in CHANGES[shell]):
        return script
    for old, new in CHANGES[shell]:
        script = script.replace(old, new)
    return script


def tyro_script(shell: Shell, run: Callable[[list[str]], None]) -> str:
    """Return the script that tyro writes; arguments as for `completion_script`."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        run(["--tyro-print-completion", shell])
    return written.getvalue()
