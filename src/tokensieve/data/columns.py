"""What becomes of the columns of a row: its form uses them, they change what it means, or nothing uses them.

A column that changes what a row means is refused, unless the row's form has a place for it or the user leaves it out
with `data.ignore`. Every other column, such as an id or a score, is no error; `unused` lists it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tokensieve.data.forms import Form
from tokensieve.errors import TokensieveError

Names = tuple[str, ...]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class FormColumns:
    """The columns of a form. Those of a group mean the same: a row has one of them.

    Attributes:
        needs: groups of which a row must have one each.
        uses: groups of which it may have one each.
    """

    needs: tuple[Names, ...]
    uses: tuple[Names, ...] = ()

    @property
    def all(self) -> Iterator[Names]:
        """Every group."""
        yield from (*self.needs, *self.uses)


SYSTEM, TOOLS, HISTORY = ("system", "system_prompt"), ("tools",), ("history",)
SPANS, CORRECTED = ("spans",), ("corrected",)
INSTRUCTION, INSTRUCTION_CONTEXT, OUTPUT = ("instruction",), ("input", "context"), ("output", "response")
QUESTION, QUESTION_CONTEXT, ANSWER = (
    ("question", "query", "prompt", "input"),
    ("context",),
    ("answer", "response", "output"),
)

# In this order: a form that needs more columns comes before one that a subset of them would match.
FORMS: dict[Form, FormColumns] = {
    "tokenised": FormColumns((("input_ids",), ("labels",)), (("attention_mask",), SPANS)),
    "messages": FormColumns((("messages",),), (SYSTEM, TOOLS, SPANS, CORRECTED)),
    "sharegpt": FormColumns((("conversations",),), (SYSTEM, TOOLS, SPANS, CORRECTED)),
    "prompt-completion": FormColumns((("prompt",), ("completion",)), (SYSTEM, TOOLS, SPANS, CORRECTED)),
    "alpaca": FormColumns((INSTRUCTION, OUTPUT), (INSTRUCTION_CONTEXT, HISTORY, SYSTEM, TOOLS, SPANS, CORRECTED)),
    "question-answer": FormColumns((QUESTION, ANSWER), (QUESTION_CONTEXT, HISTORY, SYSTEM, TOOLS, SPANS, CORRECTED)),
    "text": FormColumns((("text",),), (SPANS, CORRECTED)),
}

_USED = {form: frozenset(name for group in columns.all for name in group) for form, columns in FORMS.items()}

_MEDIA: dict[str, Names] = {
    "image": ("image", "images", "pixel_values"),
    "video": ("video", "videos"),
    "audio": ("audio", "audios"),
}
_PREFERRED = ("chosen", "rejected", "rejected_response", "rejected_messages")
_REJECTED_IF_FALSE = ("label", "kto_tag")
_LOST = {form: tuple(name for name in (*SYSTEM, *TOOLS, *HISTORY) if name not in used) for form, used in _USED.items()}
"""Columns around a conversation that a form has no place for."""
_ALTERNATIVES = {form: tuple(group for group in columns.all if len(group) > 1) for form, columns in FORMS.items()}
"""Groups of a form of which a row might have more than one column."""
_COMPLETE: tuple[Form, ...] = ("tokenised", "text")
"""Forms whose rows hold all that is trained on, so that other columns do not add to their meaning."""
_OF_EVERY_FORM = {"source"}  # groups rows in the report

_PLACEHOLDER = re.compile(
    r"<\|(?P<token>image|video|audio)\w*\|>"
    # At either end of a line, where multimodal data has them: amid a sentence it may be a tag of HTML.
    r"|(?:^[ \t]*)<(?P<first>image|video|audio)>|<(?P<last>image|video|audio)>(?=[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)


def given(value: Any) -> bool:
    """Whether a column has a value: neither null nor an empty text, list or mapping."""
    return value is not None and not (isinstance(value, str | list | tuple | dict) and len(value) == 0)


def pick(row: Row, names: Names) -> str:
    """Return the column of a group that a row has; the first name where it has none."""
    if row.keys().isdisjoint(names):
        return names[0]
    with_value = [name for name in names if given(row.get(name))]
    return (with_value or [name for name in names if row.get(name) is not None] or [names[0]])[0]


def form_of(row: Row, form: Form = "auto") -> Form | None:
    """Return the form that a row is written in; None if it lacks columns of the form.

    Args:
        row: columns and values.
        form: the only form to consider; ``auto`` takes the first whose columns the row has.
    """
    return _form_of_columns(frozenset(name for name, value in row.items() if value is not None), form)


@lru_cache(maxsize=1024)  # rows of a file have the same columns
def _form_of_columns(columns: frozenset[str], form: Form) -> Form | None:
    names: list[Form] = list(FORMS) if form == "auto" else [form]
    return next((name for name in names if all(columns.intersection(group) for group in FORMS[name].needs)), None)


def unused(row: Row, form: Form | None) -> list[str]:
    """Return the columns with a value that a row's form does not use."""
    used = _USED[form] if form else frozenset()
    return [name for name, value in row.items() if name not in used and name not in _OF_EVERY_FORM and given(value)]


