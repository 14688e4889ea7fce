"""Input that is made to break the reader: one clear error, exit code 2, no traceback, and no secret in it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tokensieve import yaml12
from tokensieve.cli import main
from tokensieve.errors import TokensieveError, refused_by_system

MODEL = Path(__file__).parents[1] / "src/tokensieve/demo/model"
MESSAGES = json.dumps([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}])
GOOD = f'{{"messages":{MESSAGES}}}\n'


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> str:
    """Return the text of a recipe that works, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(GOOD * 3)
    return (
        f"output: {tmp_path}/run\ndata: {tmp_path}/rows.jsonl\nmodels: {{base: {MODEL}}}\nmethod: loss\ncontrols: []\n"
    )


@pytest.fixture
def refused(tmp_path, recipe, capsys):
    """Check a recipe with a dry run, which must refuse it; return what it printed."""

    def check(*overrides: str, more: str | bytes = "") -> str:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(recipe.encode() + (more if isinstance(more, bytes) else more.encode()))
        with pytest.raises(SystemExit) as stop:
            main(["run", str(path), *overrides, "--dry-run"])
        assert stop.value.code == 2
        printed = capsys.readouterr()
        assert printed.err.count("error: ") == 1
        assert printed.out == ""
        return " ".join(printed.err.split())

    return check


ROWS = {
    "nested": ('{"x":' + "[" * 100_000 + "]" * 100_000 + f',"messages":{MESSAGES}}}', "nested too deep"),
    "digits": ('{"x":' + "9" * 5000 + f',"messages":{MESSAGES}}}', "a number has too many digits"),
    "source": (f'{{"source":"a\\ud800b","messages":{MESSAGES}}}', "half of a surrogate pair"),
    "key": (f'{{"a\\udc00":1,"messages":{MESSAGES}}}', "half of a surrogate pair"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_python_cannot_hold(refused, tmp_path, name):
    row, says = ROWS[name]
    (tmp_path / "bad.jsonl").write_text(f"{GOOD}{row}\n")
    error = refused(f"data.files=[{tmp_path}/bad.jsonl]")
    assert says in error
    assert "bad.jsonl:2" in error
    (tmp_path / "bad.json").write_text(f"[{GOOD},{row}]")
    assert says in refused(f"data.files=[{tmp_path}/bad.json]")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_python_cannot_hold_is_left_out_where_bad_rows_are(tmp_path, recipe, capsys, name):
    (tmp_path / "bad.jsonl").write_text(f"{GOOD}{ROWS[name][0]}\n{GOOD}")
    (tmp_path / "recipe.yaml").write_text(recipe)
    main(["run", f"{tmp_path}/recipe.yaml", f"data.files=[{tmp_path}/bad.jsonl]", "data.bad_rows=skip", "--dry-run"])
    assert "data: 2 examples" in capsys.readouterr().out
    [left_out] = tmp_path.glob("store/examples/*/bad_rows.jsonl")
    assert json.loads(left_out.read_text())["at"].endswith("bad.jsonl:2")


def test_escaped_pairs_and_backslashes_are_text(tmp_path, recipe, capsys):
    (tmp_path / "fine.jsonl").write_text(f'{{"a":"\\ud83d\\ude00 \\\\ud800","messages":{MESSAGES}}}\n')
    (tmp_path / "recipe.yaml").write_text(recipe)
    main(["run", f"{tmp_path}/recipe.yaml", f"data.files=[{tmp_path}/fine.jsonl]", "--dry-run"])
    assert "data: 1 examples" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["data", "models.base", "output", "store", "data.tokenizer"])
@pytest.mark.parametrize("path", ["~nouser/x", "a" * 300, "x/" + "b" * 5000, '"a\\0b"', '"\\ud800"'])
def test_a_path_that_can_name_no_file(refused, key, path):
    refused(f"{key}={path}")


@pytest.mark.parametrize("command", [["show"], ["report"], ["export", "--to", "trl"], ["inspect"], ["run"]])
@pytest.mark.parametrize("path", ["~nouser/x", "a" * 300, "loop", "dangling", "a\0b"])
def test_a_command_on_a_path_that_can_name_no_file(tmp_path, capsys, monkeypatch, command, path):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    more = ["--tokenizer", str(MODEL)] if command == ["inspect"] else []
    with pytest.raises(SystemExit) as stop:
        main([command[0], path, *command[1:], *more])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("error: ") == 1


TEMPLATES = {
    "a power": ("{{ 9 ** (9 ** 9) }}", "too many digits"),
    "a repeated text": ("{{ 'a' * 10 ** 10 }}", "make more than 536,870,912 characters"),
    "a range": ("{% for n in range(10 ** 10) %}{% endfor %}", "Range too big"),
}


@pytest.mark.parametrize(("command", "code"), [("inspect", 1), ("run --dry-run", 2), ("run", 2)])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_would_fill_the_memory(tmp_path, recipe, capsys, name, command, code):
    template, says = TEMPLATES[name]
    (tmp_path / "template.jinja").write_text("{% generation %}" + template + "{% endgeneration %}")
    (tmp_path / "recipe.yaml").write_text(
        recipe.replace("data: ", "data: {chat_template: template.jinja, files: ").replace("rows.jsonl", "rows.jsonl}")
    )
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), f"{tmp_path}/recipe.yaml"])
    printed = " ".join("".join(capsys.readouterr()).split())  # `inspect` counts such rows, and goes on
    assert stop.value.code == code
    assert says in printed
    assert "rows.jsonl:1" in printed.replace(" ", ""), "long paths are cut into lines"
    assert "Traceback" not in printed


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 12)
)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (b"# \xff\xfe\n", "text must be UTF-8"),
        ("# \x01\n", "not YAML"),
        ("seed: 2020-13-45\n", "not of the type that it looks like"),
        ("seed: !!int abc\n", "not of the type that it looks like"),
        (f"seed: {'9' * 5000}\n", ""),
        ("measure: &a {x: *a}\n", "an alias stands within what it stands for"),
        (BOMB, "aliases make more than"),
        ("evaluate: " + "{a: " * 3000 + "}" * 3000 + "\n", "nested too deep"),
        ("null: 1\n", "unknown key"),
        ("? [a]\n: 1\n", "unknown key"),
    ],
)
def test_a_recipe_that_is_no_recipe(refused, more, says):
    assert says in refused(more=more)


