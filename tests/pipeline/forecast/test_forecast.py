"""`tokensieve plan`: a row for each stage, what does not fit, which engine to take, and nothing read of the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from weightless import refuse_models

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.models.size import model_size
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.forecast import forecast as module
from tokensieve.pipeline.forecast import lacks, rates, timed_passes
from tokensieve.pipeline.forecast.flops import Lengths, forward_flops, measured_tokens, trained_tokens, training_flops
from tokensieve.pipeline.forecast.forecast import Forecast, forecast
from tokensieve.pipeline.forecast.hardware import MEASURING_SHARE, TRAINING_SHARE, Hardware
from tokensieve.pipeline.forecast.timed_passes import TrainingRate
from tokensieve.pipeline.inputs import prepare_inputs
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import load_recipe
from tokensieve.progress import StageProgress
from tokensieve.report.cells import in_bytes


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    refuse_models(monkeypatch)


@pytest.fixture
def estimated(arguments) -> Callable[..., Forecast]:
    """Estimate a small run; ``hardware`` as on the command line."""

    def estimate(*more: str, hardware: str = "H100") -> Forecast:
        return forecast(load_recipe(None, arguments("run", *more)), hardware, StageProgress(shown=False))

    return estimate


def names(found: Forecast) -> list[str]:
    return [stage.name for stage in found.stages]


def stage(found: Forecast, name: str) -> module.Stage:
    (one,) = [stage for stage in found.stages if stage.name == name]
    return one


REFERENCE = "models.reference={warm_up: {rows: 4}}"


def test_every_stage_of_a_run_has_a_row(estimated):
    found = estimated(REFERENCE, "method=token-cleaning", "controls=[full, random]", "seeds=[0, 1]")
    assert names(found) == [
        "tokenise",
        "make reference",
        "measure base",
        "measure reference",
        "select",
        "train token-cleaning",
        "train full",
        "train random",
        "evaluate",
    ]
    assert stage(found, "select").detail == "4 selections", "random selects once a seed"
    assert stage(found, "train full").detail == "2 seeds"
    assert stage(found, "evaluate").detail == "8 models"
    table = found.table()
    assert table.names == (*names(found), "total")
    assert [column.title for column in table.columns] == ["devices", "tokens", "FLOPs", "time", "memory", "disk"]
    assert all(len(column.cells) == len(table.names) for column in table.columns)


def test_a_run_without_training_or_evaluation_has_no_such_rows(estimated):
    assert names(estimated("train=null", "evaluate={}")) == ["tokenise", "measure base", "select"]


def test_the_numbers_follow_from_the_lengths(estimated, arguments):
    found = estimated()
    plan = make_plan(load_recipe(None, arguments("run")))
    store, size = prepare_inputs(plan, StageProgress(shown=False)).examples, model_size(plan.base)
    lengths = Lengths.of(store)
    measured = stage(found, "measure base")
    passed = measured_tokens(lengths, 16_384, False)
    assert measured.work.tokens == store.counts.tokens
    assert measured.work.flops == forward_flops(size, passed)
    assert measured.seconds == pytest.approx(measured.work.flops / (MEASURING_SHARE * 67e12))
    assert measured.disk == 4 * store.counts.tokens
    trained = stage(found, "train full")
    epochs = 2 * 4 / len(lengths)  # two steps of four rows
    assert trained.work.tokens == pytest.approx(epochs * store.counts.tokens)
    adapter = trained.training.adapter if trained.training else None
    assert adapter == 2 * 2 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 64) * 3)
    passed = trained_tokens(lengths, 4, None, every_position=False).times(epochs)
    assert trained.work.flops == pytest.approx(training_flops(size, passed, adapter, checkpointing=True))
    assert trained.seconds == pytest.approx(trained.work.flops / (TRAINING_SHARE * 989e12))
    assert trained.disk == 4 * adapter


def test_more_devices_measure_and_one_trains(estimated):
    one, eight = estimated(), estimated(hardware="8xH100")
    assert stage(eight, "measure base").seconds == pytest.approx(stage(one, "measure base").seconds / 8)
    assert stage(eight, "train full").seconds == stage(one, "train full").seconds
    assert (stage(eight, "measure base").devices, stage(eight, "train full").devices) == (8, 1)


@pytest.mark.parametrize(
    ("hardware", "engine", "says"),
    [
        ("H100", "local", "in one process, on one device"),
        ("8xH100", "local", "in 8 processes, one a device (torchrun, accelerate launch, or --shard I/N"),
        ("32xH100", "ray", "a worker on each of the 32 devices"),
    ],
)
def test_the_engine_follows_from_the_devices(estimated, hardware, engine, says):
    found = estimated(hardware=hardware)
    assert found.engine == engine
    assert says in found.advice
    assert ("-m tokensieve train" in found.advice) == (hardware != "H100")
    assert f"engine: {engine}, {found.advice}" in found.lines
    assert "-m tokensieve train" not in estimated("train=null", hardware=hardware).advice


def test_the_last_line_says_what_the_times_rest_on(estimated):
    *_, last = estimated(hardware="2xL4").lines
    assert last.startswith("basis: 2 x L4, 121 TFLOP/s in bfloat16")
    assert f"{MEASURING_SHARE:.0%} for measuring and {TRAINING_SHARE:.0%} for training" in last
    assert last.endswith("shares that were measured on a CPU")


def test_what_is_not_counted_is_named(estimated, tmp_path):
    found = estimated("evaluate.tasks=[arc_easy]", "method={name: loss, fraction: auto}", "search.fractions=[0.3]")
    told = " | ".join(found.notes)
    for words in ("loading of models", "the search for the fraction", "arc_easy", "as narrow as 32"):
        assert words in told
    assert "train loss" in names(found)
    assert [line for line in found.lines if line.startswith("not counted: ")] == [
        f"not counted: {n}" for n in found.notes
    ]


def test_a_model_folder_without_weights_is_enough(arguments, tiny_model_folder, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model_folder("llama"), bare)
    (bare / "model.safetensors").unlink()
    recipe = load_recipe(None, arguments("run", f"models.base={bare}", REFERENCE, "method=token-cleaning"))
    assert "measure reference" in names(forecast(recipe, "H100", StageProgress(shown=False)))
    with pytest.raises(TokensieveError, match=r"no \.safetensors weights"):
        pipeline.run(recipe, progress=False)


def test_an_adapter_is_merged_into_float32_weights_alone(estimated):
    """As `ModelPool.use` does it."""
    for dtype, factor in (("float32", 1.0), ("bfloat16", 1.1)):
        reference = f"models.reference={{warm_up: {{rows: 4, train: {{lora: {{r: 8}}}}}}, dtype: {dtype}}}"
        found = estimated(f"models.base.dtype={dtype}", reference, "method=token-cleaning")
        base, made = (stage(found, f"measure {role}").work.flops for role in ("base", "reference"))
        assert made >= factor * base if factor > 1 else made == base


def test_folds_and_rounds_are_models_of_their_own(estimated, tmp_path):
    one = estimated(REFERENCE, "method=token-cleaning")
    folds = estimated("models.reference={warm_up: {folds: 3}}", "method=token-cleaning")
    assert stage(folds, "make reference").detail == "3 models"
    assert stage(folds, "measure reference").detail == "loss, with 3 models"
    assert stage(folds, "measure reference").work.tokens == stage(one, "measure reference").work.tokens, "each once"
    assert 0.8 < stage(folds, "measure reference").work.flops / stage(one, "measure reference").work.flops < 1.2
    assert stage(folds, "measure reference").disk == 4 * stage(one, "measure reference").disk, "and what is joined"
    assert stage(folds, "evaluate").detail == stage(estimated(), "evaluate").detail, "a role in folds is not evaluated"
    harmful = f"models.utility={{warm_up: {{files: [{tmp_path / 'held_out.jsonl'}]}}}}"
    unsafe = harmful.replace("utility", "unsafe")
    rounds = estimated(unsafe, harmful, "method={name: toss-pro, rounds: 2, added: 3}")
    assert stage(rounds, "make unsafe").detail == "3 models"
    assert stage(rounds, "measure unsafe").detail == "loss, with 3 models"
    assert stage(rounds, "measure unsafe").work.tokens == 3 * stage(rounds, "measure utility").work.tokens
    assert stage(rounds, "make utility").detail == ""
    epochs = ("train.max_steps=-1", unsafe, harmful, "controls=[]")
    none, even = (estimated(*epochs, f"method={{name: toss-pro, rounds: 2, added: {n}}}") for n in (1, 4))
    once = stage(none, "make utility").work.tokens
    pool = stage(none, "tokenise").work.tokens
    assert stage(none, "make unsafe").work.tokens > 3 * once
    grown = stage(even, "make unsafe").work.tokens - 3 * once
    assert grown == pytest.approx((4 + 8) / 12 * pool, rel=0.2), "4 and 8 of the 12 examples join"


def test_a_schedule_in_rounds_scores_each_part_before_it_trains_on_it(estimated):
    found = estimated("method={name: self-evolving, subsets: 3}", "train.max_steps=-1")
    plain = stage(found, "train full")
    own = stage(found, "train self-evolving")
    assert own.detail == "3 rounds"
    assert own.work.tokens == pytest.approx(2 * plain.work.tokens), "each token is scored and trained on"
    assert own.work.flops > plain.work.flops


def test_what_an_arm_reads_in_training_is_counted(estimated):
    controls = "controls=[full, {name: sstoken, history: ema}, {name: uds, examples: 1}, {name: random, examples: 1}]"
    found = estimated("method=sstoken", controls)
    plain, tapped, moving, uds, random = (stage(found, f"train {name}").work.flops for name in _READING)
    assert plain < tapped < 1.05 * plain, "the attention of one layer"
    assert moving > tapped + plain / 6, "a forward pass of the history too, of six that a training takes with LoRA"
    assert random == pytest.approx(plain / 4), "one of four examples is trained on"
    assert random < uds < random + plain / 4, "a pass over the candidates"


_READING = ["full", "sstoken", "sstoken-2", "uds", "random"]


def test_settings_of_the_training_change_its_work_and_memory(estimated):
    lora, full = estimated(), estimated("train.lora=null")
    kept = estimated("train.lora=null", "train.gradient_checkpointing=false")
    assert stage(full, "train full").disk > stage(lora, "train full").disk
    assert stage(kept, "train full").work.flops < stage(full, "train full").work.flops
    assert stage(kept, "train full").work.memory > stage(full, "train full").work.memory


def small(memory: int, devices: int = 1) -> Callable[[str], Hardware]:
    rates = {"bfloat16": 1e12, "float16": 1e12, "float32": 1e12}
    return lambda _: Hardware("SMALL", devices, "cuda", rates, memory, 1e9)


@pytest.mark.parametrize(
    ("settings", "hints", "not_hints"),
    [
        (
            (),
            ["set train.per_device_train_batch_size: 1 with gradient_accumulation_steps: 4 ("],
            ["LoRA", "checkpoint"],
        ),
        (
            ("train.lora=null", "train.gradient_checkpointing=false"),
            ["set train.gradient_checkpointing: true (", ", then LoRA, train.lora: {} ("],
            [],
        ),
        (("train.per_device_train_batch_size=1",), ["FSDP"], ["set train"]),
    ],
)
def test_a_stage_that_does_not_fit_into_memory_is_named_with_a_way_out(
    estimated, monkeypatch, settings, hints, not_hints
):
    monkeypatch.setattr(module, "named_hardware", small(100_000))
    found = estimated(*settings)
    training = [lack for lack in found.lacks if "train" in lack.what]
    assert [lack.what for lack in training] == ["train entropy, train full"]
    assert training[0].need == stage(found, "train full").work.memory > training[0].has == 90_000
    for hint in (*hints, "`accelerate launch -m tokensieve train`"):
        assert hint in training[0].hint
    for hint in not_hints:
        assert hint not in training[0].hint
    (measuring,) = [lack for lack in found.lacks if "measure base" in lack.what]
    assert "measure.token_budget" in measuring.hint
    assert "everything fits" not in found.lines
    assert any(line.startswith("does not fit: train entropy, train full needs ") for line in found.lines)


def test_ways_out_are_named_until_one_fits_with_what_it_needs(estimated, arguments, monkeypatch):
    given = ("train.lora=null", "train.gradient_checkpointing=false")
    checkpointing = stage(estimated("train.lora=null"), "train full").work.memory
    monkeypatch.setattr(module, "named_hardware", small(round(checkpointing / 0.9) + 100))
    (lack,) = [one for one in estimated(*given).lacks if "train" in one.what]
    assert f"train.gradient_checkpointing: true ({in_bytes(checkpointing)})" in lack.hint
    assert "LoRA" not in lack.hint
    # States that no single device holds: weights, gradients and two moments, with room for what a batch keeps.
    states = 4 * model_size(make_plan(load_recipe(None, arguments("run"))).base).bytes
    has = stage(estimated(*given), "train full").work.memory - states + states // 3 + 1
    monkeypatch.setattr(module, "named_hardware", small(round(has / 0.9) + 100))
    (lack,) = [one for one in estimated(*given).lacks if "train" in one.what]
    assert "FSDP over 3 devices or more" in lack.hint


def test_everything_fits_into_what_is_large_enough(estimated):
    found = estimated()
    assert found.lacks == []
    assert "everything fits" in found.lines


def test_more_than_the_disk_holds_is_named_and_no_error(estimated, monkeypatch):
    monkeypatch.setattr(lacks, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1000)))
    (lack,) = estimated().lacks
    assert lack.what == "the run, checkpoints included,"
    assert lack.need > lack.has == 1000
    assert "select.jsonl: false" in lack.hint


def test_this_machine_is_timed_with_random_weights(estimated, tmp_path, monkeypatch):
    monkeypatch.setattr(timed_passes, "_SECONDS", 0.0)
    match = f"evaluate.exact_match=[{tmp_path / 'held_out.jsonl'}]"
    found = estimated(REFERENCE, "method=token-cleaning", match, hardware="this")
    assert found.hardware.kind == "cpu"
    *_, last = found.lines
    assert last.startswith("basis: short runs of these models with random weights on this machine")
    for one in found.stages[1:]:
        assert 0 < one.seconds < 600, one.name
    train = stage(found, "train full")
    assert train.work.flops / train.seconds < found.hardware.rate("float32")


def test_trainings_of_the_same_steps_are_timed_once(estimated, monkeypatch):
    timed: list[object] = []
    rate = TrainingRate(1e9, 2.0, 0.5)
    monkeypatch.setattr(rates, "training_rate", lambda *given: timed.append(given) or rate)
    monkeypatch.setattr(rates, "measuring_rate", lambda *_: 1e9)
    made = "models.reference={warm_up: {rows: 4, train: {max_steps: 5, gradient_accumulation_steps: 3, CHANGED}}}"
    found = estimated("method=token-cleaning", made.replace("CHANGED", "learning_rate: 1.0e-5"), hardware="this")
    assert len(timed) == 1
    one = stage(found, "make reference")
    assert one.seconds == pytest.approx(2.0 + one.work.flops / 1e9 + 5 * 0.5), "start, batches, optimizer steps"
    estimated("method=token-cleaning", made.replace("CHANGED", "lora: null"), hardware="this")
    assert len(timed) == 3


def test_a_model_that_is_too_large_for_short_runs_has_shares_of_the_rate(estimated, monkeypatch):
    monkeypatch.setattr("tokensieve.pipeline.forecast.rates._LONGEST", 0.0)
    found = estimated(hardware="This")
    *_, last = found.lines
    assert "is too large for short runs" in last
    measured = stage(found, "measure base")
    assert measured.seconds == pytest.approx(measured.work.flops / (MEASURING_SHARE * found.hardware.rate("float32")))


def test_answers_take_time_for_each_token(estimated, arguments, tmp_path):
    match = f"evaluate.exact_match={{files: [{tmp_path / 'held_out.jsonl'}], max_new_tokens: NUMBER}}"
    short, long = (estimated(match.replace("NUMBER", number)) for number in ("4", "40"))
    weights = model_size(make_plan(load_recipe(None, arguments("run"))).base).bytes
    more = stage(long, "evaluate").seconds - stage(short, "evaluate").seconds
    assert more == pytest.approx(3 * 36 * weights / 3.35e12), "weights are read once a token"
    assert stage(long, "evaluate").work.tokens - stage(short, "evaluate").work.tokens == 3 * 6 * 36


def test_the_command_prints_a_table_and_what_follows_from_it(arguments, capsys):
    main(["plan", *arguments("run"), "--hardware", "8xH100"])
    printed = capsys.readouterr().out
    for words in (
        "tokenise",
        "measure base",
        "train entropy",
        "total",
        "FLOPs",
        "everything fits",
        "engine: local, in 8 processes",
    ):
        assert words in printed
    main(["plan", *arguments("run"), "--hardware=8xH100", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["stage"] for one in found["stages"]] == ["tokenise", "measure base", "select", *_TRAINED, "evaluate"]
    assert found["total"]["flops"] == pytest.approx(sum(one["flops"] for one in found["stages"]))
    assert found["total"]["seconds"] == pytest.approx(sum(one["seconds"] for one in found["stages"]))
    assert found["hardware"]["devices"] == 8
    assert (found["engine"], found["does_not_fit"]) == ("local", [])


_TRAINED = ["train entropy", "train full"]


def test_the_data_stays_in_the_store_for_the_run(arguments, tmp_path, capsys):
    main(["plan", *arguments("run"), "--hardware", "H100"])
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "store/examples").iterdir())
    capsys.readouterr()
    main(["plan", *arguments("run"), "--hardware", "H100"])
    assert "tokenise: already there" in capsys.readouterr().err


def test_a_folder_with_the_results_of_another_recipe_is_no_hindrance(arguments, tmp_path, capsys):
    """Settings can be compared without an output for each of them: nothing is written there."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/file").touch()
    main(["plan", *arguments("run"), "--hardware", "H100"])
    assert "everything fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--hardware", "8xH1000"], "unknown hardware '8xH1000'; did you mean 'H100'?"),
        (["method=token-cleening"], "did you mean 'token-cleaning'?"),
        (["models.base=./nowhere"], "no such model folder"),
        (["data.files=nowhere.jsonl"], "no such file"),
    ],
)
def test_bad_input_ends_in_one_error(arguments, tmp_path, capsys, given, says):
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments("run"), "--hardware", "H100", *given])
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""


def test_unknown_hardware_is_refused_before_anything_is_read(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["plan", *arguments("run"), "--hardware", "abacus"])
    assert "one of: A10G" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
