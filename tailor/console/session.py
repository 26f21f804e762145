"""Logins of browsers, and the questions of an open page to the service.

Keys stay in the memory of the console: the browser holds a random name of its login alone, and
nothing is written to a file.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from tailor.client import ROLES, Client
from tailor.errors import ServiceError

T = TypeVar("T")
PATIENCE_S = 2.0  # for which a page waits for a service that is away, before the banner shows
IDLE_S = 12 * 3600.0  # after which a login ends
MOST_LOGINS = 1_000
LOGGED_OUT = 401
LOOK_S = 3.0
TICKET_S = 60.0  # for which a ticket is good
NAME = "login"  # of the login's name in the browser's cookie
SLOW_S = 4.0  # after which it is looked whether the service answers at all
GONE = (0, 502, 504)  # statuses of a service that is away; with 503 it says what it waits for


@dataclass(eq=False)
class Login:
    """A key that the service accepted."""

    client: Client
    """Client with the key."""
    caller: dict[str, str]
    """Tenant, name and role of the key."""
    dark: bool | None = None
    """True: dark; False: light; None: as the browser prefers."""
    used_s: float = field(default_factory=time.monotonic)
    """Moment of the latest page."""
    endings: list[Callable[[], None]] = field(default_factory=list)
    """Called when the login ends."""
    has_ended: bool = False
    """Whether it asks nothing any more."""

    def end(self) -> None:
        """Forget the key, and end what was begun with it."""
        self.has_ended = True
        for ending in self.endings:
            ending()
        self.client.close()


class Logins:
    """The logins of all browsers, by the random name that each browser holds.

    The name is a new one with each login: one that was in the browser before, by whomever, opens
    nothing. It is given for a ticket, which is good once and for seconds.
    """

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}
        self._tickets: dict[str, tuple[float, Login]] = {}

    def ticket(self, login: Login) -> str:
        """Return a ticket for a login."""
        now_s = time.monotonic()
        for name, (until_s, _) in list(self._tickets.items()):
            if until_s < now_s:
                self._tickets.pop(name)[1].end()
        name = secrets.token_urlsafe(32)
        self._tickets[name] = (now_s + TICKET_S, login)
        return name

    def redeem(self, ticket: str) -> str | None:
        """Begin the login of a ticket and return its new name, None for a bad ticket."""
        until_s, login = self._tickets.pop(ticket, (0.0, None))
        if login is None or until_s < time.monotonic():
            return None
        name = secrets.token_urlsafe(32)
        self.begin(name, login)
        return name

    def get(self, name: str) -> Login | None:
        """Return the login of that name, None where there is none or it has ended."""
        login = self._logins.get(name)
        if login is None:
            return None
        if time.monotonic() - login.used_s > IDLE_S:
            self.end(name)
            return None
        login.used_s = time.monotonic()
        return login

    def begin(self, name: str, login: Login) -> None:
        """Keep a login; the one that was used longest ago makes room."""
        self.end(name)
        if len(self._logins) >= MOST_LOGINS:
            self.end(min(self._logins, key=lambda other: self._logins[other].used_s))
        self._logins[name] = login

    def end(self, name: str) -> None:
        """Forget a login and its key."""
        login = self._logins.pop(name, None)
        if login is not None:
            login.end()


def log_in(server: str, key: str) -> Login:
    """Return the login of a key. Raises ServiceError where the service does not know it."""
    client = Client(server, key.strip(), patience_s=PATIENCE_S)
    try:
        return Login(client, client.caller())
    except BaseException:
        client.close()
        raise


def is_away(error: ServiceError) -> bool:
    """Return whether an error says that the service is away, rather than that it refused."""
    return error.status in GONE


def answers(server: str) -> bool:
    """Return whether a service answers, and can read and write its store."""
    try:
        return httpx.get(f"{server}/ready", timeout=LOOK_S).is_success
    except httpx.TransportError:
        return False


@dataclass(eq=False)
class Session:
    """One open page: its login, and what to do where the service is away."""

    server: str
    """Address of the service."""
    login: Login | None
    """None on a public page."""
    on_away: Callable[[], None] = lambda: None
    """Called where the service does not answer."""
    when_back: Callable[[], Awaitable[None]] | None = None
    """Called once the service is back: makes a page that could not be made."""

    @property
    def caller(self) -> dict[str, str]:
        """Return tenant, name and role of the key."""
        return {} if self.login is None else self.login.caller

    def may(self, role: str) -> bool:
        """Return whether the key's role includes this one."""
        role_of_key = self.caller.get("role", "")
        return role_of_key in ROLES and ROLES.index(role_of_key) >= ROLES.index(role)

    async def ask(self, job: Callable[[Client], T]) -> T:
        """Return what a job gets from the client, which it is called with in a thread.

        Raises ServiceError for what the service refuses. Where it is away the banner shows too.
        """
        if self.login is None:
            raise ServiceError("log in first")
        if time.monotonic() - self.login.used_s > IDLE_S and not self.login.has_ended:
            self.login.end()  # a page that was left open
        if self.login.has_ended:
            raise ServiceError("you are logged out: load the page and log in again", LOGGED_OUT)
        return await self.call(job, self.login.client)

    async def call(self, job: Callable[..., T], *arguments: Any) -> T:
        """Return what a job returns in a thread; errors as in `ask`."""
        answer = asyncio.ensure_future(asyncio.to_thread(job, *arguments))
        try:
            await asyncio.wait({answer}, timeout=SLOW_S)
            if not answer.done() and not await asyncio.to_thread(answers, self.server):
                self.on_away()  # it hangs: the answer is waited for all the same
            return await answer
        except ServiceError as error:
            if is_away(error):
                self.on_away()
            raise
