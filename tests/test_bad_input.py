"""One clear error each, exit code 2, before a model is loaded, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from weightless import refuse_models

from tokensieve.cli import main

MODEL = Path(__file__).parents[1] / "src/tokensieve/demo/model"
GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]}


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    refuse_models(monkeypatch)


@pytest.fixture
def fails(tmp_path, capsys):
    """Run a command, `tokensieve run` if not told otherwise, on some rows with overrides; return what it printed."""

    def check(rows: str | list[dict], *overrides: str, name: str = "rows.jsonl", command: str = "run") -> str:
        path = tmp_path / name
        path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
        output = tmp_path / "run"
        given = {
            "output": str(output),
            "data.files": f"[{path}]",
            "models.base": str(MODEL),
            "method": "loss",
            "controls": "[]",
        }
        given |= dict(override.split("=", 1) for override in overrides)
        with pytest.raises(SystemExit) as stop:
            main([command, *(f"{key}={value}" for key, value in given.items())])
        assert stop.value.code == 2
        assert not output.exists(), "something was written"
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert printed.err.count("error: ") == 1
        return printed.err

    return check


def copied_model(tmp_path: Path, template: str | None = None, **config: object) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def test_missing_file(fails):
    assert "no such file" in fails([GOOD], "data.files=[nowhere.jsonl]")


def test_an_output_that_is_a_file(fails, tmp_path):
    (tmp_path / "taken").write_text("")
    assert "is a file, and a folder is needed" in fails([GOOD], f"output={tmp_path / 'taken'}")


def test_empty_file(fails):
    assert "the file is empty" in fails("")


def test_a_line_that_is_not_json(fails):
    error = fails(json.dumps(GOOD) + "\n{oops\n")
    assert "not JSON" in error
    assert "rows.jsonl:2" in error


def test_a_row_without_a_known_form(fails):
    error = fails([GOOD, {"body": "x", "title": "y"}])
    assert "columns body, title" in error
    assert "alpaca (instruction, output or response)" in error
    assert "rows.jsonl:2" in error


def test_a_role_that_the_template_refuses(fails, tmp_path):
    template = (MODEL / "chat_template.jinja").read_text()
    strict = (
        "{% for m in messages %}{% if m.role == 'critic' %}{{ raise_exception('no critics') }}{% endif %}{% endfor %}"
    )
    row = {"messages": [{"role": "critic", "content": "Hm"}, *GOOD["messages"]]}
    error = fails([GOOD, row], f"models.base={copied_model(tmp_path, strict + template)}")
    assert "critic" in error
    assert "rows.jsonl:2" in error


def test_a_role_that_the_template_leaves_out(fails, tmp_path):
    silent = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}<|end|>{% endgeneration %}{% endif %}{% endfor %}"
    )
    error = fails([GOOD], f"models.base={copied_model(tmp_path, silent)}")
    assert "leaves out message 0, of the role 'user'" in error


def test_a_template_that_renders_no_generation_span(fails, tmp_path):
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if false %}{% generation %}{% endgeneration %}{% endif %}"
    )
    error = fails([GOOD], f"models.base={copied_model(tmp_path, template)}")
    assert "no {% generation %} span" in error


def test_every_label_ignored(fails):
    long_prompt = {"messages": [{"role": "user", "content": "a b c d e f g"}, GOOD["messages"][1]]}
    assert "every label is -100" in fails([long_prompt], "data.max_length=4")
    rows = [{"input_ids": [1, 2, 3], "labels": [-100, -100, -100]}]
    assert "every label is -100" in fails(rows)


def test_a_turn_end_that_is_never_trained_is_warned_of(tmp_path, capsys, monkeypatch):
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD) + "\n")
    folder = copied_model(tmp_path, template)
    main(
        [
            "run",
            "--dry-run",
            f"output={tmp_path / 'run'}",
            f"data={tmp_path / 'rows.jsonl'}",
            f"models.base={folder}",
            "method=loss",
        ]
    )
    warned = capsys.readouterr().err
    assert "warning: the turn-end token after 1 of 1 answers is never trained" in " ".join(warned.split())
    assert "move it inside {% generation %}" in " ".join(warned.split())


def test_tokenizers_that_give_different_ids(fails, tmp_path):
    folder = copied_model(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:0]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    error = fails([GOOD], f"models.reference={folder}", "method=token-cleaning")
    assert "two tokenizers give different ids" in error


def test_a_smaller_vocabulary_of_a_reference_is_another_tokenizer(fails, tmp_path, make_tokenizer):
    folder = copied_model(tmp_path, vocab_size=20)
    tokenizer = json.loads((make_tokenizer() / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    error = fails([GOOD], f"models.reference={folder}", "method=token-cleaning")
    assert "two tokenizers give different ids" in error
    assert "base and reference must share a tokenizer" in error
    for path in folder.glob("tokenizer*"):
        path.unlink()
    error = fails([GOOD], f"models.reference={folder}", "method=token-cleaning")
    assert "the tokenizer in use is not that of this model" in error
    assert "models.reference" in error


def test_a_padded_embedding_with_the_same_ids_is_fine(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD) + "\n")
    folder = copied_model(tmp_path, vocab_size=4096)
    main(["run", "--dry-run", f"output={tmp_path / 'run'}", f"data={tmp_path / 'rows.jsonl'}", f"models.base={MODEL}",
          f"models.reference={folder}"])  # fmt: skip
    assert capsys.readouterr().out.endswith("ok: everything but the weights was checked\n")


def test_a_token_id_beyond_the_embedding(fails, tmp_path):
    rows = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [1, 99999], "labels": [-100, 99999]}]
    error = fails(rows)
    assert "token id 99999 is beyond" in error
    assert "rows.jsonl:2" in error


def test_max_length_beyond_the_context(fails):
    assert "context" in fails([GOOD], "data.max_length=100000")


@pytest.mark.parametrize("fraction", ["0", "1.5", "-0.1", "many", "true"])
def test_a_fraction_outside_its_range(fails, fraction):
    error = fails([GOOD], f"method={{name: loss, fraction: {fraction}}}")
    assert "fraction is" in error
    assert "above 0 and at most 1" in error


def test_an_unknown_method(fails):
    error = fails([GOOD], "method=token-cleening")
    assert "unknown method 'token-cleening'; did you mean 'token-cleaning'?" in error


def test_an_unknown_hyper_parameter(fails):
    assert "no hyper-parameter 'fractoin'; did you mean 'fraction'?" in fails(
        [GOOD], "method={name: loss, fractoin: 1}"
    )


def test_a_method_whose_role_is_missing(fails):
    error = fails([GOOD], "method=token-cleaning")
    assert "needs loss of a model in the role 'reference'" in error
    assert "models.reference.warm_up" in error


def test_an_unknown_recipe_key_with_its_line(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("output: x\ndata: y.jsonl\nmodels: {base: z}\nevaluate:\n  heldout: a\n")
    with pytest.raises(SystemExit) as stop:
        main(["run", str(recipe)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "unknown key 'heldout'; did you mean 'held_out'?" in error
    assert "recipe.yaml:5: evaluate.heldout" in error


def test_an_unknown_training_argument(fails):
    assert "no argument 'learning_rat'; did you mean 'learning_rate'?" in fails([GOOD], "train.learning_rat=1")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.learning_rate=fast", "train.learning_rate is 'fast', it must be a number"),
        ("train.num_train_epochs=[2]", "train.num_train_epochs is [2]"),
        ("train.lr_scheduler_type=liner", "liner is not a valid SchedulerType"),
        ("train.save_strategy=sometimes", "sometimes is not a valid SaveStrategy"),
    ],
)
def test_a_training_argument_with_a_bad_value(fails, override, says):
    assert says in fails([GOOD], override)


def test_no_disk_space(fails, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    error = fails([GOOD])
    assert "GB are free" in error


def test_a_model_that_is_not_there(fails):
    assert "no such model folder" in fails([GOOD], "models.base=./nowhere")


def test_pickled_weights_are_never_loaded(fails, tmp_path):
    folder = copied_model(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no .safetensors weights" in fails([GOOD], f"models.base={folder}")


def test_faulty_evaluation_data(fails, tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "x"}) + "\n")
    error = fails([GOOD], f"evaluate.exact_match=[{tmp_path / 'test.jsonl'}]")
    assert "test.jsonl:1" in error
    assert "no task 'mmluu'; did you mean" in fails([GOOD], "evaluate.tasks=[mmluu]").replace("'mmlu'", "'mmlu'")


def test_show_and_report_on_a_folder_that_is_no_run(tmp_path, capsys):
    for command in ("show", "report"):
        with pytest.raises(SystemExit) as stop:
            main([command, str(tmp_path)])
        assert stop.value.code == 2
        assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["method={name: sstoken, gamma: 1.5}"], "gamma is 1.5, it must be a number from 0 to 1"),
        (["method={name: uds, alpha: -1}"], "alpha is -1"),
        (["method={name: eaft, alpha: .inf}"], "alpha is inf"),
        (["method={name: sstoken, layer: 9}"], "there is no layer 9: the model has 4"),
        (["method={name: xtf, layer: -5}"], "there is no layer -5: the model has 4"),
        (["method={name: xtf, mode: publishd}"], "mode is 'publishd'"),
        (["method=toss"], "needs loss of a model in the role 'unsafe', and none is given"),
        (["method={name: rho-1, current: current}"], "needs loss of a model in the role 'reference'"),
        (["method={name: uds, examples: 9}"], "keeps 9 examples of a batch of 8"),
        (
            ["method={name: uds, examples: 8}"],
            "leaves no choice\n  at: recipe: train.per_device_train_batch_size",
        ),
        (
            ["method=sstoken", "select.threshold=0.5"],
            "not by a threshold\n  at: recipe: select.threshold",
        ),
        (["method={name: random, seed: 1.5}"], "seed is 1.5, it must be a whole number"),
        (["method={name: uds, seed: 1.5}"], "seed is 1.5, it must be a whole number"),
        (["method=sstoken", "train.packing=true"], "'sstoken' cannot be packed"),
        (["method=uds", "train.packing=true"], "'uds' cannot be packed"),
        (["method=sstoken", "train.label_smoothing_factor=0.1"], "at: recipe: train.label_smoothing_factor"),
        (["method=dft", "train.loss_type=dft"], "at: recipe: train.loss_type"),
        (["method=sstoken", "train.loss_type=focal"], "at: recipe: train.loss_type"),
        (
            ["method=forgetting", "models.reference.warm_up.rows=1", "train.packing=true"],
            "packing loses the column 'kept'",
        ),
    ],
)
def test_methods_that_cannot_work(fails, overrides, says):
    assert says in fails([GOOD] * 3, "train.per_device_train_batch_size=8", *overrides)


MARKS = {"question": "What is the sea?", "answer": "The sea is dry."}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({**MARKS, "spans": [[11, 99]]}, "the span [11, 99] lies outside the answer, which has 15 characters"),
        ({**MARKS, "spans": [[-1, 3]]}, "the span [-1, 3] lies outside the answer"),
        ({**MARKS, "spans": [[5, 5]]}, "the span [5, 5] is empty"),
        ({**MARKS, "spans": [[0, 5, "a"], [4, 7, "b"]]}, "overlap and have different types"),
        ({**MARKS, "spans": "dry"}, "'spans' is not JSON"),
        ({**MARKS, "spans": [["a", "b"]]}, "not a span: ['a', 'b']"),
        ({**MARKS, "spans": 11}, "'spans' must be a list of spans"),
        ({**MARKS, "corrected": ["x"]}, "'corrected' must be the text of the corrected answer"),
        ({**MARKS, "spans": [{"start": 11, "end": 14, "text": "wet"}]}, "says 'wet', and the answer has 'dry' there"),
        (
            {"messages": [{**GOOD["messages"][0], "spans": [[0, 2]]}, GOOD["messages"][1]]},
            "message 0, of the role 'user', has 'spans', and it is not trained on",
        ),
        (
            {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "spans": [[0, 1]]},
            "covers no token that is trained on",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "ceiling", "search"])
def test_marks_that_cannot_be_used(fails, held_out, row, says, command):
    clean = {**row, "spans": None, "messages": GOOD["messages"]} if "messages" in row else {**row, "spans": None}
    if "corrected" in row:
        clean["corrected"] = None
    error = fails([clean, row], f"evaluate.held_out=[{held_out}]", "search.methods=loss", command=command)
    assert says in " ".join(error.split())
    assert "rows.jsonl:2" in error
    assert "hint: " in error


@pytest.fixture
def held_out(tmp_path) -> Path:
    """Forty different rows."""
    path = tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"It is {n}."}) + "\n" for n in range(40)))
    return path


def test_data_without_marks(fails, held_out):
    assert "no token of the data is marked" in fails([MARKS], "method=marked")
    assert "no token of the data is marked" in fails([MARKS], f"evaluate.held_out=[{held_out}]", command="ceiling")
    error = fails([{**MARKS, "spans": [[11, 14, "wrong"]]}], "method={name: marked, types: [wrogn]}")
    assert "no mark of the data has the type 'wrogn'; did you mean 'wrong'?" in error


@pytest.mark.parametrize("command", ["run", "ceiling", "search"])
def test_unwanted_texts_that_are_none_or_trained_on(fails, tmp_path, command):
    unwanted, given = tmp_path / "unwanted.jsonl", ("search.measure=unwanted", "search.methods=loss")
    unwanted.write_text("")
    rows = [{**MARKS, "spans": [[11, 14]]}]
    error = fails(rows, f"evaluate.unwanted=[{unwanted}]", *given, command=command)
    assert "the file is empty" in error
    assert "unwanted.jsonl" in error
    unwanted.write_text(json.dumps(MARKS) + "\n")
    error = fails(rows, f"evaluate.unwanted=[{unwanted}]", *given, command=command)
    assert "every unwanted text is a whole answer of data.files" in error
    assert "recipe: evaluate.unwanted.files" in error


def test_a_search_that_cannot_be_paid_or_judged(fails, held_out):
    judged = f"evaluate.held_out=[{held_out}]"
    error = fails([GOOD], judged, "search.methods=[loss, entropy]", "search.probes=2", command="search")
    assert "a search of 2 candidates with their controls and a confirmation with 5 seeds needs" in error
    assert "the budget is 2 probes" in error
    assert "the recipe has no evaluate.held_out" in fails([GOOD], "search.methods=loss", command="search")


@pytest.mark.parametrize("measure", ["held_out", "exact_match"])
def test_what_a_search_decides_by_and_is_trained_on_is_refused(fails, held_out, measure):
    rows = [json.loads(line) for line in held_out.read_text().splitlines()]
    given = (f"evaluate.{measure}=[{held_out}]", f"search.measure={measure}", "search.methods=loss")
    error = fails([GOOD, rows[7], rows[9]], *given, command="search")
    assert "2 of 40" in error
    assert "held_out.jsonl:8" in error
    assert f"recipe: evaluate.{measure}" in error


def test_held_out_rows_that_are_trained_on_are_a_warning_of_a_run(tmp_path, held_out, capsys):
    (tmp_path / "rows.jsonl").write_text(held_out.read_text().splitlines(keepends=True)[7])
    given = [f"output={tmp_path / 'run'}", f"data={tmp_path / 'rows.jsonl'}", f"models.base={MODEL}", "method=loss"]
    main(["run", "--dry-run", *given, f"evaluate.held_out=[{held_out}]"])
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: 1 of 40 held-out examples are in data.files too" in said
    assert "held_out.jsonl:8" in said
