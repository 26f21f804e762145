"""Lines of "user item item ...", every user's items oldest first, without times."""

from pathlib import Path

import polars as pl

from tailor.data.importers.reading import BLOCK, LONGEST, Bad, pieces
from tailor.data.importers.rows import MISSING
from tailor.errors import DataError
from tailor.progress import Progress


def read_sequences(
    path: Path, encoding: str, strict: bool, progress: Progress
) -> tuple[pl.DataFrame, list[Bad], list[str]]:
    """Events with `order`, the position in the user's sequence from 0; the bad lines and items;
    notes.
    """
    frames, bad, rest, line = [], [], "", 1
    steps = -(-path.stat().st_size // BLOCK)
    for piece in progress(pieces(path, encoding), f"reading {path.name}", steps):
        text, newline, rest = (rest + piece.decode()).rpartition("\n")
        if len(rest) > LONGEST:
            raise DataError(
                f"{path}:{line}: a line of more than {LONGEST} characters: this is not a file of"
                " sequences"
            )
        frame, wrong = _events((text + newline).split("\n")[:-1], line)
        frames.append(frame)
        bad += wrong
        line += text.count("\n") + len(newline)
    frame, wrong = _events([rest], line)
    frames.append(frame)
    bad += wrong
    if strict and bad:
        first = min(bad)
        raise DataError(
            f"{path}:{first.line}: {first.reason}; the line reads {first.raw[:200]!r}: mend it, or"
            " import without --strict"
        )
    events = pl.concat(frames)
    if not len(events) and not bad:
        raise DataError(f"{path} holds only blank lines: lines of a user and items are needed")
    again = events.group_by("user_id").agg(pl.col("\0line").n_unique() > 1)["\0line"].sum()
    notes = (
        [f"{again:,} users have several lines: each was read as the continuation of the one before"]
        if again
        else []
    )
    order = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id").alias("order")
    return events.select("user_id", "item_id", order), bad, notes


def _events(lines: list[str], first: int) -> tuple[pl.DataFrame, list[Bad]]:
    """One row an item, and what is bad: a user without items, a missing id."""
    words = (
        pl.Series(lines, dtype=pl.String)
        .str.replace_all(r"\s+", " ")
        .str.strip_chars(" ")
        .str.split(" ")
    )
    frame = pl.DataFrame(
        {
            "\0line": pl.int_range(first, first + len(lines), dtype=pl.UInt32, eager=True),
            "words": words,
        }
    )
    frame = frame.filter(words.list.first() != "")
    frame = frame.select(
        "\0line", user_id=pl.col("words").list.first(), item_id=pl.col("words").list.slice(1)
    )
    none = frame["item_id"].list.len() == 0
    bad = [(line, "no item_id") for line in frame["\0line"].filter(none)]
    frame = frame.filter(~none).explode("item_id")
    for column in ("user_id", "item_id"):
        missing = frame[column].is_in(MISSING)
        bad += [(line, f"no {column}") for line in frame["\0line"].filter(missing)]
        frame = frame.filter(~missing)
    return frame, [Bad(line, reason, lines[line - first].rstrip("\r")) for line, reason in bad]
