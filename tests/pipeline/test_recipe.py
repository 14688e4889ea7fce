from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import SFTConfig

from tokensieve import yaml12
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.pipeline.recipe import Recipe, dump_recipe, load_recipe, train_settings
from tokensieve.train.settings import TrainSettings, check_arguments

RECIPE = """
output: runs/a
data: {files: [train.jsonl], max_length: 512}
models:
  base: model
  reference: {warm_up: {rows: 100, train: {learning_rate: 1e-3}}}
method: token-cleaning
train:
  learning_rate: 2e-5
  lora: {r: 8}
evaluate:
  held_out: test.jsonl
"""


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str = RECIPE) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_short_spellings_and_defaults(recipe_file):
    recipe = load_recipe(recipe_file())
    assert recipe.models["base"].path == "model"
    assert recipe.method == {"name": "token-cleaning"}
    assert recipe.controls == ({"name": "full"}, {"name": "random"})
    assert recipe.evaluate.held_out.files == ("test.jsonl",)
    assert recipe.train is not None
    assert recipe.train.lora is not None
    assert (recipe.train.lora.r, recipe.train.lora.alpha) == (8, 16)
    assert recipe.train.arguments["learning_rate"] == 2e-5
    assert recipe.train.arguments["warmup_steps"] == 0.03
    warm_up = recipe.models["reference"].warm_up
    assert warm_up is not None
    assert warm_up.train == {"learning_rate": 1e-3}


def test_a_written_recipe_gives_the_same_recipe_from_another_folder(recipe_file, tmp_path, monkeypatch):
    (tmp_path / "train.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(recipe_file(), ["train.bf16=true", "controls=[full, {name: loss, keep: bottom}]"])
    assert recipe.data.files == (str(tmp_path / "train.jsonl"),)
    assert recipe.output == str(tmp_path / "runs/a")
    copy = tmp_path / "elsewhere" / "copy.yaml"
    copy.parent.mkdir()
    copy.write_text(dump_recipe(recipe))
    monkeypatch.chdir(copy.parent)
    assert load_recipe(copy) == recipe


def test_no_is_text_and_scientific_notation_a_number(recipe_file):
    recipe = load_recipe(recipe_file(), ["train.save_strategy=no", "train.learning_rate=1e-5", "train.bf16=true"])
    assert recipe.train is not None
    picked = {name: recipe.train.arguments[name] for name in ("save_strategy", "learning_rate", "bf16")}
    assert picked == {"save_strategy": "no", "learning_rate": 1e-5, "bf16": True}
    copy = recipe_file(dump_recipe(recipe))
    assert load_recipe(copy) == recipe


def test_hub_ids_stay_as_they_are(recipe_file):
    recipe = load_recipe(recipe_file(), ["models.base=org/model", "data.files=[org/data]"])
    assert recipe.models["base"].path == "org/model"
    assert recipe.data.files == ("org/data",)


def test_overrides_reach_any_depth(recipe_file):
    recipe = load_recipe(
        recipe_file(),
        ["method.fraction=0.5", "models.base.dtype=bfloat16", "controls.1.seed=7", "train.lora=null", "store=/s"],
    )
    assert recipe.method == {"name": "token-cleaning", "fraction": 0.5}
    assert recipe.models["base"].dtype == "bfloat16"
    assert recipe.models["base"].path == "model"
    assert recipe.train is not None
    assert recipe.train.lora is None
    assert recipe.store_folder == Path("/s")
    assert load_recipe(recipe_file(), ["train=null"]).train is None


def test_a_section_that_is_null_is_not_given(recipe_file):
    given = load_recipe(recipe_file())
    assert load_recipe(recipe_file(RECIPE + "select:\nmeasure: null\nreport:\n  # examples: 3\n")) == given
    assert load_recipe(str(recipe_file())) == given, "a path may be text"
    without = load_recipe(recipe_file(), ["models.reference=null", "evaluate=null"])
    assert list(without.models) == ["base"]
    assert without.evaluate == EvaluateSettings()
    assert load_recipe(recipe_file(), ["train.lora=null"]).train != given.train, "null of its own meaning"


def test_a_recipe_can_come_from_the_command_line_alone():
    recipe = load_recipe(None, ["output=a", "data=x.jsonl", "models.base=m"])
    assert isinstance(recipe, Recipe)
    assert recipe.data.files == ("x.jsonl",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mthod: random", r"unknown key 'mthod'; did you mean 'method'\?\n  at: .*recipe\.yaml:13: mthod"),
        ("report: {exampels: 3}", r"unknown key 'exampels'; did you mean 'examples'\?\n.*:13: report\.exampels"),
        ("seed: abc", r"seed is 'abc', it must be a whole number\n  at: .*recipe\.yaml:13: seed"),
        ("measure: {device: [1]}", r"measure\.device is \[1\], it must be text\n  at: .*:13: measure\.device"),
        ("models: {base: m, ref: m}", r"a key is given twice: .*models.*\n  at: .*recipe\.yaml:13\n  hint: leave one"),
        ("store: s3://b", r"'s3://b' cannot be .*\n  at: .*recipe\.yaml:13: store"),
        ("select: [", r"not YAML: .*\n  at: .*recipe\.yaml:1[34]"),
    ],
)
def test_a_fault_names_its_line(recipe_file, line, message):
    with pytest.raises(TokensieveError, match=message):
        load_recipe(recipe_file(RECIPE + line + "\n"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.refernce=x", "unknown role 'refernce'; did you mean 'reference'"),
        ("train.lora.rank=3", r"unknown key 'rank'\n  at: command line, train\.lora\.rank=3"),
        ("data.max_length=long", r"it must be a whole number\n  at: command line, data\.max_length=long"),
        (
            "data.max_length=1",
            r"^max_length is 1, it must be at least 2\n  at: command line, data\.max_length=1: data\.max_length\n"
            r"  hint: data\.max_length: 2048$",
        ),
        (
            "models.reference.warm_up.train.lora.rank=3",
            r"unknown key 'rank'\n  at: command line, .*: models\.reference\.warm_up\.train\.lora\.rank",
        ),
        ("output=ftp://b/runs", r"'ftp://b/runs' cannot be .*\n  at: command line, output=ftp://b/runs"),
        ("train.lora.target_modules=[5]", r"target_modules\.0 is 5, it must be text\n"),
        ("train.lora.target_modules=5", r"target_modules is 5, it must be text or a list\n"),
        ("outptu=x", "^unknown key 'outptu'; did you mean 'output'"),
        ("seed", "'seed' is not key=value"),
        ("seed=null", "seed is null, it must be a whole number\n.*\n  hint: leave seed out for its default"),
        ("select=[null, true]", r"select is \[null, true\], it must be a mapping"),
        ("data=null", "^'data' is required"),
        ("bogus=1", "^unknown key 'bogus'\n"),
        ("controls.9=full", "there is no item 9 in a list"),
        ("method.fraction=[", "is not YAML"),
    ],
)
def test_a_faulty_override_is_named(recipe_file, override, message):
    recipe = recipe_file(RECIPE + "controls: [full, random]\n")
    with pytest.raises(TokensieveError, match=message):
        load_recipe(recipe, [override])


