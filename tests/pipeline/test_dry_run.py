"""`tokensieve run --dry-run`: everything but the weights, and plainly what could not be checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tokensieve.cli import main
from tokensieve.methods.entropy import Entropy
from tokensieve.models import loading as models
from tokensieve.models import pool
from tokensieve.train import trainer

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"
ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]}
AWAY = "meta-llama/Llama-3.2-3B"


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    for module in (models, pool, trainer):
        monkeypatch.setattr(module, "load_model", lambda *_: pytest.fail("a model was loaded"))


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


WARM_UP = "models.reference={warm_up: {rows: 1}}"


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


def test_what_is_on_the_hub_is_named_and_left_out(dry, tmp_path):
    printed = dry(f"models.base={AWAY}", WARM_UP, "evaluate.held_out=owner/set", "evaluate.tasks=[mmlu]")
    assert f"not here: {AWAY} (models.base)\n  not checked: its context" in printed
    assert "not here: owner/set (evaluate.held_out)\n  not checked: its rows" in printed
    assert "data: 2 rows" in printed
    assert "also not checked: free disk space, the data of evaluation tasks" in printed
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
        ("method={name: loss, scope: batch}", "offline there is none"),
        ("method=rho-1", "in the role 'reference'"),
        ("controls=[toss]", "in the role 'unsafe'"),
        ("train.learning_rat=1", "did you mean 'learning_rate'?"),
        ("models.unsafe={warm_up: {train: {learning_rat: 1}}}", "did you mean 'learning_rate'?"),
        ("measure.statistics=[los]", "did you mean 'loss'?"),
        ("measure.engine=locall", "unknown engine 'locall'; did you mean 'local'?"),
        ("evaluate.tasks=[hellaswagg]", "did you mean 'hellaswag'?"),
        ("evaluate.held_out=nowhere.jsonl", "no such file"),
        ("models.reference=./nowhere", "no such model folder"),
        ("models.reference=a b", "neither a folder here nor the form of a Hub id"),
    ],
)
def test_bad_values_are_refused_with_and_without_the_model(refused, base, override, error):
    given = [f"models.base={base}", "method=loss"] if "method" not in override else [f"models.base={base}"]
    assert error in refused(*given, override)


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
