"""Versions of libraries whose private parts are used, each in one module of its own."""

from __future__ import annotations

import importlib.metadata

from packaging.specifiers import SpecifierSet

from tokensieve.errors import TokensieveError


def check_version(library: str, known: str) -> None:
    """Refuse a version of a library in which the parts that are used are not known to be there.

    Args:
        library: name of the distribution.
        known: the versions that were tried, such as ``>=4,<6``.

    Raises:
        TokensieveError: another version is installed.
    """
    installed = importlib.metadata.version(library)
    if not SpecifierSet(known).contains(installed, prereleases=True):
        raise TokensieveError(
            f"{library} {installed} is installed, and tokensieve supports {library}{known} only",
            hint=f"pip install '{library}{known}'",
        )
