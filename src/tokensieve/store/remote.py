"""Requests to object stores: S3 and what speaks its protocol, Google Cloud Storage, and, for reading, the Hub.

An object is put as one whole: `pyarrow` makes an object of what an output stream got before an exception, so that no
stream is ever open where one can happen. Small objects are one request, larger ones parts that appear together.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from tokensieve.errors import TokensieveError, first_line
from tokensieve.places import Remote, endpoint_of, remote_of

_CONNECT_SECONDS = 5
_REQUEST_SECONDS = 60
_RETRY_SECONDS = 60  # of Google Cloud Storage in all
_BLOCK = 2**23  # bytes of one request of a stream
_AGAIN = "run the same command again: what is done is kept"
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "HF_TOKEN, or `hf auth login`",
}
_ADDRESS = {"s3": "AWS_ENDPOINT_URL and AWS_REGION", "gs": "the network", "hf": "HF_ENDPOINT"}
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|Bucket '[^']*' not found")
_NO_ANSWER = re.compile(r"NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode|UNAVAILABLE|Couldn't resolve host|CURL error")
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT|(EXPIRED|INVALID)_?TOKEN|"
    r"HTTP status 40[13]|UNAUTHENTICATED|PERMISSION_DENIED|OAuth2|40[13] Client Error"
)


@dataclass(frozen=True)
class Stamp:
    """What a listing says of an object, which changes when the object does.

    Attributes:
        size: bytes.
        seconds: time of the last change, in whole seconds since 1970: a store may tell no more.
    """

    size: int
    seconds: int


def put(data: pa.Buffer, path: Path) -> Stamp:
    """Put bytes as one object.

    Args:
        data: the bytes.
        path: its place on this machine.

    Raises:
        TokensieveError: the store refuses, or does not answer; then the object is what it was before.
    """
    remote, store = _client(path)
    with _explained(remote):
        stream = store.open_output_stream(remote.path, compression=None)
        stream.write(data)
        stream.close()
        return _stamp(store.get_file_info(remote.path))


def get(path: Path, partial: Path) -> Stamp | None:
    """Write the bytes of an object to a file; return None where there is no object.

    Args:
        path: the object's place on this machine.
        partial: where to write.

    Raises:
        TokensieveError: the store refuses, or does not answer.
    """
    remote, store = _client(path)
    with _explained(remote):
        info = store.get_file_info(remote.path)
        if not info.is_file:
            return None
        with store.open_input_file(remote.path) as source, partial.open("wb") as handle:
            while block := source.read(_BLOCK):
                handle.write(block)
            return _stamp(info)


def read(path: Path) -> bytes | None:
    """Return the bytes of a small object; None where there is none."""
    remote, store = _client(path)
    with _explained(remote):
        try:
            with store.open_input_file(remote.path) as source:
                return source.read()
        except FileNotFoundError:
            return None


def stamp_of(path: Path) -> Stamp | None:
    """Return what the store says of one object; None where there is no object, but perhaps a folder."""
    remote, store = _client(path)
    with _explained(remote):
        info = store.get_file_info(remote.path)
    return _stamp(info) if info.is_file else None


def listed(path: Path, *, recursive: bool = True) -> dict[str, Stamp]:
    """Return every object of a folder, by its path within the folder; empty where there is none.

    Raises:
        TokensieveError: no such bucket, or the store refuses or does not answer.
    """
    from pyarrow.fs import FileSelector

    remote, store = _client(path)
    with _explained(remote):
        found = store.get_file_info(FileSelector(remote.path, recursive=recursive, allow_not_found=True))
        if not found:  # as of a bucket that is not there
            _check_bucket(remote.scheme, _root(remote), endpoint_of(remote.scheme))
    start = len(remote.path) + 1
    return {info.path[start:]: _stamp(info) for info in found if info.is_file}


def delete(path: Path) -> None:
    """Delete one object, which may be gone already."""
    remote, store = _client(path)
    with _explained(remote), suppress(FileNotFoundError):
        store.delete_file(remote.path)


def delete_folder(path: Path) -> None:
    """Delete every object of a folder, which may be gone already."""
    remote, store = _client(path)
    with _explained(remote):
        store.delete_dir_contents(remote.path, missing_dir_ok=True)


def size_of(path: Path) -> int:
    """Return the bytes of a file of this machine or of a store.

    Raises:
        TokensieveError: there is none in the store, or it refuses or does not answer.
    """
    if remote_of(path) is None:
        return path.stat().st_size
    if (stamp := stamp_of(path)) is None:
        raise TokensieveError("no such object", where=str(path), hint="check the URL")
    return stamp.size


def open_stream(path: Path) -> pa.NativeFile:
    """Open a file of this machine or of a store, to be read once from start to end.

    Raises:
        TokensieveError: the store refuses, or does not answer.
    """
    if remote_of(path) is None:
        return pa.input_stream(str(path), compression=None)
    return _opened(path, lambda store, name: store.open_input_stream(name, compression=None, buffer_size=_BLOCK))


def open_file(path: Path) -> pa.NativeFile:
    """Open a file of this machine or of a store, to be read here and there; errors as for `open_stream`."""
    if remote_of(path) is None:
        return pa.OSFile(str(path))
    return _opened(path, lambda store, name: store.open_input_file(name))


def _opened(path: Path, opened: Callable[[Any, str], pa.NativeFile]) -> pa.NativeFile:
    remote, store = _client(path)
    with _explained(remote):
        return opened(store, remote.path)


def _client(path: Path) -> tuple[Remote, Any]:
    """Return what a path stands for, and the file system of its bucket."""
    remote = remote_of(path)
    assert remote is not None, path
    with _explained(remote):
        return remote, _file_system(remote.scheme, remote.bucket, endpoint_of(remote.scheme))


@functools.lru_cache(maxsize=64)
def _file_system(scheme: str, bucket: str, endpoint: str | None) -> Any:
    from pyarrow import fs

    if scheme == "hf":
        from huggingface_hub import HfFileSystem

        return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem()))
    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_RETRY_SECONDS), **_emulator(endpoint))
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint is None and region is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        allow_delayed_open=True,  # a small object is then one request
    )


def _emulator(endpoint: str | None) -> dict[str, Any]:
    """Return how to reach a server in place of Google's, given as ``http://HOST:PORT``: without credentials."""
    if endpoint is None:
        return {}
    scheme, _, host = endpoint.rpartition("://")
    return {"anonymous": True, "scheme": scheme or "http", "endpoint_override": host.rstrip("/")}


