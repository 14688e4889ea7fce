"""A task that is written is run by the harness itself, and gives what `exact_match` gives."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("lm_eval")

from tokensieve.cli import main
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.demo.dataset import write
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.exact_match import Question, exact_match, read_questions
from tokensieve.evaluate.harness import run_tasks
from tokensieve.evaluate.settings import ExactMatchSettings
from tokensieve.evaluate.task_export import write_task

MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The embedded model with a little training, so that some of its answers are right."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder = tmp_path_factory.mktemp("model")
    write(0, folder)
    rows = datasets.load_dataset("json", data_files=str(folder / "warmup.jsonl"), split="train", cache_dir=str(folder))
    arguments = SFTConfig(
        output_dir=str(folder / "out"), use_cpu=True, bf16=False, max_length=256, max_steps=30, learning_rate=2e-3,
        report_to="none", per_device_train_batch_size=16, save_strategy="no", gradient_checkpointing=False, seed=0,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(MODEL), arguments, train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    assert trainer.model is not None
    return trainer.model.eval()


@pytest.fixture(scope="module")
def questions_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(0, folder)
    lines = (folder / "test.jsonl").read_text().splitlines(keepends=True)[:40]
    path = folder / "questions.jsonl"
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("extract", [None, r"= (\w+);", r"\w+(?=;)"])
def test_the_harness_gives_the_same_score(model, questions_file, tmp_path, monkeypatch, extract):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    encoder = load_encoder(str(MODEL))
    settings = ExactMatchSettings((str(questions_file),), max_new_tokens=24, extract=extract)
    questions = read_questions(DataSettings((str(questions_file),)), encoder, extract)
    expected, rows = exact_match(model, encoder, questions, settings, 8, lambda _: None)
    assert 0 < expected.score < 1
    path = write_task(questions, encoder, settings, tmp_path / "tasks", "towns")
    assert path == tmp_path / "tasks/towns.yaml"
    written = pq.read_table(path.with_suffix(".parquet")).to_pylist()
    assert [row["prompt"] for row in written] == [row["prompt"] for row in rows]
    found = run_tasks(model, encoder.tokenizer, ["towns"], task_folder=str(tmp_path / "tasks"), batch_size=8)
    metric = "exact_match" if extract is None else "exact_match,extracted"
    assert found["towns"][metric] == pytest.approx(expected.score)


def test_the_command_writes_what_lm_eval_runs(questions_file, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    run.mkdir()
    recipe = {
        "output": str(run),
        "data": str(questions_file),
        "models": {"base": str(MODEL)},
        "evaluate": {"exact_match": {"files": [str(questions_file)], "limit": 4, "max_new_tokens": 8}},
    }
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    main(["lm-eval", "run", "--output", "my tasks", "--name", "mine"])
    written, command = capsys.readouterr().out.splitlines()
    assert written == "my tasks/mine.yaml"
    words = shlex.split(command)
    assert words[0] == "lm_eval"
    # From another folder, as its own command does, with the model from disk.
    (tmp_path / "elsewhere").mkdir()
    words[words.index("my tasks")] = "../my tasks"
    code = "import sys; from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *words[1:], "--device", "cpu", "--output_path", "out"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (tmp_path / "elsewhere/out").rglob("results_*.json")
    assert 0 <= json.loads(results.read_text())["results"]["mine"]["exact_match,none"] <= 1
    shutil.rmtree(tmp_path / "elsewhere")


def test_answers_that_look_like_dates_or_numbers_stay_as_they_are(tmp_path, monkeypatch):
    import datasets.config
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    encoder, settings = load_encoder(str(MODEL)), ExactMatchSettings(())
    for name, answers in {"dates": ["2024-01-01", "2024-02-29"], "numbers": ["007", "1.0"]}.items():
        questions = [Question(row, "When?", [5], answer) for row, answer in enumerate(answers)]
        write_task(questions, encoder, settings, tmp_path, name)
        task = TaskManager(include_path=str(tmp_path), include_defaults=False).load(name)["tasks"][name]
        assert [task.doc_to_target(doc) for doc in task.test_docs()] == answers


def test_bad_input(questions_file, tmp_path, capsys):
    encoder = load_encoder(str(MODEL))
    settings = ExactMatchSettings((str(questions_file),), extract=r"(\w+) = (\w+);")
    with pytest.raises(TokensieveError, match="another group"):
        write_task([], encoder, settings, tmp_path, "x")
    with pytest.raises(TokensieveError, match="cannot name a task"):
        write_task([], encoder, ExactMatchSettings(()), tmp_path, "../x")
    recipe = {"output": "x", "data": str(questions_file), "models": {"base": str(MODEL)}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(SystemExit) as code:
        main(["lm-eval", str(tmp_path), "--output", str(tmp_path / "tasks")])
    assert code.value.code == 2
    assert "the recipe asks no questions" in capsys.readouterr().err
    assert not (tmp_path / "tasks").exists()
