"""Read the answers of language models.

Readers try the strict form first, then more tolerant ones, and never lose or invent an item.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tailor.text.words import fold, normalise

Status = Literal["ranked", "repaired", "fallback"]
MAX_CHARACTERS = 200_000  # of an answer that are read
MAX_TRIES = 50  # beginnings of a JSON value, and cuts of an unclosed one
MAX_DEPTH = 5  # of lists within lists
ID_KEYS = ("index", "id", "item", "document", "number", "title")
THINKING = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"```(?:json)?\s*(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
BRACKETS = re.compile(r"\[\s*([0-9]{1,6})\s*\]")
NUMBERED = re.compile(r"(?<![\w.])([0-9]{1,6})(?![\w]|\.[0-9])")
NUMBER = re.compile(r"(?<![\w.])-?[0-9]{1,9}(?:[.,][0-9]{1,9})?")
LETTER = re.compile(r"(?<![^\s\[(,;:>=])([A-Za-z])(?=[\s\]),.;:>=]|\Z)")
# "1. " before the lines of a list
LIST_MARK = re.compile(r"^[^\S\n]*(?:[0-9]{1,4}[.):]\s+|[-*]\s+)", re.MULTILINE)
CHINESE = {ord(digit): f" {value} " for value, digit in enumerate("一二三四五六七八九十", start=1)}


@dataclass(frozen=True)
class Order:
    """An order of n items that holds each exactly once.

    Levels of reading: 1 strict JSON, 2 JSON out of a fence or repaired, 3 [n], 4 other numerals,
    letters, ids or titles, 5 a repeated question, 6 nothing that could be read.
    """

    places: tuple[int, ...]
    """Rows of the items, from 0, best first."""
    statuses: tuple[Status, ...]
    """Source of each place: read as it was, repaired, or filled in."""
    level: int
    """What had to be done to read the answer."""


def read_order(
    answer: str, n: int, names: Sequence[str] = (), again: Callable[[str], str] | None = None
) -> Order:
    """Return the order of n items numbered from 1 that an answer gives.

    `names` (n,) are ids or titles that the answer may use instead of numbers. Numbers out of range
    are dropped, of repetitions the first counts, and missing items follow in their original order.
    `again` is called once, with the faulty answer, where nothing can be read, and returns a new
    one.
    """
    rows, level = _read_rows(answer, n, names)
    if not rows and n and again is not None:
        rows, level = _read_rows(again(answer), n, names)
        level = 5 if rows else 6
    ranked = list(dict.fromkeys(row for row in rows if 0 <= row < n))
    missing = sorted(set(range(n)) - set(ranked))
    status: Status = "ranked" if level in (1, 3) else "repaired"
    statuses: list[Status] = [status] * len(ranked) + ["fallback"] * len(missing)
    return Order((*ranked, *missing), tuple(statuses), level if ranked or not n else 6)


def _read_rows(answer: str, n: int, names: Sequence[str]) -> tuple[list[int], int]:
    """Return rows by the strictest reader that finds an item, and its level."""
    text = spoken(answer)
    readers = (
        (1, _strict),
        (2, _repaired),
        (3, _bracketed),
        (4, _by_name),
        (4, _by_number),
        (4, _by_letter),
    )
    for level, reader in readers:
        rows = reader(text, n, names)
        if any(0 <= row < n for row in rows):
            return rows, level
    return [], 6


def spoken(answer: str) -> str:
    """Return an answer without the model's thoughts, with all numerals as plain digits."""
    text = THINKING.sub(" ", answer[:MAX_CHARACTERS])
    return "".join(_plain_digit(character) for character in text).translate(CHINESE)


def _plain_digit(character: str) -> str:
    if character.isascii():
        return character
    if character.isdigit():
        return str(unicodedata.digit(character))
    is_full_width = "\uff01" <= character <= "\uff5e" or character == "\u3000"
    return unicodedata.normalize("NFKC", character) if is_full_width else character


def _strict(text: str, n: int, names: Sequence[str]) -> list[int]:
    try:
        return _rows_of_json(json.loads(text), names)
    except (ValueError, RecursionError):
        return []


def _repaired(text: str, n: int, names: Sequence[str]) -> list[int]:
    value = read_json(text)
    rows = [] if value is None else _rows_of_json(value, names)
    # "[3] > [1]" is no JSON, though its "[3]" is
    return [] if len(rows) == 1 and len(BRACKETS.findall(text)) > 1 else rows


def _bracketed(text: str, n: int, names: Sequence[str]) -> list[int]:
    return [int(digits) - 1 for digits in BRACKETS.findall(text)]


def _by_number(text: str, n: int, names: Sequence[str]) -> list[int]:
    without_marks = LIST_MARK.sub("", text)
    is_list = len(LIST_MARK.findall(text)) > 1 and NUMBERED.search(without_marks)
    return [int(digits) - 1 for digits in NUMBERED.findall(without_marks if is_list else text)]


def _by_letter(text: str, n: int, names: Sequence[str]) -> list[int]:
    if n > 26:
        return []
    rows = [ord(letter.upper()) - ord("A") for letter in LETTER.findall(text)]
    # "A" and "I" are words too: mostly letters, or none
    return rows if len(text) <= 8 * max(len(rows), 1) else []


