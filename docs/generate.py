"""Write the generated reference pages: cli.md, recipe.md, methods.md and recipes.md.

python docs/generate.py
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser

from tokensieve import cli, yaml12
from tokensieve.measure.statistics import source_of
from tokensieve.methods import all_methods
from tokensieve.methods._base import Method
from tokensieve.pipeline import recipe_keys
from tokensieve.pipeline.ready_recipes import about, ready_recipes
from tokensieve.setting_types import spelled

DOCS = Path(__file__).parent
_ASSUMED = {
    "clean": "Clean rows at hand, or a better model made from such",
    "harmful": "Harmful rows at hand",
    "preferences": "Preferences among answers at hand",
    "marks": "Marks in the data",
    "nothing": "Nothing but the pool",
}
"""Groups of methods, by what each assumes."""


def recipe_page() -> str:
    """Return the page with every key of a recipe."""
    lines = [
        "# The recipe",
        "",
        "A recipe is a YAML file. You can override every key on the command line as `key.path=value`; the value",
        "is YAML:",
        "",
        "```console",
        "$ tokensieve run recipe.yaml method.fraction=0.5 train.lora.r=16 output=runs/half-16",
        "```",
        "",
        "Short forms: `base: FOLDER` for `base: {path: FOLDER}`, `method: NAME` for `method: {name: NAME}`,",
        "`data: FILE` for `data: {files: [FILE]}`, and a single item for a list of one. Keys of `train` that are not",
        "listed here are passed to TRL's `SFTConfig`. A recipe is YAML 1.2: `1e-4` is a number, and `no` is text.",
        "",
        "`tokensieve run RECIPE --dry-run` checks everything except the weights, shows what the run would do, and",
        "writes no run. It tells the number of optimizer steps of each training. It is offline: if a model, a data",
        "set or the data of an evaluation task is missing on this machine, the dry run names it and lists what it",
        "could not check.",
        "",
        "`tokensieve recipes` lists [recipes](recipes.md) that are ready to use, one for each method and one for each",
        "paper; `tokensieve recipes token-cleaning > recipe.yaml` writes one to a file. `tokensieve recipes --keys`",
        "prints the keys below.",
    ]
    for section in recipe_keys.sections():
        title = f"## `{section.name}`" if section.name else "## Top level"
        lines += ["", title, "", section.summary, "", "| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{key.name}` | {_code(key.default)} | {_cell(key.meaning)} |" for key in section.keys]
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """Return the page with every method."""
    lines = [
        "# Methods",
        "",
        "Higher scores are kept. `loss_m` is the loss of model `m` at the predicted token, in nats; `current` is the",
        "model in training. Extra passes are forward passes over the data set in addition to training, one for each",
        "model that does not change, and one more for the answers without their prompts; `asft` and `psft` run theirs",
        "in the steps of the training, and `toss-pro` makes one more in each round. Parity lists the files in",
        "`tests/golden/` that compare with values from published code.",
        "",
        "The last column says whether a method beat its control on a pool where a perfect selection gains",
        "([evidence](evidence.md#every-method)): as many random tokens, or, for a method that trains on every token,",
        "training on all of them with equal weights (`preference-guided`: `sequence-mean`). `yes` and `no` where the",
        "95 % interval says so; `not told apart` where it does not; `-` where it was not tried against such a control.",
    ]
    for kind, title in _ASSUMED.items():
        found = {name: cls for name, cls in all_methods().items() if cls.assumes == kind}
        lines += ["", f"**{title}**", ""]
        if not found:
            lines.append("None yet.")
            continue
        lines += [
            "| name | keeps | default rule | selects | needs | extra passes | parity | beat its control |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(_method_cells(cls))} |" for cls in found.values()]
    lines += [
        "",
        "Not here: TailSFT (arXiv 2608.25756), which filters rows that are already fit as it trains. Its abstract has",
        "no formula, and neither the text of the paper nor its code was at hand.",
    ]
    for name, cls in all_methods().items():
        lines += ["", f"## {name}", "", *_method_section(cls)]
    return "\n".join(lines) + "\n"


def _method_cells(cls: type[Method]) -> list[str]:
    """Return the cells of a method's row."""
    method = cls()
    return [
        f"[`{cls.name}`](#{cls.name})",
        cls.summary,
        method.selects_in_words,
        _when(method),
        _needs(method),
        str(_passes(method)),
        _parity(cls),
        _beat_control().get(cls.name, "-"),
    ]


