"""Admission: whose key a request carries, before anything else of it is looked at."""

from starlette.types import Scope

from tailor.service.limits import HoldLog, RateLimiter, network_of
from tailor.service.problems import ProblemError
from tailor.service.routing import KNOWN_KEYS, LINKS, NEW_KEYS, in_pool, retry_seconds
from tailor.service.state import Service
from tailor.store.keys import Caller, Person

OWN_PAGE = "/v1/me"  # address of the routes that take a person's link, and no key
WRONG_KEYS_PER_S, WRONG_KEYS = 2.0, 30  # of an address: on average, and at once
KEYLESS_PER_S, KEYLESS = 50.0, 200  # requests without any key
# a console asks for all its visitors from one address, and nobody guesses a link
WRONG_LINKS_PER_S, WRONG_LINKS = 20.0, 300
PERSON_PER_S, PERSON_BURST = 20.0, 200  # requests of one person
REFUSED_LINK = "this link is not valid, or its time is over: ask for a new one"


class UnloggedError(ProblemError):
    """Raised for a request that gets no line of its own in the log."""


class Admission:
    """Returns callers by their keys, and limits what strangers may try."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.requests = RateLimiter(service.settings.rate, service.settings.burst)
        self.wrong_keys = RateLimiter(WRONG_KEYS_PER_S, WRONG_KEYS)
        self.keyless = RateLimiter(KEYLESS_PER_S, KEYLESS)
        self.wrong_links = RateLimiter(WRONG_LINKS_PER_S, WRONG_LINKS)
        rate, burst = service.settings.rate, service.settings.burst
        self.people = RateLimiter(min(rate, PERSON_PER_S), min(burst, PERSON_BURST))
        self.wrong_key_log = HoldLog("wrong keys of an address")
        self.keyless_log = HoldLog("requests without a key of an address")

    async def caller(self, scope: Scope) -> Caller:
        """Return the caller of a request, and count the request.

        A key that was checked a short time ago needs no thread and no database query. Raises
        ProblemError without a good key, and past the limit of the key or the address.
        """
        key = key_of(scope)
        if is_own_page(scope["path"]):
            return await self._person(key, scope)
        if not key:
            self.count_keyless(scope)
            raise ProblemError(
                401,
                'an API key is needed: send the header "Authorization: Bearer KEY" (`tailor keys'
                " make` makes a key)",
            )
        caller = self.service.recent_caller(key) or await self._look_up(key, scope)
        _count(self.requests, (caller.tenant, caller.name), "with this key")
        return caller

    async def _person(self, link: str, scope: Scope) -> Person:
        """Return the person whose link a request carries.

        Whatever is wrong with a link, the answer is the same. Everybody's link may come from the
        address of one console: wrong ones cost those with a good one no answer. Raises as `caller`
        does.
        """
        person = await in_pool(LINKS, self.service.person, link)
        if person is None:
            wait_s = self.wrong_links.take(address_of(scope))
            if not wait_s:
                raise ProblemError(401, REFUSED_LINK)
            self.wrong_key_log.note()
            raise UnloggedError(
                429,
                "too many links that are not valid came from this address: try again later",
                retry_s=retry_seconds(wait_s),
            )
        _count(self.people, (person.tenant, person.user_id), "by this link")
        return person

    async def _look_up(self, key: str, scope: Scope) -> Caller:
        """Ask the store; not for an address that has tried too many wrong keys.

        A key that was good before is looked up all the same, and in threads of its own: a stranger
        behind the same proxy costs no caller an answer.
        """
        is_known = self.service.knows_key(key)
        address = address_of(scope)
        if not is_known:
            wait_s = self.wrong_keys.wait_s(address)
            if wait_s:
                self.wrong_key_log.note()
                raise UnloggedError(
                    429,
                    "too many wrong keys came from this address: try this key again later",
                    retry_s=retry_seconds(wait_s),
                )
        caller = await in_pool(KNOWN_KEYS if is_known else NEW_KEYS, self.service.caller, key)
        if caller is None:
            self.wrong_keys.take(address)
            raise ProblemError(401, "this API key is unknown or revoked")
        return caller

    def count_keyless(self, scope: Scope) -> None:
        """Count a request without a key. Raises ProblemError past the limit of its address."""
        wait_s = self.keyless.take(address_of(scope))
        if wait_s:
            self.keyless_log.note()
            raise UnloggedError(
                429,
                "too many requests without a key came from this address",
                retry_s=retry_seconds(wait_s),
            )


def _count(limiter: RateLimiter, sender: tuple[str, str], means: str) -> None:
    """Count a request. Raises ProblemError past the limit of its sender."""
    wait_s = limiter.take(sender)
    if wait_s:
        raise ProblemError(
            429,
            f"more than {limiter.rate:g} requests a second {means}",
            retry_s=retry_seconds(wait_s),
        )


def is_own_page(path: str) -> bool:
    """Return whether an address belongs to a person's own page."""
    return path == OWN_PAGE or path.startswith(f"{OWN_PAGE}/")


def key_of(scope: Scope) -> str:
    """Return the key that a request carries, empty without one."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
    return ""


def address_of(scope: Scope) -> str:
    """Return the address that a request came from, of IPv6 the network."""
    client = scope.get("client")
    return network_of(client[0]) if client else ""