def check_columns(row: Row, form: Form | None) -> None:
    """Refuse a row with a column that changes what the row means and that its form has no place for.

    Args:
        row: columns and values, without those that the user leaves out.
        form: the form of the row; None if it is of no known form.

    Raises:
        TokensieveError: media, a preference, an answer marked as rejected, a system prompt, tools or turns that would
            be dropped, or two columns for one purpose.
    """
    for name, value in row.items():
        if not given(value):
            continue
        if name in _MEDIA_NAMES or _is_binary(value):
            raise TokensieveError(
                f"column '{name}' holds what has no text tokens, and the text may be about it",
                hint=f"leave out these rows, or train on their text alone with data.ignore: [{name}]",
            )
        if name in _PREFERRED:
            raise _preference(row)
        if form not in _COMPLETE and name in _REJECTED_IF_FALSE and str(value).lower() == "false":
            raise TokensieveError(
                f"'{name}' is false: the row's answer is one that was rejected, for KTO to train away from",
                hint=f"leave out the rows whose '{name}' is false, or train on all answers with data.ignore: [{name}]",
            )
    if form == "tokenised" and given(row.get("corrected")):
        raise no_place("corrected", "a row of token ids")
    if form is None or form in _COMPLETE:
        return
    for name in _LOST[form]:
        if name in row and given(row[name]):
            raise no_place(name, f"the form '{form}'")
    for group in _ALTERNATIVES[form]:
        several = [] if row.keys().isdisjoint(group) else [name for name in group if given(row.get(name))]
        if len(several) > 1:
            raise TokensieveError(
                f"columns {' and '.join(map(repr, several))} have the same purpose in the form '{form}'",
                hint=f"leave one out, such as data.ignore: [{several[-1]}], or rename columns with data.columns",
            )


def no_place(name: str, where: str) -> TokensieveError:
    """Return the error for a column that a row would lose."""
    return TokensieveError(
        f"{where} has no place for the column '{name}', which would be left out",
        hint=f"write these rows as `messages`, or leave the column out with data.ignore: [{name}]",
    )


def check_placeholders(text: str, ignore: Collection[str]) -> None:
    """Refuse a text of the user that has a placeholder of an image, a video or a sound.

    Args:
        text: what the model is asked.
        ignore: columns that the user leaves out; one of images accepts placeholders of images as text.

    Raises:
        TokensieveError: such as ``<image>`` at the beginning or the end of a line, without a closing tag.
    """
    for match in _PLACEHOLDER.finditer(text) if "<" in text else ():
        kind = next(filter(None, match.groups())).lower()
        if kind not in media_kinds(ignore) and f"</{kind}>" not in text.lower():
            raise TokensieveError(
                f"'{match[0].strip()}' in a text stands for what has no text tokens",
                hint=f"leave out these rows, or keep it as text with data.ignore: [{_MEDIA[kind][1]}]",
            )


def media_kinds(names: Collection[str]) -> set[str]:
    """Return the kinds of media that columns hold, of ``image``, ``video`` and ``audio``."""
    return {kind for kind, columns in _MEDIA.items() if not set(columns).isdisjoint(names)}


def without_media_parts(row: Row, ignore: Collection[str]) -> dict[str, Any]:
    """Return a row whose messages lack the parts of the kinds of media that the user leaves out."""
    kinds = media_kinds(ignore) if ignore else set[str]()
    return {name: _without_parts(value, kinds) for name, value in row.items()} if kinds else {**row}


def _without_parts(value: Any, kinds: set[str]) -> Any:
    if isinstance(value, list):
        return [_without_parts(item, kinds) for item in value if not _is_part(item, kinds)]
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        return {**value, "content": _without_parts(value["content"], kinds)}
    return value


def _is_part(item: Any, kinds: set[str]) -> bool:
    return isinstance(item, dict) and any(kind in str(item.get("type")) for kind in kinds)


_MEDIA_NAMES = {name for names in _MEDIA.values() for name in names}


def _is_binary(value: Any) -> bool:
    """Whether a value is what Parquet and `datasets` hold of images and sound."""
    return isinstance(value, bytes) or (isinstance(value, dict) and isinstance(value.get("bytes"), bytes))


def _preference(row: Row) -> TokensieveError:
    names = [name for name in _PREFERRED if name in row]
    return TokensieveError(
        f"a preference row, with {' and '.join(map(repr, names))}: these are for DPO and reward models, and "
        "fine-tuning trains on one answer alone",
        hint=f"to train on the preferred answers, give data: {_preferred_answers(row, names)}",
    )


def _preferred_answers(row: Row, names: list[str]) -> str:
    """Return the settings with which the preferred answers of such rows are trained on."""
    rest = {name: value for name, value in row.items() if name not in _PREFERRED}
    turns = pick(row, ("messages", "conversations"))
    asks_only = _last_speaker(rest.get(turns)) in ("user", "human")
    if "chosen" not in row or (form_of(rest) is not None and not asks_only):
        return f"{{ignore: [{', '.join(names)}]}}"
    chosen, new_names = row["chosen"], {"chosen": "messages"}
    if asks_only:
        new_names = {turns: "prompt", "chosen": "completion"}
    elif isinstance(chosen, str) and not is_transcript(chosen):
        answers = {"instruction": "output", "question": "answer"}
        new_names = {"chosen": next((answers[name] for name in answers if name in rest), "response")}
    elif isinstance(chosen, list) and len(chosen) == 1 and "prompt" in rest:
        new_names = {"chosen": "completion"}
    columns = ", ".join(f"{name}: {new}" for name, new in new_names.items())
    ignore = ", ".join(name for name in names if name != "chosen")
    return f"{{columns: {{{columns}}}" + (f", ignore: [{ignore}]}}" if ignore else "}")


def _last_speaker(turns: Any) -> Any:
    last = turns[-1] if isinstance(turns, list) and turns else None
    return (last.get("role") or last.get("from")) if isinstance(last, dict) else None


def is_transcript(text: str) -> bool:
    """Whether a text is a dialogue as Anthropic's hh-rlhf writes it, which begins with ``Human:``."""
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text
