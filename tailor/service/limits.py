"""Limits shared by connections and requests: buckets of requests, and lines in the log."""

import asyncio
import ipaddress
import logging
import threading
import time
from collections.abc import Hashable
from contextlib import suppress

log = logging.getLogger("tailor.service")
QUIET_S = 10.0  # without a refusal, after which a limit holds no more
MOST_BUCKETS = 10_000  # after which full ones are dropped
NETWORK_BITS = 64  # of an IPv6 address: one caller has all addresses of such a network


class RateLimiter:
    """A token bucket for each owner, such as a key or an address."""

    def __init__(self, rate: float, burst: int) -> None:
        """Fill every bucket with `rate` requests a second, up to `burst`."""
        self.rate = rate
        self.burst = burst
        # owner -> requests left, and the time in seconds when they were counted
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, owner: Hashable) -> float:
        """Take a request from the owner's bucket.

        Returns 0, or the seconds to wait where the bucket is empty.
        """
        now_s = time.monotonic()
        with self._lock:
            left = self._left(owner, now_s)
            is_allowed = left >= 1
            if owner not in self._buckets and len(self._buckets) >= MOST_BUCKETS:
                self._drop_full(now_s)
            self._buckets[owner] = (left - 1 if is_allowed else left, now_s)
        return 0.0 if is_allowed else (1 - left) / self.rate

    def wait_s(self, owner: Hashable) -> float:
        """Return the seconds until the owner's bucket holds a request; take none."""
        with self._lock:
            left = self._left(owner, time.monotonic())
        return max(0.0, (1 - left) / self.rate)

    def _left(self, owner: Hashable, now_s: float) -> float:
        left, counted_s = self._buckets.get(owner, (float(self.burst), now_s))
        return min(self.burst, left + (now_s - counted_s) * self.rate)

    def _drop_full(self, now_s: float) -> None:
        """Drop buckets that are full again; where none is, the oldest half."""
        owners = list(self._buckets)
        full = [owner for owner in owners if self._left(owner, now_s) >= self.burst]
        for owner in full or owners[: len(owners) // 2]:
            del self._buckets[owner]


class HoldLog:
    """Logs when a limit begins to hold and when it ends, never once per request."""

    def __init__(self, limit: str) -> None:
        self.limit = limit
        self.refused = 0  # since the limit began to hold
        self._is_held = False
        self._last_s = 0.0

    def note(self) -> None:
        """Count a refusal; log the first. Call it on the event loop."""
        self.refused += 1
        self._last_s = time.monotonic()
        if self._is_held:
            return
        self._is_held = True
        log.warning("a limit begins to hold", extra={"limit": self.limit})
        self._look_later()

    def _look_later(self) -> None:
        with suppress(RuntimeError):  # no loop runs, as in a test
            asyncio.get_running_loop().call_later(QUIET_S, self._look)

    def _look(self) -> None:
        if time.monotonic() - self._last_s < QUIET_S * 0.9:
            self._look_later()
            return
        log.warning("a limit holds no more", extra={"limit": self.limit, "refused": self.refused})
        self._is_held = False
        self.refused = 0


def network_of(host: str) -> str:
    """Return the address that limits count: IPv4 as it is, of IPv6 the network."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), NETWORK_BITS), strict=False))
