"""Checks of rows before they are written."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tailor.data.ids import CONTROL, id_problem
from tailor.errors import DataError

FORBIDDEN = re.compile(CONTROL)


def check_row_ids(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Raise DataError where one of these columns holds an id with a control character."""
    for name in names:
        ids = [row[name] for row in rows if row.get(name) is not None]
        if FORBIDDEN.search("".join(ids)):
            check_id(next(text for text in ids if FORBIDDEN.search(text)), name)


def check_id(text: str, name: str) -> None:
    """Raise DataError for a text that cannot be an id."""
    problem = id_problem(text)
    if problem is not None:
        raise DataError(f"{name} {problem} ({text!r}): an id is plain characters")
