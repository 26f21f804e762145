"""Make a large log fast, for measuring speed and memory.

Nothing in it can be learned but popularity and which items follow each other.
"""

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

YEAR_MS = 365 * 86_400_000


def shop_log(
    users: int = 100_000, items: int = 30_000, events: int = 5_000_000, seed: int = 0
) -> Dataset:
    """Make exactly this many events, users and items over one year.

    The events have user_id, item_id and time_ms; a table holds the item ids. Items are on a hidden
    ring. A user takes an item by its popularity (Zipf, exponent 0.9) or, as often, one at most 5
    steps from the last; the lengths of histories are lognormal, each at least 1. Times of a user
    are spread over the year: there are no sessions. Raises DataError for fewer events than users.
    """
    if min(users, items) < 1 or events < users:
        raise DataError(
            f"users={users}, items={items}, events={events}: at least one of each, and an event for"
            " every user"
        )
    rng = random_of(seed, "log")
    event_users = np.repeat(np.arange(users, dtype=np.int32), _lengths(users, events, rng))
    walk_items = _ring_walk(event_users, items, rng)
    rng.shuffle(event_users)  # whose event is the first of the year, the second, ...
    positions = np.arange(events, dtype=np.int32)
    # a stable counting sort by user
    by_user = sp.coo_matrix((positions, (event_users, positions)), shape=(users, events))
    event_items = np.empty(events, dtype=np.int32)
    event_items[by_user.tocsr().data] = walk_items
    item_ids = opaque_ids("i-", items, seed)
    table = pl.DataFrame(
        {
            "user_id": opaque_ids("u-", users, seed).gather(event_users),
            "item_id": item_ids.gather(event_items),
            "time_ms": START_MS + np.sort(rng.integers(0, YEAR_MS, events)),
        }
    )
    items_table = pl.DataFrame({"item_id": item_ids.sort()})
    return Dataset({"events": table, "items": items_table}, "shop-log")


def _lengths(users: int, events: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (users,) numbers of events, each at least 1, `events` in all."""
    activity = rng.lognormal(0, 1, users)
    return 1 + rng.multinomial(events - users, activity / activity.sum())


def _ring_walk(event_users: np.ndarray, items: int, rng: np.random.Generator) -> np.ndarray:
    """Return (events,) item rows, user by user.

    Each item taken by popularity starts a walk of small steps on the ring.
    """
    n = len(event_users)
    is_start = rng.random(n, dtype=np.float32) < 0.5
    is_start[np.r_[True, event_users[1:] != event_users[:-1]]] = True
    starts = np.flatnonzero(is_start)
    cumulative = np.cumsum(np.arange(1, items + 1) ** -0.9)
    position_of_rank = rng.permutation(items)  # popular items are anywhere on the ring
    # sorted draws keep the search in cache
    points = np.sort(rng.random(len(starts))) * cumulative[-1]
    start_positions = position_of_rank[np.searchsorted(cumulative, points)]
    steps = rng.integers(-5, 5, n, dtype=np.int64)
    steps[steps >= 0] += 1  # never the same item again
    distance = np.cumsum(steps)
    lengths = np.diff(np.r_[starts, n])
    origins = np.repeat(rng.permutation(start_positions) - distance[starts], lengths)
    return ((origins + distance) % items).astype(np.int32)
