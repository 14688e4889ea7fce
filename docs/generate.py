"""Write the reference pages that come from the code: recipe.md and methods.md.

python docs/generate.py
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import docstring_parser

from tokensieve.config import Recipe
from tokensieve.methods import all_methods
from tokensieve.methods._base import FractionMethod

DOCS = Path(__file__).parent


def recipe_page() -> str:
    """Return the page with every key of a recipe."""
    lines = [
        "# The recipe",
        "",
        "A recipe is YAML. Every key can be overridden on the command line as `key.path=value`, the value in YAML:",
        "",
        "```console",
        "$ tokensieve run recipe.yaml method.fraction=0.5 train.lora.r=16 output=runs/half",
        "```",
        "",
        "Short spellings: `base: FOLDER` for `base: {path: FOLDER}`, `method: NAME` for `method: {name: NAME}`,",
        "`data: FILE` for `data: {files: [FILE]}`. Keys of `train` that are not listed here go to TRL's `SFTConfig`.",
        "",
        *_table(Recipe, ""),
    ]
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """Return the page with every method."""
    lines = [
        "# Methods",
        "",
        "Higher scores are kept. `loss_m` is the loss of model `m` at the predicted token, in nats.",
        "",
        "| name | keeps | score | needs | default rule | paper |",
        "|---|---|---|---|---|---|",
    ]
    for name, cls in all_methods().items():
        method = cls()
        needs = ", ".join(f"`{role}.{statistic}`" for role, statistic in sorted(method.needs)) or "nothing"
        rule = method.rule
        default = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(rule).items())
        lines.append(f"| `{name}` | {cls.summary} | `{cls.formula}` | {needs} | {default} | {cls.paper} |")
    for name, cls in all_methods().items():
        module = __import__(cls.__module__, fromlist=["_"])
        lines += ["", f"## {name}", "", _markdown(module.__doc__ or ""), "", "| hyper-parameter | default | meaning |"]
        lines += ["|---|---|---|"] if dataclasses.fields(cls) else []
        meanings = {**_meanings(FractionMethod), **_meanings(cls.__mro__[1]), **_meanings(cls)}
        for field in dataclasses.fields(cls):
            lines.append(f"| `{field.name}` | `{field.default}` | {meanings.get(field.name, '')} |")
        if not dataclasses.fields(cls):
            lines[-1:] = ["No hyper-parameters."]
    return "\n".join(lines) + "\n"


def _table(settings: Any, prefix: str) -> list[str]:
    """Return a table of the settings' keys, then the tables of the settings within."""
    parsed = docstring_parser.parse(settings.__doc__ or "")
    title = f"## `{prefix.rstrip('.')}`" if prefix else "## Top level"
    lines = [title, "", parsed.short_description or "", "", "| key | default | meaning |", "|---|---|---|"]
    meanings, hints, inner = _meanings(settings), get_type_hints(settings), []
    for field in dataclasses.fields(settings):
        default = _default(field)
        lines.append(f"| `{prefix}{field.name}` | {default} | {meanings.get(field.name, '')} |")
        for nested in _nested(hints[field.name]):
            name = f"{prefix}{field.name}." + ("ROLE." if get_origin(hints[field.name]) is dict else "")
            inner += ["", *_table(nested, name)]
    return [*lines, *inner]


def _nested(hint: Any) -> list[Any]:
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [found for argument in get_args(hint) for found in _nested(argument)]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{_spelled(field.default)}`"
    if field.default_factory is dataclasses.MISSING:
        return "required"
    made = field.default_factory()
    return "see below" if dataclasses.is_dataclass(made) else f"`{_spelled(made)}`"


def _spelled(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return str(value)


def _meanings(settings: Any) -> dict[str, str]:
    """Return the text of each attribute in a class's docstring, on one line."""
    parsed = docstring_parser.parse(settings.__doc__ or "")
    texts = {item.arg_name: item.description or "" for item in parsed.params}
    return {name: _markdown(re.sub(r"\s+", " ", text)).replace("|", "\\|") for name, text in texts.items()}


def _markdown(text: str) -> str:
    return text.strip().replace("``", "`")


PAGES = {"recipe.md": recipe_page, "methods.md": methods_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
