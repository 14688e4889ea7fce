from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.recipe import Recipe, dump_recipe, load_recipe

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
    assert recipe.evaluate.held_out == ("test.jsonl",)
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


def test_a_recipe_can_come_from_the_command_line_alone():
    recipe = load_recipe(None, ["output=a", "data=x.jsonl", "models.base=m"])
    assert isinstance(recipe, Recipe)
    assert recipe.data.files == ("x.jsonl",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mthod: random", r"unknown key 'mthod'; did you mean 'method'\?\n  at: .*recipe\.yaml:13: mthod"),
        ("report: {exampels: 3}", r"unknown key 'exampels'; did you mean 'examples'\?\n.*:13: report\.exampels"),
        ("seed: abc", r"valid integer.*'abc'\n  at: .*recipe\.yaml:13: seed"),
        ("measure: {device: [1]}", r"valid string.*\n  at: .*:13: measure\.device"),
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
        ("data.max_length=long", r"valid integer.*\n  at: command line, data\.max_length=long"),
        (
            "data.max_length=1",
            r"^max_length is 1, it must be at least 2\n  at: command line, data\.max_length=1: data\.max_length\n"
            r"  hint: data\.max_length: 2048$",
        ),
        ("seed", "'seed' is not key=value"),
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
