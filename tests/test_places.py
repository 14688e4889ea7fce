"""URLs, the places on this machine that stand for them, and messages that show the URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokensieve.errors import TokensieveError
from tokensieve.outputs import output_place
from tokensieve.places import is_url, place, remote_of, told
from tokensieve.progress import StageProgress


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TOKENSIEVE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return tmp_path / "scratch"


@pytest.mark.parametrize("url", ["s3://bucket/runs/a", "gs://bucket/a b/ü.jsonl", "hf://datasets/you/yours/x.csv"])
def test_a_url_has_a_place_which_is_told_as_the_url(url, scratch):
    path = place(url)
    assert path.is_relative_to(scratch)
    assert told(path) == url
    assert told(f"see {path / 'x'}, {path}:3") == f"see {url}/x, {url}:3"
    remote = remote_of(path)
    assert remote is not None
    assert remote.url == url
    assert place(Path(url)) == place(path) == path  # `Path` makes one slash of two


@pytest.mark.parametrize("path", ["runs/a", "/tmp/s3/a", "C:/x", "s3/x", "https://example.org/a"])
def test_any_other_path_is_its_own_place(path):
    assert not is_url(path)
    assert place(path) == Path(path)
    assert remote_of(place(path)) is None


def test_no_url_leads_out_of_the_scratch_folder(scratch):
    assert place("s3://bucket/../../../etc/passwd") == scratch / "s3/etc/passwd"
    assert place("s3://bucket//a/./b/") == scratch / "s3/bucket/a/b"


def test_stores_with_an_address_of_their_own_have_a_folder_of_their_own(scratch, monkeypatch):
    amazon = place("s3://bucket/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    other = place("s3://bucket/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9001")
    assert len({amazon, other, place("s3://bucket/a")}) == 3
    assert told(amazon) == told(other) == "s3://bucket/a"
    assert place("gs://bucket/a").is_relative_to(scratch / "gs")


def test_errors_and_warnings_show_urls():
    path = place("s3://bucket/a")
    error = TokensieveError(f"{path} is bad", where=str(path / "x"), hint=f"look at {path}")
    assert str(error) == "s3://bucket/a is bad\n  at: s3://bucket/a/x\n  hint: look at s3://bucket/a"
    progress = StageProgress(shown=False)
    progress.warn(f"see {path}")
    assert progress.warnings == ["see s3://bucket/a"]


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "hf://datasets/a/b/c", "s3://b/.x/y", "https://a/b"])
def test_what_cannot_be_written_to_is_refused(url):
    with pytest.raises(TokensieveError, match="cannot be written to"):
        output_place(url)
    assert output_place("s3://bucket/a") == place("s3://bucket/a")
    assert output_place("runs/a") == Path("runs/a")
