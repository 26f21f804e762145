"""The server as a process of its own: killed while events come in, started anew, and stopped
politely.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from service.served_shop import SHOP, Client, key
from store.databases import Cluster

from tailor.service.app import make_app
from tailor.service.batcher import saved_digest
from tailor.service.state import Service
from tailor.store.datasets import stored_dataset
from tailor.store.engine import connect, writing
from tailor.store.loading import load_dataset
from tailor.store.migrating import migrate
from tailor.store.models import add_model, serve_model

ROOT = Path(__file__).parents[2]


class ServedList:
    """`tailor serve` on a port of its own."""

    def __init__(self, url: str, folder: Path, workers: int = 1) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (folder / "log").open("a")
        command = [
            sys.executable,
            "-m",
            "tailor",
            "serve",
            "--database",
            url,
            "--port",
            str(self.port),
            "--workers",
            str(workers),
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.said = ""
        while "Serving on" not in self.said:
            line = self.process.stdout.readline()
            assert line, self.said + (folder / "log").read_text()
            self.said += line
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        for _ in range(3_000):  # minutes, on a machine with much else to do
            try:
                if self.http.get("/ready").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError((folder / "log").read_text())

    def end(self, how: signal.Signals) -> int:
        """Of the server and its workers."""
        if how == signal.SIGKILL:
            os.killpg(self.process.pid, how)
        else:
            self.process.send_signal(how)
        return self.process.wait(60)


def first_key(folder: Path) -> str:
    """The key that a server writes on its first start, where no terminal shows it."""
    return next(folder.glob("*.first-key")).read_text().strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("url", "workers"), [("sqlite", 2), ("postgresql", 1)], indirect=["url"])
def test_a_server_that_is_killed_keeps_what_it_acknowledged(url, tmp_path, workers):
    acknowledged, headers = set(), {}
    for turn in range(4):
        server = ServedList(url, tmp_path, workers)
        if not headers:
            headers["authorization"] = f"Bearer {first_key(tmp_path)}"
        stop = threading.Event()

        def send(number, server=server, turn=turn, stop=stop):
            with httpx.Client(base_url=server.http.base_url, headers=headers, timeout=10) as http:
                for i in range(10**6):
                    ids = [f"{turn}-{number}-{i}-{j}" for j in range(5)]
                    try:
                        answer = http.post(
                            "/v1/events",
                            json={
                                "events": [
                                    {"event_id": one, "user_id": "ann", "item_id": one}
                                    for one in ids
                                ]
                            },
                        )
                    except httpx.TransportError:
                        return
                    if answer.status_code == 200:
                        acknowledged.update(ids)
                    if stop.is_set():
                        return

        senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
        for one in senders:
            one.start()
        time.sleep(0.5 + 0.37 * turn)
        server.end(signal.SIGKILL)
        stop.set()
        for one in senders:
            one.join()
    engine = connect(url)
    ids = stored_dataset(engine, "default").events["event_id"].to_list()
    engine.dispose()
    assert len(acknowledged) > 20 and acknowledged <= set(ids) and len(ids) == len(set(ids))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_server_that_is_asked_to_stop_finishes_and_leaves_the_file_to_the_next(url, tmp_path):
    SHOP.save(tmp_path / "data")
    server = ServedList(url, tmp_path)
    headers = {"authorization": f"Bearer {first_key(tmp_path)}"}
    second = subprocess.run(
        [sys.executable, "-m", "tailor", "serve", "--database", url, "--port", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert second.returncode == 2 and "being served already" in second.stderr
    events = [{"event_id": str(i), "user_id": "ann", "item_id": "x"} for i in range(500)]
    assert (
        server.http.post("/v1/events", json={"events": events}, headers=headers).json()["accepted"]
        == 500
    )
    assert (
        server.http.post("/v1/search", json={"text": "tea"}, headers=headers).status_code == 200
    )  # logged half a second later, or when it stops
    # the server ends itself by the signal once all is done
    assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["route"] for line in lines if line["what"] == "request"} >= {
        "/v1/events",
        "/v1/search",
    } and not [line for line in lines if line["level"] == "error"]
    again = ServedList(url, tmp_path)
    export = again.http.get("/v1/users/ann/data", headers=headers).json()["stores"]
    again.end(signal.SIGTERM)
    assert len(export["events"]) == 500 and "First start" not in again.said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_database_that_crashes_and_comes_back_takes_nothing_with_it(models):
    """Answers go on by what was last seen, nothing is accepted meanwhile, and what was acknowledged
    before is there.
    """
    cluster = Cluster()
    engine = connect(cluster.url)
    try:
        migrate(engine)
        load_dataset(engine, "shop", SHOP)
        with writing(engine) as connection:
            serve_model(
                connection,
                "shop",
                add_model(connection, "shop", str(models["one"]), saved_digest(models["one"])),
            )
        service = Service(engine)
        user = SHOP.users.ids[0]
        with Client(make_app(service), key(service, "admin")) as client:
            assert (
                client.ask(
                    "/v1/events", events=[{"event_id": "before", "user_id": user, "item_id": "x"}]
                )["accepted"]
                == 1
            )
            before = client.items(user_id=user)
            cluster.stop()
            away_until = time.monotonic() + 120
            while time.monotonic() < away_until:
                answer = client.ask("/v1/recommendations", user_id=user)
                assert [
                    one["item_id"] for one in answer["items"]
                ] == before and "as last seen" in answer["notes"][0]
                refused = client.post(
                    "/v1/events",
                    json={"events": [{"event_id": "while", "user_id": user, "item_id": "y"}]},
                )
                assert refused.status_code == 503 and "retry-after" in refused.headers
                time.sleep(0.5)
            cluster.start()
            answer = client.ask(
                "/v1/events",
                events=[
                    {"event_id": "before", "user_id": user, "item_id": "x"},
                    {"event_id": "after", "user_id": user, "item_id": "z"},
                ],
            )
            assert answer.pop("notes")  # both items are unknown
            assert answer == {"accepted": 1, "duplicates": ["before"], "rejected": []}
    finally:
        engine.dispose()
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
