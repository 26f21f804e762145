"""The console: a web application in a process of its own, and a client of the service."""

import asyncio
import importlib
import logging
import os
import pkgutil
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

os.environ.setdefault("NICEGUI_STORAGE_PATH", str(Path(tempfile.gettempdir()) / "tailor-console"))

from nicegui import app, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tailor.console import frame, pages, widgets
from tailor.console.session import NAME, Logins, is_away, log_in
from tailor.errors import ServiceError

log = logging.getLogger("tailor.console")
RECONNECT_S = 300.0
THREADS = 64
LOCAL = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    # the console needs nothing from elsewhere; Vue compiles its templates in the browser
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
        " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
        " connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def run_console(
    server: str,
    host: str = "127.0.0.1",
    port: int = 8080,
    names: Sequence[str] = (),
    show: bool = False,
) -> None:
    """Serve the console of a service until Ctrl-C.

    `names` are further names under which browsers reach it, such as that of a proxy.
    """
    for field in (ui.input, ui.number, ui.select, ui.textarea):
        field.default_props("outlined")
    for module in pkgutil.iter_modules(pages.__path__):
        importlib.import_module(f"{pages.__name__}.{module.name}")
    logins = Logins()
    frame.install(server.rstrip("/"), logins)
    _install_login(server.rstrip("/"), logins)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, host, *names])
    app.middleware("http")(_with_headers)
    app.on_startup(_give_threads)
    ui.run(
        host=host,
        port=port,
        title="Tailor",
        favicon=_icon(),
        dark=None,
        language="en-US",
        show=show,
        reload=False,
        reconnect_timeout=RECONNECT_S,  # a nap of the network loses nothing that was typed
        show_welcome_message=False,
        # a restart ends all logins: keys are in memory alone
        storage_secret=secrets.token_hex(32),
        session_middleware_kwargs={"same_site": "strict", "max_age": None},
    )


def _give_threads() -> None:
    """Give questions threads enough that a few long ones keep nobody waiting."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "tailor-console"))


async def _with_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _icon() -> str:
    """Return the icon of the browser's tab."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32"'
        ' rx="6" fill="#1976d2"/><path d="M8 9h16v4h-6v12h-4V13H8z" fill="#fff"/></svg>'
    )


def _install_login(server: str, logins: Logins) -> None:
    @ui.page("/login", title="Log in · Tailor")
    def login_page(request: Request) -> None:
        _login_form(server, logins, local_path(request.query_params.get("next", "/")))

    @app.get("/enter")
    def enter(request: Request, ticket: str = "", to: str = "/") -> RedirectResponse:
        logins.end(request.session.pop(NAME, ""))
        name = logins.redeem(ticket)
        if name is None:
            return RedirectResponse("/login")
        request.session[NAME] = name
        return RedirectResponse(local_path(to))

    @app.get("/logout")
    def leave(request: Request) -> RedirectResponse:
        logins.end(request.session.pop(NAME, ""))
        return RedirectResponse("/login")


def local_path(path: str) -> str:
    """Return an address within the console, "/" for one elsewhere."""
    # browsers drop control characters and take a backslash for a slash
    is_plain = path.isprintable() and "\\" not in path
    is_local = path.startswith("/") and not path.startswith(("//", "/login", "/logout", "/enter"))
    return path if is_plain and is_local else "/"


def _login_form(server: str, logins: Logins, target: str) -> None:
    frame.dress()
    with ui.element("div").classes("w-full max-w-md mx-auto mt-16 p-4"):
        widgets.heading("Tailor", 1)
        ui.label(f"Log in with a key of the service at {server}.")
        ui.label("`tailor serve` writes the first one into a file and says where it is.").classes(
            "text-sm"
        )
        key = ui.input("Key", password=True, password_toggle_button=True)
        key.classes("w-full").props('autocomplete="off" autofocus outlined')
        problem = ui.label("").props('role="alert"').classes("text-negative")

        async def enter() -> None:
            problem.text = ""
            if not (key.value or "").strip():
                problem.text = "Give a key."
                return
            button.disable()
            try:
                login = await asyncio.to_thread(log_in, server, key.value)
            except ServiceError as error:
                problem.text = login_problem(error, server)
                return
            finally:
                button.enable()
            ui.navigate.to(f"/enter?ticket={logins.ticket(login)}&to={quote(target)}")

        key.on("keydown.enter", enter)
        button = ui.button("Log in", on_click=enter).classes("w-full mt-2")


def login_problem(error: ServiceError, server: str) -> str:
    """Return why a key was not taken, without the key."""
    if is_away(error):
        return f"The service at {server} does not answer. Is it running?"
    if error.status in (401, 403):
        return "The service does not know this key. It may have been revoked."
    return str(error)
