"""A server of its own for a program that measures it, on one core, over the loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Served:
    """A server that answers."""

    port: int
    key: str
    """May do everything."""
    pid: int


@contextmanager
def served(arguments: Sequence[str], folder: Path, core: int = 0) -> Iterator[Served]:
    """Start `tailor serve` with these arguments on one core; stop it after the block.

    Its log goes to `folder/log`, its first key to `folder/first-key`, its store, unless the
    arguments name one, to `folder/store.db`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = [] if "--database" in arguments else ["--database", str(folder / "store.db")]
    command = [sys.executable, "-m", "tailor", "serve", *arguments, *store, "--port", str(port)]
    key_file = folder / "first-key"
    server = subprocess.Popen(
        ["taskset", "-c", str(core), *command, "--first-key", str(key_file)],
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("w"),
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        _wait(server, folder, port)
        yield Served(port, key_file.read_text().strip(), server.pid)
    finally:
        server.terminate()
        server.wait(30)


def _wait(server: subprocess.Popen[str], folder: Path, port: int) -> None:
    """Wait until the server answers; exit with its words where it ends instead."""
    words = ""
    while "Serving on" not in words:
        line = server.stdout.readline() if server.stdout else ""
        if not line:
            sys.exit(words + (folder / "log").read_text())
        words += line
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.2)
