"""What became of the rows of a data set: counts, and warnings of what a user should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Int64
from tokensieve.data.columns import form_of, unused
from tokensieve.data.decoding import TokenDecoder
from tokensieve.data.repeats import HashedExamples, Hashes
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import Row
from tokensieve.data.tokenize import Encoded, Encoder, last_of_runs, truncate
from tokensieve.data.words import Words
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets, segment_any

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
_FEW_UNKNOWN = 0.001
_MOST_NAMES = 20


@dataclass
class Counts:
    """What became of the rows. Tokens are counted after truncation unless the name says otherwise.

    `unused_columns` has the number of rows by the name of each column that nothing uses. `marks` has, by type, the
    numbers of `rows`, `tokens` and `words` that are marked, `marked` those of any type; a word is marked where one of
    its tokens is.
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
    marked: dict[str, int] = field(default_factory=dict)
    marks: dict[str, dict[str, int]] = field(default_factory=dict)
    marked_tokens_cut: int = 0

    def warnings(self) -> list[str]:
        """Return what a user should know before training on these examples."""
        found = []
        if self.rows_without_trainable:
            found.append(
                f"{self.rows_without_trainable:,} of {self.rows:,} rows have nothing to train on and were dropped"
            )
        if self.rows_cut_empty:
            found.append(
                f"{self.rows_cut_empty:,} of {self.rows:,} rows have all that is trainable beyond data.max_length and "
                "were dropped: a greater data.max_length or another data.truncation keeps them"
            )
        if self.truncated_examples:
            found.append(
                f"{self.truncated_examples:,} examples were truncated: {self.tokens_cut:,} tokens cut, "
                f"{self.trainable_tokens_cut:,} of them trainable (data.max_length)"
                + (f", {self.marked_tokens_cut:,} of these marked" if self.marked_tokens_cut else "")
            )
        if self.repeated_examples:
            found.append(
                f"{self.repeated_examples:,} of {self.examples:,} examples repeat an earlier one token by token "
                f"({self.repeated_rows}): each counts again in training; leave them out unless that is meant"
            )
        if self.unknown_tokens > _FEW_UNKNOWN * self.trainable_tokens:
            found.append(
                f"{self.unknown_tokens:,} of {self.trainable_tokens:,} trainable tokens "
                f"({100 * self.unknown_tokens / self.trainable_tokens:.1f} %) are the unknown token: the tokenizer has "
                "none for these characters, and the model would learn to write it; give data.tokenizer one that has"
            )
        if self.rows_by_built_in_template:
            found.append(
                f"the built-in chat template renders {self.rows_by_built_in_template:,} rows, since the tokenizer has "
                "none: give data.chat_template the one that the model is to be used with"
            )
        if self.straddling_tokens:
            found.append(
                f"{self.straddling_tokens:,} tokens join the end of a prompt with the start of its answer and are not "
                "trained; end the prompt (or begin the answer) where a token ends"
            )
        if self.rows_with_unused_tools:
            found.append(
                f"{self.rows_with_unused_tools:,} rows have tools and the chat template does not render any: give "
                "data.chat_template a template that does"
            )
        if self.thoughts_forgotten:
            found.append(
                f"the chat template leaves out the thoughts of {self.thoughts_forgotten:,} answers that others follow: "
                "they are trained without; write a row for each answer, with `train: false` on the earlier ones"
            )
        if self.turn_ends_untrained:
            found.append(
                f"the turn-end token after {self.turn_ends_untrained:,} of {self.turns:,} answers is never trained, so "
                "the model does not learn to stop: move it inside {% generation %} in the chat template"
            )
        elif self.turns and not self.turns_ended:
            found.append(
                "no answer ends with a turn-end token, so the model does not learn to stop: end answers with the "
                "tokenizer's EOS token"
            )
        return found

    def marks_in_words(self) -> Iterator[str]:
        """Yield how much is marked: in all, and by type where there are several."""
        if not self.marked:
            return
        share = f"{100 * self.marked['tokens'] / self.trainable_tokens:.1f} %"
        yield f"marked: {_rows_tokens_words(self.marked)} ({share} of the trainable tokens)"
        if len(self.marks) > 1:
            yield from (f"  {name}: {_rows_tokens_words(found)}" for name, found in self.marks.items())

    def unused_in_words(self) -> str:
        """Return which columns nothing uses, and in how many rows they have a value."""
        named = [f"{name} ({rows:,})" for name, rows in self.unused_columns.items()]
        more = f" and {len(named) - _MOST_NAMES:,} more" if len(named) > _MOST_NAMES else ""
        return f"columns that are not used, with their rows: {', '.join(named[:_MOST_NAMES])}{more}"


