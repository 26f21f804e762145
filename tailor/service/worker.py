"""Starting workers: one in this process, or several in processes of their own."""

import logging
import os
import socket
import sys
from pathlib import Path

import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI

from tailor.errors import StoreError
from tailor.service.app import make_app
from tailor.service.middleware import JsonLines
from tailor.service.state import Service, Settings
from tailor.store.engine import connect

DATABASE, RATE, MODELS, EXPLORE, MEANING = (
    "TAILOR_DATABASE",
    "TAILOR_RATE",
    "TAILOR_SERVED_MODELS",
    "TAILOR_EXPLORE",
    "TAILOR_MEANING",
)
FINISH_S = 30  # what runs may take this long when the server stops
KEEP_S = 75  # an idle connection is kept


def app() -> FastAPI:
    """One worker's application, by the environment: what the processes of `serve` are started with,
    and any other ASGI server may be.
    """
    _log_lines()
    # answers are too small to share out among cores; workers are what cores are for
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rate = float(os.environ.get(RATE) or Settings().rate)
    explore = float(os.environ.get(EXPLORE) or 0)
    settings = Settings(
        Path(os.environ.get(MODELS) or "models"),
        rate=rate,
        burst=max(1, int(2 * rate)),
        explore=explore,
        meaning=os.environ.get(MEANING) == "1",
    )
    return make_app(Service(connect(os.environ[DATABASE]), settings))


def refuse_taken(host: str, port: int) -> None:
    """Raises StoreError for an address that cannot be listened on."""
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
) -> None:
    """Serve until told to stop (SIGTERM, Ctrl-C)."""
    os.environ[DATABASE] = engine.url.render_as_string(hide_password=False)
    os.environ[RATE], os.environ[MODELS], os.environ[EXPLORE] = (
        str(rate),
        str(models.resolve()),
        str(explore),
    )
    os.environ[MEANING] = str(int(meaning))
    uvicorn.run(
        "tailor.service.worker:app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=FINISH_S,
        timeout_keep_alive=KEEP_S,
        server_header=False,
    )


def _log_lines() -> None:
    """JsonLines of JSON on standard error, for our own loggers and the server's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in {"tailor": logging.INFO, "uvicorn": logging.WARNING}.items():
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)
