"""What README and docs tell people to type and write is run here."""

from __future__ import annotations

import importlib.util
import re
import shlex
import warnings
from pathlib import Path

import pytest
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


def test_the_trainer_of_the_docs(desk, capsys):
    (source,) = blocks("docs/trainer.md", "python")
    source = source.replace("Qwen/Qwen2.5-0.5B-Instruct", str(MODEL)).replace(
        "max_length=1024", "max_length=256, max_steps=2, logging_steps=1, bf16=False, use_cpu=True, report_to='none'"
    )
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(compile(source, "docs/trainer.md", "exec"), names)
    logged = [entry for entry in names["trainer"].state.log_history if "selection/kept_share" in entry]
    assert len(logged) == 2
    assert 0.5 < logged[0]["selection/kept_share"] < 0.8


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
