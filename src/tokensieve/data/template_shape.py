"""How a chat template renders conversations of some roles: the text around the contents, and where the answers lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

Span = tuple[int, int]
"""First character and last (exclusive)."""
Answers = dict[int, Span]
"""The characters of each answer, by the number of its message."""


@dataclass(frozen=True)
class Shape:
    """How a template renders conversations of some roles.

    Attributes:
        around: the text before each content, and behind the last.
        answers: number of a message to how many characters behind its content's start the answer starts, and
            behind its end it ends.
        strips: where all conversations of these roles have this shape, whether the template leaves out the white space
            around each content; None where a conversation has to be rendered to see whether it has this shape.
    """

    around: tuple[str, ...]
    answers: Mapping[int, Span]
    strips: bool | None = None

    def rendered(self, contents: Sequence[str]) -> tuple[str, Answers] | None:
        """Return text and answers of a conversation; None where it has to be rendered by the template.

        Args:
            contents: of its messages, none empty.
        """
        if self.strips:
            contents = [content.strip() for content in contents]
        return None if self.strips is None or not all(contents) else self.filled(contents)

    def answers_in(self, text: str, contents: Sequence[str]) -> Answers | None:
        """Return the answers in the text of a conversation; None where it is not of this shape."""
        for said in (contents, [content.strip() for content in contents]):
            filled, answers = self.filled(said)
            if filled == text:
                return answers
        return None

    def filled(self, contents: Sequence[str]) -> tuple[str, Answers]:
        """Return the text with contents as they are, and the answers in it."""
        pieces = [*chain.from_iterable(zip(self.around, contents, strict=False)), self.around[-1]]
        ends = list(accumulate(map(len, pieces)))
        answers = {n: (ends[2 * n] + before, ends[2 * n + 1] + behind) for n, (before, behind) in self.answers.items()}
        return "".join(pieces), answers


def shape_of(text: str, answers: Answers, contents: Sequence[str]) -> Shape | None:
    """Return the shape of a conversation; None where it has none.

    Args:
        text: what a template renders.
        answers: those in it.
        contents: of the messages: letters that occur nowhere else, none the beginning of another.
    """
    around = tuple(re.split("|".join(contents), text))
    if len(around) != len(contents) + 1:
        return None  # a message is left out or said twice
    _, places = Shape(around, dict.fromkeys(answers, (0, 0))).filled(contents)
    edges = {n: (start - places[n][0], stop - places[n][1]) for n, (start, stop) in answers.items()}
    shape = Shape(around, edges)
    covered = all(before <= 0 <= behind for before, behind in edges.values())
    return shape if covered and shape.filled(contents) == (text, answers) else None  # else a message is moved
