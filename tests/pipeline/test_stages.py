"""Whole runs on the embedded model."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from tokensieve.demo.dataset import write
from tokensieve.errors import TokensieveError
from tokensieve.export.write import export_arm
from tokensieve.measure import worker as measure_module
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline import training_bench
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import dump_recipe, load_recipe
from tokensieve.runs.view import load_run
from tokensieve.select.streaming import read_selection
from tokensieve.store.atomic import read_json, write_json
from tokensieve.store.sealed import write_sealed
from tokensieve.store.shards import read_shard

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(0, folder)
    return folder


@pytest.fixture(scope="module")
def arguments(data):
    """Return the overrides of a small run: 40 rows, two optimizer steps."""

    def make(output: Path, *more: str) -> list[str]:
        return [
            f"output={output}",
            f"data.files=[{data / 'pool.jsonl'}]",
            "data.limit=40",
            "data.max_length=256",
            f"models.base={MODEL}",
            "models.reference.warm_up={rows: 10, pick: random, train: {max_steps: 3, learning_rate: 1e-3}}",
            "train.max_steps=2",
            "train.per_device_train_batch_size=8",
            "train.gradient_accumulation_steps=1",
            "train.gradient_checkpointing=false",
            "train.lora.r=4",
            f"evaluate.held_out=[{data / 'warmup.jsonl'}]",
            f"evaluate.exact_match={{files: [{data / 'test.jsonl'}], limit: 4, max_new_tokens: 8}}",
            *more,
        ]

    return make


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory) -> Path:
    return pipeline.run(load_recipe(None, arguments(tmp_path_factory.mktemp("runs") / "run")))


def rows_of(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("train-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_seconds_and_tokens_of_the_stages_are_noted(finished):
    state = read_json(finished / "run.json")
    (shard,) = (finished / state["examples"]).glob("shard-*.arrow")
    tokens = len(read_shard(shard)[1]["input_ids"])
    assert state["tokens"]["measure base"] == state["tokens"]["select token-cleaning"] == tokens
    assert 0 < state["tokens"]["train full"] <= tokens
    seconds = read_json(finished / "times.json")
    assert set(state["tokens"]) <= set(seconds)
    assert min(seconds.values()) > 0


def test_every_arm_is_selected_trained_and_evaluated(finished):
    assert {path.name for path in (finished / "arms").iterdir()} == {
        "token-cleaning",
        "full",
        "random",
        "base",
        "reference",
    }
    losses = {}
    for arm in ("token-cleaning", "full", "random"):
        assert (finished / "arms" / arm / "model" / "adapter_model.safetensors").is_file()
        losses[arm] = read_json(finished / "arms" / arm / "evaluation.json")["held_out"]["loss"]
    assert len(set(losses.values())) == 3
    answers = (finished / "arms/full/predictions.jsonl").read_text().splitlines()
    assert len(answers) == 4
    assert json.loads(answers[0]).keys() >= {"row", "prompt", "answer", "prediction", "correct"}
    assert (finished / "report.html").is_file()


def test_counts_are_exact_and_turn_ends_kept(finished):
    full, clean, control = (
        read_json(finished / "arms" / arm / "selection.json") for arm in ("full", "token-cleaning", "random")
    )
    assert full["kept"] == full["trainable"]
    assert clean["kept"] == control["kept"] == int(full["trainable"] * 0.6)
    for arm in ("token-cleaning", "random"):
        every = rows_of(finished / "arms/full/cleaned/data")
        rows = rows_of(finished / "arms" / arm / "cleaned/data")
        assert len(rows) == len(every) == 40
        for row, whole in zip(rows, every, strict=True):
            assert row["input_ids"] == whole["input_ids"]
            kept = [t for t, label in enumerate(row["labels"]) if label != -100]
            assert set(kept) <= {t for t, label in enumerate(whole["labels"]) if label != -100}
            assert row["assistant_masks"] == [int(label != -100) for label in row["labels"]]
            assert row["attention_mask"] == [1] * len(row["labels"])
            last = max(t for t, label in enumerate(whole["labels"]) if label != -100)
            assert last in kept, "the turn end of the last answer"


def test_cleaned_data_loads_with_datasets_in_both_formats(finished, tmp_path):
    folder = finished / "arms/token-cleaning/cleaned"
    parquet = datasets.load_dataset(str(folder / "data"), split="train", cache_dir=str(tmp_path))
    lines = datasets.load_dataset(str(folder / "jsonl"), split="train", cache_dir=str(tmp_path))
    assert parquet["labels"] == lines["labels"]
    assert str(parquet.features["input_ids"].feature) == "Value('int32')"
    assert set(parquet.column_names) == {"input_ids", "attention_mask", "labels", "assistant_masks"}


def test_the_same_command_again_does_nothing(finished, monkeypatch):
    stamps = {
        p: p.stat().st_mtime_ns
        for p in finished.rglob("*")
        if p.is_file() and p.suffix in (".arrow", ".parquet", ".safetensors")
    }
    monkeypatch.setattr(measure_module, "Forward", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(training_bench, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(pipeline, "evaluate_model", lambda *_: pytest.fail("evaluated again"))
    pipeline.run(load_recipe(finished / "recipe.yaml"))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_another_method_and_ratio_measure_nothing_again(finished, arguments, monkeypatch):
    monkeypatch.setattr(measure_module, "Forward", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(training_bench, "train", lambda *_, **__: pytest.fail("trained again"))
    output = finished.with_name("other")
    pipeline.run(load_recipe(None, arguments(output, "method={name: rho-1, fraction: 0.3}")), "select")
    assert read_json(output / "arms/rho-1/selection.json")["rule"]["scope"] == "example"
    random = read_json(output / "arms/random/selection.json")
    assert random["rule"]["name"] == "TopCount"
    assert random["kept"] == read_json(output / "arms/rho-1/selection.json")["kept"]
    thresholded = pipeline.run(
        load_recipe(None, arguments(finished.with_name("threshold"), "select.threshold=0.0")), "select"
    )
    full, clean, control = (
        read_json(thresholded / "arms" / arm / "selection.json") for arm in ("full", "token-cleaning", "random")
    )
    assert clean["kept"] == control["kept"] < full["kept"] == full["trainable"]
    scores, kept = read_selection(thresholded / "arms/token-cleaning/scores", 0)
    assert kept[scores > 0].all()
    assert not kept.all()


def test_a_folder_of_another_recipe_is_refused_with_the_difference(finished, arguments):
    with pytest.raises(TokensieveError, match=r"method\.fraction: None there, 0\.5 here") as error:
        pipeline.run(load_recipe(None, arguments(finished, "method={name: token-cleaning, fraction: 0.5}")))
    assert "give another output" in str(error.value)
    with pytest.raises(TokensieveError, match="did you mean 'fraction'"):
        pipeline.run(load_recipe(None, arguments(finished, "method={name: token-cleaning, fracton: 0.5}")))
    other = finished.parent / "holiday"
    other.mkdir()
    (other / "photo.jpg").write_bytes(b"x")
    with pytest.raises(TokensieveError, match="not empty and holds no run"):
        pipeline.run(load_recipe(None, arguments(other)))


def test_a_run_that_failed_before_any_result_leaves_a_folder_for_the_corrected_recipe(arguments, tmp_path):
    output = tmp_path / "run"
    one_step = "models.reference.warm_up={rows: 10, train: {max_steps: 1}}"  # its learning rate is still 0
    with pytest.raises(TokensieveError, match="same score"):
        pipeline.run(load_recipe(None, arguments(output, one_step)))
    assert (output / "recipe.yaml").is_file()
    (output / ".recipe.yaml.17.partial").write_text("half a rec")
    recipe = load_recipe(None, arguments(output, "train=null", "seed=3"))
    pipeline.run(recipe, "select")
    assert load_recipe(output / "recipe.yaml").seed == 3
    with pytest.raises(TokensieveError, match="seed: 3 there, 4 here"):
        pipeline.run(load_recipe(None, arguments(output, "train=null", "seed=4")), "select")


def test_statistics_alone_bind_a_folder_to_no_recipe_and_stay_in_the_store(arguments, finished, tmp_path):
    output, store = tmp_path / "run", f"store={finished.parent / 'store'}"
    pipeline.run(load_recipe(None, arguments(output, store, "train=null")), "measure")
    write_json(output / "times.json", {"measure base": 99.0})
    pipeline.run(load_recipe(None, arguments(output, store, "train=null")), "measure")
    assert read_json(output / "times.json")["measure base"] == 99.0
    pipeline.run(load_recipe(None, arguments(output, store, "train=null", "seed=3")), "measure")
    assert "measure base" not in read_json(output / "times.json"), "they were those of another recipe"


def test_a_leftover_of_a_killed_run_is_no_content_of_a_folder(arguments, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.recipe.yaml.17.partial").write_text("half a rec")
    plan = make_plan(load_recipe(None, arguments(tmp_path / "run")))
    pipeline.check_folder(plan)
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(TokensieveError, match="not empty"):
        pipeline.check_folder(plan)


@pytest.mark.parametrize("extra", ["# of mine\n", "seed: 1 \n"])
def test_a_recipe_of_the_user_is_never_overwritten(extra, arguments, tmp_path):
    values = dump_recipe(load_recipe(None, arguments(tmp_path)))
    mine = tmp_path / "recipe.yaml"
    mine.write_text(values.replace("seed: 0\n", extra))
    before = mine.read_text()
    with pytest.raises(TokensieveError, match="no run wrote"):
        pipeline.run(load_recipe(None, arguments(tmp_path)))
    assert mine.read_text() == before


@pytest.mark.parametrize("key", ["output", "store"])
def test_a_folder_below_a_file(key, arguments, tmp_path):
    (tmp_path / "file").touch()
    plan = make_plan(load_recipe(None, arguments(tmp_path / "run", f"{key}={tmp_path / 'file/sub'}")))
    with pytest.raises(TokensieveError, match=f"'{tmp_path / 'file'}' is a file, and a folder is needed") as error:
        pipeline.check_folder(plan)
    assert error.value.where == f"recipe: {key}"


def test_new_evaluation_settings_evaluate_again_and_train_nothing(finished, monkeypatch):
    monkeypatch.setattr(training_bench, "train", lambda *_, **__: pytest.fail("trained again"))
    before = read_json(finished / "arms/full/evaluation.json")["exact_match"]["examples"]
    pipeline.run(load_recipe(finished / "recipe.yaml", ["evaluate.exact_match.limit=3"]))
    assert (before, read_json(finished / "arms/full/evaluation.json")["exact_match"]["examples"]) == (4, 3)


def test_the_scores_are_the_difference_of_the_losses(finished):
    statistics = load_run(finished).statistics
    loss = {role: read_shard(folder / "loss/shard-00000.arrow")[1]["loss"] for role, folder in statistics.items()}
    score = read_shard(finished / "arms/token-cleaning/scores/shard-00000.arrow")[1]["score"]
    np.testing.assert_array_equal(score, loss["base"] - loss["reference"])
    assert np.abs(score).max() > 0.1


def selection_of(folder: Path, arm: str) -> dict:
    return read_json(folder / "arms" / arm / "selection.json")


@pytest.mark.parametrize(
    ("method", "share"),
    [
        ("sstoken", (0.6, 0.75)),
        ("{name: rho-1, current: current, scope: batch}", (0.55, 0.61)),
        ("{name: uds, examples: 2}", (0.1, 0.5)),
        pytest.param("{name: profit, probability: 0.5}", (0.05, 0.9), marks=pytest.mark.slow),
        pytest.param("eaft", (1, 1), marks=pytest.mark.slow),
    ],
)
def test_a_method_that_selects_while_the_model_trains(method, share, arguments, tmp_path):
    recipe = load_recipe(None, arguments(tmp_path / "run", f"method={method}", "controls=[full, random]"))
    folder = pipeline.run(recipe)
    name = recipe.method["name"]
    # Random tokens beside a method that keeps every token would be all tokens: a second full.
    controls = ("full",) if name == "eaft" else ("full", "random")
    assert selection_of(folder, name)["online"]
    training = read_json(folder / "arms" / name / "model/training.json")
    assert any("selection/kept_share" in entry for entry in training["log"])
    assert share[0] <= training["selection"]["kept"] / training["selection"]["trainable"] <= share[1]
    columns = pq.read_schema(next((folder / f"arms/{name}/training/data").iterdir())).names
    assert columns[:2] == ["input_ids", "labels"]
    assert not [column for column in columns if column.startswith("current.")]
    losses = {
        arm: read_json(folder / "arms" / arm / "evaluation.json")["held_out"]["loss"]
        for arm in ("base", name, *controls)
    }
    assert {path.name for path in (folder / "arms").iterdir()} - {"reference"} == set(losses)
    assert losses[name] < losses["base"]
    assert losses[name] != losses["full"]
    shown = load_run(folder).row(name).selection
    assert shown is not None
    assert shown.kept == training["selection"]["kept"]


def test_the_offline_variant_of_an_online_method(arguments, finished, tmp_path):
    """With a fixed model for the role `current`, nothing is left to choose in training."""
    tuned = finished / "arms/full/model"
    recipe = load_recipe(
        None, arguments(tmp_path / "run", "method=sstoken", f"models.current.adapter={tuned}", "controls=[]")
    )
    folder = pipeline.run(recipe, until="train")
    selection = selection_of(folder, "sstoken")
    assert not selection["online"]
    assert selection["statistics"]["current.loss"] != selection["statistics"]["history.loss"]
    assert not (folder / "arms/sstoken/training").exists()
    assert "selection" not in read_json(folder / "arms/sstoken/model/training.json")


def test_offline_weights_are_in_the_training_data(arguments, finished, tmp_path):
    tuned = finished / "arms/full/model"
    recipe = load_recipe(
        None, arguments(tmp_path / "run", "method=dft", f"models.current.adapter={tuned}", "controls=[]")
    )
    folder = pipeline.run(recipe, until="train")
    (path,) = (folder / "arms/dft/training/data").iterdir()
    rows = pq.read_table(path).to_pylist()
    weights = np.concatenate([row["weights"] for row in rows])
    trainable = np.concatenate([row["labels"] for row in rows]) != -100
    assert set(rows[0]) == {"input_ids", "labels", "kept", "weights"}
    assert (weights[~trainable] == 0).all()
    assert 0 < weights[trainable].min() < weights[trainable].max() <= 1


def test_what_speaks_against_a_token_is_kept_and_shown(arguments, tmp_path, capsys):
    from tokensieve.cli import main

    recipe = load_recipe(None, arguments(tmp_path / "run", "method=xtf", "controls=[]", "train=null"))
    folder = pipeline.run(recipe)
    view = load_run(folder)
    reasons = view.shard(0).reasons["xtf"]
    kept, trainable = view.shard(0).kept["xtf"], view.shard(0).trainable
    assert (reasons[trainable & ~kept] > 0).all()
    assert (trainable & ~kept).any()
    names = selection_of(folder, "xtf")["reasons"]
    number = next(n for n in range(len(view)) if any(view.example(n).reasons("xtf", names)))
    against = {reason for token in view.example(number).reasons("xtf", names) for reason in token}
    main(["show", str(folder), "--example", str(number)])
    shown = capsys.readouterr().out.replace("\n", " ")
    assert any(f"dropped as {reason}" in shown for reason in against)
    page = (folder / "report.html").read_text()
    (packed,) = re.findall(r'id="payload">([^<]*)<', page)
    payload = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert payload["arms"][-1]["reasons"] == names
    assert selection_of(folder, "xtf")["fitted"]["relevance_threshold"] is not None
    words = list((tmp_path / "store/statistics").rglob("domain_words.json"))
    assert len(words) == 1
    assert len(read_json(words[0])) > 10


def test_a_control_keeps_its_own_scope_and_takes_the_fraction(finished, arguments):
    """Beside `token-cleaning`, `rho-1` ranks within each example: it is another arm."""
    output = finished.with_name("controls")
    given = "controls=[full, random, rho-1, {name: loss, fraction: 0.2}]"
    pipeline.run(load_recipe(None, arguments(output, "method={name: token-cleaning, fraction: 0.5}", given)), "select")
    leader, random, rho_1, loss = (selection_of(output, arm) for arm in ("token-cleaning", "random", "rho-1", "loss"))
    assert leader["rule"] == {"name": "TopFraction", "fraction": 0.5, "scope": "dataset", "rounding": "floor"}
    assert rho_1["rule"] == {"name": "TopFraction", "fraction": 0.5, "scope": "example", "rounding": "floor"}
    assert loss["rule"]["fraction"] == 0.2
    assert random["kept"] == leader["kept"] == int(leader["trainable"] * 0.5)
    chosen = [read_selection(output / "arms" / arm / "scores", 0)[1] for arm in ("token-cleaning", "rho-1")]
    assert not np.array_equal(chosen[0], chosen[1])
    reasons = [one["share_reason"] for one in (leader, random, rho_1, loss)]
    assert reasons == [
        "top 0.5 of the data set, rounded down",
        "as many tokens as token-cleaning",
        "top 0.5 of each example, rounded down: the fraction of token-cleaning",
        "top 0.2 of the data set, rounded down",
    ]


def test_a_refused_command_writes_nothing_and_an_export_refuses_too(arguments, data, tmp_path):
    pool = tmp_path / "pool.jsonl"
    rows = (data / "pool.jsonl").read_text().splitlines(keepends=True)[:40]
    pool.write_text("".join(rows))
    given = arguments(tmp_path / "run", f"data.files=[{pool}]", "controls=[random]", "train=null")
    folder = pipeline.run(load_recipe(None, given), "select")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    stores = set((tmp_path / "store/examples").glob("*/manifest.json"))
    pool.write_text("".join([rows[1], rows[0], *rows[2:]]))
    with pytest.raises(TokensieveError, match="selected from other examples"):
        pipeline.run(load_recipe(None, given), "select")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    # What an earlier version wrote: the state names the new examples, the arms are of the old ones.
    state = read_json(folder / "run.json")
    (other,) = set((tmp_path / "store/examples").glob("*/manifest.json")) - stores
    write_sealed(folder / "run.json", {**state, "examples": str(other.parent)})
    with pytest.raises(TokensieveError, match="selected from other examples than those of the run"):
        export_arm(folder, "jsonl")
    with pytest.raises(TokensieveError, match="selected from other examples than those of the run"):
        load_run(folder)


def test_a_model_that_changed_is_refused_before_the_state_is_written(arguments, finished, tmp_path):
    """The statistics of other weights must not stand beside a selection that was made from the first ones."""
    tuned = tmp_path / "adapter"
    shutil.copytree(finished / "arms/full/model", tuned)
    given = arguments(
        tmp_path / "run", f"models.reference={{adapter: {tuned}}}", "controls=[]", "train=null", "evaluate={}"
    )
    folder = pipeline.run(load_recipe(None, given), "select")
    before = (folder / "run.json").read_bytes()
    shutil.copytree(finished / "arms/random/model", tuned, dirs_exist_ok=True)
    with pytest.raises(TokensieveError, match=r"statistics\.reference\.loss"):
        pipeline.run(load_recipe(None, given), "measure")
    assert (folder / "run.json").read_bytes() == before


def test_a_reference_that_is_the_base_is_refused(arguments, tmp_path):
    same = tmp_path / "same"
    shutil.copytree(MODEL, same)
    for number, reference in enumerate((MODEL, same)):
        given = arguments(tmp_path / str(number), f"models.reference={{path: {reference}}}")
        with pytest.raises(TokensieveError, match=r"models\.reference and models\.base are the same model"):
            pipeline.run(load_recipe(None, given), "select")
        assert not (tmp_path / str(number) / "arms").exists()


def warm_up_warnings(recipe_arguments, capsys) -> str:
    pipeline.run(load_recipe(None, recipe_arguments), "measure")
    shown = capsys.readouterr().err
    return "\n".join(line for line in shown.splitlines() if line.startswith("warning: models.reference"))


def test_a_warm_up_that_teaches_nothing_is_named(arguments, tmp_path, capsys):
    """Three steps at a learning rate of next to nothing leave the reference where the base is."""
    little = "models.reference.warm_up={rows: 10, train: {max_steps: 3, learning_rate: 1e-9}}"
    given = arguments(tmp_path / "run", little)
    shown = warm_up_warnings(given, capsys)
    assert "did not make the base better on its own rows" in shown
    assert "in 3 optimizer steps" in shown
    assert "gradient_accumulation_steps: 1" in shown
    assert warm_up_warnings(given, capsys) == shown, "said again whenever the model is used"


def test_a_warm_up_of_few_steps_is_named_and_one_that_teaches_is_not(arguments, tmp_path, capsys):
    few = "models.reference.warm_up={rows: 10, train: {max_steps: 6, learning_rate: 3e-3}}"
    assert "takes 6 optimizer steps only" in warm_up_warnings(arguments(tmp_path / "few", few), capsys)
    many = "models.reference.warm_up={rows: 10, train: {max_steps: 25, learning_rate: 3e-3}}"
    assert warm_up_warnings(arguments(tmp_path / "many", many), capsys) == ""
    (made,) = (path for path in (tmp_path / "store/models").glob("*/manifest.json")
               if read_json(path)["result"]["steps"] == 25)  # fmt: skip
    result = read_json(made)["result"]
    assert 0 < result["low"] < result["gain"] < result["high"]


@pytest.mark.parametrize("name", ["scores/shard-00000.arrow", "scores/kept/shard-00000.arrow", "cleaned/data/train-*"])
def test_a_deleted_file_of_an_arm_is_made_again(finished, arguments, name, monkeypatch):
    (path,) = (finished / "arms/token-cleaning").glob(name)
    whole = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(measure_module, "Forward", lambda *_: pytest.fail("measured again"))
    pipeline.run(load_recipe(finished / "recipe.yaml"), "select")
    assert path.read_bytes() == whole


def test_a_selection_in_which_every_score_ties_is_refused(arguments, tmp_path):
    """A warm-up that changes nothing makes a reference whose every loss is the base's."""
    nothing = "models.reference.warm_up={rows: 10, train: {max_steps: 1, learning_rate: 1e-30}}"
    with pytest.raises(TokensieveError, match="'token-cleaning' gives every token the same score"):
        pipeline.run(load_recipe(None, arguments(tmp_path / "run", nothing)), "select")
    assert not (tmp_path / "run/arms/token-cleaning/selection.json").exists()
    assert not list((tmp_path / "run/arms/token-cleaning").rglob("*.arrow"))


