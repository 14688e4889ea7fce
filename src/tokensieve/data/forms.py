"""Names of the forms of rows, apart so that the command line need not import what reads them."""

from __future__ import annotations

from typing import Literal

Form = Literal["auto", "messages", "prompt-completion", "alpaca", "sharegpt", "question-answer", "text", "tokenised"]
