"""Moments: hours, weekdays and quarters of the year, as the calendar has them."""

from datetime import UTC, datetime

import numpy as np

from tailor.data.moments import HOURS, SEASONS, WEEKDAYS, moments_of
from tailor.data.queries import NO_TIME


def test_hours_and_weekdays_are_those_of_the_calendar():
    rng = np.random.default_rng(0)
    times_ms = rng.integers(0, 2_000_000_000_000, size=200)
    moments = moments_of(times_ms)
    dates = [datetime.fromtimestamp(time / 1000, UTC) for time in times_ms.tolist()]
    assert moments.hour.tolist() == [date.hour for date in dates]
    assert moments.weekday.tolist() == [date.weekday() for date in dates]
    quarters = np.array([(date.timetuple().tm_yday - 1) * 4 // 366 for date in dates])
    assert (moments.season == quarters).mean() > 0.97  # up to a day off


def test_local_time_is_ahead_by_the_offset_and_a_missing_time_is_beyond_the_last():
    evening = int(datetime(2024, 5, 1, 23, 30, tzinfo=UTC).timestamp()) * 1000  # a Wednesday
    moments = moments_of(np.array([evening, NO_TIME]), 1.0)
    assert moments.hour.tolist() == [0, HOURS]
    assert moments.weekday.tolist() == [3, WEEKDAYS]
    assert moments.season.tolist() == [1, SEASONS]
