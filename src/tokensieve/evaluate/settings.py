"""Settings of the evaluation stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from tokensieve.data.settings import Files, ReadSettings, check_files_given
from tokensieve.evaluate.expressions import check_expression
from tokensieve.setting_types import Count, Names, Source, bare, known_keys_only


@known_keys_only
@dataclass(frozen=True)
class HeldOutSettings(ReadSettings):
    """Data that is not trained on, for the loss over response tokens, read as `data` where a key is not given.

    Attributes:
        files: rows in any form that `data.files` takes; none to measure no such loss.
    """

    files: Files = ()

    def __post_init__(self) -> None:
        check_files_given(self.files, self)


@known_keys_only
@dataclass(frozen=True)
class ExactMatchSettings(ReadSettings):
    """Greedy answers compared with reference answers. Rows are read as those of `data` where a key is not given.

    Attributes:
        files: prompts and answers, in any form that `data.files` takes; the last assistant turn is the
            answer, what comes before it the prompt.
        max_new_tokens: tokens of the longest answer; a prompt keeps as many of its last tokens as the
            model's context holds beside it.
        extract: regular expression whose last match (its first group, where it has one) is compared
            instead of the whole answer, such as `#### (-?[0-9.,]+)`.

    Raises:
        TokensieveError: `extract` is not a regular expression.
    """

    files: Files
    max_new_tokens: Count = 64
    extract: str | None = None

    def __post_init__(self) -> None:
        check_expression(self.extract or "", "recipe: evaluate.exact_match.extract")


@known_keys_only
@dataclass(frozen=True)
class UnwantedSettings(ReadSettings):
    """Texts that models should not produce, read as `data` where a key is not given.

    Measured are their loss after prompts, the log odds of ending the turn instead, and how many greedy answers to the
    prompts contain something unwanted.

    Attributes:
        files: rows in any form that `data.files` takes; the last answer, or the text, is what is unwanted. A row
            without a prompt of its own is measured after a prompt of `evaluate.held_out`.
        contains: regular expressions that find something unwanted in a greedy answer; when not given, 8 tokens in a
            row of an unwanted text, or all of a shorter one.
        max_new_tokens: tokens of the longest greedy answer.

    Raises:
        TokensieveError: one of `contains` is not a regular expression.
    """

    files: Files
    contains: Names = ()
    max_new_tokens: Count = 64

    def __post_init__(self) -> None:
        for expression in self.contains:
            check_expression(expression, "recipe: evaluate.unwanted.contains")


@known_keys_only
@dataclass(frozen=True)
class CorrectedSettings(ReadSettings):
    """Answers with corrections, for the loss of the corrected answers and the preference for them over the others.

    Rows are read as those of `data` where a key is not given.

    Attributes:
        files: rows in any form that `data.files` takes, with a column `corrected`.
    """

    files: Files


@known_keys_only
@dataclass(frozen=True)
class EvaluateSettings:
    """What fine-tuned models are measured on.

    Attributes:
        held_out: data that is not trained on, for the loss over response tokens.
        exact_match: prompts whose greedy answers are compared with reference answers.
        unwanted: texts that the models should not produce.
        corrected: answers with corrections, which the models should prefer.
        tasks: names of lm-evaluation-harness tasks, groups or tags, or of tasks in `task_folder`.
        task_folder: folder with task definitions (`*.yaml`) of your own, which go before the harness's
            where names agree. Relative paths to data in them start at this folder. They may name Python
            functions that are run, so use only folders that you trust.
        task_limit: examples of each task at most.
        num_fewshot: examples in the prompt of each task; the task's own number when not given.
        batch_size: prompts generated or scored together.
    """

    held_out: Annotated[HeldOutSettings, bare("files")] = field(default_factory=HeldOutSettings)
    exact_match: Annotated[ExactMatchSettings, bare("files")] | None = None
    unwanted: Annotated[UnwantedSettings, bare("files")] | None = None
    corrected: Annotated[CorrectedSettings, bare("files")] | None = None
    tasks: Names = ()
    task_folder: Source | None = None
    task_limit: Count | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    batch_size: Count = 16

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.held_out.files or self.exact_match or self.unwanted or self.corrected or self.tasks)