class Tally:
    """Counts rows as they are encoded."""

    def __init__(self, settings: DataSettings, encoder: Encoder) -> None:
        self.counts = Counts()
        self._settings, self._turn_end_ids = settings, encoder.turn_end_ids
        self._renders_tools = "tools" in encoder.template
        self.lengths: Counter[int] = Counter()
        self._hashes = Hashes()
        tokenizer = encoder.tokenizer
        ends = {*encoder.turn_end_ids, tokenizer.eos_token_id, tokenizer.bos_token_id}  # GPT-2 has one token for all
        self._unknown = None if tokenizer.unk_token_id in ends else tokenizer.unk_token_id
        self._built_in_template = not encoder.own_template
        self._words = Words(TokenDecoder(tokenizer.backend_tokenizer))

    def add(self, batch: Sequence[tuple[Row, Encoded]]) -> list[Encoded | None]:
        """Truncate and count rows; return what is kept of each, None when nothing is left to train on."""
        kept = [truncate(encoded, self._settings) for _, encoded in batch]
        if not batch:
            return []
        sizes = np.array([len(one.input_ids) for one in kept])
        cut = np.array([len(encoded.input_ids) for _, encoded in batch]) - sizes
        cu_seqlens = offsets(sizes)
        ids, labels = np.concatenate([one.input_ids for one in kept]), np.concatenate([one.labels for one in kept])
        trainable = labels != IGNORE_INDEX
        usable = segment_any(trainable, cu_seqlens)
        self._count_sources(batch)
        for place in np.flatnonzero(cut).tolist():
            self._count_cut(batch[place][1], kept[place])
        for place in np.flatnonzero(~usable).tolist():
            if (batch[place][1].labels != IGNORE_INDEX).any():
                self.counts.rows_cut_empty += 1
            else:
                self.counts.rows_without_trainable += 1
        self._count_tokens(sizes[usable], trainable, labels)
        for place in np.flatnonzero(usable).tolist():
            one = kept[place]
            self._hashes.add(one.input_ids, batch[place][0].number)
            if one.marks is not None:
                self._count_marks(one, one.marks, trainable[cu_seqlens[place] : cu_seqlens[place + 1]])
        self._count_turns(ids, trainable, cu_seqlens, (cut > 0) & (self._settings.truncation == "keep-start"))
        self._find_largest(ids, np.repeat(usable, sizes), cu_seqlens, batch)
        return [one if is_usable else None for one, is_usable in zip(kept, usable.tolist(), strict=True)]

    def _count_sources(self, batch: Sequence[tuple[Row, Encoded]]) -> None:
        """Count what the rows are made of."""
        counts = self.counts
        for row, encoded in batch:
            for name in unused(row.data, form_of(row.data, row.form)):
                counts.unused_columns[name] = counts.unused_columns.get(name, 0) + 1
            counts.straddling_tokens += encoded.straddling
            counts.thoughts_forgotten += encoded.forgotten
            counts.rows_with_unused_tools += bool(row.data.get("tools")) and not self._renders_tools
            counts.rows_by_built_in_template += encoded.templated and self._built_in_template

    def _count_cut(self, encoded: Encoded, kept: Encoded) -> None:
        """Count what the truncation of a row costs."""
        counts = self.counts
        counts.truncated_examples += 1
        counts.tokens_cut += len(encoded.input_ids) - len(kept.input_ids)
        counts.trainable_tokens_cut += _trainable(encoded) - _trainable(kept)
        counts.marked_tokens_cut += _marked(encoded) - _marked(kept)

    def _count_tokens(self, sizes: Int64, trainable: Bool, labels: NDArray[np.int32]) -> None:
        """Count the tokens of examples of so many tokens; others have none that is trainable."""
        counts = self.counts
        counts.examples += len(sizes)
        counts.tokens += int(sizes.sum())
        counts.trainable_tokens += int(np.count_nonzero(trainable))
        if self._unknown is not None:
            counts.unknown_tokens += int(np.count_nonzero(labels == self._unknown))
        self.lengths.update(sizes.tolist())

    def _count_turns(self, ids: NDArray[np.int32], trainable: Bool, cu_seqlens: Int64, cut_at_end: Bool) -> None:
        """Count the answers of rows, but for those that are cut at their end: bool ``[rows]`` tells these."""
        last = np.flatnonzero(last_of_runs(trainable, cu_seqlens))
        row = np.searchsorted(cu_seqlens, last, side="right") - 1
        is_end = last + 1 == cu_seqlens[row + 1]
        told = ~(is_end & cut_at_end[row])
        last, is_end = last[told], is_end[told]
        ended = np.isin(ids[last], self._turn_end_ids)
        followed = np.isin(ids[np.where(is_end, last, last + 1)], self._turn_end_ids)
        self.counts.turns += len(last)
        self.counts.turns_ended += int(np.count_nonzero(ended))
        self.counts.turn_ends_untrained += int(np.count_nonzero(~ended & ~is_end & followed))

    def _find_largest(
        self, ids: NDArray[np.int32], usable: Bool, cu_seqlens: Int64, batch: Sequence[tuple[Row, Encoded]]
    ) -> None:
        """Remember the largest id among usable tokens, and the first row that has it."""
        place = int(np.argmax(np.where(usable, ids, -1))) if len(ids) else 0
        if usable.any() and (largest := int(ids[place])) > self.counts.largest_id:
            row = int(np.searchsorted(cu_seqlens, place, side="right")) - 1
            self.counts.largest_id, self.counts.largest_id_at = largest, batch[row][0].where

    def _count_marks(self, kept: Encoded, marks: NDArray[np.int32], trainable: Bool) -> None:
        words = self._words.number(kept.input_ids, trainable, np.array([0, len(trainable)]))
        for number in (0, *np.unique(marks[marks > 0]).tolist()):
            of_type = marks == number if number else marks > 0
            name = kept.mark_types[number - 1]
            found = self.counts.marks.setdefault(name, {}) if number else self.counts.marked
            sizes = {
                "rows": int(of_type.any()),
                "tokens": int(np.count_nonzero(of_type)),
                "words": len(np.unique(words[of_type & (words >= 0)])),
            }
            found |= {what: found.get(what, 0) + size for what, size in sizes.items()}

    @property
    def hashed(self) -> HashedExamples:
        """The examples, to find them again."""
        return self._hashes.of(self._settings)