def test_required_keys_and_files(tmp_path):
    with pytest.raises(TokensieveError, match=r"'output' is required\n  at: command line: output\n  hint: name it"):
        load_recipe(None, ["data=x.jsonl", "models.base=m"])
    with pytest.raises(TokensieveError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(TokensieveError, match="a recipe is a mapping, not a list"):
        load_recipe(tmp_path / "list.yaml")


def test_the_training_template_is_no_path(recipe_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training").mkdir()
    assert load_recipe(recipe_file(RECIPE), ["data.chat_template=training"]).data.chat_template == "training"
    assert load_recipe(recipe_file(RECIPE), ["models.base=training"]).models["base"].path == str(tmp_path / "training")
    (tmp_path / "chat.jinja").touch()
    chosen = load_recipe(recipe_file(RECIPE), ["data.chat_template=chat.jinja"]).data.chat_template
    assert chosen == str(tmp_path / "chat.jinja")


@pytest.mark.parametrize(
    "key",
    [
        "data",
        "data.files",
        "models.reference.warm_up.files",
        "evaluate.held_out",
        "evaluate.exact_match",
        "evaluate.exact_match.files",
        "evaluate.unwanted",
        "evaluate.corrected",
        "evaluate.tasks",
        "measure.statistics",
        "controls",
    ],
)
def test_a_list_of_one_may_be_written_as_its_item(recipe_file, key):
    alone, listed = (load_recipe(recipe_file(), [f"{key}={value}"]) for value in ("one", "[one]"))
    assert alone == listed
    assert "- one\n" in dump_recipe(alone) or "- name: one\n" in dump_recipe(alone)


def test_warm_up_files_are_absolute_in_the_written_recipe(recipe_file, tmp_path, monkeypatch):
    (tmp_path / "own.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    warm_up = load_recipe(recipe_file(), ["models.reference.warm_up.files=own.jsonl"]).models["reference"].warm_up
    assert warm_up is not None
    assert warm_up.files == (str(tmp_path / "own.jsonl"),)


def test_an_override_adds_to_a_short_spelling(recipe_file):
    text = "output: o\ndata: [a.jsonl, b.jsonl]\nmodels: {base: m}\nevaluate: {exact_match: q.jsonl}\n"
    recipe = load_recipe(recipe_file(text), ["data.limit=3", "evaluate.exact_match.limit=2"])
    assert (recipe.data.files, recipe.data.limit) == (("a.jsonl", "b.jsonl"), 3)
    assert recipe.evaluate.exact_match is not None
    assert (recipe.evaluate.exact_match.files, recipe.evaluate.exact_match.limit) == (("q.jsonl",), 2)


def test_changed_training_settings_keep_the_others():
    changed = train_settings(TrainSettings(), {"learning_rate": 1e-3, "lora": {"r": 4}})
    assert changed.lora is not None
    assert (changed.lora.r, changed.lora.alpha) == (4, 16)
    assert changed.arguments == {**TrainSettings().arguments, "learning_rate": 1e-3}


WRONG = ("5", "-5", "1.5", "word", "'" + "9" * 5000 + "'", ".inf", "[5]", "[[5]]", "{key: 5}", "{5: 5}", "null", "true")
JARGON = re.compile(
    r"\b(input|valid|integer|string|tuple|dict|dictionary|boolean|float|int|str|bool|none|instance|keyword|argument|"
    r"permitted|field|pydantic|parse|literal|of another type)\b",
    re.IGNORECASE,
)


def every_key(settings: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every key of some settings, and of the settings within."""
    for name, hint in get_type_hints(settings).items():
        if (settings, name) != (TrainSettings, "arguments"):
            yield path + name
        for inner in filter(is_dataclass, [hint, *get_args(hint)]):
            yield from every_key(inner, f"{path}{name}." + ("reference." if name == "models" else ""))


@pytest.mark.parametrize("key", list(every_key(Recipe)))
def test_what_is_refused_is_told_in_plain_words(key):
    good = ["output=o", "data=d.jsonl", "models={base: m, reference: {warm_up: {rows: 1}, preferences: q}}"]
    good += [f"evaluate.{name}=q" for name in ("exact_match", "unwanted", "corrected")]
    refused = []
    for value in WRONG:
        try:
            load_recipe(None, [*good, f"{key}={value}"])
        except TokensieveError as error:
            refused.append(error)
    assert refused
    for error in refused:
        assert not JARGON.search(f"{error.what} {error.hint}"), error
        assert len(error.what) < 300
        assert error.where.startswith(f"command line, {key}=")


def test_what_is_refused_for_the_trainer_is_told_in_plain_words(monkeypatch):
    monkeypatch.setattr("tokensieve.train.settings.sft_config", lambda *_, **__: None)
    refused = []
    for item in fields(SFTConfig):
        for value in map(yaml12.parse_value, WRONG):
            try:
                check_arguments({item.name: value}, "train")
            except TokensieveError as error:
                refused.append(error.what.replace(item.name, ""))
    assert len(refused) > 500
    assert not [what for what in refused if JARGON.search(what)]


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
PATH = TEXT.filter(lambda text: text.strip("/.") and "\0" not in text and not text.startswith("~"))
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
ARGUMENTS = st.dictionaries(TEXT, VALUE, max_size=4)
# What YAML 1.1 and 1.2 read in different ways, and what stands for something else when it is not quoted.
TRICKY = st.sampled_from(
    ["no", "on", "1e-4", "1_000", "010", "0o17", "1:30", ".5", "~", "null", "=", "<<", "2024-01-01"]
)


@settings(max_examples=40, deadline=None)
@given(
    output=PATH.filter(lambda text: "://" not in text),
    files=st.lists(PATH | TRICKY, max_size=3) | PATH,
    template=st.none() | PATH | st.just("{% for m in messages %}\n  {{ m.content }}: #\t\n{% endfor %}"),
    method=st.dictionaries(TEXT, VALUE | TRICKY, max_size=3) | TEXT,
    train=st.none() | ARGUMENTS,
    warm_up=ARGUMENTS,
    threshold=st.none() | st.floats(allow_nan=False),
)
def test_every_written_recipe_reads_back(tmp_path_factory, output, files, template, method, train, warm_up, threshold):
    ours = {"lora", "merge_adapter"}
    values = {
        "output": output,
        "data": {"files": files, "chat_template": template},
        "models": {"base": "m", "reference": {"warm_up": {"train": {k: warm_up[k] for k in warm_up.keys() - ours}}}},
        "method": method,
        "train": train and {key: train[key] for key in train.keys() - ours},
        "select": {"threshold": threshold},
    }
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(yaml12.dump(values), encoding="utf-8")
    recipe = load_recipe(path)
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert recipe.method == ({"name": method} if isinstance(method, str) else method)
