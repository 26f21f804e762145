"""`tailor console`: the web console of a service."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from tailor.cli.showing import say
from tailor.errors import DataError, MissingExtraError, ServiceError

WAIT_S = 60.0  # for the console's first answer
PAUSE_S = 0.2


def needs_console() -> None:
    """Raise MissingExtraError where the console's packages are not installed."""
    if importlib.util.find_spec("nicegui") is None:
        raise MissingExtraError('the console needs nicegui: pip install "tailor-engine[console]"')


def console_command(server: str, host: str, port: int, names: Sequence[str], show: bool) -> None:
    """Serve the console of a service until Ctrl-C."""
    needs_console()
    if not server.startswith(("http://", "https://")):
        raise DataError(f"--server {server}: give the address of the service, http://HOST:PORT")
    from tailor.console.app import run_console

    say(f"Console of {server} on http://{host}:{port}. Log in with a key of the service.")
    run_console(server, host, port, names, show)


@contextmanager
def console_beside(server: str, port: int) -> Iterator[str]:
    """Run a console in a process of its own and give its address.

    Raises ServiceError where it does not start.
    """
    needs_console()
    command = [sys.executable, "-m", "tailor", "console", "--server", server, "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(process, f"{address}/login")
        yield address
    finally:
        process.terminate()
        process.wait(WAIT_S)


def _wait_for(process: "subprocess.Popen[bytes]", address: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(PAUSE_S)
    raise ServiceError(f"the console does not answer at {address}: is the port taken?")
