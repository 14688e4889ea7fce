"""What can be wrong with a chat template."""

from __future__ import annotations

from tokensieve.errors import TokensieveError


class TemplateTimeError(TokensieveError):
    """A chat template that does not end in time, which ends the work: every further conversation might take as long.

    Attributes:
        number: of the conversation, among those that are rendered together.
    """

    number: int = 0
