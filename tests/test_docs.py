"""What README and docs tell people to type and write is run here."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from tokensieve.cli import main
from tokensieve.demo.dataset import write

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src/tokensieve/demo/model"
SMALL = [
    "data.limit=24",
    "train.max_steps=1",
    "train.per_device_train_batch_size=4",
    "train.gradient_accumulation_steps=1",
    "train.bf16=false",
    "models.reference.warm_up.rows=8",
]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder as a reader would have it: data, and the README's recipe with a model that is at hand."""
    write(0, tmp_path)
    (tmp_path / "pool.jsonl").rename(tmp_path / "train.jsonl")
    (text,) = blocks("README.md", "yaml")
    recipe = yaml.safe_load(text)
    assert recipe["models"]["base"] == "Qwen/Qwen2.5-0.5B"
    recipe["models"]["base"] = str(MODEL)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "Qwen").mkdir()
    for name in ("Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct"):
        (tmp_path / "Qwen" / name).symlink_to(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_readme(desk, capsys):
    lines = [
        line[2:] for block in blocks("README.md", "console") for line in block.splitlines() if line.startswith("$ ")
    ]
    inline = re.findall(r"`(tokensieve (?:run|show) [^`]+)`", (ROOT / "README.md").read_text())
    commands = [line for line in [*lines, *inline] if line.startswith("tokensieve")]
    assert len(commands) >= 4
    for command in commands:
        arguments = [str(MODEL) if word == "MODEL" else word for word in shlex.split(command)[1:]]
        main([*arguments, *SMALL] if arguments[0] == "run" else arguments)
        assert capsys.readouterr().out
    assert (desk / "runs/mine/report.html").is_file()
    assert (desk / "runs/half/arms/token-cleaning/cleaned/data").is_dir()
    for stage in ("measure", "select", "train", "evaluate"):
        main([stage, "recipe.yaml", *SMALL])
    main(["report", "runs/mine"])


def test_the_commands_and_python_of_the_page(desk, capsys, monkeypatch):
    from http.server import ThreadingHTTPServer

    main(["select", "recipe.yaml", *SMALL])
    main(["select", "recipe.yaml", *SMALL, "output=runs/half", "method.fraction=0.5"])
    commands = [line[2:] for block in blocks("docs/page.md", "console") for line in block.splitlines()]
    assert [command.split()[1] for command in commands] == ["report", "report", "serve"]

    def answer_once(server):
        assert server.server_address[0] == "127.0.0.1"

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", answer_once)
    for command in commands:
        capsys.readouterr()
        main([*shlex.split(command)[1:], *(["--port", "0"] if "serve" in command else [])])
        assert capsys.readouterr().out
    assert (desk / "compared.html").is_file()
    (source,) = blocks("docs/page.md", "python")
    import tokensieve

    names: dict = {"tokensieve": tokensieve, "folder": desk / "runs/mine"}
    exec(compile(source, "docs/page.md", "exec"), names)
    assert "random keeps" in names["example"]
    (line,) = blocks("docs/page.md", "yaml")
    main(["select", "recipe.yaml", *SMALL, "output=runs/line", f"method={line.partition(':')[2].strip()}"])


def test_the_python_of_the_docs(desk, capsys):
    main(["select", "recipe.yaml", *SMALL, "output=runs/half", "method.fraction=0.5"])
    source = "\n".join(blocks("docs/python.md", "python"))
    source = source.replace('"output=runs/half"]', f'"output=runs/half", *{SMALL!r}]').replace(
        "tokensieve.run(recipe) ", 'tokensieve.run(recipe, until="select") '
    )
    exec(compile(source, "docs/python.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "[ 0.  1. -1.  4.  0.  0.]" in printed
    assert "[-100    7 -100    9 -100 -100]" in printed
    assert "[-100    7 -100    9 -100    3]" in printed
    assert "[array([-100, -100,    7, -100]), array([-100, -100])]" in printed  # one of three; the two models are one


def test_the_trainer_of_the_docs_as_it_is_written(desk):
    (source,) = blocks("docs/trainer.md", "python")
    assert len(source.strip().splitlines()) <= 12
    if not torch.cuda.is_available():
        source = source.replace("max_length=1024", "max_length=1024, use_cpu=True")  # as the page says
    rows = (desk / "train.jsonl").read_text().splitlines(keepends=True)
    (desk / "train.jsonl").write_text("".join(rows[:16]))
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(compile(source, "docs/trainer.md", "exec"), names)
    trainer = names["trainer"]
    assert trainer.state.global_step == 6  # three epochs of two batches
    assert 0.5 < trainer.counts.kept / trainer.counts.trainable < 0.7


def test_the_plug_in_of_the_docs(tmp_path, monkeypatch):
    (project,) = blocks("docs/ecosystem.md", "toml")
    method, check, _ = blocks("docs/ecosystem.md", "python")
    (tmp_path / "calm_tokens.py").write_text(method)
    info = tmp_path / "calm_tokens-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: calm-tokens\nVersion: 1.0\n")
    ((group, points),) = tomllib.loads(project)["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    code = f"from calm_tokens import Calm\n{check}\nimport tokensieve\nassert tokensieve.get_method('calm') == Calm()"
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_callback_of_the_docs(desk):
    main(["select", "recipe.yaml", *SMALL])
    source = blocks("docs/ecosystem.md", "python")[2]
    if not torch.cuda.is_available():
        source = source.replace("max_length=2048", "max_length=2048, use_cpu=True")
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(compile(source, "docs/ecosystem.md", "exec"), names)
    logged = [entry for entry in names["trainer"].state.log_history if "loss" in entry]
    described = set(re.findall(r"^\| `(selection/\w+)`", (ROOT / "docs/ecosystem.md").read_text(), re.MULTILINE))
    assert {name for name in logged[0] if name.startswith("selection/")} == described
    kept = json.loads((desk / "runs/mine/arms/token-cleaning/selection.json").read_text())["kept"]
    assert logged[-1]["selection/trained_tokens"] == 3 * kept  # three epochs


def test_the_commands_of_the_ecosystem_page(desk, capsys):
    text = (ROOT / "docs/ecosystem.md").read_text()
    questions = "evaluate.exact_match={files: [test.jsonl], limit: 4, max_new_tokens: 8}"
    main(["run", "recipe.yaml", *SMALL, questions])
    commands = [
        *re.findall(r"`(tokensieve (?:methods|lm-eval|compare)[^`]*)`", text),
        *re.findall(r"tokensieve completion \w+", text),
    ]
    assert len(commands) >= 6
    for command in dict.fromkeys(commands):
        capsys.readouterr()
        arguments = shlex.split(command.replace("RUN RUN ...", "runs/mine").replace("RUN", "runs/mine"))[1:]
        main(arguments)
        assert capsys.readouterr().out
    assert (desk / "tasks/my_task.yaml").is_file()


def test_the_exit_codes_are_the_same_everywhere():
    pages = [(ROOT / name).read_text() for name in ("docs/index.md", "docs/ecosystem.md", "src/tokensieve/cli.py")]
    codes = set(re.findall(r"^\| (\d+) \|", pages[1], re.MULTILINE))
    assert codes == {"0", "1", "2", "130"}
    for page in (pages[0], pages[2]):
        (line,) = re.findall(r"Exit codes: (.*)", page)
        assert set(re.findall(r"\d+", line)) == codes


def test_the_reference_pages_are_those_of_the_code():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, page in generate.PAGES.items():
        assert (ROOT / "docs" / name).read_text() == page(), f"run python docs/generate.py: {name}"


def test_the_default_template_of_the_docs_is_the_one_in_use():
    from transformers.utils.chat_template_utils import render_jinja_template

    from tokensieve.data.tokenize import DEFAULT_CHAT_TEMPLATE

    (documented,) = blocks("docs/data.md", "jinja")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    texts = [
        render_jinja_template([messages], chat_template=template, eos_token="</s>", bos_token="")[0]
        for template in (documented, DEFAULT_CHAT_TEMPLATE)
    ]
    assert texts[0][0].strip() == texts[1][0].strip()


def test_links_within_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
