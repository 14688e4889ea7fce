"""Rows to tokenised examples on disk, once for each combination of data, tokenizer and settings."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Examples, Int64, Statistics
from tokensieve.data.bad_rows import BAD_ROWS, BadRows
from tokensieve.data.columns import form_of, unused
from tokensieve.data.formats import Converted, convert
from tokensieve.data.repeats import Hashes, UInt64, in_words, repeats
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import OnError, Row, read_rows, source_fingerprint
from tokensieve.data.tokenize import Encoded, Encoder, last_of_runs, turn_end_mask
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import check_store, is_complete, open_manifest, write_manifest
from tokensieve.store.shards import shard_name, write_shard

SHARD_TOKENS = 2**20
"""Tokens after which a shard is closed: small enough to lose little on a kill, large enough to sort by length."""
_ROWS_AT_ONCE = 1000
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
_LAYOUT = 4
_HASHES = "hashes.arrow"
_FEW_UNKNOWN = 0.001
_MOST_SOURCES = 256
_OTHER = "other sources"
_MOST_NAMES = 20


@dataclass
class Counts:
    """What became of the rows. Tokens are counted after truncation unless the name says otherwise.

    `unused_columns` has the number of rows by the name of each column that nothing uses.
    """

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    trainable_tokens: int = 0
    truncated_examples: int = 0
    tokens_cut: int = 0
    trainable_tokens_cut: int = 0
    rows_without_trainable: int = 0
    rows_cut_empty: int = 0
    bad_rows: int = 0
    repeated_examples: int = 0
    repeated_rows: str = ""
    unknown_tokens: int = 0
    rows_by_built_in_template: int = 0
    straddling_tokens: int = 0
    turns: int = 0
    turns_ended: int = 0
    turn_ends_untrained: int = 0
    rows_with_unused_tools: int = 0
    thoughts_forgotten: int = 0
    largest_id: int = -1
    largest_id_at: str = ""
    lengths: dict[str, int] = field(default_factory=dict)
    unused_columns: dict[str, int] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Return what a user should know before training on these examples."""
        found = []
        if self.rows_without_trainable:
            found.append(f"{self.rows_without_trainable} of {self.rows} rows have nothing to train on and were dropped")
        if self.rows_cut_empty:
            found.append(
                f"{self.rows_cut_empty} of {self.rows} rows have all that is trainable beyond data.max_length and were "
                "dropped: a greater data.max_length or another data.truncation keeps them"
            )
        if self.truncated_examples:
            found.append(
                f"{self.truncated_examples} examples were truncated: {self.tokens_cut} tokens cut, "
                f"{self.trainable_tokens_cut} of them trainable (data.max_length)"
            )
        if self.repeated_examples:
            found.append(
                f"{self.repeated_examples} of {self.examples} examples repeat an earlier one token by token "
                f"({self.repeated_rows}): each counts again in training; leave them out unless that is meant"
            )
        if self.unknown_tokens > _FEW_UNKNOWN * self.trainable_tokens:
            found.append(
                f"{self.unknown_tokens} of {self.trainable_tokens} trainable tokens "
                f"({100 * self.unknown_tokens / self.trainable_tokens:.1f} %) are the unknown token: the tokenizer has "
                "none for these characters, and the model would learn to write it; give data.tokenizer one that has"
            )
        if self.rows_by_built_in_template:
            found.append(
                f"the built-in chat template renders {self.rows_by_built_in_template} rows, since the tokenizer has "
                "none: give data.chat_template the one that the model is to be used with"
            )
        if self.straddling_tokens:
            found.append(
                f"{self.straddling_tokens} tokens join the end of a prompt with the start of its answer and are not "
                "trained; end the prompt (or begin the answer) where a token ends"
            )
        if self.rows_with_unused_tools:
            found.append(
                f"{self.rows_with_unused_tools} rows have tools and the chat template does not render any: give "
                "data.chat_template a template that does"
            )
        if self.thoughts_forgotten:
            found.append(
                f"the chat template leaves out the thoughts of {self.thoughts_forgotten} answers that others follow: "
                "they are trained without; write a row for each answer, with `train: false` on the earlier ones"
            )
        if self.turn_ends_untrained:
            found.append(
                f"the turn-end token after {self.turn_ends_untrained} of {self.turns} answers is never trained, so the "
                "model does not learn to stop: move it inside {% generation %} in the chat template"
            )
        elif self.turns and not self.turns_ended:
            found.append(
                "no answer ends with a turn-end token, so the model does not learn to stop: end answers with the "
                "tokenizer's EOS token"
            )
        return found

    def unused_in_words(self) -> str:
        """Return which columns nothing uses, and in how many rows they have a value."""
        named = [f"{name} ({rows:,})" for name, rows in self.unused_columns.items()]
        more = f" and {len(named) - _MOST_NAMES:,} more" if len(named) > _MOST_NAMES else ""
        return f"columns that are not used, with their rows: {', '.join(named[:_MOST_NAMES])}{more}"


