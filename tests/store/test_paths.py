from __future__ import annotations

from pathlib import Path

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.store.atomic import atomic_file, atomic_folder, locked
from tokensieve.store.paths import check_local

URLS = [
    "s3://bucket/run",
    "gs://bucket",
    "hf://datasets/me/x",
    "file:///tmp/x",
    "https://example.org/a",
    "abfss://c@a/x",
]


def refused(path: str | Path) -> bool:
    try:
        check_local(path)
    except TokensieveError:
        return True
    return False


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_refused_as_text_as_a_path_and_below_a_folder(url):
    for form in (url, Path(url), Path(url).absolute(), Path("runs") / url / "deep"):
        with pytest.raises(TokensieveError, match="is a URL") as error:
            check_local(form, "recipe: output")
        assert error.value.where == "recipe: output"
        assert "local path" in error.value.hint


@pytest.mark.parametrize("path", ["runs/a", "/tmp/a b/c", "..", "runs/12:30/x", "runs/a:b", "-", "runs/:x"])
def test_local_paths_are_taken(path):
    assert not refused(path)
    assert not refused(Path(path))
    assert refused("s3://bucket/run")


@pytest.mark.parametrize("enter", [atomic_file, atomic_folder, locked])
def test_no_folder_is_ever_named_after_a_scheme(enter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokensieveError, match="is a URL"), enter(Path("s3://bucket/run")):
        pass
    assert list(tmp_path.iterdir()) == []
