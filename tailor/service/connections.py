"""Connections of one worker: limits of heads, bodies, time and number before any route.

A stranger sends what he likes. So a head has a size, a request has a deadline, and connections that
have shown no key make room for others. uvicorn's own options reach none of these with httptools.
"""

import asyncio
import json
import resource
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tailor.service.limits import HoldLog
from tailor.service.problems import SECURITY_HEADERS, problem_body

SLICE_BYTES = 16 * 1024  # that the parser is fed at once
FILES = 65_536  # open files that a worker asks the system for
OTHER_FILES = 300  # open files that are no connections: the store, models, logs
FEWEST_CONNECTIONS = 64
FATAL = "this is no HTTP, or a method that is not known"


@dataclass(frozen=True)
class Limits:
    """Limits of the connections of one worker."""

    connections: int = 8_192
    """Connections in all."""
    strangers: int = 1_000
    """Connections that have shown no accepted key."""
    head_bytes: int = 32 * 1024
    """Of a request line with its headers, and of anything else between parts of a body."""
    headers: int = 100
    """Headers of a request."""
    pipelined: int = 16
    """Requests of a connection that wait for their answer."""
    head_s: float = 10.0
    """From a connection or the first byte to the end of the head."""
    request_s: float = 30.0
    """From the first byte to the end of the body."""
    write_s: float = 30.0
    """For which a peer may read nothing of a large answer."""
    linger_s: float = 2.0
    """For which a closing connection still takes what the peer sends, and throws it away."""
    linger_bytes: int = 32 * 2**20
    """The same in bytes."""


def open_files() -> int:
    """Raise the limit of open files as far as the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted_files = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted_files:
        return FILES if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted_files, hard))
    return wanted_files


class Connections:
    """Open connections of one server, and those of strangers, the longest unheard first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        most = min(limits.connections, open_files() - OTHER_FILES)
        self.most = max(most, FEWEST_CONNECTIONS)
        self.open = 0
        self.strangers: dict[GuardedProtocol, None] = {}
        self.callers: dict[GuardedProtocol, None] = {}
        self.stranger_log = HoldLog("connections without a key")
        self.log = HoldLog("connections")
        self.request_log = HoldLog("size, form or time of requests")

    def add(self, connection: "GuardedProtocol") -> None:
        """Count a new connection, and close others where there are too many."""
        self.strangers[connection] = None
        if len(self.strangers) > self.limits.strangers:
            self._close_first(self.strangers, self.stranger_log)
        if len(self.strangers) + len(self.callers) > self.most:
            self._close_first(self.strangers, self.log)
        if len(self.strangers) + len(self.callers) > self.most:
            self._close_first(self.callers, self.log)
        if len(self.strangers) + len(self.callers) > self.most:
            connection.drop()  # all others are being answered
            self.log.note()

    def note_answer(self, connection: "GuardedProtocol", is_caller: bool) -> None:
        """Move a connection to the end of its line; one with an accepted key to the callers."""
        if connection not in self.strangers and connection not in self.callers:
            return  # it is closed
        if is_caller or connection in self.callers:
            self.strangers.pop(connection, None)
            self.callers.pop(connection, None)
            self.callers[connection] = None
        else:
            del self.strangers[connection]
            self.strangers[connection] = None

    def remove(self, connection: "GuardedProtocol") -> None:
        """Forget a connection that is closed."""
        self.strangers.pop(connection, None)
        self.callers.pop(connection, None)

    def _close_first(self, line: "dict[GuardedProtocol, None]", hold_log: HoldLog) -> None:
        """Close the connection that was silent longest; those being answered stay."""
        for connection in line:
            if not connection.is_served():
                connection.drop()
                hold_log.note()
                return


