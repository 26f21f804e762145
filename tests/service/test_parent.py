"""Workers end with the process that started them, and hold the file of the store until then."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")

from service.served_shop import until
from service.test_killed import ServedList, first_key

from tailor.errors import StoreError
from tailor.service.parent import hold_file
from tailor.store.engine import connect, held

ROOT = Path(__file__).parents[2]
PROGRAM = """
import multiprocessing, os, sys, threading
from tailor.service.parent import end_with_parent

def work(parent, is_late):
    print("begun", flush=True)
    while is_late and os.getppid() == parent:
        threading.Event().wait(0.01)
    end_with_parent(0.05)
    print("up", flush=True)
    if sys.argv[2] == "deaf":
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait(60)

if __name__ == "__main__":
    end_with_parent(0.05)  # nothing to a process that was started by itself
    context = multiprocessing.get_context("spawn")
    context.Process(target=work, args=(os.getpid(), sys.argv[1] == "late")).start()
    threading.Event().wait(60)
"""


@pytest.mark.parametrize(
    ("start", "kind"), [("early", "polite"), ("early", "deaf"), ("late", "polite")]
)
def test_a_worker_ends_with_its_parent_however_early_that_is_killed(tmp_path, start, kind):
    program = tmp_path / "parent.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen(
        [sys.executable, str(program), start, kind],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout.readline() == "begun\n"
    if start == "early":
        assert parent.stdout.readline() == "up\n"
    parent.kill()
    assert parent.wait(30) == -signal.SIGKILL
    # the end of the output: no process that could write is left
    assert parent.stdout.read() == ""
    parent.stdout.close()


def test_the_file_is_held_while_a_worker_is_left(tmp_path):
    engine = connect(str(tmp_path / "shop.db"))
    with held(engine):
        workers = [hold_file(engine), hold_file(engine)]
    for worker in workers:  # the parent is gone
        with pytest.raises(StoreError, match="served already"), held(engine):
            pass
        worker.close()
    with held(engine):
        pass
    engine.dispose()


def test_a_worker_that_comes_after_the_next_server_is_refused(tmp_path):
    engine = connect(str(tmp_path / "shop.db"))
    with Path(f"{engine.url.database}.server").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="served already"):
            hold_file(engine)
    engine.dispose()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_workers_of_a_killed_server_stop_serving_and_free_the_file(url, tmp_path):
    server = ServedList(url, tmp_path, workers=2)
    assert first_key(tmp_path)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(60)

    def is_silent():
        try:
            httpx.get(server.http.base_url.join("/health"), timeout=5)
        except httpx.TransportError:
            return True
        return False

    until(is_silent)
    engine = connect(url)

    def is_free():
        try:
            with held(engine):
                return True
        except StoreError:
            return False

    until(is_free)
    engine.dispose()
