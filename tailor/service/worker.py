"""Start workers: one in this process, or several in processes of their own."""

import logging
import os
import socket
import sys
from pathlib import Path
from typing import IO

import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI

from tailor.errors import StoreError
from tailor.service.app import make_app
from tailor.service.middleware import JsonLines
from tailor.service.parent import end_with_parent, hold_file
from tailor.service.state import Service, Settings
from tailor.store.engine import connect

DATABASE = "TAILOR_DATABASE"  # environment variables of a worker
RATE = "TAILOR_RATE"
MODELS = "TAILOR_SERVED_MODELS"
EXPLORE = "TAILOR_EXPLORE"
MEANING = "TAILOR_MEANING"
MEMORY = "TAILOR_MEMORY"
ITEM_ATTRIBUTES = "TAILOR_ITEM_ATTRIBUTES"
ATTRIBUTES = "TAILOR_ATTRIBUTES"
SHUTDOWN_S = 30  # for which requests may run on when the server stops
ENDING_S = 5  # for what is left after that
KEEP_ALIVE_S = 75  # for which an idle connection is kept
held_files: list[IO[str] | None] = []  # locks that end with the process


def app() -> FastAPI:
    """Return one worker's application, configured by the environment.

    The processes of `serve` are started with it, and any other ASGI server may be.
    """
    _log_json_lines()
    # answers are too small to be shared among cores; workers use the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rate = float(os.environ.get(RATE) or Settings().rate)
    settings = Settings(
        Path(os.environ.get(MODELS) or "models"),
        rate=rate,
        burst=max(1, int(2 * rate)),
        explore=float(os.environ.get(EXPLORE) or 0),
        meaning=os.environ.get(MEANING) == "1",
        memory=os.environ.get(MEMORY) != "0",
        item_attributes=int(os.environ.get(ITEM_ATTRIBUTES) or Settings().item_attributes),
        attributes=int(os.environ.get(ATTRIBUTES) or Settings().attributes),
    )
    engine = connect(os.environ[DATABASE])
    held_files.append(hold_file(engine))  # before a look at the parent, which held it until now
    end_with_parent(SHUTDOWN_S + ENDING_S)
    return make_app(Service(engine, settings))


def refuse_taken(host: str, port: int) -> None:
    """Raise StoreError for an address that cannot be listened on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StoreError(
                f"{host}:{port} cannot be listened on ({error.strerror}): give another --port or"
                " --host"
            ) from None


def serve(
    engine: sa.Engine,
    host: str,
    port: int,
    workers: int,
    rate: float,
    models: Path,
    explore: float = 0.0,
    meaning: bool = False,
    memory: bool = True,
) -> None:
    """Serve until the process is told to stop (SIGTERM, Ctrl-C)."""
    os.environ[DATABASE] = engine.url.render_as_string(hide_password=False)
    os.environ[RATE] = str(rate)
    os.environ[MODELS] = str(models.resolve())
    os.environ[EXPLORE] = str(explore)
    os.environ[MEANING] = str(int(meaning))
    os.environ[MEMORY] = str(int(memory))
    uvicorn.run(
        "tailor.service.worker:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http="tailor.service.connections:GuardedProtocol",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
    )


def _log_json_lines() -> None:
    """Log lines of JSON on standard error, for our own loggers and the server's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in {"tailor": logging.INFO, "uvicorn": logging.WARNING}.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
