from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tokensieve.data.decoding import TokenDecoder
from tokensieve.errors import TokensieveError
from tokensieve.report.html.serve import make_server
from tokensieve.runs.view import load_run


@pytest.fixture(scope="module")
def server(demo_source):
    with make_server(load_run(demo_source.folder), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def search(server, query):
    """Return the places of all examples that a search finds, part by part."""
    places, part = [], 0
    while part is not None:
        status, body = ask(server, f"/search?q={query}&part={part}")
        assert status == 200
        found = json.loads(body)
        places, part = [*places, *found["places"]], found["next"]
    return places


@pytest.fixture
def get(server):
    return partial(ask, server)


def test_the_page_has_the_index_of_every_example_and_no_block(get, take_apart):
    status, body = get("/")
    page = take_apart(body.decode())
    assert status == 200
    assert page.payload["remote"]
    assert page.payload["index"]["rows"] == [10, 11, 12, 13, 14, 15]
    assert page.blocks == []
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "connect-src 'self'" in policy


def test_blocks_are_those_of_the_page(get, demo_source, take_apart):
    from tokensieve.report.html.page import Report

    page = take_apart(Report(load_run(demo_source.folder), 10).render())
    assert [get(f"/blocks/{number}") for number in range(2)] == [(200, block) for block in page.blocks]


@pytest.mark.parametrize(
    "path", ["/blocks/2", "/blocks/-1", "/blocks/x", "/../run.json", "/blocks/0/", "/etc/passwd", "/blocks/99999999999"]
)
def test_nothing_else_is_served(get, path):
    assert get(path)[0] == 404


@pytest.mark.parametrize(
    ("query", "places"), [("THE%20%20world", [0]), ("tab%09and", [3]), ("%E4%B8%AD", [1]), ("zzz", [])]
)
def test_search(server, query, places):
    assert search(server, query) == places


def test_a_search_finds_every_example_however_many(start, make_large, monkeypatch):
    monkeypatch.setattr("tokensieve.report.html.texts._PART", 7)
    view = make_large(examples=60, tokens=110)
    texts = view.decoder.texts([view.example(number).token_ids for number in range(60)])
    wanted = [number for number, text in enumerate(texts) if "hello" in text]
    assert len(wanted) > 30
    assert search(start(view.folder), "hello") == wanted


@pytest.mark.parametrize("part", ["-1", "x", "99999999999", ""])
def test_a_part_of_a_search_is_a_number(get, part):
    assert get(f"/search?q=a&part={part}")[0] == (200 if part == "" else 404)


def test_examples_with_hits(get, demo_source):
    scores = [[score for score in scores if score < 1e8] for scores in demo_source.scores]
    wanted = [number for number, found in enumerate(scores) if any(10 <= score <= 60 for score in found)]
    assert 0 < len(wanted) < 6
    status, body = get("/hits?column=value:score:token-cleaning&low=10&high=60")
    assert (status, json.loads(body)) == (200, wanted)
    assert json.loads(get("/hits?column=value:base.loss&low=-Infinity&high=Infinity")[1]) == list(range(6))


@pytest.mark.parametrize(
    "query", ["", "?column=value:x&low=0&high=1", "?column=id&low=a&high=1", "?column=level:full&low=0&high=1"]
)
def test_hits_of_a_column_that_is_not_there_are_not_found(get, query):
    assert get(f"/hits{query}")[0] == 404


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("[::1]:8765", 200), ("evil.example:8765", 403)])
def test_names_that_were_made_to_lead_here_are_refused(get, host, status):
    assert get("/search?q=zzz", host)[0] == status


