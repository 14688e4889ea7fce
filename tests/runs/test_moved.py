"""A run that was moved, copied or tampered with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.measure import worker
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"


@pytest.fixture(scope="module")
def made(tmp_path_factory, demo_pool) -> Path:
    """A folder with a run in `runs/a` and its store beside it."""
    folder = tmp_path_factory.mktemp("made")
    given = [f"output={folder / 'runs/a'}", f"data.files=[{demo_pool}]", "data.limit=10", f"models.base={MODEL}"]
    pipeline.run(load_recipe(None, [*given, "method=loss", "controls=[random]", "train=null"]), "select")
    return folder


@pytest.fixture
def place(made, tmp_path) -> Path:
    """The same for this test alone, at another place than it was made."""
    return Path(shutil.copytree(made, tmp_path / "moved"))


def test_no_path_of_this_machine_is_in_the_state(made):
    state = read_json(made / "runs/a/run.json")
    assert state["examples"].startswith("../store/examples/")
    assert all(path.startswith("../store/") for path in state["statistics"].values())
    assert load_run(made / "runs/a").store.counts.examples > 0


def test_a_run_that_is_moved_with_its_store_is_read_and_exported(place, made, tmp_path, capsys, monkeypatch):
    hidden = made.with_name("hidden")
    made.rename(hidden)
    try:
        view = load_run(place / "runs/a")
        assert view.store.folder.is_relative_to(place.resolve())
        main(["export", str(place / "runs/a"), "--to", "jsonl", "--output", str(tmp_path / "out")])
        main(["report", str(place / "runs/a")])
        main(["show", str(place / "runs/a")])
        (tmp_path / "link").symlink_to(place / "runs/a")
        assert load_run(tmp_path / "link").store.folder == view.store.folder
        shutil.rmtree(place / "runs/store")
        with pytest.raises(TokensieveError, match="it was moved or copied without its store") as error:
            load_run(place / "runs/a")
        assert "output=NEW" in error.value.hint
    finally:
        hidden.rename(made)
    assert (tmp_path / "out").is_dir()


def test_a_run_that_is_moved_alone_finds_the_store_where_it_was(made, tmp_path):
    alone = Path(shutil.copytree(made / "runs/a", tmp_path / "alone"))
    assert load_run(alone).store.folder == load_run(made / "runs/a").store.folder


def test_the_recipe_of_a_moved_run_does_not_write_to_where_the_run_was(place, made, monkeypatch):
    before = (made / "runs/a/run.json").stat().st_mtime_ns
    with pytest.raises(TokensieveError, match="was moved or copied, and its recipe writes to") as error:
        load_recipe(place / "runs/a/recipe.yaml")
    assert f"output={place / 'runs/a'}" in error.value.hint
    assert load_recipe(made / "runs/a/recipe.yaml").output_folder == made / "runs/a"
    monkeypatch.setattr(worker, "Forward", lambda *_, **__: pytest.fail("measured again"))
    pipeline.run(
        load_recipe(place / "runs/a/recipe.yaml", [f"output={place / 'runs/a'}", f"store={place / 'runs/store'}"]),
        "select",
        progress=False,
    )
    assert (made / "runs/a/run.json").stat().st_mtime_ns == before


def test_a_damaged_tokenizer_is_named(place):
    view = load_run(place / "runs/a")
    (view.store.folder / "tokenizer" / "tokenizer.json").write_text("null")
    with pytest.raises(TokensieveError, match=r"(?s)the file is damaged.*tokenizer\.json"):
        _ = view.decoder
