"""Times as people write them, to nanoseconds since 1970: the one rule for every door.

A column is read block by block with `parsed` and judged as a whole with `resolved`: only the whole
column tells the unit of a number and whether 01/05/2014 is in January or in May. Full precision is
kept until events are sorted.
"""

import re
import time
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tailor.errors import DataError, nearest

# the columns that `parsed` makes; none can be a column's name
WHOLE, PART, KIND, OTHER = "\0whole", "\0part", "\0kind", "\0other"
NUMBER, DATE, DAY_MONTH = 0, 1, 2
SECOND = 10**9  # nanoseconds
DAY = 86_400 * SECOND
# unit -> nanoseconds in one
UNITS = {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# units that count from another moment -> nanoseconds in one, seconds from 1970 to that moment
EPOCHS = {
    "cocoa": (SECOND, 978_307_200),
    "dotnet": (100, -62_135_596_800),
    "filetime": (100, -11_644_473_600),
    "webkit": (10**3, -11_644_473_600),
    "excel": (DAY, -25_569 * 86_400),
}
EPOCH_NAMES = {
    "cocoa": "seconds since 2001",
    "dotnet": ".NET ticks since the year 1",
    "filetime": "ticks of Windows since 1601",
    "webkit": "microseconds since 1601",
    "excel": "days of a spreadsheet",
}
DIGITS = "digits"  # 202405011030
ORDERS = ("day-first", "month-first")
CHOICES = (*UNITS, *EPOCHS, *ORDERS)
FIRST = int(np.datetime64("1971-01-01", "s").astype(np.int64)) * SECOND
LAST = int(np.datetime64("2101-01-01", "s").astype(np.int64)) * SECOND - 1
# numbers that would lie before this are compared with what other units make of them
OLD = int(np.datetime64("1997-01-01", "s").astype(np.int64)) * SECOND
# a reading by another unit is believed from here to tomorrow
RECENT = int(np.datetime64("2003-01-01", "s").astype(np.int64)) * SECOND
MOST = 0.9  # share of a column that another reading must fit
CLEAR = 20  # times as many dates must say "day first" as "month first", or the reverse
FURTHEST = 18 * 3600  # seconds that any zone ever was from Greenwich, and some more
# a number read in a rarer unit must land this near to the others
NEARBY = 10 * 366 * DAY
ZONE = r"\s*(?P<zone>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$"
CLOCK = (
    r"(?:[T ,:]+(?P<hour>\d{1,2})"
    r"(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d+))?)?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?"
)
DAY_NAME = r"^(?:[A-Za-z]{3,9}\.?,?\s+)?"
MONTH = r"(?P<month>[A-Za-z]{3,9})\.?"
DATES = (
    # 2014-05-01 12:30
    r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})" + CLOCK + ZONE,
    # 20140501T123000Z
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})T(?P<hour>\d{2})(?P<minute>\d{2})"
    r"(?:(?P<second>\d{2})(?:[.,](?P<part>\d+))?)?(?P<half>[AaPp][Mm])?" + ZONE,
    # Thu, 01 May 2014 12:30:00 GMT; 01/May/2014:12:30:00 +0200
    DAY_NAME + r"(?P<day>\d{1,2})[\s/.-]+" + MONTH + r"[\s/.,-]+(?P<year>\d{4})" + CLOCK + ZONE,
    # May 1st, 2014 12:30 PM
    DAY_NAME
    + MONTH
    + r"[\s-]+(?P<day>\d{1,2})(?:st|nd|rd|th)?[\s,-]+(?P<year>\d{4})"
    + CLOCK
    + ZONE,
    # Thu May  1 12:30:00 +0000 2014
    DAY_NAME
    + MONTH
    + r"\s+(?P<day>\d{1,2})\s+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})"
    r"(?:[.,](?P<part>\d+))?)?(?P<half>[AaPp][Mm])?"
    r"(?:\s+(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}))?\s+(?P<year>\d{4})$",
    # 2014-May-01
    r"^(?P<year>\d{4})[\s/.-]+" + MONTH + r"[\s/.-]+(?P<day>\d{1,2})" + CLOCK + ZONE,
)
SLASHED = r"^(?P<first>\d{1,2})[-/.](?P<second_number>\d{1,2})[-/.](?P<year>\d{4})" + CLOCK + ZONE
IN_DIGITS = (
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?:(?P<hour>\d{2})(?P<minute>\d{2})?)?"
    r"(?:(?P<second>\d{2})(?P<part>\d{3})?)?$"
)
FORMAT_PARTS = frozenset("aAbBhcCdDeFfgGHIjklmMnpPrRsSTtuUvVwWxXyYzZ%+")
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
MONTH_NUMBERS = {
    name: number for number, month in enumerate(MONTHS, 1) for name in (month, month[:3])
} | {"sept": 9}


