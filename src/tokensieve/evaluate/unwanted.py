"""Texts that a model should not produce, each after a prompt, and what is refused of them.

A text whose row has a prompt is measured after this prompt. Every other one is measured after a prompt of the held-out
data: text ``i`` of ``m`` after prompt ``i * n // m`` of ``n``, so that the texts spread evenly over the prompts in the
order of both files.

Whether a model would rather stop is measured after a good answer: that of the held-out prompt, or the `corrected`
answer of a row with a prompt of its own. Without one there is no place where stopping would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Examples, segments
from tokensieve.data.bad_rows import BadRows
from tokensieve.data.encode import converted_rows
from tokensieve.data.formats import Converted
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoded, Encoder, turn_end_mask
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.exact_match import Question, question
from tokensieve.evaluate.prompts import (
    as_examples,
    asks,
    corrected_answer,
    digest,
    encode_within,
    last_answer,
    token_ids,
    with_answer,
    with_labels_at,
)


@dataclass(frozen=True, eq=False)
class Unwanted:
    """Unwanted texts, ready to be measured.

    Attributes:
        texts: prompts with the texts after them, whose tokens alone have labels, without a turn end.
        ends: prompts and good answers up to the turn end, which alone has a label; one for each text whose prompt has
            a good answer that ends with a turn end.
        begins: the same with the first token of the text in place of the turn end.
        questions: the prompts, each once, with an unwanted text as the answer.
        contents: every text.
        after_held_out: texts that are measured after held-out prompts.
    """

    texts: Examples
    ends: Examples | None
    begins: Examples | None
    questions: tuple[Question, ...]
    contents: tuple[str, ...]
    after_held_out: int

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all that is measured."""
        return digest(self._parts)

    @property
    def tokens(self) -> int:
        """Tokens that are measured, prompts included."""
        return sum(len(one.input_ids) for one in self._parts)

    @property
    def _parts(self) -> list[Examples]:
        return [one for one in (self.texts, self.ends, self.begins) if one is not None]