@dataclass(frozen=True)
class ExampleStore:
    """Tokenised examples on disk.

    Attributes:
        folder: holds ``manifest.json``, the shards and the tokenizer.
        fingerprint: SHA-256 of all token ids, labels and lengths.
        counts: what became of the source rows.
        turn_end_ids: ids that end an assistant turn.
        shards: how many shard files there are.
        sources: names of where examples came from; empty in a store that was written without them.
    """

    folder: Path
    fingerprint: str
    counts: Counts
    turn_end_ids: tuple[int, ...]
    shards: int
    sources: tuple[str, ...] = ()

    @property
    def bad_rows_file(self) -> Path | None:
        """The rows that were left out, each with its reason; None where there is none."""
        return self.folder / BAD_ROWS if self.counts.bad_rows else None

    def warnings(self) -> list[str]:
        """Return what a user should know before training on these examples."""
        if self.bad_rows_file is None:
            return self.counts.warnings()
        left_out = f"{self.counts.bad_rows} rows cannot be used and were left out: {self.bad_rows_file} has the reasons"
        return [left_out, *self.counts.warnings()]

    def hashes(self) -> tuple[UInt64, Int64]:
        """Read the hash of each example's token ids, uint64 ``[examples]``, and its row, int64 ``[examples]``."""
        columns = open_manifest(self.folder).read(_HASHES)[1]
        return columns["hash"], columns["row"]

    def read(self, number: int) -> Examples:
        """Read one shard."""
        cu_seqlens, columns = open_manifest(self.folder).read(shard_name(number))
        return Examples(columns["input_ids"], columns["labels"], cu_seqlens, columns["row"])

    def source_numbers(self, number: int) -> NDArray[np.int32]:
        """Read the place in `sources` of each example of a shard: int32 ``[examples]``."""
        columns = open_manifest(self.folder).read(shard_name(number))[1]
        return columns["source"] if self.sources else np.zeros(len(columns["row"]), dtype=np.int32)

    def __iter__(self) -> Iterator[Examples]:
        return (self.read(number) for number in range(self.shards))

    @cached_property
    def starts(self) -> Int64:
        """int64 ``[shards + 1]``, number of the first token of each shard, and of all tokens."""
        return offsets([record.tokens for record in self._records])

    @cached_property
    def first_examples(self) -> Int64:
        """int64 ``[shards + 1]``, number of the first example of each shard, and of all examples."""
        return offsets([record.rows for record in self._records])

    @property
    def cut(self) -> str:
        """Fingerprint of where the examples are cut into shards, which `fingerprint` does not depend on."""
        return fingerprint.of_value(self.starts.tolist())

    @property
    def _records(self) -> list[FileRecord]:
        files = open_manifest(self.folder).files
        return [files[shard_name(number)] for number in range(self.shards)]

    def statistics(self, examples: Examples, values: dict[tuple[str, str], Any], first_token: int) -> Statistics:
        """Join a shard's labels with its figures."""
        turn_end = turn_end_mask(examples.input_ids, examples.labels, examples.cu_seqlens, self.turn_end_ids)
        return Statistics(examples.cu_seqlens, examples.labels.astype(np.int64), values, turn_end, first_token)


