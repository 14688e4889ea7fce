"""Texts use the words of the field: a word or phrase that was retired does not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = {
    "mend": "fix, or hint in an error",
    "mends": "fixes",
    "mended": "fixed",
    "anew": "again",
    "dear": "expensive",
    "befall": "affect",
    "slip of the pen": "typo",
    "what went": "what was dropped",
    "what came of": "results",
    "came of it": "results",
    "drops the rest": "name what is dropped",
    "the whole of": "the complete",
    "apart from": "except",
    "stands in for": "replaces",
    "last but one": "name the line",
    "no other ratio": "say why the slider is disabled",
    "of what was trained": "of trained arms",
    "there is one arm alone": "there is only one arm",
    "a line of JSON a conversation": "one conversation per line, as JSON",
}
"""Retired words and phrases, and what to write instead."""
SUFFIXES = {".py", ".md", ".yaml", ".j2", ".js", ".css"}


def pattern(phrase: str) -> re.Pattern[str]:
    """Return a pattern that finds a phrase as whole words, also across a line break."""
    return re.compile(r"\b" + r"[\s#*]+".join(map(re.escape, phrase.split())) + r"\b", re.IGNORECASE)


def retired_in(text: str) -> list[str]:
    """Return a description of each retired phrase in a text, with its line."""
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: '{phrase}'; instead: {instead}"
        for phrase, instead in RETIRED.items()
        for match in pattern(phrase).finditer(text)
    ]


def texts() -> list[Path]:
    """Return every file with prose of ours; vendored JavaScript is not ours."""
    folders = (ROOT / "src", ROOT / "docs")
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *(path for path in sorted(found) if "vendor" not in path.parts)]


def test_no_retired_word_is_used():
    found = [f"{path.relative_to(ROOT)}: {hit}" for path in texts() for hit in retired_in(path.read_text("utf-8"))]
    assert found == []


def test_every_kind_of_text_is_read():
    names = {path.relative_to(ROOT).as_posix() for path in texts()}
    assert {
        "README.md",
        "CHANGELOG.md",
        "docs/start.md",
        "docs/generate.py",
        "src/tokensieve/recipes/papers/toss.yaml",
        "src/tokensieve/cli/__init__.py",
        "src/tokensieve/report/html/templates/page.html.j2",
        "src/tokensieve/report/html/templates/js/overview.js",
    } <= names


@pytest.mark.parametrize("phrase", RETIRED)
def test_a_retired_word_is_found(phrase):
    words = phrase.split()
    for written in (phrase, phrase.capitalize(), "\n# ".join(words), f"({phrase})"):
        assert any(f"line 2: '{phrase}'" in hit for hit in retired_in(f"Some text.\n{written} and more."))
    assert retired_in(f"x{phrase}x") == []
