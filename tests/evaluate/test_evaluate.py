from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from tokensieve.data.settings import DataSettings
from tokensieve.evaluate.corrected import read_corrected
from tokensieve.evaluate.evaluate import EvaluationData, evaluate_model, needs_model
from tokensieve.evaluate.exact_match import read_questions
from tokensieve.evaluate.held_out import held_out_losses
from tokensieve.evaluate.settings import EvaluateSettings, ExactMatchSettings, HeldOutSettings, UnwantedSettings
from tokensieve.evaluate.unwanted import read_unwanted
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.outcomes import MEASURES, read_outcomes


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n} + 1", "answer": f"{n + 1}"}) + "\n" for n in range(6)))
    return path


class _Stages:
    def __init__(self):
        self.done: dict[str, tuple[int, int | None, str]] = {}

    @contextmanager
    def __call__(self, description, total, unit):
        amounts = []
        yield amounts.append
        self.done[description] = (sum(amounts), total, unit)


def test_figures_in_the_shape_that_the_report_reads(rows, make_store, make_model, encoder):
    settings = EvaluateSettings(HeldOutSettings(("h",)), ExactMatchSettings((str(rows),), 4), batch_size=4)
    questions = tuple(read_questions(DataSettings((str(rows),)), encoder))
    stages = _Stages()
    store = make_store(rows)
    data = EvaluationData(store, questions)
    model = make_model("llama")
    losses = held_out_losses(model, store, 512, lambda _: None)
    figures, details = evaluate_model(model, encoder, settings, data, 512, stages, losses)
    assert list(figures) == ["held_out", "exact_match"]
    assert set(figures["held_out"]) == {"loss", "perplexity", "tokens", "examples", "low", "high"}
    assert set(figures["exact_match"]) == {"score", "correct", "examples", "low", "high", "truncated"}
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert json.loads(json.dumps(details)) == details
    assert [row["row"] for row in details["predictions"]] == list(range(6))
    losses = details["held_out"]
    assert [row["rows"] for row in losses] == list(range(6))
    mean = sum(row["losses"] for row in losses) / sum(row["tokens"] for row in losses)
    assert mean == pytest.approx(figures["held_out"]["loss"], rel=1e-12)
    assert stages.done == {"exact match": (6, 6, "prompts")}


def test_every_measure_has_its_section_and_its_results_by_example(rows, tmp_path, make_store, make_model, encoder):
    corrected = tmp_path / "corrected.jsonl"
    corrected.write_text(json.dumps({"question": "1 + 1", "answer": "3", "corrected": "2"}) + "\n")
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"never {n}"}) + "\n" for n in range(4)))
    held_out, unwanted = DataSettings((str(rows),)), UnwantedSettings((str(texts),), ("e",), 4)
    store = make_store(rows)
    data = EvaluationData(
        store,
        tuple(read_questions(held_out, encoder)),
        read_unwanted(DataSettings((str(texts),)), held_out, encoder),
        read_corrected(DataSettings((str(corrected),)), encoder),
    )
    settings = EvaluateSettings(exact_match=ExactMatchSettings((str(rows),), 4), unwanted=unwanted)
    stages = _Stages()
    model = make_model("llama")
    losses = held_out_losses(model, store, 512, lambda _: None)
    found, details = evaluate_model(model, encoder, settings, data, 512, stages, losses)
    assert all(done == total for done, total, _ in stages.done.values())
    assert found.keys() == MEASURES.keys()
    arm = ArmFolder(tmp_path / "arm")
    arm.write_evaluation({**found, "data": data.fingerprints}, details)
    for name, measure in MEASURES.items():
        assert found[name]["low"] <= found[name][measure.value] <= found[name]["high"]
        outcomes = read_outcomes(arm, name, 0)
        assert outcomes is not None, name
        assert outcomes.means[0] == pytest.approx(found[name][measure.value])
        assert measure.data in (None, *data.fingerprints)


def test_a_model_is_loaded_here_for_what_no_engine_measures(rows, encoder):
    questions = tuple(read_questions(DataSettings((str(rows),)), encoder))
    assert not needs_model(EvaluateSettings(), EvaluationData(questions=questions))
    asked = EvaluateSettings(exact_match=ExactMatchSettings((str(rows),), 4))
    assert needs_model(asked, EvaluationData(questions=questions))
    assert needs_model(EvaluateSettings(tasks=("a",)), EvaluationData())


def test_what_is_not_asked_for_is_left_out(make_model, encoder):
    assert evaluate_model(make_model("llama"), encoder, EvaluateSettings(), EvaluationData(), 512, _Stages()) == (
        {},
        {},
    )


def test_tasks_have_a_stage_each(make_model, encoder, monkeypatch):
    from tokensieve.evaluate import evaluate

    seen = []

    def run_tasks(model, tokenizer, tasks, *, on_requests, **options):
        seen.append(options)
        on_requests(7)
        return {task: {"acc": 0.5} for task in tasks}

    monkeypatch.setattr(evaluate, "run_tasks", run_tasks)
    settings = EvaluateSettings(tasks=("a", "b"), task_folder="f", task_limit=3, num_fewshot=2, batch_size=5)
    stages = _Stages()
    figures, _ = evaluate_model(make_model("llama"), encoder, settings, EvaluationData(), 512, stages)
    assert figures == {"tasks": {"a": {"acc": 0.5}, "b": {"acc": 0.5}}}
    assert seen == [{"task_folder": "f", "limit": 3, "num_fewshot": 2, "batch_size": 5}] * 2
    assert stages.done == {"task a": (7, None, "requests"), "task b": (7, None, "requests")}
