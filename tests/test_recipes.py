"""Every recipe of `recipes/` passes a dry run, and each method has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokensieve.demo.dataset import write
from tokensieve.methods import all_methods
from tokensieve.models import loading as models
from tokensieve.pipeline import dry_run
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.progress import StageProgress

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src/tokensieve/demo/model"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PAPERS = sorted((ROOT / "recipes/papers").glob("*.yaml"))


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    monkeypatch.setattr(models, "load_model", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr(pipeline, "run", lambda *_: pytest.fail("a run was begun"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    write(0, folder / "data")
    return folder


def test_each_method_has_a_recipe_of_its_name():
    methods = {path.stem: load_recipe(path, ["data=x.jsonl", "models.base=MODEL"]).method["name"] for path in RECIPES}
    assert methods == {name: name for name in all_methods()}


def test_the_comment_on_top_says_what_to_type():
    for path in RECIPES:
        assert f"tokensieve run recipes/{path.name} data=train.jsonl models.base=MODEL" in path.read_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_with_data_and_a_model_at_hand(path, desk):
    given = [
        f"output={desk / 'runs' / path.stem}",
        f"data={desk / 'data/pool.jsonl'}",
        f"models.base={MODEL}",
    ]
    if path.stem.startswith("toss"):
        given.append(f"models.unsafe.warm_up.files=[{desk / 'data/test.jsonl'}]")
    lines = dry_run.dry_run(load_recipe(path, given), StageProgress())
    assert lines[0].startswith(f"arm {path.stem}: ")
    assert lines[-1] == "ok: everything but the weights was checked"


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_a_recipe_of_a_paper(path, tmp_path):
    recipe = load_recipe(path, [f"output={tmp_path / 'run'}"])
    lines = dry_run.dry_run(recipe, StageProgress())
    base = recipe.models["base"].path
    assert any(line.startswith(f"not here: {base} (models.base)") for line in lines)
    assert any(line.startswith(f"not here: {recipe.data.files[0]} (data)") for line in lines)
    assert lines[-1] == "ok, as far as it was checked"
    assert list(tmp_path.iterdir()) == []
