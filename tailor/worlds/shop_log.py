"""A large log made fast, for measuring speed and memory; nothing in it is worth learning but
popularity and which items stand together.
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
    """Exactly this many events of exactly these users and items over a year: user_id, item_id,
    time_ms and a table of the item ids.

    Items stand on a hidden ring. A user takes an item by its popularity (Zipf, exponent 0.9) or, as
    often, one at most 5 places from the last; the lengths of histories are lognormal, each at least
    1. Times of a user lie all over the year: there are no sessions. Raises DataError where there
    are fewer events than users.
    """
    if min(users, items) < 1 or events < users:
        raise DataError(
            f"users={users}, items={items}, events={events}: at least one of each, and an event for"
            " every user"
        )
    rng = random_of(seed, "log")
    owner = np.repeat(np.arange(users, dtype=np.int32), _lengths(users, events, rng))
    item = _ring_walk(owner, items, rng)
    rng.shuffle(owner)  # whose event is the first of the year, the second, ...
    positions = np.arange(events, dtype=np.int32)
    # a stable counting sort by user
    order = sp.coo_matrix((positions, (owner, positions)), shape=(users, events)).tocsr().data
    item_in_time = np.empty(events, dtype=np.int32)
    item_in_time[order] = item
    ids = opaque_ids("i-", items, seed)
    frame = pl.DataFrame(
        {
            "user_id": opaque_ids("u-", users, seed).gather(owner),
            "item_id": ids.gather(item_in_time),
            "time_ms": START_MS + np.sort(rng.integers(0, YEAR_MS, events)),
        }
    )
    return Dataset({"events": frame, "items": pl.DataFrame({"item_id": ids.sort()})}, "shop-log")


def _lengths(users: int, events: int, rng: np.random.Generator) -> np.ndarray:
    """(users,) events of each, at least 1, `events` in all."""
    share = rng.lognormal(0, 1, users)
    return 1 + rng.multinomial(events - users, share / share.sum())


def _ring_walk(owner: np.ndarray, items: int, rng: np.random.Generator) -> np.ndarray:
    """(events,) item rows user by user: every walk goes on by small steps from the last item that
    was taken by popularity.
    """
    n = len(owner)
    fresh = rng.random(n, dtype=np.float32) < 0.5
    fresh[np.r_[True, owner[1:] != owner[:-1]]] = True
    starts = np.flatnonzero(fresh)
    odds = np.cumsum(np.arange(1, items + 1) ** -0.9)
    place_of_rank = rng.permutation(items)  # popular items lie anywhere on the ring
    # sorted draws keep the search in cache
    draws = place_of_rank[np.searchsorted(odds, np.sort(rng.random(len(starts))) * odds[-1])]
    steps = rng.integers(-5, 5, n, dtype=np.int64)
    steps[steps >= 0] += 1  # never the same item again
    walked = np.cumsum(steps)
    lengths = np.diff(np.r_[starts, n])
    walk = np.repeat(rng.permutation(draws) - walked[starts], lengths) + walked
    return (walk % items).astype(np.int32)