def open_examples(folder: Path) -> ExampleStore:
    """Open tokenised examples.

    Raises:
        TokensieveError: nothing was prepared in this folder, or by a version that wrote other files.
    """
    manifest = open_manifest(folder)
    about = manifest.about
    return ExampleStore(
        folder,
        about["fingerprint"],
        Counts(**about["counts"]),
        tuple(about["turn_end_ids"]),
        sum(name.startswith("shard-") for name in manifest.files),
        tuple(about["sources"]),
    )


def prepare(settings: DataSettings, encoder: Encoder, store: Path, on_rows: Callable[[int], None]) -> ExampleStore:
    """Tokenise the data into ``store/examples``, or open what an earlier call prepared.

    Args:
        settings: which rows, and how long an example may be.
        encoder: tokenizer and template.
        store: folder shared by runs.
        on_rows: told the number of source rows after each batch.

    Raises:
        TokensieveError: the first row that cannot be used, data with nothing to train on, or a store of another
            version.
    """
    check_store(store)
    identity = {
        "layout": _LAYOUT,
        "shard_tokens": SHARD_TOKENS,
        "source": source_fingerprint(settings),
        "tokenizer": tokenizer_fingerprint(encoder),
        "turn_end_ids": list(encoder.turn_end_ids),
        "max_length": settings.max_length,
        "truncation": settings.truncation,
        "bad_rows": settings.bad_rows,
    }
    folder = store / "examples" / fingerprint.of_value(identity)[:16]
    with locked(folder):
        if is_complete(folder):
            return open_examples(folder)
        with atomic_folder(folder) as partial:
            counts, digest, files, sources = _write(settings, encoder, partial, on_rows)
            encoder.tokenizer.save_pretrained(partial / "tokenizer")
            about = {
                "identity": identity,
                "fingerprint": digest,
                "counts": asdict(counts),
                "turn_end_ids": list(encoder.turn_end_ids),
                "sources": sources,
                "settings": asdict(settings),
                "versions": fingerprint.versions(),
            }
            write_manifest(partial, files, about)
    return open_examples(folder)


def tokenizer_fingerprint(encoder: Encoder) -> str:
    """Return the fingerprint of what turns text into ids: vocabulary, merges, special tokens and template."""
    tokenizer = encoder.tokenizer
    return fingerprint.of_value([tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, encoder.template])


def encode_rows(
    settings: DataSettings, encoder: Encoder, on_error: OnError
) -> Iterator[tuple[list[tuple[Row, Encoded]], int]]:
    """Yield batches of encoded rows, and how many source rows each batch came from.

    Args:
        settings: which rows.
        encoder: tokenizer and template.
        on_error: called with the error of each row that cannot be used.
    """
    for batch, rows in converted_rows(settings, on_error):
        encoded: list[tuple[Row, Encoded]] = []
        for (row, _), result in zip(batch, encoder.encode([item for _, item in batch]), strict=True):
            if isinstance(result, TokensieveError):
                on_error(row.bad(result))
            else:
                encoded.append((row, result))
        yield encoded, rows


def converted_rows(settings: DataSettings, on_error: OnError) -> Iterator[tuple[list[tuple[Row, Converted]], int]]:
    """Yield batches of rows in one form, and how many source rows each batch came from.

    Args:
        settings: which rows.
        on_error: called with the error of each row that cannot be used.
    """
    iterator = read_rows(settings, on_error)
    while batch := list(itertools.islice(iterator, _ROWS_AT_ONCE)):
        usable: list[tuple[Row, Converted]] = []
        for row in batch:
            try:
                usable.append((row, convert(row.data, row.form, row.ignore)))
            except TokensieveError as error:
                on_error(row.bad(error))
        yield usable, len(batch)


