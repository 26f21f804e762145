"""Find where times lie in the day, the week and the year."""

from typing import NamedTuple

import numpy as np

from tailor.data.queries import NO_TIME

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURS, WEEKDAYS, SEASONS = 24, 7, 4
YEAR_DAYS = 365.25
FIRST_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0


class Moments(NamedTuple):
    """Hours of the day, weekdays and quarters of the year, arrays of one shape.

    A missing time is one beyond the last of each: HOURS, WEEKDAYS, SEASONS.
    """

    hour: np.ndarray
    weekday: np.ndarray
    """Monday is 0."""
    season: np.ndarray


def moments_of(times_ms: np.ndarray, utc_offset_hours: float = 0.0) -> Moments:
    """Return the moments of times, which are in UTC; NO_TIME is a missing one."""
    is_missing = times_ms == NO_TIME
    local = np.where(is_missing, 0, times_ms) + round(utc_offset_hours * HOUR_MS)
    day = local // DAY_MS
    season = (day % YEAR_DAYS * SEASONS / YEAR_DAYS).astype(np.int64)
    return Moments(
        np.where(is_missing, HOURS, local % DAY_MS // HOUR_MS),
        np.where(is_missing, WEEKDAYS, (day + FIRST_WEEKDAY) % WEEKDAYS),
        np.where(is_missing, SEASONS, season),
    )
