"""Rows taken apart into a prompt and its last answer, and prompts with other answers in place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Bool, Examples
from tokensieve.data.formats import Conversation, Converted, PlainText, Tokenised
from tokensieve.data.tokenize import Encoded, Encoder
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets


def last_answer(row: Converted, encoder: Encoder) -> tuple[Converted, str]:
    """Return a row up to its last answer, and the text of that answer.

    Of token ids the last run of trainable ones is the answer.

    Raises:
        TokensieveError: a row without an answer.
    """
    if isinstance(row, PlainText):
        return PlainText(row.prompt, ""), row.completion
    if isinstance(row, Tokenised):
        start, stop = _last_run(row)
        answer = encoder.tokenizer.decode(row.input_ids[start:stop], skip_special_tokens=True)
        return Tokenised(row.input_ids[:start], [IGNORE_INDEX] * start), answer
    answers = [number for number, message in enumerate(row.messages) if message["role"] == "assistant"]
    if not answers:
        raise TokensieveError(
            "a conversation without an assistant's answer", hint="end it with the answer that is expected"
        )
    last = row.messages[answers[-1]]
    content = last.get("content", "")
    if not content and "tool_calls" in last:
        raise TokensieveError(
            "the last assistant turn calls a tool and has no text to compare",
            hint="end it with the answer that is expected",
        )
    return before_message(row, answers[-1]), content


def corrected_answer(row: Converted) -> str | None:
    """Return what corrects the last answer of a row; None where nothing does."""
    if isinstance(row, PlainText):
        return row.corrected
    if isinstance(row, Tokenised):
        return None
    answers = [number for number, message in enumerate(row.messages) if message["role"] == "assistant"]
    return row.corrected.get(answers[-1]) if answers else None


def before_message(conversation: Conversation, number: int) -> Conversation:
    """Return the messages before one of a conversation."""
    return Conversation(conversation.messages[:number], conversation.tools)


def asks(prompt: Converted) -> bool:
    """Whether anything is asked before an answer; a system prompt alone asks nothing."""
    if isinstance(prompt, Conversation):
        return any(message["role"] != "system" for message in prompt.messages)
    return bool(prompt.prompt.strip()) if isinstance(prompt, PlainText) else bool(prompt.input_ids)


def with_answer(prompt: Converted, answer: str, encoder: Encoder) -> Converted:
    """Return a prompt with an answer, which alone is trainable."""
    if isinstance(prompt, PlainText):
        return PlainText(prompt.prompt, answer)
    if isinstance(prompt, Tokenised):
        ids = token_ids(answer, encoder)
        return Tokenised([*prompt.input_ids, *ids], [*prompt.labels, *ids])
    earlier = (number for number, message in enumerate(prompt.messages) if message["role"] == "assistant")
    messages = [*prompt.messages, {"role": "assistant", "content": answer}]
    return Conversation(messages, prompt.tools, frozenset(earlier))


def token_ids(text: str, encoder: Encoder) -> list[int]:
    """Return the ids of a text by itself, without special tokens."""
    return encoder.tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_within(rows: Sequence[Converted], encoder: Encoder, max_length: int | None) -> list[Encoded]:
    """Tokenise prompts with answers; of one that is too long the prompt loses its start, then the answer its end.

    Raises:
        TokensieveError: the first row that cannot be tokenised, or has no token of an answer.
    """
    found = []
    for one in encoder.encode(rows):
        if isinstance(one, TokensieveError):
            raise one
        trainable = np.flatnonzero(one.labels != IGNORE_INDEX)
        if not len(trainable):
            raise TokensieveError("an answer without a token", hint="give it a text")
        first, stop = int(trainable[0]), int(trainable[-1]) + 1
        length = max_length or stop
        start = max(0, min(first - 1, stop - length))
        span = slice(start, min(stop, start + length))
        found.append(Encoded(one.input_ids[span], one.labels[span]))
    return found


def as_examples(encoded: Sequence[Encoded], rows: Sequence[int]) -> Examples:
    """Return tokenised rows as examples.

    Args:
        encoded: one at least.
        rows: numbers of their source rows.
    """
    return Examples(
        np.concatenate([one.input_ids for one in encoded]),
        np.concatenate([one.labels for one in encoded]),
        offsets([len(one.input_ids) for one in encoded]),
        np.array(rows, dtype=np.int64),
    )


def with_labels_at(examples: Examples, chosen: Bool) -> Examples:
    """Return examples whose labels are those at ``chosen``, bool ``[tokens]``, alone."""
    labels = np.where(chosen, examples.labels, np.int32(IGNORE_INDEX))
    return Examples(examples.input_ids, labels, examples.cu_seqlens, examples.rows)


def digest(examples: Sequence[Examples]) -> str:
    """Return the SHA-256 of ids, labels, lengths and rows of examples."""
    found = hashlib.sha256()
    for one in examples:
        for values in (one.input_ids, one.labels, one.cu_seqlens, one.rows):
            found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _last_run(row: Tokenised) -> tuple[int, int]:
    """Return the start and end of the last run of trainable tokens."""
    trainable = np.array(row.labels) != IGNORE_INDEX
    trainable[:1] = False  # nothing predicts the first token
    if not trainable.any():
        raise TokensieveError(
            "every label is -100, so there is no answer", hint="label the tokens of the answer that is expected"
        )
    stop = int(np.flatnonzero(trainable)[-1]) + 1
    return stop - int(np.argmin(trainable[:stop][::-1])), stop
