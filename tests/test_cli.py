"""The command line as shells and scripts see it: exit codes, JSON, completion."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm import Warm

from tokensieve.cli import main
from tokensieve.cli.completion import changes, completion_script, tyro_script
from tokensieve.cli.signals import Stopped, stopped_by_signals
from tokensieve.demo.dataset import write
from tokensieve.store.waiting import longest_wait

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src/tokensieve/demo/model"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80", "TERM": "xterm"}
COMMAND = [sys.executable, "-m", "tokensieve"]


def call(*arguments: str, cwd: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    write(0, folder)
    arguments = [
        "output: runs/a",
        "data: {files: pool.jsonl, limit: 24}",
        f"models: {{base: {MODEL}, reference: {{warm_up: {{rows: 8}}}}}}",
        "train: {max_steps: 1, warmup_steps: 0, per_device_train_batch_size: 4, gradient_accumulation_steps: 1,",
        "  bf16: false}",
        "evaluate: {held_out: test.jsonl, exact_match: {files: [test.jsonl], limit: 6, max_new_tokens: 8}}",
    ]
    (folder / "recipe.yaml").write_text("\n".join(arguments))
    return folder


@pytest.fixture(scope="module")
def run(desk) -> Path:
    """A run, made with ``--json``: the results are all that is on the output stream."""
    process = Warm(main, ["run", "recipe.yaml", "--json"], cwd=desk, environment=ENVIRONMENT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["run"] == str(desk / "runs/a")
    assert found["page"].endswith("report.html")
    assert "train token-cleaning" in err
    (desk / "found.json").write_text(out)
    return desk / "runs/a"


def test_done_is_0(desk):
    assert call("methods", cwd=desk).returncode == 0
    assert call("--help", cwd=desk).returncode == 0


def test_errors_that_inspect_finds_are_1(desk, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    done = call("inspect", "bad.jsonl", "--tokenizer", str(MODEL), "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert any(problem["level"] == "error" for problem in json.loads(done.stdout)["problems"])


@pytest.mark.parametrize(
    "arguments",
    [["run", "absent.yaml"], ["show", "absent"], ["compare"], ["run", "--no-such-option"], ["no-such-command"]],
)
def test_input_that_cannot_be_used_is_2(desk, arguments):
    done = call(*arguments, cwd=desk)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("number", "code", "what"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_command_with_one_line_and_no_partial_file(number, code, what, desk):
    command = ["run", "recipe.yaml", f"output=runs/{what}"]
    process = Warm(main, command, cwd=desk, environment=ENVIRONMENT)
    while "tokenise" not in process.read("err"):
        assert process.poll() is None, process.read("err")
        time.sleep(0.01)
    process.send_signal(number)
    _, rest = process.communicate()
    assert process.returncode == code, rest
    assert rest.endswith(f"{what}: run the same command again to resume\n")
    assert "Traceback" not in rest
    assert [path for path in desk.rglob("*") if path.suffix in (".partial", ".holder")] == []


def test_the_handler_that_ray_sets_ends_a_command_as_ours_does():
    with pytest.raises(Stopped) as stopped, stopped_by_signals():
        sys.exit(signal.SIGTERM)
    assert stopped.value.number == signal.SIGTERM
    with pytest.raises(SystemExit), stopped_by_signals():
        sys.exit(2)


@pytest.mark.parametrize("arguments", [["methods"], ["methods", "--json"], ["completion", "zsh"]])
def test_a_reader_that_goes_away_is_no_error(desk, arguments):
    with subprocess.Popen(
        [*COMMAND, *arguments], env=ENVIRONMENT, cwd=desk, stdout=-1, stderr=-1, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert not process.stderr.read()
    assert process.returncode == 0


def test_results_as_json_are_those_of_the_run(run, desk):
    found = json.loads((desk / "found.json").read_text())
    rows = {row["name"]: row for row in found["results"]}
    assert list(rows) == ["full", "random", "token-cleaning", "base", "reference"]
    selection = json.loads((run / "arms/random/selection.json").read_text())
    assert rows["random"]["selection"]["kept"] == selection["kept"]
    evaluation = json.loads((run / "arms/full/evaluation.json").read_text())
    assert rows["full"]["held_out"]["value"] == evaluation["held_out"]["loss"]
    assert rows["base"]["selection"] is None


def test_every_stage_prints_json(run, desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    results = json.loads((desk / "found.json").read_text())
    for stage in ("select", "train", "evaluate", "run"):
        main([stage, "recipe.yaml", "--json"])
        assert json.loads(capsys.readouterr().out)["results"] == results["results"]
    main(["measure", "recipe.yaml", "--json"])
    assert set(json.loads(capsys.readouterr().out)["statistics"]) == {"base", "reference"}
    main(["run", "recipe.yaml", "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out)["dry_run"][-1].startswith("ok")
    main(["compare", "runs/a", "--json"])
    (difference,) = json.loads(capsys.readouterr().out)["against_random"]
    loss = difference["measures"]["held_out"]
    assert loss["low"] <= loss["value"] <= loss["high"]
    main(["methods", "--json"])
    assert "rho-1" in {row["name"] for row in json.loads(capsys.readouterr().out)}


def test_what_is_written_is_told_as_json(run, capsys, tmp_path):
    def told(*arguments: str) -> dict:
        main([*arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    page = told("report", str(run), "--examples", "2", "--output", str(tmp_path / "page.html"))["page"]
    assert Path(page).is_file()
    exported = told("export", str(run), "--to", "trl", "--arm", "random")
    assert exported["snippets"][0]["text"]
    assert (Path(exported["folder"]) / "README.md").is_file()
    scores = run / "arms/random/scores"
    imported = told("import", str(run), str(next(scores.glob("*.arrow"))), "--name", "again", "--fraction", "0.5")
    assert imported["kept"] == imported["trainable"] // 2
    shutil.rmtree(imported["folder"])
    task = told("lm-eval", str(run), "--output", str(tmp_path), "--name", "questions")
    assert Path(task["file"]).is_file()
    assert "--tasks questions" in task["command"]
    model = dict(part.split("=") for part in shlex.split(task["command"])[4].split(","))
    assert all(Path(model[key]).is_dir() for key in {"pretrained", "peft"} & model.keys())


def test_an_example_as_json(run, capsys):
    main(["show", str(run), "--example", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    tokens = found["tokens"]
    assert found["arm"] == "token-cleaning"
    assert [token["position"] for token in tokens] == list(range(len(tokens)))
    assert {"score", "base.loss", "reference.loss"} <= set(tokens[0])
    assert tokens[0]["base.loss"] is None
    assert not tokens[0]["trainable"]
    for token in tokens:
        if token["trainable"]:
            assert token["score"] == pytest.approx(token["base.loss"] - token["reference.loss"], abs=1e-5)
    assert any(token["kept"] for token in tokens)
    main(["show", str(run), "--example", "2", "--arm", "full", "--json"])
    assert all(token["kept"] == token["trainable"] for token in json.loads(capsys.readouterr().out)["tokens"])


STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SETUP = {
    "bash": "source {script}",
    "zsh": "fpath=({script.parent} $fpath); autoload -U compinit; compinit -D -u",
    "fish": "source {script}",
}


class Shell:
    """An interactive shell in a terminal of its own."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execvpe(STARTS[shell][0], STARTS[shell], {**ENVIRONMENT, "PS1": "> ", "HOME": str(folder)})

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def read_until(self, text: str, seconds: float = 20) -> str:
        found, end = "", time.monotonic() + seconds
        while text not in found and time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.2)[0]:
                found += os.read(self.terminal, 4096).decode(errors="replace")
        assert text in found, f"no {text!r} in {found!r}"
        return found

    def close(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.terminal)