@dataclass(frozen=True)
class Times:
    """The units found in a column of times."""

    unit: str
    """The most frequent unit; "date" for written dates, "digits" for 202405011030."""
    counts: dict[str, int]
    """Rows of each unit."""
    notes: list[str] = field(default_factory=list)
    """Remarks on what is odd."""


def known_unit(unit: str | None) -> None:
    """Raise DataError for a unit that does not exist."""
    if unit is not None and unit not in CHOICES:
        raise DataError(f'no unit of time "{unit}".{nearest(unit, CHOICES)}')


def known_format(time_format: str | None) -> None:
    """Raise DataError for a format of times that no text can have."""
    if time_format is None:
        return
    parts = re.findall(r"%[-_0:.369]*(.?)", time_format)
    strange = [part for part in parts if part not in FORMAT_PARTS]
    if strange or not set(parts) - {"%"}:
        problem = f"has no meaning for %{strange[0]}" if strange else "names no part of a date"
        raise DataError(
            f'the format of times "{time_format}" {problem}: write it as in "%d.%m.%y %H:%M" (%Y'
            " year, %m month, %d day, %H hour, %M minute, %S second, %I and %p with AM and PM)"
        )
    formatted(pl.Series(["x"]), time_format)


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


def column_problem(times_ms: pl.Series) -> str | None:
    """Say why a column of a frame cannot be milliseconds; None if it can.

    A column is refused where each of its values is a time in another unit only. Small numbers,
    which are times in no unit, are left to whoever made them.
    """
    if not len(times_ms) or times_ms.null_count() == len(times_ms):
        return None
    lowest, highest = int(times_ms.min()), int(times_ms.max())  # type: ignore[arg-type]
    if milliseconds_problem(lowest) is None or milliseconds_problem(highest) is None:
        return None
    for unit, size in UNITS.items():
        if unit != "ms" and all(OLD <= end * size <= LAST for end in (lowest, highest)):
            return milliseconds_problem(highest)
    return None


def parsed(text: pl.Series, time_format: str | None = None) -> pl.DataFrame:
    """Read texts as times: columns WHOLE, PART (billionths of the unit), KIND and OTHER.

    NUMBER: WHOLE has units yet unknown. DATE: nanoseconds. DAY_MONTH: nanoseconds if the day comes
    first, OTHER if the month does. WHOLE and OTHER are null where a text is not understood. With
    `time_format` every text is a date of that format.
    """
    if time_format is not None:
        frame = _frame(formatted(text, time_format), None)
        return frame.with_columns(pl.lit(DATE, pl.UInt8).alias(KIND))
    frame = pl.DataFrame({WHOLE: text.cast(pl.Int64, strict=False)}).with_columns(
        pl.lit(0, pl.Int32).alias(PART),
        pl.lit(NUMBER, pl.UInt8).alias(KIND),
        pl.lit(None, pl.Int64).alias(OTHER),
    )
    for kind, parse in ((NUMBER, _decimals), (DATE, _dates), (DAY_MONTH, _slashed)):
        unread = frame[WHOLE].is_null() & frame[OTHER].is_null() & text.is_not_null()
        rows = unread.arg_true()
        if not len(rows):
            break
        read = parse(text.gather(rows)).with_columns(
            pl.lit(kind, pl.UInt8).alias(KIND), rows.alias("\0row")
        )
        read = read.filter(pl.col(WHOLE).is_not_null() | pl.col(OTHER).is_not_null())
        if len(read):
            frame = frame.with_columns(
                frame[column].scatter(read["\0row"], read[column])
                for column in (WHOLE, PART, KIND, OTHER)
            )
    return frame


