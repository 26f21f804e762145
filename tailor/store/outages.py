"""Outages of the store: each begins and ends with a line in the log, however many requests fail."""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

log = logging.getLogger("tailor.store")
Part = Literal["read", "written"]
QUIET_S = 1.0  # without a failure, after which an outage counts as ended
PATH = re.compile(r"(?<![\w/])/[^\s\"',;]+")  # of the server; logs and answers name none


@dataclass
class Outage:
    """A time in which the store cannot be read, or cannot be written."""

    cause: str
    """The driver's words for the last failure, without paths."""
    began_s: float
    """On the monotonic clock."""
    failed_s: float
    """When something failed last, on the same clock."""
    is_on: bool = True
    """False after a success."""
    refused: int = 0
    """Reads or writes that failed."""


class Outages:
    """Notes failures and successes of one process's store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_part: dict[Part, Outage] = {}
        self._lock = threading.Lock()

    def note_failure(self, part: Part, cause: str, refused: int = 1) -> None:
        """Note that something failed; the first failure of an outage is logged."""
        now_s = self._clock()
        with self._lock:
            outage = self._by_part.get(part)
            is_new = outage is None
            if outage is None:
                outage = Outage("", now_s, now_s)
                self._by_part[part] = outage
            outage.cause = PATH.sub("(path)", cause)
            outage.failed_s = now_s
            outage.is_on = True
            outage.refused += refused
        if is_new:
            log.error("the store cannot be %s", part, extra={"cause": outage.cause})

    def note_success(self, part: Part) -> None:
        """Note that something worked; the end of an outage is logged once it is quiet."""
        if part not in self._by_part:  # nearly always; no lock for it
            return
        now_s = self._clock()
        with self._lock:
            outage = self._by_part.get(part)
            if outage is None:
                return
            outage.is_on = False
            if now_s - outage.failed_s < QUIET_S:
                return
            del self._by_part[part]
        extra = {
            "lasted_s": round(now_s - outage.began_s, 1),
            "refused": outage.refused,
            "cause": outage.cause,
        }
        log.warning("the store can be %s again", part, extra=extra)

    def cause(self, part: Part) -> str:
        """Return why a part fails now, with since when; empty where it works."""
        outage = self._by_part.get(part)
        if outage is None or not outage.is_on:
            return ""
        return f"{outage.cause}; since {self._clock() - outage.began_s:.0f} s"


def outages_of(engine: sa.Engine) -> Outages | None:
    """Return the outages that a server watches for, None outside of servers."""
    outages: Outages | None = engine.get_execution_options().get("outages")
    return outages


def watch_outages(engine: sa.Engine) -> Outages:
    """Have reads through an engine noted from now on, and return the notes."""
    outages = outages_of(engine)
    if outages is None:
        outages = Outages()
        engine.update_execution_options(outages=outages)
    return outages
