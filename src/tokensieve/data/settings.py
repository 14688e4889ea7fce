"""Settings of the data stage."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from tokensieve.data.forms import Form
from tokensieve.data.roles import RoleNames
from tokensieve.errors import TokensieveError
from tokensieve.setting_types import BARE, Count, Names, Source, absolute, known_keys_only

DEFAULT_MAX_LENGTH = 2048

TRAINING_TEMPLATE = "training"
"""In place of a chat template: TRL's training version of the tokenizer's own."""


def _template(given: str) -> str:
    """Return a template's file by its absolute path; the word stands for a template, whatever a folder is called."""
    return given if given == TRAINING_TEMPLATE or "{" in given or "\n" in given else absolute(given)


@known_keys_only
@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How rows are read; a key that is None is as in what is around it, but for `limit`, which is then none.

    Attributes:
        form: how rows are written; `auto` recognises it from their columns.
        columns: new name of each column to rename.
        ignore: columns to leave out.
        roles: known role of each speaker that has another name.
        name: configuration of a Hub data set.
        split: split of a Hub data set or of a saved DatasetDict.
        revision: revision of a Hub data set.
        limit: read this many rows at most.
    """

    form: Form | None = None
    columns: dict[str, str] | None = None
    ignore: Names | None = None
    roles: RoleNames | None = None
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    limit: Count | None = None


@known_keys_only
@dataclass(frozen=True)
class FileSettings(ReadSettings):
    """An entry of `files` that is read in a way of its own: where a key is not given, as the other entries.

    Attributes:
        path: file, glob or folder, local or by URL, or Hub id.
    """

    path: Source


def _entry(value: Any) -> Any:
    """Let an override add a key to an entry that is a path alone."""
    if isinstance(value, dict) and BARE in value:
        return {"path": value[BARE], **{key: item for key, item in value.items() if key is not BARE}}
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


Files = Annotated[
    tuple[Annotated[Source | FileSettings, BeforeValidator(_entry)], ...],
    BeforeValidator(_listed),
]
"""Where rows are read from: paths and Hub ids, each alone or with settings of its own."""


@known_keys_only
@dataclass(frozen=True)
class DataSettings:
    """Which rows to read and how to turn them into tokens.

    Attributes:
        files: files (JSON, JSONL, Parquet, CSV; also .gz and .zst), globs, folders of such files, a
            folder of `datasets.save_to_disk`, or the id of a data set on the Hugging Face Hub; all but the last may
            be URLs (`s3://`, `gs://`, `hf://`); for one that is read in a way of its own, a mapping such as
            `{path: FILE, columns: {question: prompt}, limit: 100}`.
        form: how rows are written; `auto` recognises it from their columns.
        columns: new name of each column to rename, such as `{question: prompt}`.
        ignore: columns to leave out although they change what a row means, such as `[images]` to train on the text
            alone.
        roles: known role of each speaker that has another name, such as `{narrator: user}`; only what the assistant
            says is trained on.
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
        max_row_bytes: bytes of the largest row of a file of text; a larger one is a bad row, and none of it is held.
        answers: which answers are trained on: those `given`, or the `corrected` ones of the rows that have them.
        license: licence of the data, for the card of what comes of it, such as `apache-2.0`; `unknown` when not
            given.

    Raises:
        TokensieveError: a `max_length` below 2 (nothing predicts the first token), or a `limit` below 1.
    """

    files: Files = ()
    form: Form = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    ignore: Names = ()
    roles: RoleNames = field(default_factory=dict)
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    tokenizer: Source | None = None
    chat_template: Annotated[str, AfterValidator(_template)] | None = None
    max_length: int | None = None
    truncation: Literal["keep-start", "keep-end"] = "keep-start"
    limit: int | None = None
    bad_rows: Literal["error", "skip"] = "error"
    max_row_bytes: Count = 8 * 2**20
    answers: Literal["given", "corrected"] = "given"
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

    @property
    def entries(self) -> tuple[FileSettings, ...]:
        """The entries of `files`, each with what it leaves open filled in; a limit is the entry's own."""
        shared = {item.name: getattr(self, item.name) for item in fields(ReadSettings) if item.name != "limit"}
        given = [FileSettings(one) if isinstance(one, str) else one for one in self.files]
        return tuple(FileSettings(one.path, **{**shared, **_given(one)}) for one in given)

    @property
    def paths(self) -> str:
        """Paths and Hub ids of all entries, for messages."""
        return ", ".join(entry.path for entry in self.entries)

    def of_others(self, files: Files, reading: ReadSettings) -> DataSettings:
        """Return how other files are read: as these where `reading` does not say otherwise, but all their rows.

        They keep the answers that they are given.
        """
        changes = {"limit": None, **_given(reading), "files": files, "answers": "given"}
        return dataclasses.replace(self, **changes)


def check_files_given(files: Files, reading: ReadSettings) -> None:
    """Refuse settings of how to read files where no files are given.

    Raises:
        TokensieveError: a setting that nothing would use.
    """
    if not files and (name := next(iter(_given(reading)), "")):
        raise TokensieveError(
            f"'{name}' says how to read files, and no files are given",
            where=f".{name}",
            hint="give files beside it, or leave it out",
        )


def _given(reading: ReadSettings) -> dict[str, Any]:
    values = {item.name: getattr(reading, item.name) for item in fields(ReadSettings)}
    return {name: value for name, value in values.items() if value is not None}
