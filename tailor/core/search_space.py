"""What a setting may reasonably be: said beside the field, searched by `tailor tune`.

    window: Annotated[int, Range(1, 15)] = 5
    kind: Annotated[Literal["score", "rank"], Choices("score", "rank")] = "score"

A range is no check: what a setting must never be, `__post_init__` refuses.
"""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; with `log`, every doubling counts alike. Raises
    ValueError where there are none.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not all(
            isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
            for one in (self.low, self.high)
        ):
            raise ValueError(f"low is {self.low!r}, high {self.high!r}: both must be numbers")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low}, high {self.high}: low must be below high")
        if self.log and not self.low > 0:
            raise ValueError(f"low is {self.low}: with log it must be above 0")

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, init=False)
class Choices:
    """Values of which one is taken. Raises ValueError for fewer than two."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if len(values) < 2:
            raise ValueError(f"{list(values)!r}: a choice needs at least two values")
        object.__setattr__(self, "values", values)