def _beat_control() -> dict[str, str]:
    """Return whether each method of the evidence beat its control; every row of a method must agree, else neither.

    Read from the tables of "Every method" in evidence.md: the interval of the first difference in the loss.
    """
    section = (DOCS / "evidence.md").read_text(encoding="utf-8").partition("## Every method")[2]
    rows = re.findall(r"^\| \W*`([\w-]+)`[^|]*\| [^(|]*\((\S+) to (\S+)\)", section.partition("\n* ")[0], re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, *bounds in rows:
        low, high = (float(value.replace("\N{MINUS SIGN}", "-")) for value in bounds)
        found.setdefault(name, set()).add("yes" if high < 0 else "no" if low > 0 else "not told apart")
    return {name: says.pop() if len(says) == 1 else "not told apart" for name, says in found.items()}


def _method_section(cls: type[Method]) -> list[str]:
    method = cls()
    facts = {
        "Paper": cls.paper,
        "Score" if cls.weights is Method.weights else "Score and weights": f"`{cls.formula}`",
        "Needs": _needs(method),
        "Extra passes": str(_passes(method)),
        "Default rule": method.selects_in_words,
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
    meanings = {name: text for part in reversed(cls.__mro__) for name, text in recipe_keys.meanings(part).items()}
    return lines + [
        f"| `{field.name}` | {_code(recipe_keys.default(field))} | {_cell(meanings.get(field.name, ''))} |"
        for field in fields
    ]


def cli_page() -> str:
    """Return the page with every command."""
    lines = [
        "# Command line",
        "",
        "`tokensieve COMMAND --help` shows the same text.",
        "",
        "Exit codes: 0 success, 1 `inspect` found errors, 2 unusable input, 130 interrupted, 143 terminated.",
    ]
    for command in cli.COMMANDS:
        lines += ["", *_command_section(command)]
    return "\n".join(lines) + "\n"


def _command_section(command: Callable[..., None]) -> list[str]:
    """Return a command's usage, text, arguments and examples."""
    parsed = docstring_parser.parse(command.__doc__ or "")
    texts = {item.arg_name: re.sub(r"\s+", " ", item.description or "") for item in parsed.params}
    hints = get_type_hints(command, include_extras=True)
    name = command.__name__.rstrip("_").replace("_", "-")
    usage, rows = [f"tokensieve {name}"], []
    for key, parameter in inspect.signature(command).parameters.items():
        given = [item for item in getattr(hints[key], "__metadata__", ()) if hasattr(item, "metavar")]
        shown = _spelled_argument(key, parameter, hints[key], given)
        required = parameter.default is inspect.Parameter.empty
        optional = parameter.kind is not parameter.POSITIONAL_ONLY and not required
        usage.append(f"[{shown}]" if optional else shown)
        text = next((item.help for item in given if item.help), texts.get(key, ""))
        empty = parameter.default is None or parameter.default is False or parameter.default == ()
        default = "required" if required else "" if empty else f"`{spelled(parameter.default)}`"
        # A bar would end the cell, and within backticks it cannot be escaped for every renderer.
        label = f"<code>{shown.replace('|', '&#124;')}</code>" if "|" in shown else f"`{shown}`"
        rows.append(f"| {label} | {default} | {_markdown(text)} |")
    description = parsed.long_description or ""
    examples = re.findall(r"^ *(tokensieve .*|eval .*)$", description, re.MULTILINE)
    lines = [f"## {name}", "", parsed.short_description or "", "", "```text", " ".join(usage), "```", ""]
    lines += ["| argument | default | meaning |", "|---|---|---|", *rows, ""] if rows else []
    if examples:
        lines += ["```console", *("$ " + re.sub(r"\s{2,}\((.*)\)$", r"  # \1", line) for line in examples), "```"]
    return lines if lines[-1] else lines[:-1]


def _spelled_argument(name: str, parameter: inspect.Parameter, hint: Any, given: list[Any]) -> str:
    """Return an argument as the command line takes it: `RUN`, `--flag` or `--option VALUE`."""
    hint = get_args(hint)[0] if given or hasattr(hint, "__metadata__") else hint
    if parameter.kind is parameter.POSITIONAL_ONLY:
        several = get_origin(hint) is tuple
        return next((g.metavar for g in given if g.metavar), name.upper() + (" ..." if several else ""))
    option = "--" + next((g.name for g in given if g.name), name).replace("_", "-")
    if hint is bool:
        return option
    if get_origin(hint) is tuple:
        return f"{option} {next((g.metavar for g in given if g.metavar), 'TEXT')} ..."
    choices = [choice for part in (hint, *get_args(hint)) if get_origin(part) is Literal for choice in get_args(part)]
    kinds = {part for part in (hint, *get_args(hint)) if part is not type(None)}
    value = {int: "INT", float: "FLOAT", Path: "PATH"}.get(
        next((k for k in (int, float, Path) if k in kinds), str), "TEXT"
    )
    return f"{option} {'|'.join(choices) or value}"


def recipes_page() -> str:
    """Return the page with the recipes that come with tokensieve, from the comments on top of each."""
    lines = [
        "# Recipes",
        "",
        "These recipes come with tokensieve, and a test checks every one. `tokensieve recipes` lists them, and",
        "`tokensieve recipes NAME` prints one. Write it to a file and change it, or override keys on the command line:",
        "",
        "```console",
        "$ tokensieve recipes",
        "$ tokensieve recipes xtf > xtf.yaml",
        "$ tokensieve run xtf.yaml data=train.jsonl models.base=MODEL output=runs/xtf",
        "$ tokensieve recipes toss > toss.yaml",
        "$ tokensieve run toss.yaml data=train.jsonl models.base=MODEL \\",
        "    'models.unsafe.warm_up.files=[harmful.jsonl]' output=runs/toss",
        "```",
        "",
        "The comment at the top of each recipe has the command to run it.",
        "",
        "## One for each method",
        "",
        "| recipe | what it does | method |",
        "|---|---|---|",
    ]
    found = {name: (about(path.read_text("utf-8")), yaml12.read(path)) for name, path in ready_recipes().items()}
    of_methods = {name: one for name, one in found.items() if not name.startswith("papers/")}
    lines += [f"| `{name}` | {text} | `{spelled(values['method'])}` |" for name, (text, values) in of_methods.items()]
    lines += [
        "",
        "## Set-ups of the papers",
        "",
        "The recipes `papers/...` use the papers' models, data and settings where these are known. They need",
        "the Hub and a GPU that fits the model. `--dry-run` lists what is missing on this machine, and downloads",
        "nothing:",
        "",
        "```console",
        "$ tokensieve recipes papers/token-cleaning > paper.yaml",
        "$ tokensieve run paper.yaml --dry-run",
        "```",
        "",
        "| recipe | what it follows | base | data |",
        "|---|---|---|---|",
    ]
    for name, (text, values) in found.items():
        if name not in of_methods:
            data = values["data"]["files"][0] if isinstance(values["data"], dict) else values["data"]
            lines.append(f"| `{name}` | {text} | `{_base(values)}` | `{data}` |")
    return "\n".join(lines) + "\n"


def _base(values: dict[str, Any]) -> str:
    base = values["models"]["base"]
    return base if isinstance(base, str) else base["path"]


def _needs(method: Method) -> str:
    return ", ".join(f"`{role}.{statistic}`" for role, statistic in sorted(method.needs)) or "nothing"


def _passes(method: Method) -> int:
    """Return how often models are run over the data set besides the one in training."""
    passes = {(role, source_of(name) == "answers") for role, name in method.needs if role != "current"}
    return len(passes) + bool(method.anchor)


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


def _code(default: str) -> str:
    """Return a default as code, or the words that replace one."""
    return default if default in ("required", "see below") else f"`{default}`"


def _cell(text: str) -> str:
    return _markdown(text).replace("|", "\\|")


def _markdown(text: str) -> str:
    return text.strip().replace("``", "`")


PAGES = {"cli.md": cli_page, "recipe.md": recipe_page, "methods.md": methods_page, "recipes.md": recipes_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
