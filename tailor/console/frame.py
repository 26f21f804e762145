"""The frame of every page: navigation, banner, keys of the keyboard, and what an error becomes."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from nicegui import app, ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

from tailor.console import widgets
from tailor.console.session import NAME, Login, Logins, Session, answers, is_away
from tailor.errors import ServiceError

Build = Callable[..., Awaitable[None]]
BLUE = "#1259a8"  # white on it has a contrast of 7
RETRY_S = 3.0  # between two looks whether the service is back
BUILD_S = 30.0  # after which a page that is still not connected is given up
STYLE = """
.tailor-h1 { font-size: 1.5rem; font-weight: 500; margin: 0; line-height: 1.3; }
.tailor-h2 { font-size: 1.1rem; font-weight: 500; margin: 0; line-height: 1.3; }
.tailor-h3 { font-size: 1rem; font-weight: 500; margin: 0; line-height: 1.3; }
.tailor-chart svg text { fill: currentColor !important; }
.tailor-items { padding: 0; margin: 0; list-style: none; display: grid; gap: .5rem; }
.tailor-items .q-btn__content { justify-content: flex-start; text-align: left; }
.tailor-rank { min-width: 1.5rem; text-align: right; }
.tailor-open { background: none; border: 0; padding: 0; font: inherit; color: inherit;
  text-decoration: underline; cursor: pointer; text-align: left; }
.tailor-nav a { color: inherit; text-decoration: none; display: flex; gap: .75rem;
  padding: .5rem .75rem; border-radius: .25rem; align-items: center; }