class LingeringTransport:
    """Passes all to a transport, but for `close`, which the protocol does in its own way."""

    def __init__(self, transport: Any, protocol: "GuardedProtocol") -> None:
        self._transport = transport
        self._protocol = protocol
        self.close = protocol.close
        self.write = transport.write

    def is_closing(self) -> bool:
        """Return whether no more is sent."""
        return self._protocol.is_ending or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        state = self.server_state.__dict__
        if "guard" not in state:
            state["guard"] = Connections(self.limits)
        self.guard: Connections = state["guard"]
        self.is_ending = False  # no more is answered; what comes is thrown away
        self._wire: Any = None  # the transport itself
        self._timer: asyncio.TimerHandle | None = None  # of a head, a body or the end
        self._write_timer: asyncio.TimerHandle | None = None
        self._began_s = 0.0  # loop time of the first byte of the request
        self._is_open = False  # a request has begun and is not complete
        self._has_head = False
        self._unread_bytes = 0  # that brought neither the end of a head nor a part of a body
        self._discarded_bytes = 0
        self._refusal: tuple[int, str] | None = None

    # the connection

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and give it the time of a head."""
        self._wire = transport
        super().connection_made(LingeringTransport(transport, self))  # type: ignore[arg-type]
        self._began_s = self.loop.time()
        self._timer = self.loop.call_later(self.limits.head_s, self._look_at_time)
        self.guard.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.is_ending = True
        self._cancel_timers()
        self._unset_keepalive_if_required()
        self.guard.remove(self)
        super().connection_lost(exc)

    def is_served(self) -> bool:
        """Return whether a whole request, or a caller's body, is on its way to an answer."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return not self.cycle.more_body or self._is_callers()

    def _is_callers(self) -> bool:
        return "caller" in self.cycle.scope["state"]

    def drop(self) -> None:
        """Close at once, without an answer."""
        self.is_ending = True
        self._cancel_timers()
        self.guard.remove(self)
        self._wire.abort()

    def close(self) -> None:
        """Close once the answer is sent; what the peer still sends is thrown away meanwhile.

        Closed at once, the system would answer it with a reset, and the peer would lose the answer.
        """
        if self.is_ending:
            return
        self.is_ending = True
        self._cancel_timers()
        self.guard.remove(self)
        if self._is_open and self._wire.can_write_eof() and not self._wire.is_closing():
            self._wire.write_eof()
            self.flow.resume_reading()
        else:
            self._wire.close()
        unsent_bytes = self._wire.get_write_buffer_size()
        wait_s = self.limits.write_s if unsent_bytes else self.limits.linger_s
        self._timer = self.loop.call_later(wait_s, self._look_at_writing, unsent_bytes)

    def _look_at_writing(self, unsent_bytes: int) -> None:
        """Close where the peer has read nothing of `unsent_bytes`, else look again later.

        A peer that reads nothing would hold the connection and the answer for ever.
        """
        self._write_timer = None
        left_bytes = self._wire.get_write_buffer_size()
        if not 0 < left_bytes < unsent_bytes:
            self.drop()
            return
        self._write_timer = self.loop.call_later(
            self.limits.write_s, self._look_at_writing, left_bytes
        )

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._write_timer = None

    # what the peer sends

    def data_received(self, data: bytes) -> None:
        """Feed the parser in slices, and refuse what passes a limit."""
        if self.is_ending:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        for start in range(0, len(data), SLICE_BYTES):
            part = data[start : start + SLICE_BYTES] if len(data) > SLICE_BYTES else data
            self._unread_bytes += len(part)
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade:
                self._end_after_answer()  # another protocol is not spoken here
                return
            except httptools.HttpParserError:
                self._refuse(*(self._refusal or (400, FATAL)))
                return
            if self._unread_bytes > self.limits.head_bytes and self._refusal is None:
                most = self.limits.head_bytes
                self._refusal = (431, f"the head of a request may have at most {most:,} bytes")
            if self._refusal is not None:
                self._refuse(*self._refusal)
                return
            if self.is_ending:
                return
        self._watch_time()

    def _discard(self, n_bytes: int) -> None:
        self._discarded_bytes += n_bytes
        if self._discarded_bytes > self.limits.linger_bytes:
            self._wire.abort()

    def _end_after_answer(self) -> None:
        self._cancel_timers()
        if self.cycle is None or self.cycle.response_complete:
            self.close()
        else:
            self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_open = True
        self._has_head = False
        self._began_s = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        super().on_url(url)
        if b"#" in url:  # a parser would cut it off, and another id would be meant
            self._refusal = (400, "the address holds a #: encode it as %23")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, of the head or behind a body in pieces."""
        if len(self.headers) >= self.limits.headers:
            most = self.limits.headers
            self._refusal = (431, f"a request may have at most {most} headers")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass a request on, unless a limit was passed or too many wait on this connection."""
        self._has_head = True
        self._unread_bytes = 0
        if len(self.pipeline) >= self.limits.pipelined:
            self._refusal = (429, "too many requests wait on this connection: read the answers")
        if self._refusal is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unread_bytes = 0
        if self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._is_open = False
        self._unread_bytes = 0
        if self._refusal is None:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, FATAL)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with an error of the connection, then close it; an answer under way goes on."""
        self.guard.request_log.note()
        if self._is_answering():
            if self.pipeline:
                self.drop()
                return
            if not self.cycle.more_body:  # the answer to the request before
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
            self.cycle.disconnected = True  # the route waits for the body in vain
            self.cycle.message_event.set()
        if not self._is_answering() or not self.cycle.response_started:
            self._wire.write(raw_problem(status, detail))
        self._is_open = True  # the peer may still be sending
        self.close()

    # time

    def _watch_time(self) -> None:
        """Give what is not complete a deadline, and take it from what is."""
        is_waited_for = self._is_open or not self._is_answering()
        if is_waited_for and self._timer is None:
            self._timer = self.loop.call_later(self.limits.head_s, self._look_at_time)
        elif not is_waited_for and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look_at_time(self) -> None:
        """Close a connection whose request took too long to arrive."""
        self._timer = None
        passed_s = self.loop.time() - self._began_s
        is_body = self._is_open and self._has_head
        left_s = (self.limits.request_s if is_body else self.limits.head_s) - passed_s
        if left_s > 0.001:
            self._timer = self.loop.call_later(left_s, self._look_at_time)
        elif not self._is_open and self._is_answering():
            return
        elif not self._is_open or (self._has_head and not self._is_answering()):
            self.close()  # nothing was asked, or it is answered already
        else:
            self._refuse(408, "the request took too long to arrive: send it whole, at once")

    def on_response_complete(self) -> None:
        """Count the answer; a request that is still being sent ends with its connection."""
        if not self.is_ending:
            self.guard.note_answer(self, self._is_callers())
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Give a peer that does not read a deadline."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self.limits.write_s, self._look_at_writing, self._wire.get_write_buffer_size()
            )

    def resume_writing(self) -> None:
        """Take the deadline from a peer that reads."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def raw_problem(status: int, detail: str) -> bytes:
    """Return a whole answer of an error that no route has seen, and that ends the connection."""
    body = json.dumps(problem_body(status, detail)).encode()
    headers = {
        **SECURITY_HEADERS,
        b"content-type": b"application/problem+json",
        b"content-length": str(len(body)).encode(),
        b"connection": b"close",
    }
    lines = [name + b": " + value + b"\r\n" for name, value in headers.items()]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])