def add_counts(total: Counts, part: Counts) -> None:
    """Add the counts of rows to those of rows before them."""
    if part.largest_id > total.largest_id:
        total.largest_id, total.largest_id_at = part.largest_id, part.largest_id_at
    for name, value in vars(part).items():
        if isinstance(value, dict):
            _add_numbers(getattr(total, name), value)
        elif isinstance(value, int) and name != "largest_id":
            setattr(total, name, getattr(total, name) + value)


def _add_numbers(total: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        if isinstance(value, dict):
            _add_numbers(total.setdefault(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value


def finish_counts(counts: Counts, lengths: Mapping[int, int], settings: DataSettings) -> Counts:
    """Add the quantiles of the lengths to the counts of all rows.

    Args:
        counts: of all rows.
        lengths: number of examples by their tokens.
        settings: of the data.

    Raises:
        TokensieveError: no row has anything to train on.
    """
    if counts.rows == 0:
        raise TokensieveError("the data has no rows", where=settings.paths, hint="look with `tokensieve inspect`")
    if counts.examples == 0:
        cut = f", {counts.rows_cut_empty:,} of them after truncation to {settings.max_length} tokens"
        raise TokensieveError(
            f"every label is -100: none of {counts.rows:,} rows has anything to train on"
            + (cut if counts.rows_cut_empty else ""),
            where=settings.paths,
            hint="look with `tokensieve inspect`; the rows need an assistant's answer within data.max_length",
        )
    sizes = np.array(sorted(lengths.items()), dtype=np.int64)
    ends = np.cumsum(sizes[:, 1])
    places = [int((counts.examples - 1) * q) for q in _QUANTILES]
    found = sizes[np.searchsorted(ends, places, side="right"), 0].tolist()
    counts.lengths = {f"{q:g}": size for q, size in zip(_QUANTILES, found, strict=True)}
    return counts


def _rows_tokens_words(found: Mapping[str, int]) -> str:
    return ", ".join(f"{found[what]:,} {what}" for what in ("rows", "tokens", "words"))


def _trainable(encoded: Encoded) -> int:
    return int(np.count_nonzero(encoded.labels != IGNORE_INDEX))


def _marked(encoded: Encoded) -> int:
    return 0 if encoded.marks is None else int(np.count_nonzero(encoded.marks))