.tailor-nav a[aria-current] { background: rgba(25, 118, 210, .16); font-weight: 500; }
.tailor-nav a:hover { background: rgba(128, 128, 128, .16); }
.tailor-figure { min-width: 9rem; }
.tailor-columns { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.tailor-h1 { padding: .25rem 0 .75rem; }
.tailor-content { max-width: 72rem; margin: 0 auto; width: 100%; }
.tailor-content a { color: inherit; text-decoration: underline; }
.body--dark .q-field--highlighted .q-field__label, .body--dark .text-primary {
  --q-primary: #9cc4f5; color: #9cc4f5; }
.body--dark .text-negative { --q-negative: #ff9a9a; color: #ff9a9a; }
.body--dark .q-btn--outline, .body--dark .q-btn--flat {
  --q-primary: #9cc4f5; --q-negative: #ff9a9a; }
.q-notification .q-btn { color: inherit !important; }
@media (max-width: 600px) { .tailor-card { padding: .75rem; } .nicegui-content { padding: .5rem; } }
:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
"""


@dataclass(frozen=True, eq=False)
class Page:
    """A page of the console."""

    path: str
    """Its address, with names of parameters in braces."""
    title: str
    icon: str | None
    """Icon in the navigation; None: it is not there."""
    role: str
    """Role that a key needs."""
    is_public: bool
    """True: no login."""
    build: Build
    """Makes the content, given the session and the parameters of the address."""
    order: int
    """Place in the navigation."""


PAGES: list[Page] = []


def page(
    path: str,
    *,
    title: str,
    icon: str | None = None,
    role: str = "read",
    public: bool = False,
    order: int = 50,
) -> Callable[[Build], Build]:
    """Register a function that builds a page's content from a session, as a decorator."""

    def register(build: Build) -> Build:
        PAGES.append(Page(path, title, icon, role, public, build, order))
        return build

    return register


def install(server: str, logins: Logins) -> None:
    """Give every registered page its address."""
    for registered in sorted(PAGES, key=lambda item: item.order):
        _install_page(registered, server, logins)


def _install_page(entry: Page, server: str, logins: Logins) -> None:
    async def show(request: Request, **parameters: Any) -> RedirectResponse | None:
        login = None if entry.is_public else logins.get(app.storage.browser.get(NAME, ""))
        if login is None and not entry.is_public:
            # as it was sent: an id within it may hold any character
            path = request.scope["raw_path"].decode("ascii")
            return RedirectResponse(f"/login?next={quote(path)}")
        await _show(entry, Session(server, login), parameters)
        return None

    parameters = list(inspect.signature(entry.build).parameters.values())[1:]
    request = inspect.Parameter(
        "request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request
    )
    show.__signature__ = inspect.Signature([request, *parameters])  # type: ignore[attr-defined]
    ui.page(entry.path, title=f"{entry.title} · Tailor", response_timeout=BUILD_S)(show)


async def _show(entry: Page, session: Session, parameters: dict[str, Any]) -> None:
    """Make the frame, and once the browser is there, the content."""
    dress()
    session.on_away = Banner(session).show
    ui.on_exception(_notify)
    if session.login is not None:
        _navigation(entry, session, session.login)
    with ui.element("div").classes("tailor-content") as content:
        widgets.heading(entry.title, 1)
        body = ui.column().classes("w-full gap-4")
        with body:
            ui.spinner(size="lg").props('aria-label="Loading"')
    ui.skip_link(target=content)
    await ui.context.client.connected()
    await _build(entry, session, body, parameters)


async def _build(
    entry: Page, session: Session, body: ui.column, parameters: dict[str, Any]
) -> None:
    """Make the content; what the service refuses becomes a card that says so."""
    body.clear()
    session.when_back = None
    with body:
        if not entry.is_public and not session.may(entry.role):
            role = session.caller.get("role", "none")
            widgets.empty(
                f'This page needs a key with the role "{entry.role}"',
                f'Yours has the role "{role}". Log out, and in again with another key.',
            )
            body.props("data-ready=true")
            return
        try:
            await entry.build(session, **parameters)
        except ServiceError as error:
            again = partial(_build, entry, session, body, parameters)
            session.when_back = again if is_away(error) else None
            body.clear()
            with ui.card().props("flat bordered").classes("w-full"):
                ui.label(_reason(error)).props('role="alert"')
                ui.button("Try again", on_click=again)
    body.props("data-ready=true")


def dress() -> None:
    """Give a page the console's colours and style."""
    ui.colors(primary=BLUE)
    ui.add_css(STYLE)


class Banner:
    """The line that says that the service is away, until it is back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        with ui.row().classes("w-full items-center gap-2 p-2 bg-warning text-black") as self.row:
            ui.icon("cloud_off").props("aria-hidden=true")
            ui.label(
                "The service does not answer. What you typed stays here; the console tries again"
                " every few seconds."
            ).props('role="status"')
        self.row.visible = False
        self._timer = ui.timer(RETRY_S, self._look, active=False)

    def show(self) -> None:
        """Show the banner, and look for the service from now on."""
        self.row.visible = True
        self._timer.activate()

    async def _look(self) -> None:
        if not await self._session.call(answers, self._session.server):
            return
        self._timer.deactivate()
        self.row.visible = False
        ui.notify("The service answers again.", type="positive")
        if self._session.when_back is not None:
            await self._session.when_back()


def _notify(error: Exception) -> None:
    """Tell of an error in what the reader just did."""
    if isinstance(error, TimeoutError):  # a browser that is slow to tell how wide it is
        return
    if isinstance(error, ServiceError):
        ui.notify(_reason(error), type="negative", multi_line=True, close_button="Close")
    else:
        ui.notify(
            "The console failed at this. Its log says why.", type="negative", close_button="Close"
        )


def _reason(error: ServiceError) -> str:
    """Return an error with the fields that it names."""
    if is_away(error):
        return "The service does not answer just now."
    fields = [f"{field.get('field')}: {field.get('problem')}" for field in error.errors[:5]]
    return "\n".join([str(error), *fields])


def _navigation(entry: Page, session: Session, login: Login) -> None:
    """Make the header and the drawer with the pages that the key may see."""
    entries = [item for item in PAGES if item.icon and session.may(item.role)]
    allowed = sorted(entries, key=lambda item: item.order)
    drawer = ui.left_drawer(bordered=True).classes("p-2")
    with drawer, ui.element("nav").classes("w-full tailor-nav").props('aria-label="Pages"'):
        for target in allowed:
            link = ui.link(target=target.path)
            if entry.path == target.path or entry.path.startswith(f"{target.path}/"):
                link.props('aria-current="page"')
            with link:
                ui.icon(target.icon or "", size="sm").props("aria-hidden=true")
                ui.label(target.title)
    with ui.header().classes("items-center gap-2 p-2 bg-primary text-white"):
        ui.button(icon="menu", on_click=drawer.toggle).props(
            'flat dense color=white aria-label="Show or hide the pages"'
        )
        ui.label("Tailor").classes("text-lg font-medium")
        ui.space()
        caller = session.caller
        ui.label(f"{caller['name']} · {caller['role']}").classes("text-sm gt-xs")
        _dark_button(login)
        ui.button(icon="logout", on_click=lambda: ui.navigate.to("/logout")).props(
            'flat dense color=white aria-label="Log out"'
        )
    _keys(allowed)


def _dark_button(login: Login) -> None:
    """Make the button that goes through: as the browser prefers, dark, light."""
    mode = ui.dark_mode(login.dark)
    icons = {None: "brightness_auto", True: "dark_mode", False: "light_mode"}
    after = {None: True, True: False, False: None}

    def turn() -> None:
        login.dark = after[login.dark]
        mode.value = login.dark
        button.props(f"icon={icons[login.dark]}")

    button = ui.button(icon=icons[login.dark], on_click=turn)
    button.props('flat dense color=white aria-label="Dark, light or as the browser"')


def _keys(allowed: list[Page]) -> None:
    """Let the keyboard go to pages: g, then a letter; / to the first field; ? for help."""
    targets = first_letters(allowed)
    lines = [f"g {letter}: {item.title}" for letter, item in sorted(targets.items())]
    with ui.dialog() as help_dialog, ui.card():
        widgets.heading("Keys", 2)
        for line in ["/: the first field of the page", "?: this help", *lines]:
            ui.label(line)
        ui.button("Close", on_click=help_dialog.close)
    waiting = {"g": False}

    def on_key(event: Any) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.alt:
            return
        key = str(event.key)
        if waiting["g"] and key in targets:
            ui.navigate.to(targets[key].path)
        waiting["g"] = key == "g"
        if key == "?":
            help_dialog.open()
        if key == "/":
            ui.run_javascript("document.querySelector('main input, main textarea')?.focus()")

    ui.keyboard(on_key=on_key)


def first_letters(entries: Sequence[Page]) -> dict[str, Page]:
    """Return a letter for each page: the first of its title that no page before it has."""
    letters: dict[str, Page] = {}
    for entry in entries:
        free = [letter for letter in entry.title.lower() if letter not in letters]
        if free:
            letters[free[0]] = entry
    return letters
