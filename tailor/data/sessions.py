"""Sessions: requests and events of a user without a gap of over an hour between them."""

import numpy as np

from tailor.data.arrays import Ragged
from tailor.data.queries import NO_TIME, Queries
from tailor.errors import DataError

SESSION_MS = 3_600_000
"""Time without an event or a request after which another session begins."""


def sessions_of(queries: Queries) -> Ragged:
    """Return the numbers of the requests of each session, oldest first.

    Requests without a user are alone. Raises DataError for requests without times.
    """
    if queries.now_ms is None:
        raise DataError("sessions need the times of requests, which these lack")
    names = [
        f"stranger {i}" if user_id is None else f"user {user_id}"
        for i, user_id in enumerate(queries.user_ids.tolist())
    ]
    _, users = np.unique(np.array(names, dtype=str), return_inverse=True)
    order = np.lexsort((queries.now_ms, users))
    is_first = np.ones(len(order), dtype=bool)
    gaps_ms = np.diff(queries.now_ms[order])
    is_first[1:] = (np.diff(users[order]) != 0) | (gaps_ms > SESSION_MS)
    return Ragged(np.r_[np.flatnonzero(is_first), len(order)].astype(np.int64), order)


def sessions_back(queries: Queries) -> np.ndarray:
    """Return (m,) how many sessions ago each event of the histories was; 0 for the present one.

    An event without a time, or of a request without one, is a session of its own.
    """
    histories = queries.histories
    times = queries.columns.get("times_ms")
    if times is None or queries.now_ms is None or not len(histories.values):
        return histories.from_end + 1
    is_last = histories.from_end == 0
    next_ms = np.r_[times.values[1:], NO_TIME]
    next_ms[is_last] = queries.now_ms[histories.row_ids[is_last]]
    is_known = (times.values != NO_TIME) & (next_ms != NO_TIME)
    gaps_ms = next_ms - np.where(is_known, times.values, next_ms)
    is_break = ~is_known | (gaps_ms > SESSION_MS)
    breaks = np.r_[0, np.cumsum(is_break)]
    through_last = breaks[histories.offsets[1:]]  # n
    of_events = through_last[histories.row_ids]
    return np.asarray(of_events - breaks[:-1])