@functools.lru_cache(maxsize=64)
def _check_bucket(scheme: str, root: str, endpoint: str | None) -> None:
    from pyarrow.fs import FileType

    remote = Remote(scheme, root)
    if _file_system(scheme, remote.bucket, endpoint).get_file_info(root).type == FileType.NotFound:
        raise _no_bucket(remote)


def _root(remote: Remote) -> str:
    """Return the bucket of a path; on the Hub, the repository."""
    parts = 3 if remote.scheme == "hf" else 1
    return "/".join(remote.path.split("/")[:parts])


def _stamp(info: Any) -> Stamp:
    return Stamp(info.size, (info.mtime_ns or 0) // 10**9)


@contextmanager
def _explained(remote: Remote) -> Iterator[None]:
    """Make of what a store refuses one error for the user; what this machine's disk refuses stays as it is."""
    try:
        yield
    except TokensieveError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.ENOENT):
            raise
        raise _explanation(remote, error) from error
    except Exception as error:
        if remote.scheme != "hf":
            raise
        raise _explanation(remote, error) from error  # the Hub's client has errors of its own


def _explanation(remote: Remote, error: Exception) -> TokensieveError:
    text = first_line(error).partition(" (Request ID")[0]
    if _NO_BUCKET.search(text):
        return _no_bucket(remote)
    if _NO_ANSWER.search(text):
        return TokensieveError(
            f"the object store cannot be reached: {text}",
            where=remote.url,
            hint=f"check {_ADDRESS[remote.scheme]}, and {_AGAIN}",
        )
    if _REFUSED.search(text):
        return TokensieveError(
            f"the object store refuses: {text}",
            where=remote.url,
            hint=f"check {_CREDENTIALS[remote.scheme]}, and that they may list, read, write and delete there",
        )
    return TokensieveError(f"the object store fails: {text}", where=remote.url, hint=_AGAIN)


def _no_bucket(remote: Remote) -> TokensieveError:
    return TokensieveError(
        f"there is no bucket '{remote.bucket}'",
        where=remote.url,
        hint="make it first, or check its name" + (" and AWS_ENDPOINT_URL" if remote.scheme == "s3" else ""),
    )