def truncate(encoded: Encoded, settings: DataSettings) -> Encoded:
    """Return at most ``max_length`` tokens of an example, from its start or its end."""
    length = settings.max_length
    if length is None or len(encoded.input_ids) <= length:
        return encoded
    part = slice(None, length) if settings.truncation == "keep-start" else slice(-length, None)
    labels = encoded.labels[part].copy()
    labels[:1] = IGNORE_INDEX
    return replace(encoded, input_ids=encoded.input_ids[part], labels=labels)


def raise_error(error: TokensieveError) -> None:
    """Stop at the first row that cannot be used."""
    raise error


class Tally:
    """Counts rows as they are encoded."""

    def __init__(self, settings: DataSettings, encoder: Encoder) -> None:
        self.counts = Counts()
        self._settings, self._turn_end_ids = settings, encoder.turn_end_ids
        self._renders_tools = "tools" in encoder.template
        self._lengths: list[int] = []
        self._hashes = Hashes()
        tokenizer = encoder.tokenizer
        ends = {*encoder.turn_end_ids, tokenizer.eos_token_id, tokenizer.bos_token_id}  # GPT-2 has one token for all
        self._unknown = None if tokenizer.unk_token_id in ends else tokenizer.unk_token_id
        self._built_in_template = not encoder.own_template

    def add(self, row: Row, encoded: Encoded) -> Encoded | None:
        """Truncate and count one row; None when nothing is left to train on."""
        counts, kept = self.counts, truncate(encoded, self._settings)
        for name in unused(row.data, form_of(row.data, row.form)):
            counts.unused_columns[name] = counts.unused_columns.get(name, 0) + 1
        cut = len(encoded.input_ids) - len(kept.input_ids)
        trainable = kept.labels != IGNORE_INDEX
        if cut:
            counts.truncated_examples += 1
            counts.tokens_cut += cut
            counts.trainable_tokens_cut += int((encoded.labels != IGNORE_INDEX).sum() - trainable.sum())
        counts.straddling_tokens += encoded.straddling
        counts.thoughts_forgotten += encoded.forgotten
        counts.rows_with_unused_tools += bool(row.data.get("tools")) and not self._renders_tools
        counts.rows_by_built_in_template += encoded.templated and self._built_in_template
        if not trainable.any():
            if (encoded.labels != IGNORE_INDEX).any():
                counts.rows_cut_empty += 1
            else:
                counts.rows_without_trainable += 1
            return None
        counts.examples += 1
        counts.tokens += len(trainable)
        counts.trainable_tokens += int(trainable.sum())
        if self._unknown is not None:
            counts.unknown_tokens += int((kept.labels == self._unknown).sum())
        self._lengths.append(len(trainable))
        self._hashes.add(kept.input_ids, row.number)
        self._count_turns(kept, trainable, cut_at_end=cut > 0 and self._settings.truncation == "keep-start")
        if (largest := int(kept.input_ids.max())) > counts.largest_id:
            counts.largest_id, counts.largest_id_at = largest, row.where
        return kept

    def _count_turns(self, kept: Encoded, trainable: np.ndarray, cut_at_end: bool) -> None:
        last = np.flatnonzero(last_of_runs(trainable, np.array([0, len(trainable)])))
        last = last[last + 1 < len(trainable)] if cut_at_end else last
        ended = np.isin(kept.input_ids[last], self._turn_end_ids)
        following = kept.input_ids[np.minimum(last + 1, len(trainable) - 1)]
        untrained = ~ended & (last + 1 < len(trainable)) & np.isin(following, self._turn_end_ids)
        self.counts.turns += len(last)
        self.counts.turns_ended += int(ended.sum())
        self.counts.turn_ends_untrained += int(untrained.sum())

    def finish(self, source: str) -> Counts:
        """Return the counts.

        Raises:
            TokensieveError: no row has anything to train on.
        """
        counts = self.counts
        if counts.rows == 0:
            raise TokensieveError("the data has no rows", where=source, hint="look with `tokensieve inspect`")
        if counts.examples == 0:
            cut = f", {counts.rows_cut_empty} of them after truncation to {self._settings.max_length} tokens"
            raise TokensieveError(
                f"every label is -100: none of {counts.rows} rows has anything to train on"
                + (cut if counts.rows_cut_empty else ""),
                where=source,
                hint="look with `tokensieve inspect`; the rows need an assistant's answer within data.max_length",
            )
        quantiles = np.quantile(self._lengths, _QUANTILES, method="lower")
        counts.lengths = {f"{q:g}": int(v) for q, v in zip(_QUANTILES, quantiles, strict=True)}
        if len(repeated := repeats(self._hashes.hashes)):
            counts.repeated_examples, counts.repeated_rows = len(repeated), in_words(self._hashes.rows[repeated])
        return counts

    def write_hashes(self, path: Path) -> FileRecord:
        """Write the hash and the source row of each example."""
        hashes, rows = self._hashes.hashes, self._hashes.rows
        return write_shard(path, offsets([len(rows)]), {"hash": hashes, "row": rows})


