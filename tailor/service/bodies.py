"""Bodies of requests: those in memory are counted, and large ones are read in a thread.

A thread alone would not help: the JSON parser holds the interpreter's lock until it is done. So a
large body is parsed element by element, and others are answered in between.
"""

import json
import re
from typing import Any

QUICK_BYTES = 16 * 1024  # of a body that is parsed at once: many small values take 5 ms
SMALL_BYTES = 64 * 1024  # of a refused body that is thrown away, so that its connection goes on
MOST_BYTES = 128 * 2**20  # of all bodies that a worker holds at once
BLANKS = re.compile(r"[ \t\n\r]*")


class BodyMemory:
    """Counts the bytes of bodies that are being read or answered."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0

    def take(self, n_bytes: int) -> bool:
        """Count bytes; return False, and count none, where they are too many."""
        if self.bytes + n_bytes > self.most_bytes:
            return False
        self.bytes += n_bytes
        return True

    def give_back(self, n_bytes: int) -> None:
        """Count bytes no more."""
        self.bytes -= n_bytes


def parse_in_steps(body: bytes) -> Any:
    """Return what `json.loads` returns, parsed in many short calls.

    The values of the outer object are parsed one by one, and of a list each element. Raises
    JSONDecodeError or UnicodeDecodeError as `json.loads` does.
    """
    try:
        text = body.decode("utf-8")
        value, end = _object(text, _skip(text, 0))
    except (ValueError, IndexError, RecursionError):
        return json.loads(body)  # no object, or no JSON: the library says what is wrong
    return value if _skip(text, end) == len(text) else json.loads(body)


def _skip(text: str, start: int) -> int:
    """Return where the blanks at `start` end."""
    return BLANKS.match(text, start).end()  # type: ignore[union-attr]


def _object(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Return an object and where it ends. Raises ValueError or IndexError for anything else."""
    decoder = json.JSONDecoder()
    value: dict[str, Any] = {}
    end = _expect(text, start, "{")
    while text[end] != "}":
        if value:
            end = _expect(text, end, ",")
        name, end = decoder.raw_decode(text, end)
        if not isinstance(name, str):
            raise ValueError("a name is text")
        end = _expect(text, _skip(text, end), ":")
        if text[end] == "[":
            value[name], end = _list(text, end, decoder)
        else:
            value[name], end = decoder.raw_decode(text, end)
        end = _skip(text, end)
    return value, end + 1


def _list(text: str, start: int, decoder: json.JSONDecoder) -> tuple[list[Any], int]:
    """Return a list and where it ends."""
    values: list[Any] = []
    end = _expect(text, start, "[")
    while text[end] != "]":
        if values:
            end = _expect(text, end, ",")
        value, end = decoder.raw_decode(text, end)
        values.append(value)
        end = _skip(text, end)
    return values, end + 1


def _expect(text: str, start: int, sign: str) -> int:
    """Return where the blanks behind a sign end. Raises ValueError where it is not there."""
    if text[start] != sign:
        raise ValueError(f"{sign} is expected")
    return _skip(text, start + 1)
