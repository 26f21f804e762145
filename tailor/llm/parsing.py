"""Reading what a language model answered: strictly first, then with growing patience, and never
losing or inventing an item.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ranked", "repaired", "fallback"]
LONGEST = 200_000  # characters of an answer that are read
THINKING = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"```(?:json)?\s*(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
BRACKETS = re.compile(r"\[\s*([0-9]{1,6})\s*\]")
NUMBERED = re.compile(r"(?<![\w.])([0-9]{1,6})(?![\w]|\.[0-9])")
LETTER = re.compile(r"(?<![^\s\[(,;:>=])([A-Za-z])(?=[\s\]),.;:>=]|\Z)")
# "1. " before the lines of a list
PLACE = re.compile(r"^[^\S\n]*(?:[0-9]{1,4}[.):]\s+|[-*]\s+)", re.MULTILINE)


@dataclass(frozen=True)
class Order:
    """An order of n things: always each exactly once; `statuses` by place say how it came there,
    `level` what had to be done to read the answer.

    Levels: 1 strict JSON, 2 JSON out of a fence or repaired, 3 [n], 4 other numerals, letters, ids
    or titles, 5 a repeated question, 6 nothing to be read.
    """

    places: tuple[int, ...]
    """From 0, best first."""
    statuses: tuple[Status, ...]
    level: int


def read_order(
    answer: str, n: int, names: Sequence[str] = (), again: Callable[[str], str] | None = None
) -> Order:
    """The order of n things numbered from 1, out of an answer; `names` (n,) are ids or titles it
    may use instead.

    What is out of range is dropped, of repetitions the first counts, what is missing follows in the
    order in which it was shown. `again` is asked once, with the faulty answer, where nothing can be
    read.
    """
    found, level = _first(answer, n, names)
    if not found and n and again is not None:
        found, level = _first(again(answer), n, names)
        level = 5 if found else 6
    kept = list(dict.fromkeys(one for one in found if 0 <= one < n))
    missing = [one for one in range(n) if one not in set(kept)]
    is_clean = level in (1, 3)
    statuses: list[Status] = ["ranked" if is_clean else "repaired" for _ in kept] + [
        "fallback" for _ in missing
    ]
    return Order((*kept, *missing), tuple(statuses), level if kept or not n else 6)


def _first(answer: str, n: int, names: Sequence[str]) -> tuple[list[int], int]:
    """The first rung of the ladder on which at least one of the n things is found."""
    text = spoken(answer)
    for level, rung in enumerate((_strict, _mended, _bracketed), start=1):
        found = rung(text, n, names)
        if any(0 <= one < n for one in found):
            return found, level
    for patient in (_by_name, _by_number, _by_letter):
        found = patient(text, n, names)
        if any(0 <= one < n for one in found):
            return found, 4
    return [], 6


def spoken(answer: str) -> str:
    """The answer without what the model thought, with full-width and other numerals as plain ones."""
    text = THINKING.sub(" ", answer[:LONGEST])
    return "".join(_plain_digit(one) for one in text).translate(CHINESE)


CHINESE = {ord(one): f" {at} " for at, one in enumerate("一二三四五六七八九十", start=1)}


def _plain_digit(one: str) -> str:
    if one.isascii() or not one.isdigit():
        return (
            unicodedata.normalize("NFKC", one)
            if "\uff01" <= one <= "\uff5e" or one == "\u3000"
            else one
        )
    return str(unicodedata.digit(one))


def _strict(text: str, n: int, names: Sequence[str]) -> list[int]:
    try:
        return _numbers(json.loads(text), names)
    except (ValueError, RecursionError):
        return []


def _mended(text: str, n: int, names: Sequence[str]) -> list[int]:
    value = read_json(text)
    found = [] if value is None else _numbers(value, names)
    # "[3] > [1]" is no JSON, though its "[3]" is
    return [] if len(found) == 1 and len(BRACKETS.findall(text)) > 1 else found


def _bracketed(text: str, n: int, names: Sequence[str]) -> list[int]:
    return [int(one) - 1 for one in BRACKETS.findall(text)]


def _by_number(text: str, n: int, names: Sequence[str]) -> list[int]:
    lines = (
        PLACE.sub("", text)
        if len(PLACE.findall(text)) > 1 and NUMBERED.search(PLACE.sub("", text))
        else text
    )
    return [int(one) - 1 for one in NUMBERED.findall(lines)]


def _by_letter(text: str, n: int, names: Sequence[str]) -> list[int]:
    if n > 26:
        return []
    found = [ord(one.upper()) - ord("A") for one in LETTER.findall(text)]
    # "A" and "I" are words too: mostly letters, or none
    return found if len(text) <= 8 * max(len(found), 1) else []


def _by_name(text: str, n: int, names: Sequence[str]) -> list[int]:
    """Names that stand for one thing only, by where each first occurs; a name within a longer one
    that occurs there does not count.
    """
    low = " ".join(text.lower().split())
    keys = [" ".join(name.lower().split()) for name in names]
    places = []
    for at, key in enumerate(keys):
        if len(key) > 2 and keys.count(key) == 1:
            hit = re.search(rf"(?<!\w){re.escape(key)}(?!\w)", low)
            if hit:
                places.append((hit.start(), -len(key), at))
    out, covered = [], -1
    for start, size, at in sorted(places):
        if start >= covered:
            out.append(at)
            covered = start - size
    return out


def _numbers(value: Any, names: Sequence[str]) -> list[int]:
    """Places in a JSON value: the first list in it that names things, by number, by "[3]", or by
    name; scores by number are sorted.
    """
    for one in _lists(value):
        if isinstance(one, dict):
            scored = [
                (key, number)
                for key, number in one.items()
                if _is_number(number) and _place(key, names) is not None
            ]
            if scored and len(scored) == len(one):
                return [
                    place
                    for key, _ in sorted(scored, key=lambda pair: -pair[1])
                    if (place := _place(key, names)) is not None
                ]
            continue
        found = [_place(item, names) for item in one]
        if any(place is not None for place in found):
            return [place for place in found if place is not None]
    return []


def _lists(value: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, list | dict):
        yield value
    if depth < 5:
        for inner in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        ):
            yield from _lists(inner, depth + 1)


def _place(item: Any, names: Sequence[str]) -> int | None:
    if isinstance(item, dict):
        item = next(
            (
                item[key]
                for key in ("index", "id", "item", "document", "number", "title")
                if key in item
            ),
            None,
        )
    if _is_number(item):
        return int(item) - 1 if item == int(item) else None
    if not isinstance(item, str):
        return None
    bare = item.strip().strip("[]()# ")
    if bare.isascii() and bare.isdigit() and len(bare) < 7:
        return int(bare) - 1
    same = [at for at, name in enumerate(names) if name.strip().lower() == item.strip().lower()]
    return same[0] if len(same) == 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def read_json(answer: str) -> Any | None:
    """The first JSON object or list of an answer: out of a fence, out of prose, with what was cut
    off closed; None where there is none.
    """
    text = THINKING.sub(" ", answer[:LONGEST])
    for part in [one.group(1) for one in FENCE.finditer(text)] + [text]:
        for start in [at for at, one in enumerate(part) if one in "[{"][:50]:
            try:
                value, _ = json.JSONDecoder().raw_decode(part, start)
            except RecursionError:
                return None
            except ValueError:
                value = _closed(part[start:])
            if isinstance(value, dict) or (isinstance(value, list) and value):
                return value
    return None


def _closed(part: str) -> Any | None:
    """A value that was cut off, with its open strings, lists and objects closed; cut back comma by
    comma until it can be read.
    """
    for _ in range(50):
        try:
            return json.loads(part.rstrip(", \n\t") + _ending(part))
        except (ValueError, RecursionError):
            cut = part.rfind(",")
            if cut < 0:
                return None
            part = part[:cut]
    return None


def _ending(part: str) -> str:
    open_: list[str] = []
    in_string = is_escaped = False
    for one in part:
        if is_escaped:
            is_escaped = False
        elif in_string:
            is_escaped, in_string = one == "\\", one != '"'
        elif one == '"':
            in_string = True
        elif one in "[{":
            open_.append("]" if one == "[" else "}")
        elif one in "]}" and open_:
            open_.pop()
    return '"' * in_string + "".join(reversed(open_))


def read_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Which of the choices an answer means: the one it begins with, else the only one that it
    names; None where it is neither.
    """
    low = spoken(answer).strip().strip("\"'*.:[]() \n").lower()
    starts = [
        at for at, one in enumerate(choices) if re.match(rf"{re.escape(one.lower())}(?!\w)", low)
    ]
    if starts:
        return max(starts, key=lambda at: len(choices[at]))
    named = [
        at
        for at, one in enumerate(choices)
        if re.search(rf"(?<!\w){re.escape(one.lower())}(?!\w)", low)
    ]
    return named[0] if len(named) == 1 else None


def read_number(answer: str, low: float, high: float) -> float | None:
    """The first number of an answer that lies between low and high, of "7/10" the 7; None where
    there is none.
    """
    for one in re.findall(r"(?<![\w.])-?[0-9]{1,9}(?:[.,][0-9]{1,9})?", spoken(answer)):
        value = float(one.replace(",", "."))
        if low <= value <= high:
            return value
    return None
