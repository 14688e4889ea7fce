from __future__ import annotations

import builtins
import copy
import json
import math
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokensieve.errors import TokensieveError

pytest.importorskip("lm_eval")

from tokensieve.evaluate import harness
from tokensieve.evaluate.harness import PAPER_TASKS, check_tasks, run_tasks

ARC = Path(__file__).parents[3] / "shared/data/llm_foundry_eval/arc_easy.jsonl"
TASK = """\
task: {name}
tag: {name}_tag
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{query}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1.0
"""
GENERATION = """\
task: echo
dataset_path: json
dataset_kwargs:
  data_files: {test: data/questions.jsonl}
output_type: generate_until
test_split: test
doc_to_text: "{{query}}"
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list:
  - metric: exact_match
"""
ROWS = [
    {"query": f"Which of these is number {n}?", "choices": ["one", f"number {n}", "three hundred"][: 2 + n % 2]}
    for n in range(9)
]
ROWS = [{**row, "gold": n % len(row["choices"])} for n, row in enumerate(ROWS)]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No network at all, and a cache of the test's own."""
    import datasets.config
    import huggingface_hub.constants

    def refuse(*_, **__):
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a task over a data file, and with a group of it."""
    folder = tmp_path / "tasks"
    (folder / "data").mkdir(parents=True)
    (folder / "data/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "numbers.yaml").write_text(TASK.format(name="numbers", data="data/questions.jsonl"))
    (folder / "echo.yaml").write_text(GENERATION)
    return folder


def _log_likelihood(model, tokenizer, prompt, answer):
    """Sum of the log-probabilities of an answer's tokens, from a plain forward pass."""
    before, ids = tokenizer(prompt)["input_ids"], tokenizer(prompt + answer)["input_ids"]
    log_probabilities = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(log_probabilities[at - 1, ids[at]]) for at in range(len(before), len(ids)))


def test_a_local_task_equals_log_likelihoods_by_hand(folder, make_model, encoder, tmp_path):
    model = make_model("llama")
    right = right_per_byte = 0
    for row in ROWS:
        likelihoods = [
            _log_likelihood(model, encoder.tokenizer, f"{row['query']}\nAnswer:", f" {choice}")
            for choice in row["choices"]
        ]
        per_byte = [value / len(choice) for value, choice in zip(likelihoods, row["choices"], strict=True)]
        right += max(range(len(likelihoods)), key=likelihoods.__getitem__) == row["gold"]
        right_per_byte += max(range(len(per_byte)), key=per_byte.__getitem__) == row["gold"]
    requests = []
    found = run_tasks(
        model, encoder.tokenizer, ["numbers"], task_folder=str(folder), batch_size=4, on_requests=requests.append
    )
    accuracy = right / len(ROWS)
    assert 0 < accuracy < 1
    assert found["numbers"]["acc"] == pytest.approx(accuracy)
    assert found["numbers"]["acc_norm"] == pytest.approx(right_per_byte / len(ROWS))
    assert found["numbers"]["acc_stderr"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / (len(ROWS) - 1)))
    assert set(found["numbers"]) == {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}
    assert sum(requests) == sum(len(row["choices"]) for row in ROWS)
    assert list((tmp_path / "cache").glob("json/**/*.arrow"))


def test_several_tasks_and_the_tokenizer_stays_as_it_is(folder, make_model, encoder, monkeypatch, capfd):
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.pad_token = None
    monkeypatch.chdir(folder.parent)  # relative paths start at the folder of the tasks, wherever that is
    found = run_tasks(make_model("gpt2"), tokenizer, ["numbers", "echo"], task_folder="tasks", limit=2)
    assert list(found) == ["numbers", "echo"]
    assert found["echo"]["exact_match"] == 0.0
    assert tokenizer.pad_token is None
    shown = capfd.readouterr().err
    assert "equest" not in shown  # the harness's own bars
    assert "Tokenizing" not in shown


def test_check_gets_the_data_of_local_tasks(folder):
    check_tasks(("numbers", "echo"), str(folder))
    (folder / "lost.yaml").write_text(TASK.format(name="lost", data="data/nowhere.jsonl"))
    with pytest.raises(TokensieveError, match=r"(?s)'lost' cannot be loaded.*nowhere.jsonl.*lost.yaml"):
        check_tasks(("lost",), str(folder.rename(folder.with_name("moved"))))