def test_a_warm_up_of_one_step_whose_learning_rate_is_still_0_is_refused(arguments, tmp_path):
    """The first step of a schedule that warms up has a learning rate of 0: the reference is the base."""
    one = "models.reference.warm_up={rows: 10, train: {max_steps: 1}}"
    with pytest.raises(TokensieveError, match="'token-cleaning' gives every token the same score"):
        pipeline.run(load_recipe(None, arguments(tmp_path / "run", one)), "select")


def test_a_method_that_compares_with_its_own_past_may_tie_before_the_first_step(arguments, tmp_path):
    given = arguments(tmp_path / "run", "method={name: sstoken, gamma: 1.0}", "controls=[]", "evaluate={}")
    folder = pipeline.run(load_recipe(None, given), "train")
    assert read_json(folder / "arms/sstoken/model/training.json")["selection"]["kept"] > 0


@pytest.mark.parametrize(
    ("method", "of"),
    [("{name: uds, examples: 2}", "examples"), ("{name: rho-1, current: current, scope: batch}", "tokens")],
)
def test_a_random_control_trains_on_as_much_as_an_online_method(method, of, arguments, tmp_path, capsys):
    given = arguments(tmp_path / "run", f"method={method}", "controls=[random]", "evaluate={}", "train.max_steps=5")
    recipe = load_recipe(None, given)
    folder = pipeline.run(recipe)
    name = recipe.method["name"]
    trained = [read_json(folder / "arms" / arm / "model/training.json") for arm in (name, "random")]
    counts = [one["selection"] for one in trained]
    if of == "examples":
        assert [one["examples"] for one in counts] == [10, 10]
    assert 0 < counts[1]["kept"] < counts[1]["trainable"]
    assert abs(counts[0]["kept"] / counts[0]["trainable"] - counts[1]["kept"] / counts[1]["trainable"]) < (
        0.02 if of == "tokens" else 1
    )
    view = load_run(folder)
    selection = view.row("random").selection
    assert selection is not None
    assert (selection.online, selection.kept) == (True, counts[1]["kept"])
    told = capsys.readouterr().err
    assert f"train {name}: 5 optimizer steps\n" in told
    assert "train random: 5 optimizer steps\n" in told
    for one in trained:
        assert [entry["step"] for entry in one["log"] if "loss" in entry] == [1, 2, 3, 4, 5]
    page = (folder / "report.html").read_text()
    (packed,) = re.findall(r'id="payload">([^<]*)<', page)
    payload = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert [len(arm["losses"]) for arm in payload["arms"]] == [5, 5]


def test_few_steps_are_warned_of_before_anything_is_made(arguments, tmp_path, capsys):
    given = arguments(tmp_path / "run", "train.max_steps=-1", "train.gradient_accumulation_steps=6", "evaluate={}")
    pipeline.run(load_recipe(None, given), "train")
    told = capsys.readouterr().err
    warned = told.index("warning: train token-cleaning, full, random: 1 optimizer step only")
    assert warned < told.index("make reference: 3 optimizer steps\n")
    assert "train full: 1 optimizer step\n" in told


def test_no_evaluation_says_where_the_users_files_are(finished, data):
    found = [path.read_text("utf-8") for path in finished.rglob("evaluation.json")]
    assert found
    assert [text for text in found if str(data) in text or str(finished.parent) in text] == []
