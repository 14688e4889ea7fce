"""`tokensieve run --dry-run`: everything but the weights, and plainly what could not be checked."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest
from weightless import refuse_models

from tokensieve.cli import main
from tokensieve.errors import TokensieveError
from tokensieve.methods.entropy import Entropy
from tokensieve.pipeline import stages as pipeline
from tokensieve.pipeline.recipe import load_recipe

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]}
AWAY = "meta-llama/Llama-3.2-3B"


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    refuse_models(monkeypatch)


@pytest.fixture
def dry(tmp_path, write_jsonl, capsys):
    """Dry-run a small recipe with overrides; return what it printed."""
    write_jsonl(ROW, ROW)
    output = tmp_path / "run"

    def check(*overrides: str) -> str:
        given = {"output": str(output), "data": str(tmp_path / "rows.jsonl"), "models.base": str(MODEL)}
        given |= dict(override.split("=", 1) for override in overrides)
        main(["run", "--dry-run", *(f"{key}={value}" for key, value in given.items())])
        assert not output.exists()
        return capsys.readouterr().out

    return check


@pytest.fixture
def refused(dry, tmp_path, capsys):
    """Return the error of a dry run that is refused."""

    def check(*overrides: str) -> str:
        with pytest.raises(SystemExit) as stop:
            dry(*overrides)
        assert stop.value.code == 2
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    return check


TASK = """
task: {name}
dataset_path: {path}
output_type: generate_until
test_split: train
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
"""
WARM_UP = "models.reference={warm_up: {rows: 1}}"


def test_a_fraction_that_a_search_decides_is_named(dry):
    printed = dry("method={name: loss, fraction: auto}", "search.fractions=[0.3, 0.8]")
    assert "search: the fraction of loss, among 0.3, 0.8; what follows has the first" in printed
    assert "top 0.3 of the data set" in printed


def test_a_plan_with_everything_here(dry, tmp_path):
    rows = tmp_path / "rows.jsonl"
    printed = dry(WARM_UP, f"evaluate.held_out={rows}", f"evaluate.exact_match=[{rows}]")
    assert "arm token-cleaning: top 0.6 of the data set, rounded down; selects offline" in printed
    assert "arm random: as many tokens as token-cleaning; selects offline" in printed
    assert "measure base: loss\nmeasure reference: loss, of a model to be made" in printed
    assert "data: 2 examples, " in printed
    assert "evaluate.held_out: 2 examples, " in printed
    assert "evaluate.exact_match: 2 questions" in printed
    assert printed.endswith("ok: everything but the weights was checked\n")
    assert "not here" not in printed


def test_methods_that_select_in_training_are_named_so(dry):
    printed = dry("method=sstoken", "controls=[profit]")
    assert "arm sstoken: top 0.6 of each example, rounded up; selects online" in printed
    assert "arm profit: score of at least 0.1; selects online" in printed
    assert "measure base: attention_to_prompt, loss" in printed
    assert "arm loss: score of at least 0.3; selects offline" in dry("method=loss", "select.threshold=0.3")


@pytest.mark.parametrize(
    ("method", "random"),
    [
        ("{name: uds, examples: 1}", "1 random examples of each batch, as many as uds; selects online"),
        ("sstoken", "as many tokens of each example as sstoken; selects offline"),
        (
            "{name: rho-1, current: current, scope: dataset}",
            "as many tokens of each batch as rho-1; selects online",
        ),
        ("profit", "as many tokens of each batch as profit would keep of it; selects online"),
        ("self-evolving", "as many tokens as self-evolving; selects offline"),
    ],
)
def test_a_random_control_says_what_it_keeps_as_many_of(dry, method, random):
    more = ("method.subsets=2",) if method == "self-evolving" else (WARM_UP,)
    assert f"arm random: {random}\n" in dry(f"method={method}", *more)


@pytest.mark.parametrize(
    "method",
    ["dft", "asft", "eaft", "p-alpha", "deft", "iw-sft", "psft", "talr", "full", "{name: loss, fraction: 1.0}"],
)
def test_a_random_control_of_everything_is_left_out_and_why(dry, method):
    printed = dry(f"method={method}", "controls=[random]")
    assert "every trainable token; no random control, which would keep every token too and be a second full" in printed
    assert "arm random" not in printed
    assert "arm random: top 1 examples of each batch; selects online" in dry(
        f"method={method}", "controls=[{name: random, examples: 1}]"
    )
    printed = dry(f"method={method}", "controls=[{name: random, fraction: 0.5}]")
    assert "arm random: top 0.5 of the data set" in printed
    assert "second full" not in printed


def test_what_is_on_the_hub_is_named_and_left_out(dry, tmp_path):
    printed = dry(f"models.base={AWAY}", WARM_UP, "evaluate.held_out=owner/set", "evaluate.tasks=[mmlu]")
    assert f"not here: {AWAY} (models.base)\n  not checked: its context" in printed
    assert "not here: owner/set (evaluate.held_out)\n  not checked: its rows" in printed
    assert "data: 2 rows" in printed
    assert "not here: mmlu (evaluate.tasks)\n  not checked: its data" in printed
    assert "also not checked: free disk space, the number of optimizer steps" in printed
    assert printed.endswith("ok, as far as it was checked\n")
    assert not (tmp_path / "store").exists()


def test_a_base_that_is_here_is_checked_without_the_data(dry, refused, tmp_path):
    assert "not here: owner/set (data)" in dry("data=owner/set", WARM_UP)
    assert "beyond the base model's context" in refused("data={files: owner/set, max_length: 100000}", WARM_UP)
    bare = tmp_path / "bare"
    shutil.copytree(MODEL, bare)
    (bare / "model.safetensors").unlink()
    assert "no .safetensors weights" in refused("data=owner/set", f"models.base={bare}", WARM_UP)


def test_an_adapter_and_a_tokenizer_elsewhere(dry):
    printed = dry("models.reference={adapter: owner/adapter}", "data={files: owner/set, tokenizer: owner/tokenizer}")
    assert "not here: owner/adapter (models.reference.adapter)\n  not checked: that it is an adapter" in printed
    assert "not here: owner/tokenizer (data.tokenizer)" in printed


@pytest.mark.parametrize("base", [str(MODEL), AWAY])
@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("methid=loss", "unknown key 'methid'; did you mean 'method'?"),
        ("seed=many", "must be a whole number"),
        ("method=token-cleening", "did you mean 'token-cleaning'?"),
        ("method={name: loss, fractoin: 1}", "did you mean 'fraction'?"),
        ("method={name: loss, fraction: 2}", "at most 1"),
        ("method={name: loss, scope: batch}", "which offline selection does not have"),
        ("method=rho-1", "in the role 'reference'"),
        ("controls=[toss]", "in the role 'unsafe'"),
        ("train.learning_rat=1", "did you mean 'learning_rate'?"),
        ("models.unsafe={warm_up: {train: {learning_rat: 1}}}", "did you mean 'learning_rate'?"),
        ("measure.statistics=[los]", "did you mean 'loss'?"),
        ("engine=locall", "unknown engine 'locall'; did you mean 'local'?"),
        ("evaluate.tasks=[hellaswagg]", "did you mean 'hellaswag'?"),
        ("evaluate.held_out=nowhere.jsonl", "no such file"),
        ("models.reference=./nowhere", "no such model folder"),
        ("models.reference=a b", "neither a folder here nor the form of a Hub id"),
    ],
)
def test_bad_values_are_refused_with_and_without_the_model(refused, base, override, error):
    given = [f"models.base={base}", "method=loss"] if "method" not in override else [f"models.base={base}"]
    assert error in refused(*given, override)


LATER = [
    ("train.eval_strategy=steps", "train.eval_strategy", "no data to evaluate on"),
    ("train.eval_on_start=true", "train.eval_on_start", "no data to evaluate on"),
    ("train.assistant_only_loss=true", "train.assistant_only_loss", "is given labels"),
    ("train.completion_only_loss=true", "train.completion_only_loss", "is given labels"),
    ("train.dataset_text_field=story", "train.dataset_text_field", "is given tokens with labels"),
    ("train.model_init_kwargs={dtype: bfloat16}", "train.model_init_kwargs", "is given a loaded model"),
    (
        "train.resume_from_checkpoint=runs/a",
        "train.resume_from_checkpoint",
        "goes on from its own last",
    ),
    ("train.report_to=wandb", "train.report_to", "wandb is not installed"),
    ("train.report_to=[none, wandbb]", "train.report_to", "wandbb is not supported"),
    ("train.per_device_train_batch_size=0", "train.per_device_train_batch_size", "it must be at least 1"),
    ("train.gradient_accumulation_steps=0", "train.gradient_accumulation_steps", "it must be at least 1"),
    ("train.learning_rate=.inf", "train.learning_rate", "it must be above 0 and finite"),
    ("train.learning_rate=-1e-4", "train.learning_rate", "it must be above 0 and finite"),
    ("train.num_train_epochs=-1", "train.num_train_epochs", "it must be above 0 and finite"),
    ("train.num_train_epochs=.nan", "train.num_train_epochs", "it must be above 0 and finite"),
    ("train.max_steps=0", "train.max_steps", "it must be at least 1, or -1"),
    ("train.lora.r=0", "train.lora.r", "it must be at least 1"),
    ("train.lora.dropout=1", "train.lora.dropout", "it must be less than 1"),
    ("train.lora.target_modules=[q_proj, kk_proj]", "train.lora.target_modules", "did you mean 'k_proj'?"),
    ("train.lora.target_modules=nothing", "train.lora.target_modules", "not found in the base model"),
    ("train.lora.target_modules=[norm]", "train.lora.target_modules", "is not supported"),
    (
        "models.reference={warm_up: {train: {learning_rate: -1}}}",
        "models.reference.warm_up.train.learning_rate",
        "it must be above 0",
    ),
    (
        "models.reference={warm_up: {train: {lora: {target_modules: [c_attn]}}}}",
        "models.reference.warm_up.train.lora.target_modules",
        "no layer of the base model is named 'c_attn'",
    ),
    ("models.reference={warm_up: {rows: 3}}", "models.reference.warm_up.rows", "3 rows from 2 examples"),
    ("evaluate.exact_match={files: ROWS, max_new_tokens: 0}", "evaluate.exact_match.max_new_tokens", "at least 1"),
    ("evaluate.batch_size=0", "evaluate.batch_size", "at least 1"),
    ("seed=1.5", "seed", "it must be a whole number"),
    ("seed=-1", "seed", "it must be at least 0"),
    ("report.examples=-1", "report.examples", "it must be at least 0"),
    ("method={name: uds, examples: 2}", "data.files", "which leaves no choice"),
]


@pytest.mark.parametrize(("override", "key", "says"), LATER, ids=[override for override, *_ in LATER])
def test_what_would_fail_later_is_refused_by_a_run_and_its_dry_run(refused, tmp_path, override, key, says):
    override = override.replace("ROWS", str(tmp_path / "rows.jsonl"))
    given = [override] if override.startswith("method") else ["method=loss", override]
    printed = refused(*given)
    assert says in printed
    assert f"{key}\n" in printed.partition("at: ")[2]
    assert "hint: " in printed
    arguments = [f"output={tmp_path / 'run'}", f"data={tmp_path / 'rows.jsonl'}", f"models.base={MODEL}", *given]
    with pytest.raises(TokensieveError, match=re.escape(says)):
        pipeline.run(load_recipe(None, arguments))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_stays_offline(dry, refused, monkeypatch, tmp_path):
    """With the Hub within reach too: a task whose data is not here is named, one that is wrong is an error."""
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "far.yaml").write_text(TASK.format(name="far", path="owner/away"))
    printed = dry("method=loss", f"evaluate={{tasks: [far], task_folder: {tasks}}}")
    assert "data: 2 examples" in printed
    assert "not here: far (evaluate.tasks)\n  not checked: its data\n" in printed
    assert printed.endswith("ok, as far as it was checked\n")
    (tasks / "near.yaml").write_text(TASK.format(name="near", path="json\ndataset_kwargs: {data_files: gone.jsonl}"))
    assert "the task 'near' cannot be loaded" in refused(
        "method=loss", f"evaluate={{tasks: [near], task_folder: {tasks}}}"
    )
    assert (config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)


@pytest.mark.parametrize(
    ("train", "steps"),
    [
        ((), "1 optimizer step (2 examples, 48 a step)"),
        (("train.gradient_accumulation_steps=1", "train.per_device_train_batch_size=1"), "2 optimizer steps (2 exa"),
        (("train.num_train_epochs=3",), "3 optimizer steps (2 examples, 48 a step, 3 epochs)"),
        (("train.max_steps=7",), "7 optimizer steps (max_steps)"),
        (("train.packing=true",), "about 1 optimizer step (about 1 packed rows of 512 tokens, 48 a step)"),
    ],
)
def test_the_optimizer_steps_are_told(dry, train, steps):
    printed = dry(WARM_UP, *train, "controls=[full, random]")
    assert "make reference: " in printed
    assert f"train token-cleaning, full, random: {steps}" in printed


def test_few_optimizer_steps_are_warned_of(tmp_path, write_jsonl, capsys):
    data = write_jsonl(*[ROW] * 20)
    arguments = ["run", "--dry-run", f"output={tmp_path / 'run'}", f"data={data}", f"models.base={MODEL}"]
    main([*arguments, WARM_UP, "train.packing=true"])
    told = capsys.readouterr().err
    assert "warning: make reference: 1 optimizer step only" in told
    assert "models.reference.warm_up.train.gradient_accumulation_steps (6 now)" in told
    assert "warning: train token-cleaning, full, random: 1 optimizer step only" in told
    assert "packing: false" in told
    main([*arguments, "method=loss", "train.gradient_accumulation_steps=1", "train.per_device_train_batch_size=1"])
    assert "optimizer step" not in capsys.readouterr().err


def test_a_method_that_needs_what_nothing_measures_is_refused(refused, monkeypatch):
    """Such as one of another package; the values would be zeros."""
    monkeypatch.setattr(Entropy, "statistic", "surprise")
    printed = refused(f"models.base={AWAY}", "method=entropy")
    assert "unknown statistic 'surprise'" in printed
    assert "method 'entropy': needs" in printed


def test_a_bad_row_is_refused_where_the_model_is_elsewhere(refused, tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps(ROW) + "\n{oops\n")
    assert "bad.jsonl:2" in refused(f"models.base={AWAY}", "method=loss", f"data={tmp_path / 'bad.jsonl'}")


def test_a_folder_of_another_run_is_refused(refused, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    assert "not empty and holds no run" in refused(f"output={tmp_path / 'other'}", "method=loss")
