"""Numbers as words.

A language model understands "very high" where 13,452 tells it nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor.errors import DataError

LEVELS = (
    "lowest",
    "very low",
    "low",
    "rather low",
    "below average",
    "above average",
    "rather high",
    "high",
    "very high",
    "highest",
)  # tenths


@dataclass(frozen=True, eq=False)
class Percentiles:
    """Ranks from 1 to 100 of numbers among the numbers of a catalogue.

    The idea of LinkedIn's feed retriever (2025): raw counts in a text say little to a model, ranks
    among all counts do.
    """

    cuts: np.ndarray
    """(99,) ascending: the largest values of percentiles 1 to 99."""

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Percentiles":
        """Learn the percentiles of a catalogue's numbers.

        NaN and infinite numbers are left out. Raises DataError where none is left.
        """
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            raise DataError("percentiles of no numbers: none is given, or none is finite")
        return cls(np.quantile(numbers, np.arange(1, 100) / 100, method="inverted_cdf"))

    def ranks(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return (n,) whole numbers from 1 to 100, 0 for NaN.

        Equal values have equal ranks: the middle of their span.
        """
        numbers = np.asarray(values, dtype=np.float64)
        lowest = np.searchsorted(self.cuts, numbers, side="left") + 1
        highest = np.maximum(lowest, np.searchsorted(self.cuts, numbers, side="right"))
        return np.where(np.isnan(numbers), 0, (lowest + highest) // 2)

    def words(self, values: Sequence[float] | np.ndarray, name: str) -> list[str]:
        """Return texts such as "views: high, percentile 71 of 100"; empty for NaN.

        A sentence encoder follows the words, hardly the number (docs/log.md).
        """
        return [
            f"{name}: {LEVELS[(rank - 1) // 10]}, percentile {rank} of 100" if rank else ""
            for rank in self.ranks(values).tolist()
        ]
