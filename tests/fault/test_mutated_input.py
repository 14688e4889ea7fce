"""Mutated rows, recipes, scores, stored shards and run folders: no traceback, exit code 0 or 2, and every row counted.

`make soak` runs SOAK_MUTATIONS of each kind.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from good_inputs import COLUMNS, GOOD_ROWS, RECIPE
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tokensieve import json_text
from tokensieve.cli import main
from tokensieve.data.counts import Counts
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoder
from tokensieve.errors import TokensieveError
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import Recipe, load_recipe
from tokensieve.runs.view import load_run

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
MUTATIONS = int(os.environ.get("SOAK_MUTATIONS", "40"))
Mutated = settings(
    max_examples=MUTATIONS,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large),
    derandomize="SOAK_MUTATIONS" not in os.environ,
)

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "a", "\ud800", "<image>", "\0", "[", "{}", "[[0, 1]]", "assistant", "~nouser", "a" * 300]),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        TEXTS,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any, depth: int = 4) -> Any:
    """Return a value with a part of it replaced, removed, doubled or added."""
    if depth and isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 5)):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return {**value, draw(TEXTS | st.sampled_from(COLUMNS)): draw(VALUES)}
            case 2:
                return {**value, draw(st.sampled_from(sorted(value))): value[key]}
            case _:
                return {**value, key: draw(mutated(value[key], depth - 1))}
    if depth and isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case _:
                return [*value[:place], draw(mutated(value[place], depth - 1)), *value[place + 1 :]]
    return draw(VALUES)


def outcome(*arguments: str) -> str:
    """Run a command; return its standard error, and fail where it ends in another way than with 0 or with one error."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = stop.code
    assert code in (0, 2), err.getvalue()
    assert code == 0 or err.getvalue()
    return err.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@pytest.fixture(scope="module")
def encoder() -> Any:
    from tokensieve.data.tokenize import load_encoder

    return load_encoder(str(MODEL))


ROWS = st.lists(
    st.one_of(
        st.sampled_from(GOOD_ROWS),
        st.sampled_from(GOOD_ROWS).flatmap(mutated),
        st.sampled_from(GOOD_ROWS).flatmap(mutated).flatmap(mutated),
        st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=4),
    ),
    min_size=1,
    max_size=6,
)


def counted(path: Path, encoder: Encoder) -> Counts | None:
    """Return what became of the rows of a file; None where not one can be used."""
    store = path.parent / "store"
    shutil.rmtree(store, ignore_errors=True)
    data = DataSettings(files=(str(path),), bad_rows="skip")
    try:
        counts = prepare(data, encoder, store, lambda _: None).counts
    except TokensieveError:
        return None
    kept_apart = store.glob("examples/*/bad_rows.jsonl")
    left_out = [row for one in kept_apart for row in json_text.parse_lines(one.read_bytes())]
    assert len(left_out) == counts.bad_rows
    assert all(one["at"] and one["reason"] for one in left_out)
    return counts


def told(counts: Counts) -> int:
    """Return how many rows are examples, or were dropped with a reason."""
    return counts.bad_rows + counts.examples + counts.rows_without_trainable + counts.rows_cut_empty


@Mutated
@given(rows=ROWS, cut=st.none() | st.integers(0, 400))
def test_every_row_is_an_example_or_dropped_with_a_reason(place, encoder, rows, cut):
    path = place / "rows.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text if cut is None else text[: max(1, cut)] + text[cut + 1 :], encoding="utf-8")
    lines = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
    assume(not (lines and lines[0].lstrip().startswith("[")))  # one array, whose rows are no lines
    counts = counted(path, encoder)
    assert counts is None or told(counts) == len(lines)


@Mutated
@given(rows=ROWS, keyed=st.booleans())
def test_every_value_of_a_document_is_an_example_or_dropped_with_a_reason(place, encoder, rows, keyed):
    path = place / "rows.json"
    path.write_text(json.dumps({"data": rows} if keyed else rows), encoding="utf-8")
    counts = counted(path, encoder)
    assert counts is None or told(counts) == len(rows)


def loaded(path: Path) -> Recipe | TokensieveError:
    """Return what a recipe is read as: any other error than ours is one of the test."""
    try:
        return load_recipe(path)
    except TokensieveError as error:
        return error


@Mutated
@given(recipe=mutated(RECIPE).flatmap(mutated), noise=st.none() | st.tuples(st.integers(0, 600), st.binary(max_size=4)))
def test_recipes(place, recipe, noise):
    from tokensieve import yaml12

    (place / "data.jsonl").write_text(json.dumps(GOOD_ROWS[0]) + "\n")
    around = {"output": str(place / "run"), "data": str(place / "data.jsonl"), "models": {"base": str(MODEL)}}
    try:
        text = yaml12.dump({**around, **recipe} if isinstance(recipe, dict) else recipe).encode()
    except UnicodeEncodeError:
        text = repr(recipe).encode("utf-8", "surrogatepass")
    if noise is not None:
        text = text[: noise[0]] + noise[1] + text[noise[0] + len(noise[1]) :]
    path = place / "recipe.yaml"
    path.write_bytes(text)
    found = loaded(path)
    assert found.output if isinstance(found, Recipe) else found.what


@pytest.fixture(scope="module")
def made(tmp_path_factory, demo_pool) -> Path:
    """A folder with a run in `runs/a` and its store beside it."""
    folder = tmp_path_factory.mktemp("made")
    given = [f"output={folder / 'runs/a'}", f"data.files=[{demo_pool}]", "data.limit=8", f"models.base={MODEL}"]
    pipeline.run(load_recipe(None, [*given, "method=loss", "controls=[random]", "train=null"]), "select")
    return folder


@Mutated
@given(data=st.data())
def test_run_folders_and_stores(place, made, data):
    copy = place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(made, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.suffix != ".html")
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    if path.suffix == ".json" and data.draw(st.booleans()):
        path.write_text(json.dumps(data.draw(mutated(json.loads(content)))), encoding="utf-8")
    elif data.draw(st.integers(0, 4)) == 0:
        path.unlink()
    else:
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        noise = data.draw(st.binary(max_size=8))
        path.write_bytes(content[:at] + noise + content[at + data.draw(st.integers(0, 8)) :])
    run = str(copy / "runs/a")
    command = data.draw(
        st.sampled_from([
            ["show", run], ["report", run], ["compare", run],
            ["export", run, "--to", "trl", "--output", str(copy / "out")],
        ])
    )  # fmt: skip
    outcome(*command)


@pytest.fixture(scope="module")
def scored(made) -> list[dict[str, Any]]:
    """What another tool might write: a score for each token."""
    store = load_run(made / "runs/a").store
    return [
        {"row": int(row), "scores": [0.5] * length}
        for examples in store
        for row, length in zip(examples.rows, np.diff(examples.cu_seqlens).tolist(), strict=True)
    ]


@Mutated
@given(data=st.data())
def test_scores_to_import(place, made, scored, data):
    copy = place / "imported"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(made, copy)
    lines = data.draw(mutated(scored))
    path = place / "scores.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (lines if isinstance(lines, list) else [lines])))
    name = data.draw(st.sampled_from(["mine", "../evil", "loss", "a/b", "", "\ud800", "a" * 300]))
    outcome("import", str(copy / "runs/a"), str(path), f"--name={name}", "--fraction", "0.5")
