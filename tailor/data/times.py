"""Times as people write them, to nanoseconds since 1970: numbers of any unit, ISO dates,
day/month/year.

A column is read block by block with `parsed` and judged as a whole with `settled`: only all of it
together tells what unit a number has and whether 01/05/2014 is in January or in May. Full precision
is kept until events are sorted.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tailor.errors import DataError, nearest

# what `parsed` makes of a text; none can be a column's name
WHOLE, PART, KIND, OTHER = "\0whole", "\0part", "\0kind", "\0other"
NUMBER, DATE, DAY_MONTH = 0, 1, 2
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}  # nanoseconds
UNIT_NAMES = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
ORDERS = ("day-first", "month-first")
SECOND = 10**9
FIRST = int(np.datetime64("1971-01-01", "s").astype(np.int64)) * SECOND
LAST = int(np.datetime64("2101-01-01", "s").astype(np.int64)) * SECOND - 1
FURTHEST = 18 * 3600  # seconds that any zone ever was from Greenwich, and some more
# a number read in a rarer unit must land this near to the others
NEARBY = 10 * 366 * 86400 * SECOND
CLOCK = (
    r"(?:[T"
    r" ,]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?\s*(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$"
)
ISO = r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})" + CLOCK
SLASHED = r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})" + CLOCK


def milliseconds_problem(time_ms: int) -> str | None:
    """Say why a number cannot be a time in milliseconds, as a clause; None if it can.

    Times lie between 1971 and 2100. A number that does so in another unit is named as such.
    """
    if FIRST <= time_ms * UNITS["ms"] <= LAST:
        return None
    for unit, size in UNITS.items():
        if FIRST <= time_ms * size <= LAST:
            moment = np.datetime64(time_ms * size // SECOND, "s")
            return f"is {moment}Z in {UNIT_NAMES[unit]}: milliseconds since 1970 are needed"
    return "lies before 1971 or after 2100: milliseconds since 1970 are needed"


@dataclass(frozen=True)
class Times:
    """How a column of times was understood: rows of each unit ("date" for written dates), the most
    frequent one, and notes.
    """

    unit: str
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)


def known_unit(unit: str | None) -> None:
    if unit is not None and unit not in (*UNITS, *ORDERS):
        raise DataError(f'no unit of time "{unit}".{nearest(unit, (*UNITS, *ORDERS))}')


def parsed(text: pl.Series) -> pl.DataFrame:
    """Columns WHOLE, PART (billionths of the unit), KIND and OTHER of every text; WHOLE and OTHER
    are null where none is understood.

    NUMBER: whole units yet unknown. DATE: nanoseconds. DAY_MONTH: nanoseconds if the day comes
    first, OTHER if the month does.
    """
    frame = pl.DataFrame({WHOLE: text.cast(pl.Int64, strict=False)}).with_columns(
        pl.lit(0, pl.Int32).alias(PART),
        pl.lit(NUMBER, pl.UInt8).alias(KIND),
        pl.lit(None, pl.Int64).alias(OTHER),
    )
    for kind, parse in ((NUMBER, _decimals), (DATE, _dates), (DAY_MONTH, _slashed)):
        left = (frame[WHOLE].is_null() & frame[OTHER].is_null() & text.is_not_null()).arg_true()
        if not len(left):
            break
        found = parse(text.gather(left)).with_columns(
            pl.lit(kind, pl.UInt8).alias(KIND), left.alias("\0row")
        )
        found = found.filter(pl.col(WHOLE).is_not_null() | pl.col(OTHER).is_not_null())
        for column in (WHOLE, PART, KIND, OTHER) if len(found) else ():
            frame = frame.with_columns(frame[column].scatter(found["\0row"], found[column]))
    return frame


def understood(frame: pl.DataFrame) -> pl.Series:
    """Where `parsed` made something of the text."""
    return frame[WHOLE].is_not_null() | frame[OTHER].is_not_null()


def _decimals(text: pl.Series) -> pl.DataFrame:
    exact = text.str.extract_groups(r"^\+?(\d{1,18})\.(\d*)$").struct.unnest()
    rough = text.cast(pl.Float64, strict=False)
    # 1.26e9, and numbers too long for 64 bits
    rough = rough.set(~rough.is_finite().fill_null(False), None).clip(-9e18, 9e18)
    part = exact[:, 1].str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int32, strict=False)
    loose = (
        ((rough - rough.floor()) * 1e9).round().clip(0, 999_999_999).cast(pl.Int32, strict=False)
    )
    columns = {
        WHOLE: (
            exact[:, 0]
            .cast(pl.Int64, strict=False)
            .fill_null(rough.floor().cast(pl.Int64, strict=False))
        ),
        PART: part.fill_null(loose).fill_null(0),
        OTHER: pl.Series([None] * len(text), dtype=pl.Int64),
    }
    return pl.DataFrame(columns)


def _dates(text: pl.Series) -> pl.DataFrame:
    groups = text.str.extract_groups(ISO).struct.unnest()
    year, month, day = (groups[:, n] for n in range(3))
    return _frame(_nanoseconds(year, month, day, groups), None)


def _slashed(text: pl.Series) -> pl.DataFrame:
    groups = text.str.extract_groups(SLASHED).struct.unnest()
    first, second, year = (groups[:, n] for n in range(3))
    return _frame(
        _nanoseconds(year, second, first, groups), _nanoseconds(year, first, second, groups)
    )


def _frame(whole: pl.Series, other: pl.Series | None) -> pl.DataFrame:
    other = pl.Series([None] * len(whole), dtype=pl.Int64) if other is None else other
    return pl.DataFrame(
        {WHOLE: whole, PART: pl.Series(np.zeros(len(whole), np.int32)), OTHER: other}
    )


def _nanoseconds(
    year: pl.Series, month: pl.Series, day: pl.Series, groups: pl.DataFrame
) -> pl.Series:
    """Since 1970 in UTC; null for a day, an hour or a zone that does not exist; -1 for years so far
    off that 64 bits may not hold them.
    """

    def number(column: pl.Series) -> np.ndarray:
        return column.cast(pl.Int64, strict=False).fill_null(0).to_numpy()

    y, m, d = number(year), number(month), number(day)
    hour, minute, second = (number(groups[:, n]) for n in (3, 4, 5))
    months = (np.clip(y, 1900, 2200) - 1970) * 12 + np.clip(m, 1, 12) - 1
    days = months.astype("M8[M]").astype("M8[D]") + (d - 1)
    exists = (m >= 1) & (m <= 12) & (d >= 1) & (days.astype("M8[M]").astype(np.int64) == months)
    exists &= (hour < 24) & (minute < 60) & (second < 60)
    east = _offset(groups[:, 7])
    exists &= abs(east) <= FURTHEST
    seconds = days.astype(np.int64) * 86400 + hour * 3600 + minute * 60 + second - east
    billionths = number(groups[:, 6].str.slice(0, 9).str.pad_end(9, "0"))
    value = np.where((y >= 1900) & (y <= 2200), seconds * SECOND + billionths, -1)
    return pl.Series(value).set(pl.Series(~exists) | year.is_null(), None)


def _offset(zone: pl.Series) -> np.ndarray:
    """Seconds east of Greenwich; 0 where no zone is written."""
    parts = zone.str.extract_groups(r"^([+-])(\d{2}):?(\d{2})?$").struct.unnest()
    hours, minutes = (parts[:, n].cast(pl.Int64).fill_null(0).to_numpy() for n in (1, 2))
    return np.where((parts[:, 0] == "-").fill_null(False).to_numpy(), -1, 1) * (
        hours * 3600 + minutes * 60
    )


def settled(
    frame: pl.DataFrame, unit: str | None, place: str, lines: pl.Series
) -> tuple[pl.Series, Times]:
    """(n,) nanoseconds, null for an absurd time, from the columns of `parsed`; `unit` overrides
    what the magnitudes say.

    Numbers of several units are each judged by magnitude (between 1971 and 2100 no number fits two
    units), but one that lands more than ten years off the times of the most frequent unit is
    absurd. Raises DataError where day and month cannot be told apart.
    """
    dated = frame[KIND] != NUMBER
    notes: list[str] = []
    value = frame[WHOLE]
    if (frame[KIND] == DAY_MONTH).any():
        value, notes = _day_and_month(frame, unit, place, lines)
    groups = {"date": (dated & value.is_between(FIRST, LAST)).fill_null(False)}
    result = value.set(~groups["date"], None)
    for name, size in UNITS.items() if unit not in UNITS else [(unit, UNITS[unit])]:
        mine = ~dated & value.is_between(-(-FIRST // size), LAST // size)
        if mine.any():
            groups[name] = mine
            exact = value.set(~mine, None) * size + frame[PART].cast(pl.Int64) * size // SECOND
            result = result.zip_with(~mine, exact)
    counts = {name: int(mask.sum()) for name, mask in groups.items() if mask.any()}
    main = max(counts, key=lambda name: counts[name], default=unit or "s")
    if len(counts) > 1:
        usual = result.filter(groups[main])
        near = result.is_between(max(int(usual.min()) - NEARBY, 0), int(usual.max()) + NEARBY)  # type: ignore[arg-type]
        result = result.set(~near.fill_null(True), None)
        counts = {
            name: kept
            for name in counts
            if (kept := int((groups[name] & result.is_not_null()).sum()))
        }
        if len(counts) > 1:
            shown = ", ".join(f"{counts[name]} in {name}" for name in counts)
            notes.append(f"times are in several units ({shown}): each was read by its magnitude")
    return result, Times(main, counts, notes)


def _day_and_month(
    frame: pl.DataFrame, unit: str | None, place: str, lines: pl.Series
) -> tuple[pl.Series, list[str]]:
    """The values with dates such as 13/05/2014 resolved; what is true of one of them is taken to be
    true of the column.
    """
    slashed = frame[KIND] == DAY_MONTH
    day_first, month_first = frame[WHOLE], frame[OTHER]
    # dates that only make sense with the day first
    days = bool((slashed & month_first.is_null()).any())
    months = bool((slashed & day_first.is_null()).any())
    differ = (slashed & (day_first != month_first)).fill_null(False)
    if unit in ORDERS:
        chosen = day_first if unit == "day-first" else day_first.zip_with(~slashed, month_first)
        return chosen, [f"dates such as 01/05/2014 were read {unit}, as asked"]
    if differ.any() and days == months:
        row = int(differ.arg_max() or 0)
        both = " or ".join(
            str(np.datetime64(series[row], "ns").astype("M8[D]"))
            for series in (day_first, month_first)
        )
        why = (
            "other dates of the column contradict each other"
            if days
            else "no other date of the column tells"
        )
        raise DataError(
            f"{place}:{lines[row]}: day and month of this date cannot be told apart: it is {both},"
            f" and {why}; write dates as 2014-05-01, or say which comes first (--time-unit"
            " day-first or month-first)"
        )
    first = "day-first" if not months else "month-first"
    chosen = day_first.zip_with(
        ~slashed | (day_first.is_not_null() if first == "day-first" else month_first.is_null()),
        month_first,
    )
    return chosen, [f"dates such as 01/05/2014 were read {first}"] if differ.any() else []
