"""`tokensieve serve`: the page for data sets too big for one file; it fetches examples in blocks.

The server offers only the page, its blocks of examples and a search over their text. It is read-only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, urlsplit

import numpy as np

from tokensieve.errors import TokensieveError
from tokensieve.report.html.page import Report
from tokensieve.report.html.texts import Texts
from tokensieve.runs.view import RunView
from tokensieve.select.streaming import Stage, unseen

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BLOCKS_KEPT = 32
_IDLE_SECONDS = 30
_BROKEN = HTTPStatus.INTERNAL_SERVER_ERROR
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


class Site:
    """The content that the server offers for a run.

    Args:
        view: the run, or several joined.
        stage: opens a progress bar.

    Attributes:
        page: the page.
        policy: its content security policy.
        search: finds examples by their text (`Texts.search`).
    """

    def __init__(self, view: RunView, stage: Stage = unseen) -> None:
        with stage("read the run") as advance:
            self._report = Report(view, None, advance)
        self.page = self._report.render(remote=True).encode()
        self.policy = f"{self._report.policy(remote=True)}; frame-ancestors 'none'"
        self.search = Texts(view, self._report.numbers).search
        self._lock = Lock()  # the packer caches a shard, and requests run concurrently
        self._block = lru_cache(_BLOCKS_KEPT)(lambda number: self._report.packer.block(self._report.blocks[number]))

    def block(self, number: int) -> bytes | None:
        """Return a block of examples, or None if it does not exist."""
        if not 0 <= number < len(self._report.blocks):
            return None
        with self._lock:
            return self._block(number)

    def with_hits(self, column: str, low: float, high: float) -> list[int] | None:
        """Return the places of the examples with hits (`Packer.with_hits`); None without the column."""
        try:
            with self._lock:
                numbers = self._report.packer.with_hits(column, low, high)
        except KeyError:
            return None
        return np.flatnonzero(np.isin(self._report.numbers, numbers)).tolist()


def make_server(view: RunView, host: str, port: int, stage: Stage = unseen) -> ThreadingHTTPServer:
    """Return a server for a run's page that already listens; ``serve_forever`` answers requests.

    Args:
        view: the run, or several joined.
        host: address to listen on.
        port: port to listen on; 0 picks a free one.
        stage: opens a progress bar.

    Raises:
        TokensieveError: the address is in use or does not belong to this machine.
    """
    try:
        server = (_Server6 if ":" in host else ThreadingHTTPServer)((host, port), BaseHTTPRequestHandler)
    except (OSError, OverflowError) as error:
        raise TokensieveError(
            f"cannot listen on {host}:{port}: {error}", where="command line", hint="give another --port"
        ) from error
    try:  # reading the run takes seconds: the address is known to be free by then
        server.RequestHandlerClass = _handler(Site(view, stage), _names(host))
    except BaseException:
        server.server_close()
        raise
    server.daemon_threads = True
    return server


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def _names(host: str) -> frozenset[str] | None:
    """Return the host names that requests may use on a loopback address; None if other machines may connect."""
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(host).is_loopback:
            return None
        return frozenset({*LOOPBACK, host})
    return frozenset(LOOPBACK) if host in LOOPBACK else None


def _handler(site: Site, names: frozenset[str] | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_SECONDS  # of a read or write on the connection: who is silent gets no thread for good
        server_version = "tokensieve"
        sys_version = ""

        def do_GET(self) -> None:
            # Blocks DNS rebinding: a foreign page whose name resolves to this machine must not read the data.
            if names is not None and _host(self.headers.get("Host", "")) not in names:
                self.send_error(HTTPStatus.FORBIDDEN)
                return
            url = urlsplit(self.path)
            for pattern, answer in _ROUTES:
                if match := re.fullmatch(pattern, url.path):
                    try:
                        found = answer(site, match.groups(), parse_qs(url.query))
                    except (TokensieveError, OSError) as error:  # such as a shard that was removed since
                        self._send("text/plain; charset=utf-8", f"error: {error}\n".encode("utf-8", "replace"), _BROKEN)
                        return
                    if found is not None:
                        self._send(*found)
                        return
            self.send_error(HTTPStatus.NOT_FOUND)

        def _send(self, kind: str, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Content-Security-Policy", site.policy if kind.startswith("text/html") else _NOTHING)
            self.send_header("Referrer-Policy", "no-referrer")
            with contextlib.suppress(ConnectionError):  # the client has disconnected
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Do not log requests."""

    return Handler


Answer = tuple[str, bytes] | None
_Route = Callable[[Site, tuple[str, ...], dict[str, list[str]]], Answer]


def _page(site: Site, _: tuple[str, ...], __: dict[str, list[str]]) -> Answer:
    return "text/html; charset=utf-8", site.page


def _block(site: Site, parts: tuple[str, ...], _: dict[str, list[str]]) -> Answer:
    block = site.block(int(parts[0]))
    return None if block is None else ("application/octet-stream", block)


def _search(site: Site, _: tuple[str, ...], query: dict[str, list[str]]) -> Answer:
    part = query.get("part", ["0"])[0]
    if not re.fullmatch(r"[0-9]{1,9}", part):
        return None
    found = site.search(query.get("q", [""])[0], int(part))
    return "application/json", json.dumps(asdict(found)).encode()


def _hits(site: Site, _: tuple[str, ...], query: dict[str, list[str]]) -> Answer:
    try:
        low, high = (float(query[name][0]) for name in ("low", "high"))
    except (KeyError, ValueError):
        return None
    found = site.with_hits(query.get("column", [""])[0], low, high)
    return None if found is None else ("application/json", json.dumps(found).encode())


_ROUTES: tuple[tuple[str, _Route], ...] = (
    (r"/", _page),
    (r"/blocks/([0-9]{1,9})", _block),
    (r"/search", _search),
    (r"/hits", _hits),
)


def _host(header: str) -> str:
    """Return the name in a Host header, without the port and the brackets of IPv6."""
    name, _, port = header.rpartition(":")
    return (name if port.isdigit() and name else header).strip("[]").lower()