def test_refuses_folders_without_readable_definitions(tmp_path, folder):
    with pytest.raises(TokensieveError, match="no task definitions"):
        check_tasks(("numbers",), str(tmp_path / "nowhere"))
    (folder / "broken.yaml").write_text("task: broken\n  metric: [\n")
    with pytest.raises(TokensieveError, match=r"(?s)not YAML.*broken.yaml:2"):
        check_tasks(("numbers",), str(folder))


def test_lm_eval_that_is_not_installed_is_named(monkeypatch, folder):
    own = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "lm_eval":
            raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval")
        return own(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TokensieveError, match=r"(?s)not installed.*tokensieve\[eval\]"):
        check_tasks(("numbers",), str(folder))


def test_names_of_the_harness(folder):
    """In one test, since reading the harness's thousands of definitions takes seconds."""
    with pytest.raises(
        TokensieveError, match=r"(?s)no task 'hellaswagg'; did you mean 'hellaswag'\?.*lm-eval ls tasks"
    ):
        check_tasks(("hellaswagg",), None)
    known = harness._index(None, True).all_tasks
    assert set(PAPER_TASKS) <= set(known)
    # Offline, data that is not in the cache: an error that says so, without asking the network.
    with pytest.raises(TokensieveError, match=r"(?s)'arc_challenge' cannot be loaded.*HF_DATASETS_CACHE") as caught:
        check_tasks(("arc_challenge",), None)
    assert "arc_challenge.yaml" in str(caught.value)
    assert "AssertionError" not in str(caught.value)


@pytest.fixture
def own_definitions_alone(monkeypatch):
    """Leave out the harness's definitions, which a tag or an unknown name would have read."""
    monkeypatch.setattr(harness, "_manager", lambda _, folder: harness._index(harness._resolved(folder), False))


@pytest.mark.usefixtures("own_definitions_alone")
def test_an_unknown_name_shows_what_the_folder_has(folder):
    with pytest.raises(TokensieveError, match=r"(?s)no task 'number'; did you mean 'numbers'.*echo, numbers"):
        check_tasks(("number",), str(folder))


@pytest.mark.usefixtures("own_definitions_alone")
def test_a_tag_gives_its_tasks_and_a_group_its_own_figures(folder, make_model, encoder):
    (folder / "more.yaml").write_text(
        TASK.format(name="more", data="data/questions.jsonl").replace("more_tag", "numbers_tag")
    )
    (folder / "both.yaml").write_text(
        "group: both\ntask: [numbers, more]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    model = make_model("llama")
    found = run_tasks(model, encoder.tokenizer, ["numbers_tag", "both"], task_folder=str(folder), limit=4)
    assert list(found) == ["more", "numbers", "both"]
    assert found["both"]["acc"] == found["numbers"]["acc"] == found["more"]["acc"]


@pytest.mark.skipif(not ARC.is_file(), reason="needs ../shared/data/llm_foundry_eval")
def test_arc_easy_from_its_jsonl_file(tmp_path, make_model, encoder):
    folder = tmp_path / "arc"
    folder.mkdir()
    (folder / "arc.yaml").write_text(TASK.format(name="arc_easy_file", data=ARC))
    found = run_tasks(make_model("llama"), encoder.tokenizer, ["arc_easy_file"], task_folder=str(folder), limit=10)
    assert 0 <= found["arc_easy_file"]["acc"] <= 1


def test_the_settings_import_nothing_heavy():
    heavy = "('numpy', 'torch', 'lm_eval')"
    code = f"import sys, tokensieve.evaluate.settings; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_task_that_needs_another_package_says_so(monkeypatch, tmp_path):
    class Manager:
        def load(self, _):
            raise ModuleNotFoundError("No module named 'langdetect'")

    monkeypatch.setattr(harness, "_check_name", lambda *_: None)
    monkeypatch.setattr(harness, "definition_file", lambda *_: "ifeval.yaml")
    with pytest.raises(TokensieveError, match="langdetect") as refused:
        harness._load(Manager(), "ifeval", None)
    assert "install the packages" in refused.value.hint
