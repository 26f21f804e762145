"""Connections of strangers: heads, bodies, trickles and crowds, on a server that listens."""

import asyncio
import json
import logging
import re
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

pytest.importorskip("uvicorn")

import uvicorn
from service.served_shop import until
from service.test_killed import ServedList, first_key

from tailor.service.connections import Connections, GuardedProtocol, Limits

HEAD = b"POST /x HTTP/1.1\r\nhost: x\r\n"


class Echo:
    """Answers how long the body was; `/wait` once it is told to, `/big` with many bytes."""

    def __init__(self):
        self.goes_on = asyncio.Event()
        self.loop = None
        self.begun = 0
        self.seen = []
        self.disconnected = 0

    async def __call__(self, scope, receive, send):
        self.loop = asyncio.get_running_loop()
        self.begun += 1
        self.seen.append(scope["path"])
        length = 0
        if dict(scope["headers"]).get(b"authorization"):
            scope["state"]["caller"] = "somebody"
        while scope["path"] != "/unread":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
        if scope["path"] == "/wait":
            await self.goes_on.wait()
        body = b"x" * 5_000_000 if scope["path"] == "/big" else str(length).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        if scope["path"] == "/unread":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def served(**limits):
    """Serve Echo with these limits; gives the port, the app and the server."""

    class Tiny(GuardedProtocol):
        pass

    Tiny.limits = Limits(**{"head_s": 30.0, "request_s": 60.0, **limits})
    app = Echo()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=Tiny, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    until(lambda: server.started)
    try:
        yield listener.getsockname()[1], app, server
    finally:
        if app.loop is not None:
            app.loop.call_soon_threadsafe(app.goes_on.set)
        server.should_exit = True
        thread.join(30)
        listener.close()


def opened(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def answered(connection):
    """All that comes until the server ends the connection."""
    parts = []
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def status(answer):
    return int(answer.split()[1])


def problem(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head and b"nosniff" in head
    assert b"connection: close" in head
    return json.loads(body)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 200_000,
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(300)) + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x" * 100_000 + b": y\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"t" * 200_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"e" * 200_000,
    ],
    ids=["header", "address", "many headers", "name", "trailer", "chunk extension"],
)
def test_a_head_that_is_too_large_is_refused_before_it_is_kept(sent):
    with served() as (port, app, _), opened(port) as connection:
        connection.sendall(sent)
        assert problem(answered(connection))["status"] == 431
        assert not app.begun or app.disconnected


def test_a_head_within_the_limits_is_answered():
    with served() as (port, _, _), opened(port) as connection:
        headers = b"".join(b"x-%d: %s\r\n" % (i, b"y" * 250) for i in range(90))
        connection.sendall(HEAD + headers + b"content-length: 3\r\nconnection: close\r\n\r\nabc")
        assert answered(connection).endswith(b"3")


@pytest.mark.parametrize(
    "sent", [b"FOO / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n"]
)
def test_what_is_no_http_is_refused(sent):
    with served() as (port, _, _), opened(port) as connection:
        connection.sendall(sent)
        assert problem(answered(connection))["status"] == 400


@pytest.mark.parametrize("address", [b"/v1/items/pot#x", b"/v1/items/p\xff"])
def test_an_address_that_a_parser_would_change_reaches_no_route(address):
    with served() as (port, app, _), opened(port) as connection:
        connection.sendall(
            b"DELETE " + address + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        answer = answered(connection)
        assert status(answer) == 400 or app.seen == []
        assert not app.begun


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTT",
        b"\r\n\r\n",
        HEAD + b"content-length: 100\r\n\r\n" + b"x" * 50,
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nabc",
    ],
    ids=["silent", "half a head", "line ends", "half a body", "half a piece"],
)
def test_what_is_not_sent_in_time_ends(sent):
    with served(head_s=0.1, request_s=0.2) as (port, app, server), opened(port) as connection:
        connection.sendall(sent)
        answer = answered(connection)
        assert not answer or problem(answer)["status"] == 408
        assert bool(answer) == sent.strip().startswith((b"GET", b"POST"))
        until(lambda: not server.server_state.connections)
        assert app.disconnected == app.begun


def test_a_trickle_ends_too():
    with served(head_s=0.1, request_s=0.2) as (port, app, _), opened(port) as connection:
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        ended = threading.Event()

        def trickle():
            while not ended.wait(0.02):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        assert problem(answered(connection))["status"] == 408
        ended.set()
        sender.join()
        until(lambda: app.disconnected == 1)


def test_an_answer_may_take_longer_than_a_request():
    with served(head_s=0.05, request_s=0.05) as (port, app, _), opened(port) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        threading.Event().wait(0.2)
        app.loop.call_soon_threadsafe(app.goes_on.set)
        assert status(answered(connection)) == 200


