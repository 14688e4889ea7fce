"""Every error says how to fix it."""

from __future__ import annotations

import ast
from pathlib import Path

import tokensieve
from tokensieve.errors import TokensieveError

SOURCES = sorted(Path(tokensieve.__file__).parent.rglob("*.py"))


def test_an_error_says_what_where_and_how_to_mend_it():
    error = TokensieveError("it is 3", where="a.yaml:2", hint="make it 2")
    assert str(error) == "it is 3\n  at: a.yaml:2\n  hint: make it 2"
    assert str(TokensieveError("it is 3")) == "it is 3"


def test_every_error_of_the_sources_says_how_to_mend_it():
    silent, raised = [], 0
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "TokensieveError" and node.args:
                raised += 1
                what = ast.get_source_segment(text, node.args[0]) or ""
                # "it must be one of ..." says it; further errors of other kinds each have said theirs
                told = any(word in what for word in ("must be", "must never", "further errors"))
                if not told and "hint" not in {keyword.arg for keyword in node.keywords}:
                    silent.append(f"{path}:{node.lineno}: {what}")
    assert raised > 200
    assert not silent