def _by_name(text: str, n: int, names: Sequence[str]) -> list[int]:
    """Return rows of names, ordered by their first occurrence in the text.

    A name must stand for one item only; a name within a longer one does not count there.
    """
    text = _plain(text)
    keys = [_plain(name) for name in names]
    hits = []
    for row, key in enumerate(keys):
        if len(key) > 2 and keys.count(key) == 1:
            hit = re.search(rf"(?<!\w){re.escape(key)}(?!\w)", text)
            if hit:
                hits.append((hit.start(), -len(key), row))
    rows, covered_to = [], -1
    for start, negative_length, row in sorted(hits):
        if start >= covered_to:
            rows.append(row)
            covered_to = start - negative_length
    return rows


@functools.lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Return a text as it is compared: without case, accents and repeated spaces."""
    return " ".join(fold(normalise(text)).split())


def _rows_of_json(value: Any, names: Sequence[str]) -> list[int]:
    """Return rows of the first list in a JSON value that names items.

    Items are named by number, by "[3]", or by name; an object of scores by item is sorted.
    """
    for collection in _collections(value):
        if isinstance(collection, dict):
            rows = _rows_of_scores(collection, names)
        else:
            rows = [row for item in collection if (row := _row(item, names)) is not None]
        if rows:
            return rows
    return []


def _rows_of_scores(scores: dict[str, Any], names: Sequence[str]) -> list[int]:
    """Return rows by falling score; none where any key is no item."""
    rows = {key: _row(key, names) for key in scores}
    if not all(_is_number(score) for score in scores.values()):
        return []
    ordered = [rows[key] for key in sorted(scores, key=lambda key: -scores[key])]
    known_rows = [row for row in ordered if row is not None]
    return known_rows if len(known_rows) == len(ordered) else []


def _collections(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the lists and objects in a JSON value, outer ones first."""
    if not isinstance(value, list | dict):
        return
    yield value
    if depth < MAX_DEPTH:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _collections(inner, depth + 1)


def _row(item: Any, names: Sequence[str]) -> int | None:
    """Return the row of the item that a JSON value names, or None."""
    if isinstance(item, dict):
        item = next((item[key] for key in ID_KEYS if key in item), None)
    if _is_number(item):
        return int(item) - 1 if item == int(item) else None
    if not isinstance(item, str):
        return None
    bare = item.strip().strip("[]()# ")
    if bare.isascii() and bare.isdigit() and len(bare) < 7:
        return int(bare) - 1
    rows = [row for row, name in enumerate(names) if _plain(name) == _plain(item)]
    return rows[0] if len(rows) == 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def read_json(answer: str) -> Any | None:
    """Return the first JSON object or list of an answer, None where there is none.

    It is found in a fence or in prose, and closed where it was cut off.
    """
    text = THINKING.sub(" ", answer[:MAX_CHARACTERS])
    for part in (*(fence.group(1) for fence in FENCE.finditer(text)), text):
        starts = [i for i, character in enumerate(part) if character in "[{"]
        for start in starts[:MAX_TRIES]:
            try:
                value, _ = json.JSONDecoder().raw_decode(part, start)
            except RecursionError:
                return None
            except ValueError:
                value = _close(part[start:])
            if isinstance(value, dict) or (isinstance(value, list) and value):
                return value
    return None


def _close(part: str) -> Any | None:
    """Return a value that was cut off, with its open strings, lists and objects closed.

    It is cut back comma by comma until it can be read.
    """
    for _ in range(MAX_TRIES):
        try:
            return json.loads(part.rstrip(", \n\t") + _ending(part))
        except (ValueError, RecursionError):
            comma = part.rfind(",")
            if comma < 0:
                return None
            part = part[:comma]
    return None


def _ending(part: str) -> str:
    """Return the quotes and brackets that close a cut-off value."""
    closing: list[str] = []
    in_string = is_escaped = False
    for character in part:
        if is_escaped:
            is_escaped = False
        elif in_string:
            is_escaped = character == "\\"
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character in "[{":
            closing.append("]" if character == "[" else "}")
        elif character in "]}" and closing:
            closing.pop()
    return '"' * in_string + "".join(reversed(closing))


def read_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Return the row of the choice that an answer means, None where that is open.

    It is the choice that the answer begins with, else the only one that it names.
    """
    text = _plain(spoken(answer)).strip("\"'*.:[]() ")
    patterns = [re.compile(rf"{re.escape(_plain(choice))}(?!\w)") for choice in choices]
    starting = [row for row, pattern in enumerate(patterns) if pattern.match(text)]
    if starting:
        return max(starting, key=lambda row: len(choices[row]))
    named = [
        row for row, pattern in enumerate(patterns) if re.search(rf"(?<!\w){pattern.pattern}", text)
    ]
    return named[0] if len(named) == 1 else None


def read_number(answer: str, low: float, high: float) -> float | None:
    """Return the first number of an answer between low and high, of "7/10" the 7.

    None where there is no such number.
    """
    for digits in NUMBER.findall(spoken(answer)):
        value = float(digits.replace(",", "."))
        if low <= value <= high:
            return value
    return None
