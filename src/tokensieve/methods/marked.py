"""Train on what the data does not mark: the true mask, where people or programs have marked the bad parts of answers.

It reads no model. With ``keep: marked`` it is the opposite, the anti-mask: a control that shows what the marked parts
do to a model. Both keep the ends of turns, as every selection does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Threshold, check_choice


@dataclass(frozen=True)
class Marked(Method):
    """Keep tokens by the marks of the data.

    Attributes:
        types: types of marks that count, such as `[wrong]`; all of them when empty.
        keep: ``unmarked`` drops the marked tokens, ``marked`` drops the others.
    """

    name: ClassVar[str] = "marked"
    summary: ClassVar[str] = "tokens that the data does not mark as bad"
    formula: ClassVar[str] = "1 where no mark covers the token, else 0; or the opposite"
    assumes = "marks"
    meaning: ClassVar[str] = (
        "The score is 1 where no mark of the data covers the token and 0 where one does, or the opposite."
    )

    types: tuple[str, ...] = ()
    keep: Literal["unmarked", "marked"] = "unmarked"

    def __post_init__(self) -> None:
        given: Any = self.types
        types = (given,) if isinstance(given, str) else given
        if not isinstance(types, list | tuple) or not all(isinstance(one, str) and one for one in types):
            raise TokensieveError(f"types is {given!r}, it must be a list of names", hint="method.types: [wrong]")
        # A recipe gives lists, and may give a single type as such.
        object.__setattr__(self, "types", tuple(types))
        check_choice("keep", self.keep, ("unmarked", "marked"))

    @property
    def needs(self) -> Needs:
        """Nothing that a model measures."""
        return frozenset()

    @property
    def rule(self) -> Threshold:
        """Keep what scores 1."""
        return Threshold(0.5)

    def check_marks(self, types: tuple[str, ...]) -> None:
        """Refuse data without marks, or without marks of a type that is asked for."""
        if not types:
            raise TokensieveError(
                "method 'marked' drops marked tokens, and no token of the data is marked",
                where="recipe: data.files",
                hint="give rows `spans` or `corrected` (`tokensieve mark` writes a file to fill in), or rename columns "
                "with data.columns",
            )
        for name in self.types:
            if name not in types:
                raise TokensieveError(
                    f"no mark of the data has the type '{name}'{did_you_mean(name, types)}",
                    where="recipe: method.types",
                    hint=f"one or more of: {', '.join(types)}",
                )

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, 1 for tokens to keep and 0 for others."""
        self.check_marks(statistics.mark_types if statistics.marks is not None else ())
        assert statistics.marks is not None
        counted = np.array(
            [False, *(not self.types or name in self.types for name in statistics.mark_types)], dtype=bool
        )
        covered = counted[statistics.marks]
        return (covered if self.keep == "marked" else ~covered).astype(np.float32)
