"""Numbers as words: a language model understands "very high" where 13,452 tells it nothing."""

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
    """Where a number stands among the numbers that were seen, from 1 to 100, as an encoder or a
    language model can read it.

    The idea of LinkedIn's feed retriever (2025): raw counts in a text say little to a model, ranks
    among all counts do.
    """

    cuts: np.ndarray
    """(99,) ascending: the largest values of percentiles 1 to 99."""

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Percentiles":
        """From the numbers of a catalogue; NaN and infinite ones are left out. Raises DataError
        where none is left.
        """
        seen = np.asarray(values, dtype=np.float64)
        seen = seen[np.isfinite(seen)]
        if not len(seen):
            raise DataError("percentiles of no numbers: none is given, or none is finite")
        return cls(np.quantile(seen, np.arange(1, 100) / 100, method="inverted_cdf"))

    def ranks(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """(n,) whole numbers from 1 to 100; a value that is NaN has 0. Equal values have equal
        ranks: that of the middle of their span.
        """
        given = np.asarray(values, dtype=np.float64)
        below = np.searchsorted(self.cuts, given, side="left") + 1
        upto = np.maximum(below, np.searchsorted(self.cuts, given, side="right"))
        return np.where(np.isnan(given), 0, (below + upto) // 2)

    def words(self, values: Sequence[float] | np.ndarray, name: str) -> list[str]:
        """As in "views: high, percentile 71 of 100"; empty for a value that is NaN. A sentence
        encoder follows the words, hardly the number (docs/log.md).
        """
        return [
            f"{name}: {LEVELS[(rank - 1) // 10]}, percentile {rank} of 100" if rank else ""
            for rank in self.ranks(values).tolist()
        ]