def test_a_port_in_use_is_one_clear_error_before_the_run_is_read(server, demo_source, monkeypatch):
    monkeypatch.setattr("tokensieve.report.html.serve.Report", None)
    with pytest.raises(TokensieveError, match=r"(?s)cannot listen on 127.0.0.1.*--port"):
        make_server(load_run(demo_source.folder), "127.0.0.1", server.server_port)


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_every_address_of_this_machine_alone_checks_names(demo_source, host):
    with make_server(load_run(demo_source.folder), host, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, wanted in ((host, 200), ("localhost:1", 200), ("evil.example", 403)):
            connection = http.client.HTTPConnection(host, server.server_port)
            connection.request("GET", "/search?q=zzz", headers={"Host": f"[{name}]" if ":" in name[:3] else name})
            assert connection.getresponse().status == wanted
            connection.close()
        server.shutdown()


def test_the_command_says_where_it_listens_and_ends_with_ctrl_c(demo_source):
    command = [sys.executable, "-m", "tokensieve", "serve", str(demo_source.folder), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as served:
        assert served.stdout is not None
        assert served.stderr is not None
        address = served.stdout.readline()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", address)
        served.send_signal(signal.SIGINT)
        _, errors = served.communicate()
    assert served.returncode == 0
    assert re.fullmatch(r"read the run: begins\nread the run: [\d,]+ tokens in \S+ s\n", errors)


@pytest.fixture
def start(monkeypatch):
    """Return a function that serves a run, with a short patience for idle clients."""
    from tokensieve.report.html import serve

    monkeypatch.setattr(serve, "_IDLE_SECONDS", 0.3)
    servers = []

    def begin(folder):
        server = make_server(load_run(folder), "127.0.0.1", 0)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_client_that_says_nothing_is_let_go(start, demo_source):
    server = start(demo_source.folder)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as idle:
        idle.sendall(b"GET / HT")
        assert idle.recv(10) == b""


def test_a_served_run_decodes_its_texts_once(start, demo_source, monkeypatch):
    decoded, texts = [], TokenDecoder.texts

    def counted(decoder, sequences):
        decoded.append(len(sequences))
        return texts(decoder, sequences)

    monkeypatch.setattr(TokenDecoder, "texts", counted)
    server = start(demo_source.folder)
    assert [search(server, word) for word in ("tab", "THE%20%20world", "zzz")] == [[3], [0], []]
    assert decoded == [4, 2]


@pytest.fixture
def slow(monkeypatch):
    """Let the texts of the second shard wait until they are told to go on."""
    go_on, texts = threading.Event(), TokenDecoder.texts

    def waiting(decoder, sequences):
        assert len(sequences) == 4 or go_on.wait(30)
        return texts(decoder, sequences)

    monkeypatch.setattr(TokenDecoder, "texts", waiting)
    yield go_on
    go_on.set()


def test_a_search_tells_its_first_hits_and_goes_on(start, demo_source, slow):
    server = start(demo_source.folder)
    assert ask(server, "/blocks/1")[0] == 200
    first: dict[str, Any] = {"places": []}
    while not first["places"]:
        began = time.monotonic()
        first = json.loads(ask(server, "/search?q=world")[1])
        assert time.monotonic() - began < 10, "it does not wait for the rest"
    assert first == {"places": [0], "next": 1}
    assert json.loads(ask(server, "/search?q=world&part=1")[1]) == {"places": [], "next": 1}
    slow.set()
    assert search(server, "world") == [0, 5]


def test_a_run_that_cannot_be_read_leaves_the_port_free(demo):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    view = load_run(demo.folder)
    for shard in view.store.folder.rglob("*.arrow"):
        shard.unlink()
    with pytest.raises(TokensieveError, match="a file is missing"):
        make_server(view, "127.0.0.1", port)
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def test_a_shard_that_was_removed_is_an_error_page(start, demo):
    server = start(demo.folder)
    view = load_run(demo.folder)
    for shard in view.store.folder.rglob("*.arrow"):
        shard.unlink()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    for path in ("/blocks/0", "/hits?column=id&low=1&high=9"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 500
        assert b"error: a file is missing" in response.read()
    connection.close()


def test_texts_that_cannot_be_decoded_are_an_error_of_the_search(start, demo_source, monkeypatch):
    def fail(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(TokenDecoder, "texts", fail)
    server, status, body = start(demo_source.folder), 200, b""
    while status == 200:
        status, body = ask(server, "/search?q=a")
    assert (status, body) == (500, b"error: the disk is gone\n")


def test_the_headers_let_a_browser_do_nothing_else(server):
    for path, wanted in (
        ("/", "script-src 'sha256-"),
        ("/search?q=a", "default-src 'none'"),
        ("/blocks/0", "default-"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("GET", path)
        policy = connection.getresponse().headers["Content-Security-Policy"]
        assert wanted in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        connection.close()
