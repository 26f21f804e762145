"""Lines of "user item item ...", every user's items oldest first, without times."""

from pathlib import Path

import polars as pl

from tailor.data.ids import MISSING_IDS, holds_control
from tailor.data.importers.packed import is_packed
from tailor.data.importers.reading import BLOCK, LONGEST, Bad, pieces, shown, stray_problem
from tailor.data.importers.rows import Rows
from tailor.errors import DataError
from tailor.progress import Progress


def read_sequences(path: Path, encoding: str, strict: bool, progress: Progress) -> Rows:
    """Return events with `order`, the position in the user's sequence from 0; and bad lines."""
    frames: list[pl.DataFrame] = []
    rejected: list[Bad] = []
    remainder, line = "", 1
    steps = None if is_packed(path) else -(-path.stat().st_size // BLOCK)
    for piece in progress(pieces(path, encoding), f"reading {path.name}", steps):
        text, newline, remainder = (remainder + piece.decode()).rpartition("\n")
        if len(remainder) > LONGEST:
            raise DataError(
                f"{path}:{line}: a line of more than {LONGEST} characters: this is not a file of"
                " sequences"
            )
        frame, bad = _events((text + newline).split("\n")[:-1], line)
        frames.append(frame)
        rejected += bad
        line += text.count("\n") + len(newline)
    frame, bad = _events([remainder], line)
    frames.append(frame)
    rejected += bad
    if strict and rejected:
        first = min(rejected)
        raise DataError(
            f"{path}:{first.line}: {first.reason}; the line reads {first.raw[:200]!r}: mend it, or"
            " import without --strict"
        )
    events = pl.concat(frames)
    if not len(events) and not rejected:
        raise DataError(f"{path} holds only blank lines: lines of a user and items are needed")
    order = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id").alias("order")
    return Rows(events.select("user_id", "item_id", order), rejected, _notes(events))


def _notes(events: pl.DataFrame) -> list[str]:
    lines_of_user = events.group_by("user_id").agg(pl.col("\0line").n_unique().alias("lines"))
    several = int((lines_of_user["lines"] > 1).sum())
    if not several:
        return []
    return [
        f"{several:,} users have several lines: each was read as the continuation of the one before"
    ]


def _events(lines: list[str], first: int) -> tuple[pl.DataFrame, list[Bad]]:
    """Return one row an item, and what is bad: a user without items, an id that can be none."""
    texts = pl.Series(lines, dtype=pl.String)
    words = texts.str.replace_all(r"\s+", " ").str.strip_chars(" ").str.split(" ")
    numbers = pl.int_range(first, first + len(lines), dtype=pl.UInt32, eager=True)
    problems = [(first + n, stray_problem(text)) for n, text in enumerate(lines)]
    bad = [(line, reason) for line, reason in problems if reason]
    frame = pl.DataFrame({"\0line": numbers, "words": words})
    blank = frame["words"].list.first() == ""
    frame = frame.filter(~blank & ~frame["\0line"].is_in([line for line, _ in bad]))
    frame = frame.select(
        "\0line", user_id=pl.col("words").list.first(), item_id=pl.col("words").list.slice(1)
    )
    no_item = frame["item_id"].list.len() == 0
    bad += [(line, "no item_id") for line in frame["\0line"].filter(no_item)]
    frame = frame.filter(~no_item).explode("item_id")
    for column in ("user_id", "item_id"):
        frame, wrong = _checked_ids(frame, column)
        bad += wrong
    return frame, [Bad(line, reason, _raw(lines[line - first])) for line, reason in bad]


def _checked_ids(frame: pl.DataFrame, column: str) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Return the rows whose id can be one, and line and reason of the others."""
    missing = frame[column].is_in(MISSING_IDS)
    control = holds_control(frame[column])
    lines = frame["\0line"]
    bad = [(line, f"no {column}") for line in lines.filter(missing)]
    bad += [(line, f"{column} holds a control character") for line in lines.filter(control)]
    return frame.filter(~(missing | control)), bad


def _raw(line: str) -> str:
    return shown(line.rstrip("\r"))
