"""Every recipe that comes with tokensieve passes a dry run, and each method has one."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import tokensieve
from tokensieve.cli import main
from tokensieve.demo.dataset import write
from tokensieve.errors import TokensieveError
from tokensieve.methods import all_methods
from tokensieve.models import loading as models
from tokensieve.pipeline import dry_run
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.ready_recipes import ready_recipes
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.pipeline.recipe_keys import override_keys
from tokensieve.progress import StageProgress

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src/tokensieve/demo/model"
RECIPES = [path for name, path in ready_recipes().items() if not name.startswith("papers/")]
PAPERS = [path for name, path in ready_recipes().items() if name.startswith("papers/")]


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


def test_there_are_recipes_of_papers():
    assert len(PAPERS) > 10
    assert ready_recipes()["papers/toss"] in PAPERS


def test_the_comment_on_top_says_what_to_type():
    for path in RECIPES:
        assert f"tokensieve run {path.name} data=train.jsonl models.base=MODEL" in path.read_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_with_data_and_a_model_at_hand(path, desk):
    given = [
        f"output={desk / 'runs' / path.stem}",
        f"data={desk / 'data/pool.jsonl'}",
        f"models.base={MODEL}",
    ]
    if path.stem.startswith("toss"):
        given.append(f"models.unsafe.warm_up.files=[{desk / 'data/test.jsonl'}]")
    if path.stem == "preference-guided":
        rows = [{"prompt": f"{n} and {n}", "chosen": str(2 * n), "rejected": "none"} for n in range(4)]
        (desk / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given.append(f"models.reward.preferences={desk / 'preferences.jsonl'}")
    lines = dry_run.dry_run(load_recipe(path, given), StageProgress())
    assert lines[0].startswith(f"arm {path.stem}: ")
    assert lines[-1] == "ok: everything but the weights was checked"


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_a_recipe_of_a_paper(path, tmp_path, monkeypatch):
    # Some tasks need further packages, and all of them data; their names are checked.
    monkeypatch.setattr("tokensieve.evaluate.harness.check_tasks", lambda *_: None)
    recipe = load_recipe(path, [f"output={tmp_path / 'run'}"])
    lines = dry_run.dry_run(recipe, StageProgress())
    base = recipe.models["base"].path
    assert any(line.startswith(f"not here: {base} (models.base)") for line in lines)
    assert any(line.startswith(f"not here: {recipe.data.files[0]} (data)") for line in lines)
    assert lines[-1] == "ok, as far as it was checked"
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_is_printed_as_it_is(capsys):
    main(["recipes", "papers/toss"])
    assert capsys.readouterr().out == ready_recipes()["papers/toss"].read_text(encoding="utf-8")
    main(["recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ready_recipes())
    assert all(len(line.split()) > 3 and "tokensieve run" not in line for line in lines)
    with pytest.raises(SystemExit):
        main(["recipes", "papers/tos"])
    assert "did you mean 'papers/toss'?" in capsys.readouterr().err


def test_the_keys_that_are_printed_are_those_of_the_page_in_the_docs(capsys):
    main(["recipes", "--keys", "--json"])
    keys = json.loads(capsys.readouterr().out)
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    assert [key["name"] for key in keys] == re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    main(["recipes", "--keys"])
    printed = capsys.readouterr().out
    assert all(f"\n{key['name']}  (" in printed for key in keys)


def refused(overrides: list[str]) -> str:
    try:
        load_recipe(None, overrides)
    except TokensieveError as error:
        return error.what
    return ""


def test_every_key_that_is_completed_is_one_that_a_recipe_takes():
    given = ["output=o", "data=x.jsonl", "models.base=m"]
    assert "unknown key" in refused([*given, "data.fils=null"])
    assert [key for key in override_keys() if "unknown" in refused([*given, f"{key}=null"])] == []
    assert {"data.files", "models.base", "models.reference.warm_up.rows", "method.fraction", "train.lora.r"} <= {
        *override_keys()
    }


def test_no_message_of_the_package_names_a_file_that_it_lacks():
    package = Path(tokensieve.__file__).parent
    texts: list[tuple[str, str]] = []
    for path in package.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        of_developers = (
            {id(node.value) for node in nodes if isinstance(node, ast.Expr)} if "cli" not in path.parts else {}
        )
        texts += [
            (path.name, node.value)
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in of_developers
        ]
    assert len(texts) > 1000
    assert [(name, text) for name, text in texts if re.search(r"\b(docs|tests|benchmarks)/\w", text)] == []
