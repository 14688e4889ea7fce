"""Settings of the data stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator

from tokensieve.data.forms import Form
from tokensieve.errors import TokensieveError
from tokensieve.setting_types import Source, Sources, absolute, known_keys_only

DEFAULT_MAX_LENGTH = 2048

TRAINING_TEMPLATE = "training"
"""In place of a chat template: TRL's training version of the tokenizer's own."""


def _template(given: str) -> str:
    """Return a template's file by its absolute path; the word stands for a template, whatever a folder is called."""
    return given if given == TRAINING_TEMPLATE or "{" in given or "\n" in given else absolute(given)


@known_keys_only
@dataclass(frozen=True)
class DataSettings:
    """Which rows to read and how to turn them into tokens.

    Attributes:
        files: files (JSON, JSONL, Parquet, CSV; also .gz and .zst), globs, folders of such files, a
            folder of `datasets.save_to_disk`, or the id of a data set on the Hugging Face Hub.
        form: how rows are written; `auto` recognises it from their columns.
        columns: new name of each column to rename, such as `{question: prompt}`.
        name: configuration of a Hub data set.
        split: split of a Hub data set or of a saved DatasetDict.
        revision: revision of a Hub data set.
        tokenizer: folder or Hub id of the tokenizer; the base model's when not given.
        chat_template: file with a Jinja chat template, the template itself, or `training` for TRL's training version
            of the tokenizer's own; its own as it is when not given.
        max_length: tokens of the longest example; longer ones are truncated. When not given, 2048 or the
            base model's context, whichever is less.
        truncation: `keep-start` cuts the end of a long example, `keep-end` cuts its start.
        limit: read this many rows at most.
        bad_rows: what becomes of a row that cannot be used: `error` stops at the first, `skip` leaves them out and
            writes each with its reason to `bad_rows.jsonl`, beside the tokenised examples in the store.
        license: licence of the data, for the card of what comes of it, such as `apache-2.0`; `unknown` when not
            given.

    Raises:
        TokensieveError: a `max_length` below 2 (nothing predicts the first token), or a `limit` below 1.
    """

    files: Sources = ()
    form: Form = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    tokenizer: Source | None = None
    chat_template: Annotated[str, AfterValidator(_template)] | None = None
    max_length: int | None = None
    truncation: Literal["keep-start", "keep-end"] = "keep-start"
    limit: int | None = None
    bad_rows: Literal["error", "skip"] = "error"
    license: str | None = None

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 2:
            raise TokensieveError(
                f"max_length is {self.max_length}, it must be at least 2",
                where="data.max_length",
                hint="data.max_length: 2048",
            )
        if self.limit is not None and self.limit < 1:
            raise TokensieveError(
                f"limit is {self.limit}, it must be at least 1",
                where="data.limit",
                hint="leave data.limit out to read every row",
            )
