"""Search spaces of settings: written beside the field, searched by `tailor tune`.

    window: Annotated[int, Range(1, 15)] = 5
    kind: Annotated[Literal["score", "rank"], Choices("score", "rank")] = "score"

A range is no check: values that a setting must never have are refused by `__post_init__`.
"""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Raises ValueError for bounds that are no finite numbers or that hold no number between them.
    """

    low: float
    """Smallest value; whole numbers only are tried where both bounds are whole."""
    high: float
    """Largest value."""
    log: bool = False
    """True to search in powers: every doubling is equally likely."""

    def __post_init__(self) -> None:
        if not (_is_finite_number(self.low) and _is_finite_number(self.high)):
            raise ValueError(f"low is {self.low!r}, high {self.high!r}: both must be numbers")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low}, high {self.high}: low must be below high")
        if self.log and not self.low > 0:
            raise ValueError(f"low is {self.low}: with log it must be above 0")

    @property
    def is_whole(self) -> bool:
        """True if only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, init=False)
class Choices:
    """Values of which one is taken. Raises ValueError for fewer than two."""

    values: tuple[Any, ...]
    """The values to choose from."""

    def __init__(self, *values: Any) -> None:
        if len(values) < 2:
            raise ValueError(f"{list(values)!r}: a choice needs at least two values")
        object.__setattr__(self, "values", values)
