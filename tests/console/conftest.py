"""A real service, a real console and a real browser for the slow tests of the console."""

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tailor.client import Client

NARROW, WIDE = 390, 1280
READY = "[data-ready=true]"
BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass
class Served:
    """A planted shop behind a running service, and its console."""

    url: str
    """Address of the service."""
    console: str
    """Address of the console."""
    folder: Path
    """Folder with the shop's database and models."""
    keys: dict[str, str]
    """A key by role."""
    users: list[str]
    items: list[str]
    process: int
    """Number of the service's process."""

    def client(self, role: str = "admin") -> "Client":
        """Return a client with the key of a role."""
        from tailor.client import Client

        return Client(self.url, self.keys[role])


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a small shop with some visits, and a console beside it."""
    from tailor.cli import demo_service
    from tailor.client import Client

    folder = tmp_path_factory.mktemp("console-shop")
    port, console_port = free_port(), free_port()
    world = demo_service._make_shop(folder, 80, 60, 0)
    server = demo_service._start_server(folder, port)
    try:
        admin = demo_service._first_key(server, folder)
        url = f"http://127.0.0.1:{port}"
        with ExitStack() as stack:
            client = stack.enter_context(Client(url, admin))
            client.serve_model(int(client.register_model("counting")["version"]))
            arms = [{"version": 1}, {"version": 2}]
            client.start_experiment(demo_service.EXPERIMENT, arms, "view")
            demo_service._send_visitors(client, world.truth, 150, 0.0, 0)
            keys = {role: _new_key(client, role) for role in ("serve", "read", "write")}
            console = stack.enter_context(_untold_of_pytest(url, console_port))
            users = world.data.users.ids.tolist()
            items = world.data.catalogue.ids.tolist()
            yield Served(url, console, folder, {**keys, "admin": admin}, users, items, server.pid)
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def _untold_of_pytest(url: str, port: int) -> Iterator[str]:
    """Start a console that does not know of pytest: NiceGUI would wait for its own fixtures."""
    from tailor.cli.consoling import console_beside

    with mock.patch.dict(os.environ):
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        with console_beside(url, port) as address:
            yield address


def _new_key(client: "Client", role: str) -> str:
    name = f"{role}-{secrets.token_hex(3)}"
    return str(client._ask("POST", "/v1/keys", {"role": role, "name": name})["key"])


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Start Debian's Chromium without a window."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=BROWSER)
        yield chromium
        chromium.close()


@dataclass
class Visitor:
    """Opens pages of the console in a browser, and notes what goes wrong there."""

    served: Served
    browser: "Browser"
    problems: list[str] = field(default_factory=list)
    """Errors in the browser's console, and requests to anywhere but the console."""
    stack: ExitStack = field(default_factory=ExitStack)

    def open(self, path: str, role: str = "admin", width: int = WIDE, dark: bool = False) -> "Page":
        """Log in with a key of that role and open a page, once it is ready."""
        page = self.fresh(width, dark)
        page.goto(f"{self.served.console}/login?next={path}")
        page.get_by_label("Key", exact=True).fill(self.served.keys[role])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector(READY)
        return page

    def go(self, page: "Page", path: str) -> None:
        """Go to another page of the console, once it is ready."""
        page.goto(self.served.console + path)
        page.wait_for_selector(READY)

    def fresh(self, width: int = WIDE, dark: bool = False) -> "Page":
        """Open an empty tab of a browser that has never been here."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        self.stack.callback(context.close)
        page = context.new_page()
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._note_request)
        return page

    def _note_message(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def _note_request(self, request: Any) -> None:
        local = (self.served.console, self.served.console.replace("http", "ws"), "data:", "blob:")
        if not request.url.startswith(local):
            self.problems.append(f"a request to {request.url}")


@pytest.fixture
def visitor(served: Served, browser: "Browser") -> Iterator[Visitor]:
    """Give a visitor; the browser's console must stay free of errors."""
    made = Visitor(served, browser)
    with made.stack:
        yield made
    assert not made.problems, made.problems


@pytest.fixture
def faults() -> "Callable[[Page], list[str]]":
    """Give a function that returns the serious faults of accessibility of a page."""
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()

    def find(page: "Page") -> list[str]:
        found = axe.run(page).response["violations"]
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    return find
