"""Shell completion: tyro's scripts, which complete commands and options, extended to recipe keys and files.

Since 1.0.17 tyro offers files for the values of options, but not for positional arguments: the recipes, data and run
folders that most commands take.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Literal

Shell = Literal["bash", "zsh", "fish"]

_PRINTED = "    for completion in completions:"
# The part that is Python prints words, or a mark in place of files. Within double quotes of fish, so it has none.
_PRINTED_WITH_KEYS = """\
    word = words[current_index] if current_index < len(words) else ''
    keys = [key + '=' for key in {keys} if word and key.startswith(word)]
    if words[1:2] and words[1] in {commands} and keys and words[current_index - 1] != '=':
        import glob
        completions = [key + '\\t' for key in keys] + glob.glob(glob.escape(word) + '*') + completions
    for completion in completions or ['__TYRO_COMPLETE_FILES__']:"""
# Bash's own completion of files, which quotes spaces and goes on within folders, in place of a bare list.
_CHANGES_OF_SHELLS: dict[Shell, tuple[tuple[str, str], ...]] = {
    "bash": (
        ('COMPREPLY=($(compgen -f -- "$cur"))', "COMPREPLY=()"),
        ("complete -F ", "complete -o bashdefault -o default -F "),
        (
            '  COMPREPLY=("${matches[@]}")',
            '  COMPREPLY=("${matches[@]}")\n  [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null',
        ),
    ),
    "zsh": (
        ("    _files\n", "    compset -P '*='\n    _files\n"),
        (
            "  _describe 'tokensieve completions' completion_array",
            "  local -a suffix\n  [[ \"$completions\" == *=$'\\t'* ]] && suffix=(-S '')\n"
            "  _describe 'tokensieve completions' completion_array \"${suffix[@]}\"",
        ),
    ),
    "fish": (
        ("complete --no-files --command", "complete --command"),
        # Tyro's words end before the one that is typed.
        (
            "    set -l current (count $words)\n",
            "    set -l current (count $words)\n    set -a words (commandline -ct)\n",
        ),
    ),
}


def changes(shell: Shell, commands: Sequence[str] = (), keys: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """Return what is replaced in tyro's script, and by what.

    Args:
        shell: the shell.
        commands: those that take recipe keys.
        keys: of recipes.
    """
    with_keys = _PRINTED_WITH_KEYS.format(keys=list(keys), commands=list(commands))
    return (_PRINTED, with_keys), *_CHANGES_OF_SHELLS[shell]


def completion_script(
    shell: Shell, run: Callable[[list[str]], None], commands: Sequence[str], keys: Sequence[str]
) -> str:
    """Return the completion script for a shell; that of a tyro which writes another one, as it is.

    Args:
        shell: the shell.
        run: runs the command line with the given arguments, which print tyro's script and exit.
        commands: those that take recipe keys.
        keys: of recipes.
    """
    script, replaced = tyro_script(shell, run), changes(shell, commands, keys)
    if not all(old in script for old, _ in replaced):
        return script
    for old, new in replaced:
        script = script.replace(old, new)
    return script


def tyro_script(shell: Shell, run: Callable[[list[str]], None]) -> str:
    """Return the script that tyro writes; arguments as for `completion_script`."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        run(["--tyro-print-completion", shell])
    return written.getvalue()