def test_connections_that_show_no_key_make_room_for_others():
    with served(strangers=5) as (port, app, server):
        caller = opened(port)
        caller.sendall(HEAD + b"authorization: k\r\ncontent-length: 1\r\n\r\nx")
        assert status(caller.recv(1000)) == 200
        waiting = opened(port)
        waiting.sendall(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        half_sent = opened(port)
        half_sent.sendall(HEAD + b"content-length: 100\r\n\r\nx")
        until(lambda: app.begun == 3)
        crowd = [opened(port) for _ in range(20)]
        until(lambda: len(server.server_state.guard.strangers) <= 5)
        assert answered(half_sent) == b"" and answered(crowd[0]) == b""
        # who waits for an answer and who has shown a key stay, and new ones are answered
        for connection in (caller, crowd[-1]):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert status(connection.recv(1000)) == 200
        app.loop.call_soon_threadsafe(app.goes_on.set)
        assert status(waiting.recv(1000)) == 200
        for connection in (caller, waiting, half_sent, *crowd):
            connection.close()


def test_connections_in_all_are_limited():
    with served(connections=64, strangers=1_000) as (port, _, server):
        crowd = [opened(port) for _ in range(80)]
        until(lambda: hasattr(server.server_state, "guard"))
        until(lambda: server.server_state.guard.log.refused >= 16)
        assert len(server.server_state.guard.strangers) == 64
        crowd[-1].sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status(crowd[-1].recv(1000)) == 200
        for connection in crowd:
            connection.close()


def test_requests_sent_ahead_on_one_connection_are_limited():
    with served() as (port, app, _), opened(port) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n" * 500)
        assert answered(connection) == b""
        assert app.begun <= 1


def test_a_peer_that_reads_nothing_is_let_go():
    with served(write_s=0.1) as (port, _, server), opened(port) as connection:
        connection.sendall(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: server.server_state.connections)
        until(lambda: not server.server_state.connections)
        connection.recv(1)


def test_a_peer_that_reads_slowly_gets_all_of_a_large_answer():
    with served(linger_s=0.02, write_s=5.0) as (port, _, _), opened(port) as connection:
        connection.sendall(b"GET /big HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        length = 0
        while part := connection.recv(200_000):
            length += len(part)
            threading.Event().wait(0.005)
        assert length > 5_000_000


def test_who_is_refused_while_sending_gets_the_answer():
    with served() as (port, _, server), opened(port) as connection:
        connection.sendall(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n")
        connection.sendall(b"x" * 4_000_000)
        assert status(answered(connection)) == 200
        until(lambda: not server.server_state.connections)


def test_who_goes_on_sending_after_a_refusal_is_let_go():
    with served(linger_s=0.1) as (port, _, server), opened(port) as connection:
        connection.sendall(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\nx")
        assert status(answered(connection)) == 200
        until(lambda: not server.server_state.connections)


def test_another_protocol_is_not_spoken_and_fills_no_log(caplog):
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with served() as (port, _, _), opened(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + upgrade)
        assert status(answered(connection)) == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_log_has_a_line_when_a_limit_begins_and_when_it_ends(caplog, monkeypatch):
    monkeypatch.setattr("tailor.service.limits.QUIET_S", 0.05)
    with caplog.at_level(logging.WARNING, logger="tailor.service"), served() as (port, _, _):
        for _ in range(20):
            with opened(port) as connection:
                connection.sendall(b"GET /" + b"a" * 200_000)
                answered(connection)
        until(lambda: "a limit holds no more" in caplog.text)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("a limit begins to hold") == lines.count("a limit holds no more")
    assert len(lines) < 20


def test_open_files_leave_room_for_the_store(monkeypatch):
    monkeypatch.setattr("tailor.service.connections.open_files", lambda: 1_024)
    assert Connections(Limits()).most == 724


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_crowd_of_strangers_costs_little_memory_and_no_request_of_others(url, tmp_path):
    """500 bodies of 8 MB half sent, 2,000 silent connections, an endless header."""
    server = ServedList(url, tmp_path)
    headers = {"authorization": f"Bearer {first_key(tmp_path)}"}
    is_over, statuses = threading.Event(), []

    def ask():
        while not is_over.is_set():
            with httpx.Client(base_url=server.http.base_url, headers=headers, timeout=60) as http:
                for _ in range(3):
                    statuses.append(http.post("/v1/search", json={"text": "tea"}).status_code)

    def memory_mb():
        text = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    asker = threading.Thread(target=ask)
    asker.start()
    until(lambda: len(statuses) > 20)
    before_mb = memory_mb()
    crowd, most_mb = [], 0.0
    for i in range(500):
        connection = opened(server.port)
        connection.setblocking(False)
        crowd.append(connection)
        head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n"
        with suppress(BlockingIOError, ConnectionError):
            connection.send(head + b"[" * 4_000_000)
        most_mb = max(most_mb, memory_mb()) if i % 20 == 0 else most_mb
    crowd += [opened(server.port) for _ in range(2_000)]
    with opened(server.port) as endless, suppress(ConnectionError):
        for _ in range(64):
            endless.sendall(b"GET /health HTTP/1.1\r\nx: " + b"a" * 1_000_000)
    calls = len(statuses)
    until(lambda: len(statuses) > calls + 20)
    most_mb = max(most_mb, memory_mb())
    is_over.set()
    asker.join()
    for connection in crowd:
        connection.close()
    server.end(signal.SIGTERM)
    assert set(statuses) == {200} and most_mb - before_mb < 100