def _write(
    settings: DataSettings, encoder: Encoder, folder: Path, on_rows: Callable[[int], None]
) -> tuple[Counts, str, dict[str, FileRecord], list[str]]:
    tally = Tally(settings, encoder)
    digests = [hashlib.sha256() for _ in range(3)]
    sources: dict[str, int] = {}
    files: dict[str, FileRecord] = {}
    pending: list[_Pending] = []
    tokens = 0

    def close() -> None:
        name = shard_name(len(files))
        files[name] = _write_shard(folder / name, pending, digests)

    with BadRows(settings, folder) as bad_rows:
        for batch, rows in encode_rows(settings, encoder, bad_rows):
            tally.counts.rows += rows
            for row, encoded in batch:
                kept = tally.add(row, encoded)
                if kept is None:
                    continue
                pending.append(_Pending(row.number, _source_number(row, sources), kept))
                tokens += len(kept.input_ids)
                if tokens >= SHARD_TOKENS:
                    close()
                    pending, tokens = [], 0
            on_rows(rows)
    tally.counts.bad_rows = bad_rows.count
    bad_rows.check(tally.counts.examples)
    counts = tally.finish(settings.paths)
    if pending:
        close()
    files |= {_HASHES: tally.write_hashes(folder / _HASHES), **bad_rows.files()}
    return counts, fingerprint.of_value([digest.hexdigest() for digest in digests]), files, list(sources)


@dataclass(frozen=True)
class _Pending:
    """An example to be written: number of its source row, number of its source, and its tokens."""

    row: int
    source: int
    encoded: Encoded


def _source_number(row: Row, sources: dict[str, int]) -> int:
    """Return the number of a row's source: its `source` field where it has one, else the file; notes new ones."""
    named = row.data.get("source")
    name = named if isinstance(named, str) and named else row.source
    # A field that is different in every row, such as a URL, is no grouping.
    return sources.setdefault(name if name in sources or len(sources) < _MOST_SOURCES else _OTHER, len(sources))


def _write_shard(path: Path, pending: list[_Pending], digests: list[Any]) -> FileRecord:
    """Write examples and feed the fingerprint; ids, labels and lengths apart, so that shard size does not matter."""
    cu_seqlens = offsets([len(one.encoded.input_ids) for one in pending])
    input_ids = np.concatenate([one.encoded.input_ids for one in pending])
    labels = np.concatenate([one.encoded.labels for one in pending])
    for digest, values in zip(digests, (input_ids, labels, np.diff(cu_seqlens)), strict=True):
        digest.update(np.ascontiguousarray(values).tobytes())
    rows = {
        "row": np.array([one.row for one in pending], dtype=np.int64),
        "source": np.array([one.source for one in pending], dtype=np.int32),
    }
    return write_shard(path, cu_seqlens, {"input_ids": input_ids, "labels": labels}, rows)