def test_aliases_that_are_used_as_aliases_stay(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]\n")
    assert yaml12.read(tmp_path / "a.yaml")["c"][1] == {"k": [1, 2]}


def test_a_recipe_whose_path_has_an_equals_sign(tmp_path, recipe, capsys):
    (tmp_path / "lr=0.1.yaml").write_text(recipe)
    main(["run", f"{tmp_path}/lr=0.1.yaml", "--dry-run"])
    assert capsys.readouterr().out.endswith("ok: everything but the weights was checked\n")


def test_an_override_longer_than_a_file_name(tmp_path, recipe, capsys):
    (tmp_path / "recipe.yaml").write_text(recipe)
    main(["run", f"{tmp_path}/recipe.yaml", f"data.license={'x' * 300}", "--dry-run"])
    assert capsys.readouterr().out.endswith("ok: everything but the weights was checked\n")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_terminal_that_shows_ascii_alone(tmp_path, monkeypatch, more):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Où?", "completion": "À côté."}\n')
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    main(["inspect", f"{tmp_path}/rows.jsonl", "--tokenizer", str(MODEL), *more])
    printed.seek(0)
    text = printed.read()
    assert "rows.jsonl" in text.replace("\n", ""), "a long path may be wrapped"
    assert not more or json.loads(text)


@pytest.mark.parametrize(
    "override",
    [
        "train.max_grad_norm=.nan", "train.weight_decay=.inf", "train.adam_epsilon=.nan", "train.adam_beta1=2",
        "train.neftune_noise_alpha=.nan", "train.label_smoothing_factor=5", "train.save_steps=0",
        "train.learning_rate=.inf", "train.learning_rate=.nan", "train.learning_rate=0", "train.num_train_epochs=-1",
        "train.num_train_epochs=0", "train.per_device_train_batch_size=0", "train.report_to=[clearml]",
        "train.lora.r=0", "evaluate.batch_size=0", "report.examples=-1", "seed=abc", "seed=1.5",
    ],
)  # fmt: skip
def test_a_setting_that_could_train_nothing_or_nonsense(refused, override):
    assert override.partition("=")[0] in refused(override)


def test_no_tokens_to_generate(refused, tmp_path):
    given = f"evaluate.exact_match={{files: [{tmp_path}/rows.jsonl], max_new_tokens: 0}}"
    assert "evaluate.exact_match.max_new_tokens is 0, it must be at least 1" in refused(given)


@pytest.mark.parametrize(
    ("override", "more"),
    [
        (["train.hub_token=hf_abc"], ""),
        (["method={name: loss, secret: hf_abc}"], ""),
        (["models.reference.warm_up.train.hub_token=hf_abc"], ""),
        (["api_key=hf_abc", "seed=nonsense"], ""),
        (["seed=nonsense"], "train: {password: hf_abc}\n"),
        ([], "evaluate:\n  - {wandb-api-key: hf_abc}\n"),
    ],
)
def test_a_secret_is_refused_and_never_printed(refused, tmp_path, override, more):
    error = refused(*override, more=more)
    assert "hf_abc" not in error
    assert "HF_TOKEN" in error
    assert not (tmp_path / "run").exists()


def test_a_secret_in_text_that_is_no_yaml_is_not_printed(refused):
    error = refused("train={hub_token: hf_abc")
    assert "the value of 'train' is not YAML" in error
    assert "hf_abc" not in error


def test_what_is_only_named_like_a_secret_is_none(tmp_path, recipe, capsys):
    (tmp_path / "recipe.yaml").write_text(recipe)
    fine = ["train.hub_token=null", "measure.token_budget=64", "data.columns={token: note}"]
    main(["run", f"{tmp_path}/recipe.yaml", *fine, "--dry-run"])
    assert capsys.readouterr().out.endswith("ok: everything but the weights was checked\n")


def test_errors_of_the_program_itself_keep_their_traceback():
    assert refused_by_system(ValueError("x")) is None
    assert isinstance(refused_by_system(RecursionError("too deep")), TokensieveError)


def test_a_key_of_half_a_character(tmp_path, recipe, capsys):
    (tmp_path / "recipe.yaml").write_text(recipe + '"\\ud800": 1\n')
    with pytest.raises(SystemExit) as stop:
        main(["run", f"{tmp_path}/recipe.yaml", "--dry-run"])
    assert stop.value.code == 2
    assert "text of whole characters" in capsys.readouterr().err
