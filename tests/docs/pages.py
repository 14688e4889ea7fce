"""README and docs as their readers take them: fenced blocks in order, and a desk to type them at."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import trl
from safetensors.torch import load_file, save_file

from tokensieve.demo.dataset import write
from tokensieve.runs.view import load_run

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "src/tokensieve/demo/model"
MODEL_NAMES = ("MODEL", "BETTER_MODEL", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct")
NORM = "model.norm.weight"
PAGES = tuple(sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]))
LANGUAGES = ("console", "python", "yaml")

NOT_RUN = {
    r"^pip install ": "changes the environment",
    r"^make ": "sets up an environment; `make demo` is tests/demo, `make test` is this",
    r"method\.name=calm ": "the package of that page must be installed: tests/methods/test_add_a_method.py",
    r"^accelerate launch ": "several processes on several devices; the script itself is run here",
    r"^tokensieve search recipe.yaml --(minutes 30|probes 40)": "takes minutes; docs/search.md has a small search",
    r"^tokensieve evaluate .*evaluate\.tasks=": "tasks of the harness read their data from the Hub",
}
"""Commands that cannot be run here, and why."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: behind the opening fence.
        text: what is in it.
        line: of its first line in the page, from 1.
        file: the name that its first line gives it (`# recipe.yaml`), or None.
    """

    language: str
    text: str
    line: int
    file: str | None


class CpuConfig(trl.SFTConfig):
    """A training on the CPU, in float32."""

    def __init__(self, **given):
        super().__init__(**{"use_cpu": True, "bf16": False, "report_to": "none", **given})


class SmallConfig(CpuConfig):
    """One step of four rows."""

    def __init__(self, **given):
        super().__init__(**{"max_steps": 1, "per_device_train_batch_size": 4, "logging_steps": 1, **given})


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        name = re.match(r"# ([\w./-]+\.(?:yaml|py))$", match[2], re.MULTILINE)
        found.append(Block(match[1], match[2], text[: match.start(2)].count("\n") + 1, name and name[1]))
    return found


def commands(block: Block) -> Iterator[str]:
    """Yield the commands of a console block: what follows a prompt, continued lines joined."""
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        if line.startswith("$ "):
            yield line[2:]


def why_not_run(command: str) -> str | None:
    """Return why a command is not run here, or None."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


def small(recipe: Any) -> Any:
    """Return a recipe that takes seconds: few rows, one step at the full learning rate, float32."""
    models = {role: _small_model(settings) for role, settings in recipe.models.items()}
    train = recipe.train
    if train is not None:
        arguments = {
            **train.arguments,
            "max_steps": 1,
            "warmup_steps": 0,
            "per_device_train_batch_size": 4,
            "bf16": False,
        }
        train = dataclasses.replace(train, arguments={**arguments, "gradient_accumulation_steps": 1})
    evaluate = recipe.evaluate
    if evaluate.exact_match is not None:
        match = dataclasses.replace(evaluate.exact_match, limit=4, max_new_tokens=4)
        evaluate = dataclasses.replace(evaluate, exact_match=match)
    data = dataclasses.replace(recipe.data, limit=min(recipe.data.limit or 24, 24))
    return dataclasses.replace(recipe, data=data, models=models, train=train, evaluate=evaluate)


def _small_model(settings: Any) -> Any:
    if settings.warm_up is None or settings.warm_up.rows is None:
        return settings
    return dataclasses.replace(settings, warm_up=dataclasses.replace(settings.warm_up, rows=8))


def lay_out(desk: Path) -> None:
    """Put on a desk what the pages take for granted: data and models."""
    write(0, desk)
    (desk / "pool.jsonl").rename(desk / "train.jsonl")
    for name in ("test.jsonl", "train.jsonl"):
        rows = (desk / name).read_text().splitlines(keepends=True)
        (desk / name).write_text("".join(rows[: 40 if name == "test.jsonl" else 24]))  # a search needs 40
    for name in ("trusted", "harmful"):
        (desk / f"{name}.jsonl").write_text((desk / "test.jsonl").read_text())
    (desk / "unwanted.jsonl").write_text(json.dumps({"text": "As an AI, I cannot say."}) + "\n")
    corrected = {"question": "Do leaves grow?", "answer": "No, in spring.", "corrected": "Yes, in spring.", "row": 0}
    (desk / "corrected.jsonl").write_text(json.dumps(corrected) + "\n")
    answer = {"QUESTION": "Do leaves grow?", "LONG_ANSWER": "Yes, in spring.", "final_decision": "yes"}
    (desk / "pubmedqa.jsonl").write_text(json.dumps(answer) + "\n")
    shutil.copytree(MODEL, desk / ".model")
    config = json.loads((desk / ".model/config.json").read_text())
    (desk / ".model/config.json").write_text(json.dumps({**config, "max_position_embeddings": 32768}))  # as Qwen's
    weights = load_file(desk / ".model/model.safetensors")
    for number, name in enumerate(MODEL_NAMES):
        shutil.copytree(desk / ".model", desk / name)
        apart = {**weights, NORM: weights[NORM] * (1 + number / 10)}  # equal models are refused
        save_file(apart, desk / name / "model.safetensors", {"format": "pt"})
    (desk / "data").mkdir()


def made_elsewhere(run: Path, desk: Path) -> None:
    """Put files on a desk with scores and labels of a run's examples that were made elsewhere."""
    rows: Mapping[str, list[dict[str, Any]]] = {"scores": [], "labels": []}
    for examples in load_run(run).store:
        for number, row in enumerate(examples.rows.tolist()):
            span = slice(*examples.cu_seqlens[number : number + 2].tolist())
            ids, labels = examples.input_ids[span].tolist(), examples.labels[span].tolist()
            rows["scores"].append({"row": row, "scores": ids})
            rows["labels"].append({"input_ids": ids, "labels": labels})
    for name, lines in rows.items():
        (desk / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows["scores"]), desk / "scores.parquet")
    (desk / "verdicts.jsonl").write_text(json.dumps({"row": rows["scores"][0]["row"], "spans": [[0, 2]]}) + "\n")
    conversations = [json.loads(line) for line in (desk / "train.jsonl").read_text().splitlines()]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"messages": row["messages"]} for row in conversations]), desk / "data/rows.parquet"
    )
