"""Models of arms: trained once for the same data, base, settings and seed, and kept in the store."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline import training_bench
from tokensieve.pipeline.imported import import_arm
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.report.analysis.comparison import compare_runs
from tokensieve.runs.view import load_run
from tokensieve.store import atomic
from tokensieve.store.atomic import read_json
from tokensieve.train import trainer as trainer_module

Run = Callable[..., Path]


def arm_folders(folder: Path, arm: str) -> list[Path]:
    return [folder / "arms" / arm, *(folder / "arms" / arm / "seeds").iterdir()]


def weights(folder: Path, arm: str) -> bytes:
    return (folder / "arms" / arm / "model/adapter_model.safetensors").read_bytes()


def test_another_method_ratio_and_run_train_the_control_no_more(run, trained, capsys):
    first = run("first")
    assert len(trained) == 2
    ratio = run("ratio", "method={name: entropy, fraction: 0.3}")
    method = run("method", "method=loss", "controls=[{name: full}, {name: entropy}]")
    assert len(trained) == 4, "entropy at 0.3, and loss"
    assert weights(first, "full") == weights(ratio, "full") == weights(method, "full")
    assert weights(first, "entropy") == weights(method, "entropy") != weights(ratio, "entropy")
    assert "train full: the model in" in capsys.readouterr().err
    assert "train full" in read_json(first / "times.json")
    assert "train full" not in read_json(ratio / "times.json"), "as for statistics that are there"


def test_equal_rows_elsewhere_are_the_same_data(run, trained, data):
    run("first")
    shutil.copy(data / "pool.jsonl", data / "copy.jsonl")
    run("copy", f"data.files=[{data / 'copy.jsonl'}]")
    assert len(trained) == 2


@pytest.mark.parametrize(
    "change", ["train.learning_rate=2e-2", "seed=1", "train.lora.r=3", "data.limit=11", "models.base.dtype=bfloat16"]
)
def test_what_changes_the_model_trains_it(run, trained, change):
    first = run("first", "controls=[]", "method=full")
    other = run("other", "controls=[]", "method=full", change)
    assert len(trained) == 2
    assert weights(first, "full") != weights(other, "full")


def test_an_arm_that_selects_in_training_is_known_by_its_method(run, trained):
    given = ("method={name: uds, examples: 2}", "controls=[full]")
    run("first", *given)
    run("again", *given)
    assert len(trained) == 2
    run("other", "method={name: uds, examples: 3}", "controls=[full]")
    assert len(trained) == 3
    run("turns", *given, "select.keep_turn_end=false")
    assert len(trained) == 4, "the rows are the same, and the ends of turns are not kept"


@pytest.mark.parametrize(
    "method",
    [
        "{name: profit, probability: 0.0025}",
        pytest.param("{name: uds, examples: 2}", marks=pytest.mark.slow),
        "{name: rho-1, current: current, scope: dataset}",
        pytest.param("{name: q-tuning, current: current}", marks=pytest.mark.slow),
    ],
)
def test_a_random_control_of_what_is_selected_in_training_is_found_and_compared(method, run, tiny_model_folder):
    reference = f"models.reference={tiny_model_folder('llama', 1)}"
    folder = run("first", f"method={method}", "controls=[random, full]", reference, until="evaluate")
    rows = {row.name: row for row in load_run(folder).rows}
    leader = next(name for name in rows if name in method)
    chosen = rows["random"].selection
    assert chosen is not None
    assert chosen.online
    assert 0 < chosen.share < 1
    found = {one.arm: one.against for one in compare_runs([folder]).random_differences}
    assert found == {f"first:{leader}": "first:random"}
    again = run("second", f"method={method}", "controls=[{name: random, fraction: 0.01}, random]", reference)
    found = {one.arm: one.against for one in compare_runs([again]).random_differences}
    assert found == {f"second:{leader}": "second:random-2"}


def test_a_run_keeps_its_models_when_the_store_is_deleted(run, data):
    from transformers import AutoModelForCausalLM

    folder = run("first", "train.lora=null")
    shutil.rmtree(data / "store")
    model = AutoModelForCausalLM.from_pretrained(folder / "arms/full/model")
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_a_merged_adapter_is_reused_with_its_folder(run, trained):
    run("first", "train.merge_adapter=true")
    folder = run("again", "train.merge_adapter=true")
    assert len(trained) == 2
    assert (folder / "arms/full/model/merged/model.safetensors").is_file()


def test_files_are_shared_by_links_or_copied_where_there_are_none(run, trained, monkeypatch):
    name = "arms/full/model/adapter_model.safetensors"
    first = run("first")
    assert (first / name).stat().st_nlink == 2
    monkeypatch.setattr(atomic.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    again = run("again")
    assert len(trained) == 2
    assert (again / name).stat().st_nlink == 1
    assert (again / name).read_bytes() == (first / name).read_bytes()


def test_a_damaged_model_of_the_store_is_named_and_one_that_was_deleted_is_made_again(run, trained):
    first = run("first")
    (stored,) = (path for path in first.with_name("store").glob("models/*/model/adapter_model.safetensors")
                 if os.path.samefile(path, first / "arms/full/model/adapter_model.safetensors"))  # fmt: skip
    whole = stored.read_bytes()
    stored.unlink()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TokensieveError, match="its checksum is wrong") as error:
        run("other")
    assert str(stored) in str(error.value)
    assert not (first.with_name("other") / "arms/full/model").exists()
    stored.unlink()
    other = run("other")
    assert len(trained) == 3
    assert weights(other, "full") == whole


def test_a_training_that_was_cut_goes_on_in_any_run_that_needs_it(run, data, monkeypatch):
    """The checkpoints lie in the store, so that another run takes the training up."""
    given = ("controls=[]", "method=full", "train.save_steps=1", "train.max_steps=3")
    whole = run("whole", *given, f"store={data / 'elsewhere'}")
    begun: list[int] = []
    progress = trainer_module._progress

    def cut_after_two(on_step):
        def watched(step, steps):
            begun.append(step)
            on_step(step, steps)
            if step == 2 and begun.count(2) == 1:
                raise KeyboardInterrupt

        return progress(watched)

    monkeypatch.setattr(trainer_module, "_progress", cut_after_two)
    with pytest.raises(KeyboardInterrupt):
        run("cut", *given)
    other = run("other", *given)
    assert begun == [0, 1, 2, 1, 2, 3], "step 2 was done, and its checkpoint was not"
    assert weights(other, "full") == weights(whole, "full")
    assert not list(other.with_name("store").rglob("*checkpoint*"))


@pytest.mark.filterwarnings("ignore:.*is in use by")
def test_two_runs_that_want_one_model_train_it_once(arguments, trained, monkeypatch):
    """The second waits for the lock, and finds the model there."""
    begun, second_begun, counted = threading.Event(), threading.Event(), training_bench.train

    def slow(*given, **keywords):
        begun.set()
        assert second_begun.wait(timeout=60)
        second.join(timeout=1.0)  # it cannot end before the first has let go of the lock
        return counted(*given, **keywords)

    monkeypatch.setattr(training_bench, "train", slow)
    folders = []

    def go(output: str) -> None:
        folders.append(pipeline.run(load_recipe(None, arguments(output, "controls=[]", "method=full")), "train"))

    first, second = (threading.Thread(target=go, args=(name,)) for name in ("first", "second"))
    first.start()
    assert begun.wait(timeout=60)
    second.start()
    second_begun.set()
    first.join()
    second.join()
    assert len(trained) == 1
    assert weights(folders[0], "full") == weights(folders[1], "full")


def test_a_control_that_joins_a_finished_run_is_all_that_is_trained_and_evaluated(run, trained, monkeypatch):
    folder = run("run", until="report")
    before = {path: path.read_bytes() for path in folder.glob("arms/*/evaluation.json")}
    assert len(before) == 3
    evaluated = []
    evaluate = pipeline.evaluate_model
    monkeypatch.setattr(pipeline, "evaluate_model", lambda *given: evaluated.append(1) or evaluate(*given))
    joined = "controls=[full, random, {name: entropy, fraction: 0.2}]"
    assert run("run", joined, until="report") == folder
    assert (len(trained), len(evaluated)) == (4, 2)
    assert {path: path.read_bytes() for path in before} == before
    assert load_run(folder).arms == ("full", "random", "entropy-2", "entropy")
    assert "entropy-2" in (folder / "report.html").read_text()
    pipeline.run(load_recipe(folder / "recipe.yaml"))
    assert (len(trained), len(evaluated)) == (4, 2), "the recipe of the run names what joined"


def test_runs_that_share_a_store_evaluate_a_model_once(run, monkeypatch):
    evaluated = []
    evaluate = pipeline.evaluate_model
    monkeypatch.setattr(pipeline, "evaluate_model", lambda *given: evaluated.append(1) or evaluate(*given))
    first = run("first", until="evaluate")
    assert len(evaluated) == 3, "base, full and the method"
    second = run("second", "method=loss", until="evaluate")
    assert len(evaluated) == 4, "the other method"
    for arm in ("base", "full"):
        for name in ("evaluation.json", "held_out.jsonl"):
            same = [(folder / "arms" / arm / name) for folder in (first, second)]
            assert same[0].read_bytes() == same[1].read_bytes()
            assert not same[0].samefile(same[1]), "a damaged file of a run leaves those of others whole"
    run("third", "evaluate.held_out.limit=3", until="evaluate")
    assert len(evaluated) == 7, "other data"


def test_a_method_that_joins_brings_the_model_that_it_needs(run, trained):
    folder = run("run", until="evaluate")
    reference = "models.reference.warm_up={rows: 6, train: {max_steps: 3, learning_rate: 5e-2}}"
    run("run", "controls=[full, token-cleaning]", reference, until="evaluate")
    assert len(trained) == 4, "the reference and the arm"
    assert [row.name for row in load_run(folder).rows] == ["full", "token-cleaning", "entropy", "base", "reference"]


def test_a_control_that_fails_leaves_the_run_as_it_was(run):
    folder = run("run", until="select")
    written = [(folder / name).read_bytes() for name in ("recipe.yaml", "run.json")]
    same = "models.reference.warm_up={rows: 6, train: {max_steps: 1, learning_rate: 1.0e-30}}"  # changes no weight
    with pytest.raises(TokensieveError, match="same score"):
        run("run", "controls=[full, token-cleaning]", same, until="select")
    assert [(folder / name).read_bytes() for name in ("recipe.yaml", "run.json")] == written
    assert load_run(folder).arms == ("full", "entropy")
    run("run", until="select")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("method=loss", r"method\.name: 'entropy' there, 'loss' here"),
        ("controls=[]", "controls: .* there, .* here"),
        ("controls=[random, full]", "controls: .* there, .* here"),
        ("models.current={adapter: somewhere}", "models.current: None there"),
    ],
)
def test_what_would_change_an_arm_that_is_there_is_refused(run, change, told):
    run("run", until="select")
    with pytest.raises(TokensieveError, match=told) as error:
        run("run", change, until="select")
    assert "add what is new at the end of controls or seeds" in str(error.value)


def test_a_control_does_not_take_the_name_of_an_imported_arm(run, data):
    folder = run("run", until="select")
    import_arm(folder, folder / "arms/entropy/cleaned/jsonl/train.jsonl", "random")
    with pytest.raises(TokensieveError, match="the run has an imported arm named 'random'"):
        run("run", "controls=[full, random]", until="select")


def half_of(folder: Path, write_jsonl) -> Path:
    """Write labels that keep every second token that is trainable."""
    rows = [json.loads(line) for line in (folder / "arms/full/cleaned/jsonl/train.jsonl").read_text().splitlines()]
    for row in rows:
        row["labels"] = [label if place % 2 else -100 for place, label in enumerate(row["labels"])]
    return write_jsonl(*[{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows], name="half.jsonl")


def test_an_imported_arm_is_trained_and_evaluated_beside_the_controls(run, trained, write_jsonl, monkeypatch, capsys):
    folder = run("run", "seeds=[0, 1]", until="evaluate")
    main(["import", str(folder), str(half_of(folder, write_jsonl)), "--name", "theirs"])
    assert f"tokensieve run {folder / 'recipe.yaml'}" in capsys.readouterr().out
    selection = (folder / "arms/theirs/selection.json").read_bytes()
    begun = len(trained)
    pipeline.run(load_recipe(folder / "recipe.yaml"))
    assert len(trained) == begun + 2, "the imported arm, with each seed"
    assert (folder / "arms/theirs/selection.json").read_bytes() == selection
    assert not (folder / "arms/theirs/seeds/1/selection.json").exists()
    row = load_run(folder).row("theirs")
    assert list(row.seeds) == [0, 1]
    assert row.evaluation.loss is not None
    assert row.evaluation.loss.value == pytest.approx(
        np.mean([read_json(path / "evaluation.json")["held_out"]["loss"] for path in arm_folders(folder, "theirs")])
    )
    assert row.evaluation.loss != load_run(folder).row("full").evaluation.loss
    assert any(
        one.arm == "run:theirs" and one.measures["held_out"].seeds == 2
        for one in compare_runs([folder]).full_differences
    )
    monkeypatch.setattr(pipeline, "evaluate_model", lambda *_: pytest.fail("evaluated again"))
    pipeline.run(load_recipe(folder / "recipe.yaml"))
    assert len(trained) == begun + 2


def test_an_imported_selection_that_is_known_is_not_trained_again(run, trained):
    """What another arm selected, brought in as labels, makes the very model of that arm."""
    folder = run("run")
    import_arm(folder, folder / "arms/entropy/cleaned/jsonl/train.jsonl", "same")
    pipeline.run(load_recipe(folder / "recipe.yaml"), "train")
    assert len(trained) == 2
    assert weights(folder, "same") == weights(folder, "entropy")


def test_an_imported_arm_of_a_run_that_trains_nothing_stays_a_selection(run, write_jsonl, capsys):
    folder = run("run", "train=null", until="select")
    main(["import", str(folder), str(half_of(folder, write_jsonl)), "--name", "theirs"])
    assert "to train" not in capsys.readouterr().out
    pipeline.run(load_recipe(folder / "recipe.yaml"), "evaluate")
    assert not (folder / "arms/theirs/model").exists()