def read_unwanted(data: DataSettings, held_out: DataSettings | None, encoder: Encoder) -> Unwanted:
    """Read unwanted texts and pair those without a prompt with held-out prompts.

    Args:
        data: rows of any form; the last answer, or the text, is what is unwanted.
        held_out: where prompts are read from for rows that have none; None where there are none.
        encoder: tokenizer and chat template.

    Raises:
        TokensieveError: a file without rows, a row without a text, or no prompt for a text that has none.
    """
    on_error = BadRows(data)
    rows = list(_taken_apart(data, encoder, on_error))
    on_error.check(len(rows))
    lacking = [place for place, (_, prompt, *_) in enumerate(rows) if not asks(prompt)]
    prompts: dict[int, tuple[Converted, str]] = {}
    if lacking:
        known = _held_out_prompts(held_out, encoder) if held_out else []
        if not known:
            raise TokensieveError(
                f"{len(lacking):,} unwanted texts have no prompt to follow"
                + (": no row of the held-out data has a prompt and an answer" if held_out else ""),
                where=data.paths,
                hint="evaluate.held_out: rows with prompts; or give the rows prompts of their own",
            )
        prompts = {place: known[i * len(known) // len(lacking)] for i, place in enumerate(lacking)}
    after = [prompts[place][0] if place in prompts else prompt for place, (_, prompt, *_) in enumerate(rows)]
    good = [prompts[place][1] if place in prompts else answer for place, (*_, answer) in enumerate(rows)]
    texts = [text for _, _, text, _ in rows]
    numbers = [number for number, *_ in rows]
    encoded = encode_within(
        [with_answer(prompt, text, encoder) for prompt, text in zip(after, texts, strict=True)],
        encoder,
        data.max_length,
    )
    examples = as_examples(encoded, numbers)
    ends = turn_end_mask(examples.input_ids, examples.labels, examples.cu_seqlens, encoder.turn_end_ids)
    questions = {}
    for number, prompt, text in zip(numbers, after, texts, strict=True):
        asked = question(number, prompt, text, encoder)
        questions.setdefault(tuple(asked.prompt_ids), asked)
    pairs = list(zip(numbers, after, good, texts, strict=True))
    return Unwanted(
        with_labels_at(examples, ~ends),
        *_stops(pairs, encoder, data.max_length),
        tuple(questions.values()),
        tuple(texts),
        len(lacking),
    )


def check_not_trained(unwanted: Unwanted, pool: Iterable[Examples], turn_end_ids: Sequence[int]) -> str | None:
    """Refuse unwanted texts that are all whole answers of the data to train on; return a warning where some are.

    Args:
        unwanted: the texts.
        pool: what is trained on.
        turn_end_ids: ids that end a turn.

    Raises:
        TokensieveError: every text is an answer of the pool.
    """
    texts = _answers(unwanted.texts, turn_end_ids)
    wanted = set().union(*texts)
    trained: set[bytes] = set()
    for shard in pool:
        trained.update(*(found & wanted for found in _answers(shard, turn_end_ids)))
    places = [number for number, found in enumerate(texts) if found & trained]
    if len(places) == len(texts):
        raise TokensieveError(
            "every unwanted text is a whole answer of data.files, so full training teaches them",
            where="recipe: evaluate.unwanted.files",
            hint="give texts that are like what should not be learned, and are not trained on themselves",
        )
    if not places:
        return None
    return (
        f"{len(places):,} of {len(texts):,} unwanted texts are whole answers of data.files: what is trained on them "
        "knows them by heart; leave them out of one"
    )


def _answers(examples: Examples, turn_end_ids: Sequence[int]) -> list[set[bytes]]:
    """Return the ids of each run of trainable tokens without turn ends, by example."""
    ends = turn_end_mask(examples.input_ids, examples.labels, examples.cu_seqlens, turn_end_ids)
    trainable = (examples.labels != IGNORE_INDEX) & ~ends
    found = []
    for span in segments(examples.cu_seqlens):
        ids, mask = examples.input_ids[span], trainable[span]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
        found.append({ids[start:stop].tobytes() for start, stop in zip(edges[::2], edges[1::2], strict=True)})
    return found


def _taken_apart(
    data: DataSettings, encoder: Encoder, on_error: BadRows
) -> Iterable[tuple[int, Converted, str, str | None]]:
    """Yield number, prompt, unwanted text and good answer, which a row may have as `corrected`."""
    for batch, _ in converted_rows(data, on_error):
        for row, converted in batch:
            try:
                prompt, text = last_answer(converted, encoder)
                if not text.strip():
                    raise TokensieveError("an unwanted text that is empty", hint="leave out the row")
            except TokensieveError as error:
                on_error(row.bad(error))
                continue
            yield row.number, prompt, text, corrected_answer(converted)


def _held_out_prompts(data: DataSettings, encoder: Encoder) -> list[tuple[Converted, str]]:
    """Return the prompts and answers of the held-out rows that have both."""
    found = []
    for batch, _ in converted_rows(data, BadRows(data)):
        for _, converted in batch:
            try:
                prompt, answer = last_answer(converted, encoder)
            except TokensieveError:
                continue  # a row that asks and is not answered, which held-out loss leaves out too
            if asks(prompt) and answer.strip():
                found.append((prompt, answer))
    return found


def _stops(
    pairs: Sequence[tuple[int, Converted, str | None, str]], encoder: Encoder, max_length: int | None
) -> tuple[Examples | None, Examples | None]:
    """Return complete answers with their turn end, and with the first token of an unwanted text in its place.

    Args:
        pairs: number of the text's row, prompt, good answer and unwanted text; those without a good answer are left
            out.
        encoder: tokenizer and chat template.
        max_length: tokens of the longest example; of a longer one the end is taken.
    """
    ends, begins, numbers = [], [], []
    answerable = [(number, with_answer(prompt, good, encoder), text) for number, prompt, good, text in pairs if good]
    answered = encoder.encode([row for _, row, _ in answerable])
    for (number, _, text), one in zip(answerable, answered, strict=True):
        if isinstance(one, TokensieveError):
            raise one
        trainable = np.flatnonzero(one.labels != IGNORE_INDEX)
        first = token_ids(text, encoder)[:1]
        if not len(trainable) or not first or one.input_ids[trainable[-1]] not in encoder.turn_end_ids:
            continue
        place = int(trainable[-1])
        before = one.input_ids[max(0, place + 1 - max_length) if max_length else 0 : place]
        for made, token in ((ends, one.input_ids[place]), (begins, first[0])):
            ids = np.append(before, np.int32(token)).astype(np.int32)
            labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
            labels[-1] = token
            made.append(Encoded(ids, labels))
        numbers.append(number)
    if not numbers:
        return None, None
    return as_examples(ends, numbers), as_examples(begins, numbers)
