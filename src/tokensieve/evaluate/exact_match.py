"""Greedy answers compared with reference answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tokensieve.data.bad_rows import raise_error
from tokensieve.data.encode import converted_rows
from tokensieve.data.formats import Converted, PlainText, Tokenised
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoder
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.expressions import last_match
from tokensieve.evaluate.generate import greedy_answers, max_prompt_tokens
from tokensieve.evaluate.intervals import wilson
from tokensieve.evaluate.prompts import last_answer
from tokensieve.evaluate.settings import ExactMatchSettings


@dataclass(frozen=True)
class Question:
    """A prompt and the answer that is expected.

    Attributes:
        row: number of the source row.
        prompt: the prompt as text.
        prompt_ids: its token ids; at least one.
        answer: the reference answer.
    """

    row: int
    prompt: str
    prompt_ids: list[int]
    answer: str


@dataclass(frozen=True)
class ExactMatch:
    """How many greedy answers are the reference answer.

    Attributes:
        score: share of correct answers.
        correct: correct answers.
        examples: prompts asked.
        low: lower end of the score's 95 % interval (Wilson).
        high: upper end of it.
        truncated: prompts of which only the end fitted into the model's context.
    """

    score: float
    correct: int
    examples: int
    low: float
    high: float
    truncated: int


def read_questions(data: DataSettings, encoder: Encoder, extract: str | None = None) -> list[Question]:
    """Read prompts and answers.

    The last assistant turn of a conversation is its answer, and what comes before is the prompt, rendered
    with the generation prompt. Text is taken as it is. Of tokens the last run of trainable ones is the
    answer.

    Args:
        data: which rows, and their form.
        encoder: tokenizer and chat template.
        extract: the expression that will be compared, to refuse answers without a match early.

    Raises:
        TokensieveError: a row that cannot be read, that has no prompt or no answer, or whose answer has
            nothing that ``extract`` matches.
    """
    questions = []
    for row, converted in chain.from_iterable(batch for batch, _ in converted_rows(data, raise_error)):
        try:
            asked = question(row.number, *last_answer(converted, encoder), encoder)
            _expected(asked, extract)
        except TokensieveError as error:
            raise TokensieveError(error.what, where=row.where, hint=error.hint) from error
        questions.append(asked)
    if not questions:
        raise TokensieveError(
            "no prompts and answers",
            where=data.paths,
            hint="evaluate.exact_match.files: rows with a prompt and the answer that is expected",
        )
    return questions


def exact_match(
    model: Any,
    encoder: Encoder,
    questions: Sequence[Question],
    settings: ExactMatchSettings,
    batch_size: int,
    on_prompts: Callable[[int], None],
) -> tuple[ExactMatch, list[dict[str, Any]]]:
    """Answer greedily and count the answers that are the reference, white space at the ends aside.

    Of a prompt that does not fit into the model's context together with ``max_new_tokens`` the end is
    asked, and it is counted in ``truncated``. An answer in which ``extract`` matches nothing is wrong.

    Args:
        model: a loaded `transformers` model.
        encoder: tokenizer; its turn-end ids stop an answer.
        questions: of `read_questions`; at least one.
        settings: length of answers, and what of them is compared.
        batch_size: prompts generated together.
        on_prompts: told the number of prompts after each batch.

    Returns:
        The score, and one dictionary a question in their order, with ``row``, ``prompt``, ``answer``,
        ``prediction`` and ``correct``.

    Raises:
        TokensieveError: a reference answer in which ``extract`` matches nothing, answers as long as the
            model's context, or one prompt alone that does not fit into memory.
    """
    expected = [_expected(question, settings.extract) for question in questions]
    predictions, truncated = answer_greedily(
        model, encoder, questions, "evaluate.exact_match", settings.max_new_tokens, batch_size, on_prompts
    )
    rows = [
        {
            "row": question.row,
            "prompt": question.prompt,
            "answer": question.answer,
            "prediction": prediction,
            "correct": compared(prediction, settings.extract) == reference,
        }
        for question, prediction, reference in zip(questions, predictions, expected, strict=True)
    ]
    correct = sum(row["correct"] for row in rows)
    low, high = wilson(correct, len(rows))
    return ExactMatch(correct / len(rows), correct, len(rows), low, high, truncated), rows


def answer_greedily(
    model: Any,
    encoder: Encoder,
    questions: Sequence[Question],
    section: str,
    max_new_tokens: int,
    batch_size: int,
    on_prompts: Callable[[int], None],
) -> tuple[list[str], int]:
    """Return the greedy answer to each question, and of how many prompts only the end fitted into the context.

    Args:
        model: a loaded `transformers` model.
        encoder: tokenizer; its turn-end ids stop an answer.
        questions: at least one.
        section: of the recipe that asks, for messages.
        max_new_tokens: tokens of the longest answer.
        batch_size: prompts generated together.
        on_prompts: told the number of prompts after each batch.

    Raises:
        TokensieveError: answers as long as the model's context, or one prompt alone that does not fit into memory.
    """
    room = max_prompt_tokens(model, max_new_tokens, section)
    prompts = [question.prompt_ids[-room:] for question in questions]
    answers = greedy_answers(model, encoder, prompts, max_new_tokens, batch_size, on_prompts)
    return answers, sum(len(question.prompt_ids) > room for question in questions)


def compared(answer: str, extract: str | None) -> str | None:
    """Return what of an answer is compared: all of it, or the last match; None where nothing matches.

    >>> compared(" 7 apples ", None)
    '7 apples'
    >>> compared("so 3 + 4 = 7 #### 7", r"#### (-?[0-9.,]+)")
    '7'

    Raises:
        TokensieveError: the expression takes too long.
    """
    if extract is None:
        return answer.strip()
    found = last_match(extract, answer)
    return None if found is None else found.strip()


def _expected(question: Question, extract: str | None) -> str:
    reference = compared(question.answer, extract)
    if reference is None:
        raise TokensieveError(
            f"the reference answer has nothing that '{extract}' matches: {question.answer!r:.80}",
            where=f"row {question.row}",
            hint="change evaluate.exact_match.extract or the answer",
        )
    return reference


def question(number: int, prompt: Converted, answer: str, encoder: Encoder) -> Question:
    """Return a prompt as the model reads it.

    Args:
        number: of the source row.
        prompt: a row up to its last answer (`evaluate.prompts.last_answer`).
        answer: that answer.
        encoder: tokenizer and chat template.

    Raises:
        TokensieveError: there is no prompt.
    """
    tokenizer = encoder.tokenizer
    if isinstance(prompt, Tokenised):
        ids, text = prompt.input_ids, tokenizer.decode(prompt.input_ids)
    elif isinstance(prompt, PlainText):
        text = prompt.prompt
        ids = _open_ended(tokenizer, text)
    else:
        text = encoder.render(prompt, generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not text or not ids:
        raise TokensieveError("there is no prompt to answer", hint="rows need a prompt and an answer")
    return Question(number, text, list(ids), answer)


def _open_ended(tokenizer: Any, prompt: str) -> list[int]:
    """Tokenise a prompt with the special tokens before it, without any that would close it."""
    encoded = tokenizer(prompt, add_special_tokens=True, return_offsets_mapping=True)
    within = [number for number, (start, stop) in enumerate(encoded["offset_mapping"]) if stop > start]
    return encoded["input_ids"][: within[-1] + 1] if within else []
