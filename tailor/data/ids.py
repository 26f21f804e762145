"""The one rule for ids: which texts can be an id, and which stand for a missing one.

Files, data frames, the command line and the service all ask here.
"""

import re

import polars as pl

from tailor.errors import DataError

# characters that no address, log or CSV file carries unharmed: controls, and the two
# line ends of Unicode
CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"
BLANKS = (
    " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"
    "\u3000"
)
# "Null" and "nan" are names that users have; only these two are never one
MISSING_IDS = ("", r"\N")
# a number, a time or a truth value written like this is missing
MISSING_VALUES = (
    "",
    r"\N",
    "nan",
    "NaN",
    "NAN",
    "null",
    "NULL",
    "Null",
    "none",
    "None",
    "NONE",
    "NA",
    "N/A",
    "n/a",
    "<NA>",
    "#N/A",
    "-",
)


def id_problem(text: str) -> str | None:
    """Say why a text cannot be an id, as a clause that follows its name; None if it can."""
    if text.strip(BLANKS) in MISSING_IDS:
        return "is empty"
    control = re.search(CONTROL, text)
    if control is not None:
        return f"holds a control character ({ascii(control[0])[1:-1]})"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no text"
    return None


def tidy_ids(ids: pl.Series) -> pl.Series:
    """Return the ids without blanks around them; null where a text stands for no id."""
    tidy = ids.str.strip_chars(BLANKS)
    return tidy.set(tidy.is_in(MISSING_IDS), None)


def holds_control(ids: pl.Series) -> pl.Series:
    """(n,) bool: True where an id holds a control character."""
    return ids.str.contains(CONTROL).fill_null(False)


def check_ids(ids: pl.Series, name: str) -> None:
    """Raise DataError where an id is missing or holds a control character; name the row."""
    for row in (ids.is_null(), holds_control(ids)):
        if row.any():
            first = int(row.arg_max() or 0)
            text = ids[first]
            problem = "is empty" if text is None else id_problem(text)
            raise DataError(
                f"{name} {problem} in {int(row.sum())} rows, the first is row {first}"
                f" ({text!r}): every row needs an id of plain characters"
            )


def is_scientific(ids: pl.Series) -> pl.Series:
    """(n,) bool: True for an id such as 8.80609E+12, which a spreadsheet made of a longer one."""
    return ids.str.contains(r"^\d(\.\d+)?[eE]\+?\d{1,3}$").fill_null(False)


def is_rounded(ids: pl.Series) -> pl.Series:
    """(n,) bool: True for a number of 16 digits or more with zeros behind the 15th.

    A spreadsheet keeps 15 digits of a number. All are False where most such numbers do not end so.
    """
    long = ids.str.contains(r"^\d{16,}$").fill_null(False)
    rounded = ids.str.contains(r"^\d{15}0+$").fill_null(False)
    clear = rounded.sum() >= 10 and int(rounded.sum()) > 0.9 * int(long.sum())
    return rounded if clear else pl.Series([False]).new_from_index(0, len(ids))


def is_named_missing(ids: pl.Series) -> pl.Series:
    """(n,) bool: True for an id such as "NULL" or "nan", which may stand for a missing one."""
    return ids.str.to_lowercase().is_in([text.lower() for text in MISSING_VALUES]).fill_null(False)