def understood(frame: pl.DataFrame) -> pl.Series:
    """(n,) bool: True where `parsed` could read the text."""
    return frame[WHOLE].is_not_null() | frame[OTHER].is_not_null()


def formatted(text: pl.Series, time_format: str) -> pl.Series:
    """Return nanoseconds of texts of one format, in UTC; null where a text has another.

    The parts of a format are those of strptime. What it does not name is the first of
    its kind. Raises DataError for a format that cannot be used.
    """
    filled = time_format
    if not re.search(r"%[-_0]?[dejDFxc]", time_format):
        text, filled = text + " 01", filled + " %d"
    kind = pl.Datetime("ns") if re.search(r"%[-_0]?[HIkTRXclp]", time_format) else pl.Date()
    try:
        moments = text.str.strptime(kind, filled, strict=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f'the format of times "{time_format}" cannot be used ({str(error).splitlines()[0]}):'
            ' write it as in "%d.%m.%y %H:%M"'
        ) from None
    if isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone:
        moments = moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    years = moments.dt.year()
    return moments.set(~years.is_between(1900, 2200), None).cast(pl.Datetime("ns")).to_physical()


def _decimals(text: pl.Series) -> pl.DataFrame:
    exact = text.str.extract_groups(r"^\+?(\d{1,18})\.(\d*)$").struct.unnest()
    rough = text.cast(pl.Float64, strict=False)
    # 1.26e9, and numbers too long for 64 bits
    rough = rough.set(~rough.is_finite().fill_null(False), None).clip(-9e18, 9e18)
    part = exact[:, 1].str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int32, strict=False)
    rough_part = ((rough - rough.floor()) * 1e9).round().clip(0, 999_999_999)
    whole = exact[:, 0].cast(pl.Int64, strict=False)
    columns = {
        WHOLE: whole.fill_null(rough.floor().cast(pl.Int64, strict=False)),
        PART: part.fill_null(rough_part.cast(pl.Int32, strict=False)).fill_null(0),
        OTHER: pl.Series([None] * len(text), dtype=pl.Int64),
    }
    return pl.DataFrame(columns)


def _dates(text: pl.Series) -> pl.DataFrame:
    """Read texts by the patterns of DATES, each by the first that fits."""
    whole = pl.Series([None] * len(text), dtype=pl.Int64)
    for pattern in DATES:
        rows = whole.is_null().arg_true()
        groups = text.gather(rows).str.extract_groups(pattern).struct.unnest()
        value = _nanoseconds(groups["year"], _month_numbers(groups["month"]), groups["day"], groups)
        whole = whole.scatter(rows, value)
        if not whole.null_count():
            break
    return _frame(whole, None)


def _month_numbers(months: pl.Series) -> pl.Series:
    """Return numbers of months as texts; English names become numbers, other words null."""
    names = {name: str(number) for name, number in MONTH_NUMBERS.items()}
    numbers = months.str.to_lowercase().replace_strict(names, default=None, return_dtype=pl.String)
    return months.set(~months.str.contains(r"^\d+$").fill_null(False), None).fill_null(numbers)


def _slashed(text: pl.Series) -> pl.DataFrame:
    groups = text.str.extract_groups(SLASHED).struct.unnest()
    year, first, second = groups["year"], groups["first"], groups["second_number"]
    day_first = _nanoseconds(year, second, first, groups)
    month_first = _nanoseconds(year, first, second, groups)
    return _frame(day_first, month_first)


def _frame(whole: pl.Series, other: pl.Series | None) -> pl.DataFrame:
    other = pl.Series([None] * len(whole), dtype=pl.Int64) if other is None else other
    return pl.DataFrame(
        {WHOLE: whole, PART: pl.Series(np.zeros(len(whole), np.int32)), OTHER: other}
    )


