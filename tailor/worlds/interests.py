"""A planted log of people with several interests: what was shown, and what they chose.

Whether an item is chosen depends on how many earlier events of the person were of its group, so on
a part of the history that differs from item to item. Shapes: U people, N items, G groups, L events
of a person, V visits of a person, n shown items.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
PERIOD_DAYS = 100.0
COUNT_SCALE = 4.0  # events of a group at which half of the effect is reached


@dataclass(frozen=True, eq=False)
class Interests:
    """A log, and the truth that no method may see. Rows of people and items are those of the data.

    The catalogue is in the order of the items table, people in that of the users table.
    """

    data: Dataset
    """Events, impressions with their requests, items (with their group if `visible`), users."""
    groups: np.ndarray
    """(N,) the group of each item."""
    worths: np.ndarray
    """(N,) what an item says for its group, 1 or -1; all 1 without `worth`."""
    shares: np.ndarray
    """(U, G) share of each group in a person's first half of the time; sums to 1."""
    likes: np.ndarray
    """(U, G) bool: the groups that a person likes, those never logged included."""
    probabilities: np.ndarray
    """(n,) probability that each row of the impressions was chosen."""


def interests(
    people: int = 1_000,
    items: int = 600,
    groups: int = 20,
    own: int = 4,
    uneven: float = 0.6,
    length: int = 40,
    visits: int = 10,
    slate: int = 8,
    seed: int = 0,
    *,
    burst: int = 1,
    fade_days: float = 0.0,
    worth: float = 0.0,
    together: float = 0.0,
    together_later: float | None = None,
    hidden: float = 0.0,
    noise: float = 0.1,
    gain: float = 4.0,
    visible: bool = True,
) -> Interests:
    """Make a log of people with `own` of `groups` interests each; a knob at 0 is off.

    `uneven` is the share that each interest has of the one before it. A person has `length` events
    over the whole period in bursts of `burst` events of one group, a share `noise` of them of any
    group, and `visits` visits at which `slate` items are shown, half of them of the person's own
    groups. `gain` is the effect of a frequent group on the log-odds of a choice.

    - `fade_days`: the time after which an event counts half.
    - `worth`: share of the effect that depends on signs of items in place of counts: the mean sign
      of the person's events in the group, times the sign of the shown item.
    - `together`: probability that a person's interests come in fixed pairs; `together_later` the
      same in the second half of the time, where it differs.
    - `hidden`: share of the liked groups of which no event is ever logged.
    - `visible`: whether the items table names groups.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    sizes = (people, items, groups, own, length, visits, slate, burst)
    if min(sizes) < 1 or own > groups or groups > items:
        raise DataError(
            f"people {people}, items {items}, groups {groups}, own {own}, length {length}, visits"
            f" {visits}, slate {slate}, burst {burst}: at least 1 each, own at most groups, groups"
            " at most items"
        )
    rng = random_of(seed, "interests")
    group_of_item = np.arange(items) % groups
    worths = np.where(rng.random(items) < 0.5, -1.0, 1.0) if worth else np.ones(items)
    early = _shares(people, groups, own, uneven, together, rng)
    late = early
    if together_later is not None:
        late = _shares(people, groups, own, uneven, together_later, rng)
    likes = (early > 0) | (late > 0)
    logged = _logged(early, hidden, rng)
    logged_late = logged if late is early else _logged(late, hidden, rng)
    times = np.sort(rng.random((people, length)), axis=1)
    event_groups = _event_groups(times, logged, logged_late, burst, noise, rng)
    event_items = _items_of(event_groups, items, groups, rng)
    visit_times = np.sort(rng.random((people, visits)), axis=1)
    shown_groups = _shown_groups(likes, visits, slate, rng)
    shown_items = _items_of(shown_groups, items, groups, rng)
    decay = np.log(2) * PERIOD_DAYS / fade_days if fade_days else 0.0
    organic = [
        _before(visit_times[u], times[u], event_groups[u], worths[event_items[u]], groups, decay)
        for u in range(people)
    ]
    probabilities, chosen = _choices(
        np.array(organic), visit_times, shown_groups, worths[shown_items], worth, gain, decay, rng
    )
    user_ids = opaque_ids("u-", people, seed)
    item_ids = opaque_ids("i-", items, seed)
    tables = _tables(user_ids, item_ids, times, event_items, visit_times, shown_items, chosen, rng)
    names = {"group": [f"group {group}" for group in group_of_item.tolist()]} if visible else {}
    tables["items"] = pl.DataFrame({"item_id": item_ids, **names})
    data = Dataset(tables, f"interests-{seed}")
    # truth in the order of the data's rows
    item_order = np.argsort(data.catalogue.rows(item_ids.to_list()))
    user_order = np.argsort(data.users.rows(user_ids.to_list()))
    return Interests(
        data,
        group_of_item[item_order],
        worths[item_order],
        early[user_order],
        likes[user_order],
        probabilities.ravel(),
    )


def _shares(
    people: int, groups: int, own: int, uneven: float, together: float, rng: np.random.Generator
) -> np.ndarray:
    """Return (U, G) shares of `own` groups a person; pairs 2i and 2i + 1 with `together`."""
    order = rng.random((people, groups)).argsort(axis=1)
    chosen = order[:, :own].copy()
    is_paired = rng.random(people) < together
    pairs = rng.random((people, groups // 2)).argsort(axis=1)
    for rank in range(min(own, 2 * (groups // 2))):
        chosen[is_paired, rank] = 2 * pairs[is_paired, rank // 2] + rank % 2
    weights = uneven ** np.arange(own, dtype=np.float64)
    shares = np.zeros((people, groups))
    np.add.at(shares, (np.arange(people)[:, None], chosen), weights / weights.sum())
    return shares


def _logged(shares: np.ndarray, hidden: float, rng: np.random.Generator) -> np.ndarray:
    """Return shares (U, G) of what is logged: some liked groups never, but always one."""
    draws = rng.random(shares.shape)
    is_hidden = (draws < hidden) & (shares > 0)
    users = np.arange(len(shares))
    is_hidden[users, shares.argmax(axis=1)] = False
    logged = np.where(is_hidden, 0.0, shares)
    totals = logged.sum(axis=1, keepdims=True)
    return np.asarray(logged / totals)


def _event_groups(
    times: np.ndarray,
    early: np.ndarray,
    late: np.ndarray,
    burst: int,
    noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (U, L) the group of each event."""
    people, length = times.shape
    groups = early.shape[1]
    is_late = times > 0.5
    draws = rng.random((people, -(-length // burst))).repeat(burst, axis=1)[:, :length]
    drawn = []
    for shares in (early, late):
        edges = shares.cumsum(axis=1)
        edges[:, -1] = 1.0
        drawn.append((draws[:, :, None] > edges[:, None, :]).sum(axis=2))
    event_groups = np.where(is_late, drawn[1], drawn[0])
    is_noise = rng.random(times.shape) < noise
    any_group = rng.integers(groups, size=times.shape)
    return np.asarray(np.where(is_noise, any_group, event_groups))


def _items_of(
    groups_of: np.ndarray, items: int, groups: int, rng: np.random.Generator
) -> np.ndarray:
    """Return an item of each group, of the shape of `groups_of`; early ones are more popular."""
    sizes = (items - 1 - groups_of) // groups + 1
    places = (rng.random(groups_of.shape) ** 2 * sizes).astype(np.int64)
    return np.asarray(groups_of + groups * places)


def _shown_groups(
    likes: np.ndarray, visits: int, slate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return (U, V, slate) groups of shown items: half liked ones, half any."""
    people, groups = likes.shape
    size = (people, visits, slate)
    edges = likes.cumsum(axis=1) / likes.sum(axis=1, keepdims=True)
    draws = rng.random((people, visits * slate))
    liked = (draws[:, :, None] >= edges[:, None, :]).sum(axis=2).reshape(size)
    return np.asarray(np.where(rng.random(size) < 0.5, liked, rng.integers(groups, size=size)))


def _before(
    visit_times: np.ndarray,
    times: np.ndarray,
    event_groups: np.ndarray,
    signs: np.ndarray,
    groups: int,
    decay: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (V, G) faded counts of events before each visit by group, and sums of their signs."""
    ages = visit_times[:, None] - times
    weights = np.where(ages > 0, np.exp(-decay * np.maximum(ages, 0)), 0.0)  # V, L
    is_group = np.eye(groups)[event_groups]  # L, G
    return weights @ is_group, (weights * signs) @ is_group


def _choices(
    organic: np.ndarray,
    visit_times: np.ndarray,
    shown_groups: np.ndarray,
    signs: np.ndarray,
    worth: float,
    gain: float,
    decay: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (U, V, slate) probabilities of a choice, and choices; these count from then on.

    `organic` (U, 2, V, G) are counts and sums of signs of the other events.
    """
    people, visits, _ = shown_groups.shape
    person = np.arange(people)[:, None]
    earlier = np.zeros((2, people, organic.shape[3]))  # faded counts of choices, sums of signs
    probabilities = np.zeros(shown_groups.shape)
    chosen = np.zeros(shown_groups.shape, dtype=bool)
    for visit in range(visits):
        if visit:
            age = visit_times[:, visit] - visit_times[:, visit - 1]
            earlier *= np.exp(-decay * age)[:, None]
        visited = shown_groups[:, visit]
        counts = (organic[:, 0, visit] + earlier[0])[person, visited]
        sums = (organic[:, 1, visit] + earlier[1])[person, visited]
        agreement = 0.5 * (1 + signs[:, visit] * sums / np.maximum(counts, 1e-9))
        strength = (1 - worth) * counts / (counts + COUNT_SCALE) + worth * agreement
        probabilities[:, visit] = 1 / (1 + np.exp(0.5 - gain * (strength - 0.5)))
        chosen[:, visit] = rng.random(visited.shape) < probabilities[:, visit]
        np.add.at(earlier[0], (person, visited), chosen[:, visit])
        np.add.at(earlier[1], (person, visited), chosen[:, visit] * signs[:, visit])
    return probabilities, chosen


def _tables(
    user_ids: pl.Series,
    item_ids: pl.Series,
    times: np.ndarray,
    event_items: np.ndarray,
    visit_times: np.ndarray,
    shown_items: np.ndarray,
    chosen: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, pl.DataFrame]:
    """Return events (choices among them), requests, impressions and users."""
    people, length = times.shape
    _, visits, slate = shown_items.shape
    event_ms = (START_MS + times * PERIOD_DAYS * DAY_MS).astype(np.int64)
    visit_ms = (START_MS + visit_times * PERIOD_DAYS * DAY_MS).astype(np.int64)
    request_ids = opaque_ids("r-", people * visits, int(rng.integers(2**31)))
    visitor = np.repeat(np.arange(people), visits)
    requests = pl.DataFrame(
        {"request_id": request_ids, "user_id": user_ids[visitor], "time_ms": visit_ms.ravel()}
    )
    request_of = np.repeat(np.arange(people * visits), slate)
    impressions = pl.DataFrame(
        {
            "request_id": request_ids[request_of],
            "item_id": item_ids[shown_items.ravel()],
            "position": np.tile(np.arange(slate), people * visits),
        }
    )
    picked = np.flatnonzero(chosen.ravel())
    quiet = pl.DataFrame(
        {
            "user_id": user_ids[np.repeat(np.arange(people), length)],
            "item_id": item_ids[event_items.ravel()],
            "time_ms": event_ms.ravel(),
            "request_id": pl.Series([None] * (people * length), dtype=pl.String),
        }
    )
    choices = pl.DataFrame(
        {
            "user_id": user_ids[visitor[request_of[picked]]],
            "item_id": item_ids[shown_items.ravel()[picked]],
            "time_ms": visit_ms.ravel()[request_of[picked]] + 1,
            "request_id": request_ids[request_of[picked]],
        }
    )
    events = pl.concat([quiet, choices]).sort("time_ms", maintain_order=True)
    users = pl.DataFrame({"user_id": user_ids})
    return {"events": events, "requests": requests, "impressions": impressions, "users": users}
