"""Notes: remarks of an answer for people, left out where there are none."""

from collections.abc import Sequence
from typing import Any

MOST_NAMED = 5  # ids or names in a note


def with_notes(answer: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Return the answer with its notes; without the field where there are none."""
    return {**answer, "notes": list(notes)} if notes else answer


def first_few(names: Sequence[str], separator: str = ", ", unit: str = "") -> str:
    """Return the first MOST_NAMED names, and how many more there are: "a, b and 3 more items"."""
    hidden = len(names) - MOST_NAMED
    end = f" and {hidden:,} more{unit}" if hidden > 0 else ""
    return f"{separator.join(names[:MOST_NAMED])}{end}"
