"""Write the reference pages that come from the code: recipe.md and methods.md.

python docs/generate.py
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser

from tokensieve.config import Recipe
from tokensieve.methods import all_methods
from tokensieve.methods._base import Method
from tokensieve.ops.rules import in_words

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
        "`tokensieve run RECIPE --dry-run` checks everything but the weights, shows what would be done and writes no",
        "run. No model or data set is fetched for it: one that is not on this machine is named, with what was not",
        "checked. Tasks of the evaluation are loaded where everything else is here.",
        "",
        "The folder `recipes/` has a short recipe for each method, and in `recipes/papers/` the set-ups of the papers,",
        "on their models, as far as they are known.",
        "",
        *_table(Recipe, ""),
    ]
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """Return the page with every method."""
    lines = [
        "# Methods",
        "",
        "Higher scores are kept. `loss_m` is the loss of model `m` at the predicted token, in nats; `current` is the",
        "model in training. Extra passes are forward passes over the data set besides training, one for each model",
        "that does not change; `toss-pro` makes one more in each round. Parity names the files of `tests/golden/` that",
        "compare with figures of published code.",
        "",
        "| name | keeps | default rule | selects | needs | extra passes | parity |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cls in all_methods().items():
        method = cls()
        cells = [
            f"[`{name}`](#{name})",
            cls.summary,
            in_words(method.rule),
            _when(method),
            _needs(method),
            str(_passes(method)),
            _parity(cls),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, cls in all_methods().items():
        lines += ["", f"## {name}", "", *_method_section(cls)]
    return "\n".join(lines) + "\n"


def _method_section(cls: type[Method]) -> list[str]:
    method = cls()
    facts = {
        "Paper": cls.paper,
        "Score" if cls.weights is Method.weights else "Score and weights": f"`{cls.formula}`",
        "Needs": _needs(method),
        "Extra passes": str(_passes(method)),
        "Default rule": in_words(method.rule),
        "Selects": _when(method),
        "Loss is divided by": {"kept": "the number of kept tokens", "trainable": "the number of all trainable tokens"}[
            cls.divide_by
        ],
        "Differences": cls.differences,
        "Parity": _parity(cls),
    }
    lines = [_markdown(importlib.import_module(cls.__module__).__doc__ or ""), ""]
    lines += [f"* {title}: {text}" for title, text in facts.items() if text]
    fields = dataclasses.fields(cls)
    lines += (
        ["", "| hyper-parameter | default | meaning |", "|---|---|---|"] if fields else ["", "No hyper-parameters."]
    )
    meanings = {name: text for part in reversed(cls.__mro__) for name, text in _meanings(part).items()}
    return lines + [f"| `{field.name}` | {_default(field)} | {meanings.get(field.name, '')} |" for field in fields]


def _needs(method: Method) -> str:
    return ", ".join(f"`{role}.{statistic}`" for role, statistic in sorted(method.needs)) or "nothing"


def _passes(method: Method) -> int:
    """Return how many models are run over the data set besides the one in training."""
    return len({role for role, _ in method.needs} - {"current"})


def _when(method: Method) -> str:
    """Return whether a method selects online or offline, and the settings that change it."""
    names = {True: "online", False: "offline"}
    told = [names[method.online]]
    for name, hint in get_type_hints(type(method)).items():
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        for choice in choices if name in {field.name for field in dataclasses.fields(method)} else ():
            other = dataclasses.replace(method, **{name: choice})
            if other.online != method.online:
                told.append(f"{names[other.online]} with `{name}: {choice}`")
    return ", ".join(told)


def _parity(cls: type[Method]) -> str:
    """Return the golden tests of a method: those named after it, and those that name it."""
    own = f"test_{cls.__module__.rsplit('.', 1)[-1]}"
    found = [
        path.name
        for path in sorted((DOCS.parent / "tests/golden").glob("test_*.py"))
        if cls.paper and (path.stem == own or f'"{cls.name}"' in path.read_text(encoding="utf-8"))
    ]
    return ", ".join(f"`{name}`" for name in found)


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