def test_help_texts_of_the_completion_are_lines(capsys):
    main(["completion", "bash"])
    (specification,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("COMPLETION_SPEC"))
    assert "\\n" not in specification  # a second line of a text would be offered as a word


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_is_changed_in_the_completion_scripts_of_tyro_is_there(shell):
    """A new tyro that writes other scripts is named here: without the changes its scripts offer no recipes."""
    script = tyro_script(shell, main)
    assert [old for old, _ in changes(shell) if old not in script] == []
    assert "__TYRO_COMPLETE_FILES__" in script


def test_a_completion_script_that_tyro_writes_in_another_way_stays_as_it_is():
    assert completion_script("zsh", lambda _: print("another script"), ["run"], ["seed"]) == "another script\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_real_shell_completes_commands_options_and_files(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    main(["completion", shell])
    script = tmp_path / "_tokensieve"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "my-recipe.yaml").touch()
    opened = Shell(shell, tmp_path)
    try:
        opened.type(SETUP[shell].format(script=script) + "; echo rea''dy\r")
        opened.read_until("ready")
        for typed, completed in (
            ("compa", "compare"),
            ("show --exa", "show --example"),
            ("inspect --form shareg", "inspect --form sharegpt"),
            ("run my-rec", "run my-recipe.yaml"),
            ("run my-recipe.yaml data.max_l", "data.max_length="),
            ("inspect rows.jsonl --tokenizer my-rec", "my-recipe.yaml"),
        ):
            opened.type(f"tokensieve {typed}\t")
            opened.read_until(completed.split()[-1])
            opened.type("\x15")  # Ctrl-U: forget the line
    finally:
        opened.close()


@pytest.mark.parametrize("command", ["run", "search", "ceiling"])
def test_a_dry_run_waits_no_longer_than_asked(command, desk, monkeypatch):
    monkeypatch.chdir(desk)

    def check(*_):
        assert longest_wait() == 0
        return ["ok"]

    for module, name in (("dry_run", "dry_run"), ("search", "search_lines"), ("ceiling", "ceiling_lines")):
        monkeypatch.setattr(f"tokensieve.pipeline.{module}.{name}", check)
    main([command, "recipe.yaml", "--dry-run", "--wait", "0"])


@pytest.mark.parametrize(("rank", "printed"), [("0", True), ("1", False)])
def test_of_processes_that_train_together_the_first_tells_the_results(rank, printed, run, desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tokensieve.pipeline.search.run", lambda *_, **__: desk / "runs/a")
    main(["train", "recipe.yaml"])
    said = capsys.readouterr().out
    assert ("held-out loss" in said) == printed
    assert "shards" not in said


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "pool.jsonl", "--tokenizer", MODEL, "--examples=-1"],
        ["inspect", "pool.jsonl", "--tokenizer", MODEL, "--tokens=-1"],
        ["report", "runs/a", "--examples=-1"],
        ["show", "runs/a", "--tokens=-1"],
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_what_is_counted_is_not_below_zero(command, desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    with pytest.raises(SystemExit) as end:
        main([*map(str, command)])
    assert end.value.code == 2
    assert f"{command[-1].partition('=')[0]} is -1" in capsys.readouterr().err
