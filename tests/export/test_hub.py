"""Pushing an export, with a Hub that is not there."""

from __future__ import annotations

import importlib
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from tokensieve.cli import main
from tokensieve.export.hub import _failures


class Hub:
    """Stands for the Hub: notes what it is asked, and fails where a test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.fails: dict[str, Exception] = {}

    def __call__(self) -> Hub:
        return self

    def _answer(self, name: str, *given) -> None:
        self.calls.append((name, *given))
        if name in self.fails:
            raise self.fails[name]

    def whoami(self) -> dict:
        self._answer("whoami")
        return {"name": "me"}

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        self._answer("create_repo", repo_id, repo_type, private, exist_ok)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/datasets/{repo_id}")

    def upload_folder(self, *, repo_id, repo_type, folder_path, commit_message):
        self._answer("upload_folder", repo_id, repo_type, sorted(path.name for path in Path(folder_path).iterdir()))


@pytest.fixture
def hub(monkeypatch) -> Hub:
    found = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", found)
    return found


def test_a_push_uploads_the_export_with_its_card_to_a_private_data_set(run, hub, capsys):
    main(["export", str(run), "--to", "parquet", "--push-to-hub", "me/data"])
    assert hub.calls == [
        ("whoami",),
        ("create_repo", "me/data", "dataset", True, True),
        ("upload_folder", "me/data", "dataset", ["README.md", "data", "export.json"]),
    ]
    assert "pushed: https://huggingface.co/datasets/me/data" in capsys.readouterr().out


def test_a_card_that_was_edited_is_pushed_as_it_is(run, hub):
    main(["export", str(run), "--to", "parquet"])
    card = run / "exports/loss-parquet/README.md"
    card.write_text(card.read_text() + "\nMore about it.\n")
    main(["export", str(run), "--to", "parquet", "--push-to-hub", "me/data"])
    assert card.read_text().endswith("More about it.\n")


@pytest.mark.parametrize(
    ("name", "call", "error", "says"),
    [
        ("me/da ta", None, None, "'me/da ta' is not a valid repository name"),
        ("me/data", "whoami", LocalTokenNotFoundError("no token"), "not logged in to the Hugging Face Hub"),
        ("me/data", "whoami", ConnectionError("no way there"), "the Hub request failed: no way there"),
        ("you/data", "create_repo", OSError("403 Forbidden\nmore"), "the Hub request failed: 403 Forbidden\n"),
        ("me/data", "upload_folder", HfHubHTTPError.__bases__[0]("broke off"), "the Hub request failed: broke off"),
    ],
)
def test_a_push_that_fails_ends_in_one_error(name, call, error, says, run, hub, capsys):
    if call:
        hub.fails[call] = error
    with pytest.raises(SystemExit) as stop:
        main(["export", str(run), "--to", "parquet", "--push-to-hub", name])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    written = (run / "exports").exists()
    assert written == (call in ("create_repo", "upload_folder")), "checked before anything is written"


def test_a_connection_that_fails_is_among_what_the_hubs_client_raises():
    """`_failures` reads the bases of its error: they hold those of the HTTP library, whichever it is."""
    from huggingface_hub.errors import HfHubHTTPError

    libraries = {base.__module__.partition(".")[0] for base in HfHubHTTPError.__bases__ if base is not OSError}
    (library,) = libraries - {"builtins"}
    assert issubclass(importlib.import_module(library).ConnectError, _failures())