def _nanoseconds(
    year: pl.Series, month: pl.Series, day: pl.Series, groups: pl.DataFrame
) -> pl.Series:
    """Return nanoseconds since 1970 in UTC; null for a day, an hour or a zone that does not exist.

    -1 stands for years so far off that 64 bits may not hold them.
    """
    y = _numbers(year)
    m = _numbers(month)
    d = _numbers(day)
    years = np.clip(y, 1900, 2200) - 1970
    months = years * 12 + np.clip(m, 1, 12) - 1
    days = months.astype("M8[M]").astype("M8[D]") + (d - 1)
    months_of_days = days.astype("M8[M]").astype(np.int64)
    exists = (m >= 1) & (m <= 12)
    exists &= (d >= 1) & (months_of_days == months)
    seconds, clock_exists = _clock_seconds(groups)
    east = _offset(groups["zone"])
    exists &= clock_exists & (abs(east) <= FURTHEST)
    whole = days.astype(np.int64) * 86400 + seconds - east
    digits = groups["part"].str.slice(0, 9).str.pad_end(9, "0")
    exact = whole * SECOND + _numbers(digits)
    fits = (y >= 1900) & (y <= 2200)
    value = np.where(fits, exact, -1)
    is_missing = pl.Series(~exists) | year.is_null()
    return pl.Series(value).set(is_missing, None)


