"""Filters of requests: what a condition may cost, and which columns it asks for."""

from collections.abc import Mapping

import polars as pl

from tailor.data.conditions import Condition
from tailor.service.item_table import Attributes, is_known, suggested_names

MOST_TESTS = 50  # of one filter
MOST_SUGGESTED = 200  # names that a misspelt one is compared with, and characters of each


def check_filter(text: str) -> Condition:
    """Return the condition of a filter. Raises DataError where it cannot be read or is too long."""
    condition = Condition(text, "filter")
    if len(condition.tests) > MOST_TESTS:
        condition.refuse(
            f"it has {len(condition.tests)} tests, at most {MOST_TESTS} are possible: write"
            " `column in (value, value)` for several values of one column"
        )
    return condition


def columns_of(
    condition: Condition, attributes: Attributes
) -> tuple[list[str], Mapping[str, pl.DataType]]:
    """Return the known columns that a condition names, and a schema of names to suggest.

    A name that no item has is refused by the condition itself, with the nearest of the schema.
    """
    tokens = [token for test in condition.tests for token in (test.column, test.other) if token]
    names = dict.fromkeys(token.text.strip("`") for token in tokens)
    suggested = suggested_names(attributes, MOST_SUGGESTED)
    unknown = {name for name in names if not is_known(name, attributes)}
    schema = {name: pl.Null() for name in suggested if name not in unknown}
    return [name for name in names if name not in unknown], schema
