"""Exact-match questions as a task of lm-evaluation-harness: one YAML file, and its data as Parquet beside it.

Not JSON lines: `datasets` would turn a column of dates into timestamps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tokensieve.data.tokenize import Encoder
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.exact_match import Question, compared
from tokensieve.evaluate.settings import ExactMatchSettings
from tokensieve.store.atomic import atomic_file, write_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SCHEMA = pa.schema([("row", pa.int64()), ("prompt", pa.string()), ("answer", pa.string()), ("expected", pa.string())])
_ENDS = [r"^\s+", r"\s+$"]


def write_task(
    questions: Sequence[Question], encoder: Encoder, settings: ExactMatchSettings, output: Path, name: str
) -> Path:
    """Write questions so that the harness asks, extracts and compares as `exact_match` does.

    The prompts are written as the model reads them, special tokens included, and the model is to be loaded with
    ``add_bos_token=False``.

    Args:
        questions: what to ask.
        encoder: tokenizer; its turn-end tokens stop an answer.
        settings: length of answers, and what of them is compared.
        output: folder of ``NAME.yaml`` and ``NAME.parquet``; what is there under these names is replaced. The YAML
            names the data by its absolute path, since the harness resolves paths from wherever it is started.
        name: of the task.

    Returns:
        The YAML file.

    Raises:
        TokensieveError: a name that is no file name, or an expression with several groups.
    """
    if not _NAME.fullmatch(name):
        raise TokensieveError(f"'{name}' cannot name a task", hint="letters, digits, '_' and '-'")
    if settings.extract is not None and re.compile(settings.extract).groups > 1:
        raise TokensieveError(
            f"the harness would take another group of '{settings.extract}' than the first",
            where="recipe: evaluate.exact_match.extract",
            hint="write (?:...) for all groups but the one that is compared",
        )
    rows = [
        {
            "row": question.row,
            "prompt": _prompt(question, encoder.tokenizer),
            "answer": question.answer,
            "expected": compared(question.answer, settings.extract),
        }
        for question in questions
    ]
    data, path = output.absolute() / f"{name}.parquet", output / f"{name}.yaml"
    with atomic_file(data) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)
    write_text(path, yaml.safe_dump(_task(name, data, encoder, settings), sort_keys=False, allow_unicode=True))
    return path


def _task(name: str, data: Path, encoder: Encoder, settings: ExactMatchSettings) -> dict[str, Any]:
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "expected",
        "target_delimiter": "",
        "generation_kwargs": {
            "until": [encoder.tokenizer.decode([token]) for token in encoder.turn_end_ids],
            "max_gen_toks": settings.max_new_tokens,
            "do_sample": False,
        },
    }
    if settings.extract is not None:
        extract = {"function": "regex", "regex_pattern": settings.extract, "group_select": -1}
        task["filter_list"] = [{"name": "extracted", "filter": [extract, {"function": "take_first"}]}]
    metric = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "regexes_to_ignore": _ENDS}
    return {**task, "metric_list": [metric], "metadata": {"version": 1.0}}


def _prompt(question: Question, tokenizer: Any) -> str:
    """Return the text that gives the prompt's ids when nothing is added to it."""
    decoded = tokenizer.decode(question.prompt_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    same = tokenizer(decoded, add_special_tokens=False)["input_ids"] == question.prompt_ids
    return decoded if same else question.prompt
