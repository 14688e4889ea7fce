from __future__ import annotations

import json

import numpy as np
import pytest
from manifests import record_again

from tokensieve.errors import TokensieveError
from tokensieve.runs.view import load_run
from tokensieve.store.atomic import read_json
from tokensieve.store.sealed import write_sealed
from tokensieve.store.shards import write_shard


def edit(path, **changes):
    write_sealed(path, {**read_json(path), **changes})


def test_rows_are_controls_then_method_then_points_of_reference(demo):
    view = load_run(demo.folder)
    assert [row.name for row in view.rows] == ["full", "random", "token-cleaning", "base"]
    assert view.arms == ("full", "random", "token-cleaning")
    assert view.row("base").selection is None


def test_figures_and_intervals_are_read(demo):
    figures = load_run(demo.folder).row("token-cleaning").evaluation
    assert figures.loss is not None
    assert (figures.loss.value, figures.loss.low) == (pytest.approx(1.4), pytest.approx(1.3))
    assert figures.tasks["boolq", "acc"].low == pytest.approx(0.5 - 1.96 * 0.1, abs=1e-3)
    assert figures.tasks["arc_challenge", "acc_norm"].low is None
    assert ("boolq", "acc_stderr") not in figures.tasks


@pytest.mark.parametrize("number", range(6))
def test_examples_of_every_shard_are_aligned(demo, number):
    example = load_run(demo.folder).example(number)
    assert example.row == 10 + number
    assert example.token_ids == demo.ids[number]
    assert example.trainable.tolist() == [label != -100 for label in demo.labels[number]]
    assert example.kept("token-cleaning").tolist() == demo.kept[number]
    assert example.value("token-cleaning", "score").tolist() == demo.scores[number]
    assert np.array_equal(
        example.value("full", "reference.loss"), 2 * np.abs(np.array(demo.scores[number], dtype=np.float32))
    )


def test_examples_are_found_by_source_row(demo):
    view = load_run(demo.folder)
    assert [view.number_of_row(row) for row in (10, 13, 14)] == [0, 3, 4]
    with pytest.raises(TokensieveError, match="source row 3"):
        view.number_of_row(3)


def test_a_missing_evaluation_is_tolerated(demo):
    for path in demo.folder.glob("arms/*/evaluation.json"):
        path.unlink()
    rows = load_run(demo.folder).rows
    assert [row.name for row in rows] == ["full", "random", "token-cleaning"]
    assert all(row.evaluation.loss is None for row in rows)


def test_no_run(tmp_path):
    with pytest.raises(TokensieveError, match=r"(?s)holds no run.*run\.json.*hint"):
        load_run(tmp_path)


def test_a_run_that_is_not_selected(demo):
    (demo.folder / "arms" / "random" / "selection.json").unlink()
    with pytest.raises(TokensieveError, match=r"(?s)arm 'random' are not selected yet.*tokensieve select"):
        load_run(demo.folder)


def test_a_garbled_field(demo):
    edit(demo.folder / "arms" / "full" / "evaluation.json", held_out={"loss": 1.0})
    with pytest.raises(TokensieveError, match="KeyError: 'low'"):
        load_run(demo.folder)


@pytest.mark.parametrize("content", ["{", json.dumps([1])])
def test_a_file_that_is_no_json_object(demo, content):
    (demo.folder / "run.json").write_text(content)
    with pytest.raises(TokensieveError, match=r"not (a )?JSON"):
        load_run(demo.folder)


@pytest.mark.parametrize("number", [-1, 6])
def test_an_example_that_is_not_there(demo, number):
    with pytest.raises(TokensieveError, match=f"(?s)no example {number}.*0 to 5"):
        load_run(demo.folder).example(number)


def test_scores_of_other_examples_are_refused(demo):
    path = demo.folder / "arms" / "full" / "scores" / "shard-00001.arrow"
    write_shard(path, np.array([0, 1]), {"score": np.zeros(1, np.float32), "kept": np.zeros(1, bool)})
    record_again(path.parent)
    view = load_run(demo.folder)
    view.example(0)
    with pytest.raises(TokensieveError, match="examples are not those"):
        view.example(4)


def test_a_missing_tokenizer(demo):
    view = load_run(demo.folder)
    (view.store.folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(TokensieveError, match=r"(?s)a file is missing.*tokenizer\.json"):
        view.decoder.name(1)
