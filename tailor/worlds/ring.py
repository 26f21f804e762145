"""A planted log of users whose interest moves along a ring of groups as time passes.

Where a user's interest is depends on the time: after a long pause it is further along than after a
short one. Shapes: U users, S sessions, E events of a session, N items.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
MINUTE_MS = 60_000
SPREAD = 0.4  # standard deviation of an event's place around the interest, in groups


@dataclass(frozen=True, eq=False)
class Ring:
    """A log, and the truth that no method may see; rows are those of the data."""

    data: Dataset
    """Timed events and items; a user's last two sessions have one event each."""
    groups: np.ndarray
    """(N,) the group of each item, 0 to G - 1 round the ring."""
    starts: np.ndarray
    """(U,) where each user's interest is at the beginning of the log, in groups."""
    speeds: np.ndarray
    """(U,) groups that each user's interest moves a day."""

    def interest_at(self, times_ms: np.ndarray) -> np.ndarray:
        """Return (U, T) where interests are at times (U, T), in groups from 0 to below G."""
        days = (times_ms - START_MS) / DAY_MS
        places = self.starts[:, None] + self.speeds[:, None] * days
        return np.asarray(places % (self.groups.max() + 1))


def ring(
    users: int = 2_000,
    groups: int = 24,
    group_items: int = 12,
    sessions: int = 6,
    events: int = 3,
    speed: float = 0.5,
    off: float = 0.3,
    pause_days: tuple[float, float] = (1.0, 20.0),
    seed: int = 0,
) -> Ring:
    """Make a log of interests that move on by about `speed` groups a day, each at its own pace.

    A user has `sessions` sessions of `events` events, minutes apart; the last two have one event,
    so that splitting off the last events leaves whole pauses to predict across. Pauses between
    sessions are `pause_days` long, spread evenly in their logarithm. A share `off` of the events is
    of any group.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    if min(users, groups, group_items, events) < 1 or sessions < 3:
        raise DataError(
            f"users {users}, groups {groups}, group_items {group_items}, events {events}, sessions"
            f" {sessions}: at least 1 each, and 3 sessions"
        )
    rng = random_of(seed, "ring")
    starts = rng.random(users) * groups
    speeds = speed * rng.uniform(0.8, 1.2, users)
    shortest, longest = np.log(pause_days).tolist()
    pauses = np.exp(rng.uniform(shortest, longest, (users, sessions)))
    session_days = pauses.cumsum(axis=1)
    places = starts[:, None] + speeds[:, None] * session_days  # U, S
    places = places[:, :, None] + SPREAD * rng.normal(size=(users, sessions, events))
    chosen_groups = np.floor(places).astype(np.int64) % groups
    is_off = rng.random(chosen_groups.shape) < off
    chosen_groups = np.where(is_off, rng.integers(groups, size=is_off.shape), chosen_groups)
    chosen = chosen_groups * group_items + rng.integers(group_items, size=is_off.shape)
    times = (START_MS + session_days * DAY_MS).astype(np.int64)[:, :, None]
    times = times + np.arange(events) * MINUTE_MS
    is_event = np.ones(chosen.shape, dtype=bool)
    is_event[:, -2:, 1:] = False
    user_ids = opaque_ids("u-", users, seed)
    item_ids = opaque_ids("i-", groups * group_items, seed)
    event_users = np.broadcast_to(np.arange(users)[:, None, None], chosen.shape)[is_event]
    table = pl.DataFrame(
        {
            "user_id": user_ids[event_users],
            "item_id": item_ids[chosen[is_event]],
            "time_ms": times[is_event],
        }
    )
    data = Dataset({"events": table, "items": pl.DataFrame({"item_id": item_ids})}, f"ring-{seed}")
    item_order = np.argsort(data.catalogue.rows(item_ids.to_list()))
    user_order = np.argsort(data.users.rows(user_ids.to_list()))
    group_of_item = np.arange(groups * group_items) // group_items
    return Ring(data, group_of_item[item_order], starts[user_order], speeds[user_order])
