"""Servers of objects in threads of the tests: of S3, moto's, with what it was asked and faults, and of Google."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs
from warm import Warm

Fault = Callable[[str, str], str | None]
"""Takes method and path of a request, and returns the status of its failure; it may also wait."""


class Server:
    """A server of objects, with a client of its own that is not the one under test.

    Attributes:
        environment: what a process needs to find it.
        files: the client.
    """

    environment: dict[str, str]
    files: fs.FileSystem

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys of all objects below a prefix, without the empty ones that stand for folders."""
        found = self.files.get_file_info(fs.FileSelector(bucket, recursive=True))
        names = (info.path.partition("/")[2] for info in found if info.is_file)
        return sorted(name for name in names if name.startswith(prefix))

    def contents(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """Return the bytes of all objects below a prefix, by what follows it."""
        return {name.removeprefix(prefix): self.read(f"{bucket}/{name}") for name in self.names(bucket, prefix)}

    def read(self, path: str) -> bytes:
        with self.files.open_input_file(path) as handle:
            return handle.read()

    def put(self, path: str, data: bytes) -> None:
        stream = self.files.open_output_stream(path, compression=None)
        stream.write(pa.py_buffer(data))
        stream.close()


class ObjectServer(Server):
    """The server of S3.

    Attributes:
        url: its address.
        requests: method and path of each.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._fault: Fault = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.files = fs.S3FileSystem(
            access_key="test",
            secret_key="test",
            region="us-east-1",
            endpoint_override=self.url,
            allow_bucket_creation=True,
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Ask a fault before each request while the block lasts."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = lambda method, path: None

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        method, path = environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"]) + (f"?{query}" if query else "")
        self.requests.append((method, path))
        if (status := self._fault(method, path)) is not None:
            start_response(status, [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        return self._app(environ, start_response)


class GoogleServer(Server):
    """A server that speaks the protocol of Google Cloud Storage, an emulator.

    It has a process of its own: the client holds the lock of the interpreter while it waits for an answer.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = ["-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
        self._process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
        while True:
            assert self._process.poll() is None, "the server has ended"
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        self.environment = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
        self.files = fs.GcsFileSystem(
            anonymous=True, scheme="http", endpoint_override=f"127.0.0.1:{port}", project_id="tests"
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


class Hold:
    """A fault that holds the first request whose method and path match, and fails it when it is let go.

    Args:
        method: of the request.
        part: of its path.
    """

    def __init__(self, method: str, part: str) -> None:
        self._wanted = method, part
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self, method: str, path: str) -> str | None:
        if method != self._wanted[0] or self._wanted[1] not in path or self.reached.is_set():
            return None
        self.reached.set()
        self.released.wait(60)
        return "500 Internal Server Error"


def environment_of(server: Server, scratch: Path) -> dict[str, str]:
    """Return the variables of a process that keeps its copies in a scratch folder of its own."""
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENSIEVE_SCRATCH": str(scratch)}
    return {**os.environ, **server.environment, **own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def start(server: Server, scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Python in a process with a scratch folder of its own."""
    environment = environment_of(server, scratch)
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(*processes: subprocess.Popen[str] | Warm) -> list[str]:
    """Wait for processes that must succeed; return what each says on the error stream."""
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said
