"""What a fuzzer attacks (`fuzz_readers`): a reader, inputs that it takes, and the words that these are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: whether the reader takes an input, in place of an end in one `TokensieveError`. Any other error leaves it,
            and what breaks a promise is an AssertionError.
        good: inputs that it takes.
        words: what inputs are made of.
    """

    read: Callable[[bytes], bool]
    good: Sequence[bytes]
    words: Sequence[str]