def _clock_seconds(groups: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds since midnight, and where such a clock exists."""
    hour = _numbers(groups["hour"])
    minute = _numbers(groups["minute"])
    second = _numbers(groups["second"])
    half = groups["half"].str.slice(0, 1).str.to_lowercase()
    has_half = half.is_not_null().to_numpy()
    exists = (hour < 24) & (minute < 60)
    exists &= second < 60
    # an hour alone is none, but for "8 AM"
    alone = groups["hour"].is_not_null() & groups["minute"].is_null()
    exists &= ~alone.to_numpy() | has_half
    fits_half = (hour >= 1) & (hour <= 12)
    exists &= ~has_half | fits_half
    afternoon = (half == "p").fill_null(False).to_numpy()
    hour_of_24 = hour % 12 + 12 * afternoon
    hour = np.where(has_half, hour_of_24, hour)
    seconds = hour * 3600 + minute * 60 + second
    return seconds, exists


def _numbers(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Int64, strict=False).fill_null(0).to_numpy()


def _offset(zone: pl.Series) -> np.ndarray:
    """Return seconds east of Greenwich; 0 where no zone is written."""
    parts = zone.str.extract_groups(r"^([+-])(\d{2}):?(\d{2})?$").struct.unnest()
    hours = parts[:, 1].cast(pl.Int64).fill_null(0)
    minutes = parts[:, 2].cast(pl.Int64).fill_null(0)
    seconds = hours * 3600 + minutes * 60
    is_west = (parts[:, 0] == "-").fill_null(False)
    sign = np.where(is_west.to_numpy(), -1, 1)
    return sign * seconds.to_numpy()


def resolved(
    frame: pl.DataFrame, unit: str | None, label: str, lines: pl.Series
) -> tuple[pl.Series, Times]:
    """As `settled`, and refuse what only looks like times of a long time ago.

    Raises DataError where numbers, read by their size, lie before 1997 and another unit makes
    recent times of them, or where only another unit makes times of them at all.
    """
    value, times = settled(frame, unit, label, lines)
    if unit is not None or DIGITS in times.counts:
        return value, times
    numbers = (frame[KIND] == NUMBER) & frame[WHOLE].is_not_null()
    if not numbers.any():
        return value, times
    read = value.filter(numbers & value.is_not_null())
    middle = None
    if len(read) * 2 >= int(numbers.sum()):
        middle = int(read.median())  # type: ignore[arg-type]
    if middle is not None and middle >= OLD:
        return value, times
    fitting = _recent_readings(frame.filter(numbers))
    if fitting:
        raise DataError(_which_unit(label, frame, numbers, lines, value, times.unit, fitting))
    if middle is not None:
        note = (
            f"times lie about {_date(middle)}, read in {times.unit}: odd for a log; if that is"
            " wrong, name the unit (--time-unit) or the format (--time-format)"
        )
        return value, Times(times.unit, times.counts, [*times.notes, note])
    return value, times


def _recent_readings(numbers: pl.DataFrame) -> dict[str, pl.Series]:
    """Return the moments by each epoch that makes recent times of nearly all numbers."""
    until = int((time.time() + 2 * 86400) * SECOND)
    least = MOST * len(numbers)
    readings = {name: _instants(numbers[WHOLE], numbers[PART], name) for name in EPOCHS}
    return {
        name: moments
        for name, moments in readings.items()
        if int(moments.is_between(RECENT, until).sum()) >= least
    }


def _which_unit(
    label: str,
    frame: pl.DataFrame,
    numbers: pl.Series,
    lines: pl.Series,
    value: pl.Series,
    unit: str,
    options: dict[str, pl.Series],
) -> str:
    """Word the refusal of numbers that another unit explains better."""
    row = int(numbers.arg_max() or 0)
    as_read = value[row]
    readings = [] if as_read is None else [f"{_date(as_read)} in {unit} (--time-unit {unit})"]
    readings += [
        f"{_date(moments[0])} in {EPOCH_NAMES[name]} (--time-unit {name})"
        for name, moments in options.items()
        if moments[0] is not None
    ]
    return (
        f"{label}:{lines[row]}: the time {frame[WHOLE][row]} is {' or '.join(readings)}: say which"
        " it is, or give its format (--time-format)"
    )


def _date(nanoseconds: int) -> str:
    return str(np.datetime64(nanoseconds // SECOND, "s").astype("M8[D]"))


def settled(
    frame: pl.DataFrame, unit: str | None, label: str, lines: pl.Series
) -> tuple[pl.Series, Times]:
    """Return (n,) nanoseconds from the columns of `parsed`, null for an absurd time.

    `unit` overrides what the magnitudes say. Numbers of several units are each judged by magnitude
    (between 1971 and 2100 no number fits two units), but one that lands more than ten years off
    the times of the most frequent unit is absurd. Where nearly all numbers are dates in digits,
    as 202405011030, all are read so. Raises DataError where day and month cannot be told apart.
    """
    dated = frame[KIND] != NUMBER
    notes: list[str] = []
    value = frame[WHOLE]
    if (frame[KIND] == DAY_MONTH).any():
        value, notes = _day_and_month(frame, unit, label, lines)
    groups = {"date": (dated & value.is_between(FIRST, LAST)).fill_null(False)}
    result = value.set(~groups["date"], None)
    for name, moments in _number_readings(frame, unit).items():
        mine = ~dated & moments.is_not_null()
        if mine.any():
            groups[name] = mine
            result = result.zip_with(~mine, moments)
    counts = {name: int(mask.sum()) for name, mask in groups.items() if mask.any()}
    main = max(counts, key=lambda name: counts[name], default=unit or "s")
    if len(counts) > 1:
        result = _near_the_usual(result, groups[main])
        near = {name: int((mask & result.is_not_null()).sum()) for name, mask in groups.items()}
        counts = {name: near[name] for name in counts if near[name]}
        if len(counts) > 1:
            parts = ", ".join(f"{counts[name]} in {name}" for name in counts)
            notes.append(f"times are in several units ({parts}): each was read by its magnitude")
    return result, Times(main, counts, notes)


def _near_the_usual(moments: pl.Series, usual: pl.Series) -> pl.Series:
    """Empty the moments more than NEARBY off those of the most frequent unit."""
    of_unit = moments.filter(usual)
    first, last = int(of_unit.min()), int(of_unit.max())  # type: ignore[arg-type]
    near = moments.is_between(max(first - NEARBY, 0), last + NEARBY)
    return moments.set(~near.fill_null(True), None)


def _number_readings(frame: pl.DataFrame, unit: str | None) -> dict[str, pl.Series]:
    """Return the moments of the numbers by unit: the unit asked for, or all that may be meant."""
    whole, part = frame[WHOLE], frame[PART]
    if unit in UNITS or unit in EPOCHS:
        return {unit: _instants(whole, part, unit)}
    digits = _from_digits(frame)
    if digits is not None:
        return {DIGITS: digits}
    return {name: _instants(whole, part, name) for name in UNITS}


def _instants(whole: pl.Series, part: pl.Series, unit: str) -> pl.Series:
    """Return nanoseconds since 1970 of numbers in a unit; null outside 1971 to 2100."""
    size, epoch = EPOCHS[unit] if unit in EPOCHS else (UNITS[unit], 0)
    zero = epoch * SECOND
    earliest = -((zero - FIRST) // size)
    latest = (LAST - zero) // size
    fits = whole.is_between(earliest, latest).fill_null(False)
    count = whole.set(~fits, None)
    exact = (count + zero // size) * size
    fraction = part.cast(pl.Int64)
    # days are longer than seconds, and their product would not fit 64 bits
    if size >= SECOND:
        return exact + fraction * (size // SECOND)
    return exact + fraction * size // SECOND


def _from_digits(frame: pl.DataFrame) -> pl.Series | None:
    """Return nanoseconds of numbers such as 202405011030; None where most are no such dates.

    Numbers of 8, 12, 14 and 17 digits are read so, those of 10 digits where they would lie in the
    future as seconds.
    """
    numbers = (frame[KIND] == NUMBER) & frame[WHOLE].is_not_null()
    text = frame[WHOLE].set(~numbers | (frame[PART] != 0), None).cast(pl.String)
    lengths = text.str.len_bytes()
    soon = time.time() + 86400
    fits = lengths.is_in([8, 12, 14, 17]) | ((lengths == 10) & (frame[WHOLE] > soon))
    if not numbers.any() or int(fits.fill_null(False).sum()) < MOST * int(numbers.sum()):
        return None
    groups = text.str.extract_groups(IN_DIGITS).struct.unnest()
    groups = groups.with_columns(
        pl.col("minute").fill_null(pl.when(pl.col("hour").is_not_null()).then(pl.lit("00"))),
        pl.lit(None, pl.String).alias("half"),
        pl.lit(None, pl.String).alias("zone"),
    )
    moments = _nanoseconds(groups["year"], groups["month"], groups["day"], groups)
    moments = moments.set(~(fits.fill_null(False) & moments.is_between(FIRST, LAST)), None)
    return moments if int(moments.is_not_null().sum()) >= MOST * int(numbers.sum()) else None


def _day_and_month(
    frame: pl.DataFrame, unit: str | None, label: str, lines: pl.Series
) -> tuple[pl.Series, list[str]]:
    """Return the values with dates such as 13/05/2014 resolved, the same way in all rows."""
    slashed = frame[KIND] == DAY_MONTH
    day_first, month_first = frame[WHOLE], frame[OTHER]
    if unit in ORDERS:
        chosen = day_first if unit == "day-first" else day_first.zip_with(~slashed, month_first)
        return chosen, [f"dates such as 01/05/2014 were read {unit}, as asked"]
    # dates that only make sense with the day first
    days = int((slashed & month_first.is_null()).sum())
    months = int((slashed & day_first.is_null()).sum())
    differ = (slashed & (day_first != month_first)).fill_null(False)
    clear = max(days, months) >= CLEAR * min(days, months) and days != months
    if differ.any() and not clear:
        row = int(differ.arg_max() or 0)
        both = " or ".join(_date(series[row]) for series in (day_first, month_first))
        why = (
            "other dates of the column contradict each other"
            if days
            else "no other date of the column tells"
        )
        raise DataError(
            f"{label}:{lines[row]}: day and month of this date cannot be told apart: it is {both},"
            f" and {why}; write dates as 2014-05-01, or say which comes first (--time-unit"
            " day-first or month-first)"
        )
    order = "day-first" if days >= months else "month-first"
    main, other = (day_first, month_first) if days >= months else (month_first, day_first)
    # where all dates mean one thing, each is read as it can be; else what contradicts is absurd
    value = main if differ.any() else main.fill_null(other)
    value = value.fill_null(pl.Series([-1]).new_from_index(0, len(value)))
    value = value.zip_with(slashed, day_first)
    return value, [f"dates such as 01/05/2014 were read {order}"] if differ.any() else []


def from_column(
    values: pl.Series, name: str, unit: str | None = None, time_format: str | None = None
) -> pl.Series:
    """Return a column of a data frame as milliseconds since 1970: the rule of the import.

    Moments are converted, texts and numbers read as those of a file. Raises DataError, naming the
    row, for a text that is no time, and for a time before 1971 or after 2100.
    """
    if values.dtype.is_temporal():
        return values.dt.timestamp("ms")
    texts = values.cast(pl.String)
    frame = parsed(texts, time_format)
    rows = pl.Series(range(len(values)), dtype=pl.Int64)
    moments, _ = resolved(frame, unit, name, rows)
    bad = values.is_not_null() & moments.is_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(
            f"{name} holds {values[row]!r} in row {row}, which is no time between 1971 and 2100:"
            " give moments, ISO dates, or numbers since 1970"
        )
    return moments // UNITS["ms"]
