"""A desk with a finished run, at which everything takes seconds."""

from __future__ import annotations

import shutil
from http.server import ThreadingHTTPServer
from pathlib import Path

import datasets.load  # noqa: F401  # which takes the real `HfApi` when it is first imported
import huggingface_hub
import pytest
import trl
from pages import SmallConfig, blocks, lay_out, made_elsewhere, small

from tokensieve.cli import main
from tokensieve.pipeline import recipe as config
from tokensieve.report.html import serve


class Hub:
    """The Hub as far as a push sees it."""

    def whoami(self): ...

    def create_repo(self, repo, **_):
        return huggingface_hub.RepoUrl(f"https://huggingface.co/datasets/{repo}")

    def upload_folder(self, **given):
        assert (Path(given["folder_path"]) / "README.md").is_file()


class Server(ThreadingHTTPServer):
    """A server at a port that is free, which stops at once."""

    def __init__(self, address, handler):
        assert address[0] == "127.0.0.1"
        super().__init__((address[0], 0), handler)

    def serve_forever(self, poll_interval=0.5): ...


def keep_small(monkeypatch) -> None:
    """Make every recipe and every training of the pages one of seconds, and serve for none."""
    monkeypatch.setattr(serve, "ThreadingHTTPServer", Server)
    load = config.load_recipe
    monkeypatch.setattr(config, "load_recipe", lambda *given: small(load(*given)))
    monkeypatch.setattr(trl, "SFTConfig", SmallConfig)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A desk with a run of the README's recipe, and a copy of it that stays as it is."""
    desk = tmp_path_factory.mktemp("desk") / "desk"
    desk.mkdir()
    lay_out(desk)
    (recipe,) = [block.text for block in blocks("README.md") if block.file == "recipe.yaml"]
    (desk / "recipe.yaml").write_text(recipe)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(desk)
        keep_small(monkeypatch)
        main(["run", "recipe.yaml"])
        main(["select", "recipe.yaml", "method.fraction=0.5", "output=runs/half"])
        made_elsewhere(Path("runs/mine"), desk)
    for name in ("b", "c"):
        shutil.copytree(desk / "runs/half", desk / "runs" / name)
    shutil.copytree(desk, desk.with_name("untouched"), symlinks=True)
    return desk


@pytest.fixture
def desk(finished, monkeypatch) -> Path:
    """The desk as it was, in the same place: recipes hold absolute paths."""
    shutil.rmtree(finished)
    shutil.copytree(finished.with_name("untouched"), finished, symlinks=True)
    monkeypatch.chdir(finished)
    monkeypatch.syspath_prepend(finished)
    keep_small(monkeypatch)
    return finished
