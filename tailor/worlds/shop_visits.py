"""Simulate visits to the shop: sessions, slates, choices, carts and buys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailor.progress import Progress
from tailor.worlds import words
from tailor.worlds.shop_truth import (
    BUY,
    CART,
    CATEGORY_OF,
    CYCLE_OF,
    DAY_MS,
    FIRST,
    KINDS_N,
    START_MS,
    VIEW,
    Catalogue,
    Truth,
)

# share of sessions that start in each hour from 6 o'clock to 21 o'clock
HOURS = np.array([1, 2, 4, 4, 4, 4, 5, 4, 3, 3, 4, 5, 7, 9, 10, 6]) / 75.0
HOUR_MS = 3_600_000
LONGEST = 15  # views of one session
BLOCK = 8_192  # sessions simulated together, few enough for the processor's cache


class Slates:
    """Draws items of a kind by fame among those on sale.

    Items are sorted by kind and, within it, by their launch. So the items on sale are a contiguous
    range, and a draw is one search in the cumulative fame.
    """

    def __init__(self, catalogue: Catalogue, popularity_bias: float) -> None:
        order = np.lexsort((catalogue.created_ms, catalogue.kind))
        self.order = order
        weights = catalogue.fame[order] ** popularity_bias
        self.cumulative = np.r_[0.0, np.cumsum(weights)]
        sorted_kinds = catalogue.kind[order]
        self.starts = np.searchsorted(sorted_kinds, np.arange(KINDS_N + 1))
        # (kinds,); a small catalogue lacks some kinds
        self.exists = self.starts[1:] > self.starts[:-1]
        keys = self._key(catalogue.kind, catalogue.created_ms)
        self._keys = keys[order]

    @staticmethod
    def _key(kind: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
        """Return one sortable number of kind and time; 2 ** 42 ms is the year 2109."""
        key: np.ndarray = kind.astype(np.int64) * 2**42 + time_ms
        return key

    def draw(
        self, kind: np.ndarray, time_ms: np.ndarray, size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw (n, size) item rows of kinds (n,) on sale at times (n,)."""
        stops = np.searchsorted(self._keys, self._key(kind, time_ms), side="right")
        low = self.cumulative[self.starts[kind]][:, None]
        high = self.cumulative[stops][:, None]
        points = low + rng.random((len(kind), size)) * (high - low)
        positions = np.searchsorted(self.cumulative, points, side="right") - 1
        rows: np.ndarray = self.order[np.minimum(positions, len(self.order) - 1)]
        return rows


@dataclass(frozen=True, eq=False)
class World:
    """The truth, the slates, and the settings that `shop` explains."""

    truth: Truth
    slates: Slates
    sequence: float
    repeat: float
    noise: float
    slate: int


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions to simulate."""

    user: np.ndarray
    """(S,)."""
    start_ms: np.ndarray
    """(S,)."""
    length: np.ndarray
    """(S,) views."""
    first: np.ndarray
    """(S,) the item that a user comes back for, -1 where the first item is to be chosen."""

    def take(self, rows: np.ndarray) -> "Sessions":
        """Return some of the sessions."""
        return Sessions(*(column[rows] for column in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Visits:
    """Events as parallel arrays, in order of time once `make_visits` is done."""

    session: np.ndarray
    """(E,)."""
    user: np.ndarray
    """(E,)."""
    item: np.ndarray
    """(E,)."""
    action: np.ndarray
    """(E,)."""
    time_ms: np.ndarray
    """(E,)."""

    def take(self, rows: np.ndarray) -> "Visits":
        """Return some of the events."""
        return Visits(*(column[rows] for column in vars(self).values()))


class _Events(NamedTuple):
    """Events of one step and one action in a block of sessions."""

    rows: np.ndarray
    """(e,) rows of the block's sessions."""
    items: np.ndarray
    """(e,)."""
    action: int
    times_ms: np.ndarray
    """(e,)."""


class _Cart(NamedTuple):
    """Items put into carts in one step of a block of sessions."""

    rows: np.ndarray
    """(e,) rows of the block's sessions."""
    items: np.ndarray
    """(e,)."""
    is_wanted: np.ndarray
    """(e,) bool: the user came back for the item."""


def make_visits(world: World, rng: np.random.Generator, progress: Progress) -> Visits:
    """Simulate all sessions.

    First the sessions that users start by themselves, then, round by round, repeat purchases of
    consumables.
    """
    sessions = _own_sessions(world.truth, rng)
    rounds = []
    n_started = 0
    while len(sessions.user):
        blocks = np.array_split(np.arange(len(sessions.user)), 1 + len(sessions.user) // BLOCK)
        visits = [
            _simulate(world, sessions.take(block), n_started + block, rng)
            for block in progress(blocks, "visiting the shop", len(blocks))
        ]
        n_started += len(sessions.user)
        rounds.append(_concatenate(visits))
        sessions = _repeat_sessions(world.truth, rounds[-1], world.repeat, rng)
    all_visits = _concatenate(rounds)
    all_visits = all_visits.take(np.argsort(all_visits.time_ms, kind="stable"))
    return all_visits.take(~_is_bought_before(world.truth.catalogue, all_visits))


def _is_bought_before(catalogue: Catalogue, visits: Visits) -> np.ndarray:
    """Return (E,) the buys of a lasting item that the user has already; it stays in the cart."""
    is_lasting = CYCLE_OF[catalogue.kind[visits.item]] == 0
    buys = np.flatnonzero((visits.action == BUY) & is_lasting)
    keys = visits.user[buys] * len(catalogue.kind) + visits.item[buys]
    _, first = np.unique(keys, return_index=True)
    is_again = np.zeros(len(visits.user), dtype=bool)
    is_again[np.delete(buys, first)] = True
    return is_again


def _concatenate(parts: Sequence[Visits]) -> Visits:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Visits(*(np.concatenate(column) for column in columns))


def _own_sessions(truth: Truth, rng: np.random.Generator) -> Sessions:
    """Return the sessions that users start by themselves."""
    every_user = np.arange(len(truth.user_ids))
    users = np.repeat(every_user, truth.users.sessions)
    joined_days = np.maximum(truth.users.joined_day, 0)
    first_days = joined_days[users]
    days_left = truth.days - first_days
    waits = rng.random(len(users)) * days_left
    days = first_days + waits.astype(np.int64)
    lengths = rng.geometric(0.25, len(users))
    lengths = np.minimum(lengths, LONGEST)
    times = _draw_times(days, rng)
    no_items = np.full(len(users), -1)
    return Sessions(users, times, lengths, no_items)


def _repeat_sessions(
    truth: Truth, visits: Visits, repeat: float, rng: np.random.Generator
) -> Sessions:
    """Return sessions in which a consumable is bought again.

    One cycle after the last purchase, with a standard deviation of a tenth of the cycle.
    """
    cycles = CYCLE_OF[truth.catalogue.kind[visits.item]]
    buys = np.flatnonzero((visits.action == BUY) & (cycles > 0))
    buys = buys[rng.random(len(buys)) < repeat]
    buy_days = (visits.time_ms[buys] - START_MS) // DAY_MS
    waits = np.round(cycles[buys] * rng.normal(1, 0.1, len(buys)))
    days = buy_days + np.maximum(1, waits).astype(np.int64)
    is_inside = days < truth.days
    buys = buys[is_inside]
    lengths = np.minimum(rng.geometric(0.5, len(buys)), LONGEST)
    times = _draw_times(days[is_inside], rng)
    return Sessions(visits.user[buys], times, lengths, visits.item[buys])


def _draw_times(days: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a time between 6 and 22 o'clock of each day (n,), in milliseconds.

    A session of at most an hour and a half then ends on its day.
    """
    hours = 6 + np.searchsorted(np.cumsum(HOURS)[:-1], rng.random(len(days)))
    return START_MS + days * DAY_MS + hours * HOUR_MS + rng.integers(0, HOUR_MS, len(days))


def _simulate(
    world: World, sessions: Sessions, session_numbers: np.ndarray, rng: np.random.Generator
) -> Visits:
    """Simulate a block of sessions step by step: views and carts on the way, buys at the end."""
    users = sessions.user
    tastes = world.truth.tastes_of(users, sessions.start_ms)  # S, A
    kind_odds = _kind_odds(world, tastes, sessions.start_ms)  # S, kinds
    items = sessions.first.copy()
    comes_back = sessions.first >= 0
    clock = sessions.start_ms.copy()
    events: list[_Events] = []
    carts: list[_Cart] = []
    for step in range(int(sessions.length.max())):
        active = np.flatnonzero(sessions.length > step)
        clock[active] += rng.integers(5_000, 150_000, len(active))
        choosing = active[~comes_back[active]] if step == 0 else active
        previous = items[choosing]
        kinds, is_near = _next_kinds(world, previous if step else None, kind_odds[choosing], rng)
        slates = world.slates.draw(kinds, clock[choosing], world.slate, rng)  # S, slate
        utilities = worth_of(world.truth, tastes[choosing], users[choosing], slates)
        items[choosing] = _choose(world, slates, utilities, is_near, previous, rng)
        events.append(_Events(active, items[active], VIEW, clock[active]))
        is_wanted = comes_back[active] & (step == 0)
        worth = worth_of(world.truth, tastes[active], users[active], items[active][:, None])[:, 0]
        cart = _fill_cart(active, items[active], worth, is_wanted, rng)
        clock[cart.rows] += rng.integers(3_000, 30_000, len(cart.rows))
        events.append(_Events(cart.rows, cart.items, CART, clock[cart.rows]))
        carts.append(cart)
    events += _checkout(carts, clock, rng)
    return _visits_of(events, session_numbers, users)


def _fill_cart(
    rows: np.ndarray,
    items: np.ndarray,
    worth: np.ndarray,
    is_wanted: np.ndarray,
    rng: np.random.Generator,
) -> _Cart:
    """Put viewed items (e,) into carts, by their utility, and every wanted one."""
    is_carted = (rng.random(len(rows)) < 1 / (1 + np.exp(3.2 - 0.7 * worth))) | is_wanted
    return _Cart(rows[is_carted], items[is_carted], is_wanted[is_carted])


def _visits_of(events: Sequence[_Events], session_numbers: np.ndarray, users: np.ndarray) -> Visits:
    """Return the events of a block as visits; session numbers and users (S,) of its sessions."""
    rows = np.concatenate([part.rows for part in events])
    return Visits(
        session=session_numbers[rows],
        user=users[rows],
        item=np.concatenate([part.items for part in events]),
        action=np.concatenate([np.full(len(part.rows), part.action) for part in events]),
        time_ms=np.concatenate([part.times_ms for part in events]),
    )


def _checkout(carts: Sequence[_Cart], clock: np.ndarray, rng: np.random.Generator) -> list[_Events]:
    """Return the buys at the end of sessions, step by step, and move the clocks (S,).

    Three of five cart items are bought, and every item that a user came back for; each item once.
    """
    rows = np.concatenate([cart.rows for cart in carts])
    items = np.concatenate([cart.items for cart in carts])
    is_wanted = np.concatenate([cart.is_wanted for cart in carts])
    steps = np.repeat(np.arange(len(carts)), [len(cart.rows) for cart in carts])
    _, first = np.unique(rows * 2**32 + items, return_index=True)
    is_first = np.zeros(len(rows), dtype=bool)
    is_first[first] = True
    is_bought = is_first & ((rng.random(len(rows)) < 0.6) | is_wanted)
    events = []
    for step in range(len(carts)):
        buys = is_bought & (steps == step)
        clock[rows[buys]] += rng.integers(2_000, 40_000, buys.sum())
        events.append(_Events(rows[buys], items[buys], BUY, clock[rows[buys]]))
    return events


def _kind_odds(world: World, tastes: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    """Return (n, kinds) cumulative probabilities that a user has each kind in mind."""
    first_kind = FIRST["kind"]
    kind_tastes = tastes[:, first_kind : first_kind + KINDS_N]
    categories = FIRST["category"] + CATEGORY_OF
    worth = kind_tastes + tastes[:, categories]
    worth += world.truth.kinds_now(times_ms)
    worth[:, ~world.slates.exists] = -np.inf
    highest = worth.max(axis=1, keepdims=True)
    np.exp(worth - highest, out=worth)
    totals = worth.sum(axis=1, keepdims=True)
    return np.cumsum(worth / totals, axis=1)


KIND_ROWS = {kind.name: row for row, kind in enumerate(words.KINDS)}
GOES_WITH = [[KIND_ROWS[name] for name in kind.goes_with] for kind in words.KINDS]
# (kinds, 6), each match equally often (2 or 3 of them)
MATCHES = np.array([(rows * 6)[:6] for rows in GOES_WITH])


def _next_kinds(
    world: World, previous: np.ndarray | None, kind_odds: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw (n,) the kind viewed next, and (n,) whether near the previous item (n,)."""
    exists = world.slates.exists
    drawn = (kind_odds < 1 - rng.random((len(kind_odds), 1))).sum(axis=1)
    new_kinds = np.minimum(drawn, np.flatnonzero(exists)[-1])
    if previous is None:
        return new_kinds, np.zeros(len(kind_odds), dtype=bool)
    kinds = world.truth.catalogue.kind[previous]
    matches = MATCHES[kinds, rng.integers(0, 6, len(kinds))]
    matches = np.where(exists[matches], matches, kinds)
    draws = rng.random(len(kinds)) / max(world.sequence, 1e-9)
    near_kinds = np.where(draws < 0.5, kinds, matches)
    is_near = draws < 0.75
    return np.where(is_near, near_kinds, new_kinds), is_near


def _choose(
    world: World,
    slates: np.ndarray,
    utilities: np.ndarray,
    is_near: np.ndarray,
    previous: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose (n,) the item of each slate (n, slate) of largest utility after noise.

    Where `is_near`, traits shared with the previous item add to the utility.
    """
    traits = world.truth.catalogue.traits
    shared = (traits[slates] == traits[previous][:, None]).sum(axis=2)
    noise = rng.gumbel(size=slates.shape).astype(np.float32)
    scores = utilities
    scores += 1.5 * shared * is_near[:, None] + world.noise * noise
    # a user never views the same item twice in a row, unless there is no other
    scores[slates == previous[:, None]] = -np.inf
    best = scores.argmax(axis=1)[:, None]
    return np.take_along_axis(slates, best, axis=1)[:, 0]


def worth_of(truth: Truth, tastes: np.ndarray, user: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return (n, m) utilities of items (n, m) within their kind: traits, price and quality."""
    catalogue = truth.catalogue
    columns = catalogue.traits[items].reshape(len(items), 4 * items.shape[1])  # (n, m * 4)
    trait_tastes = np.take_along_axis(tastes, columns, axis=1)
    worth: np.ndarray = trait_tastes.reshape(*items.shape, 4).sum(axis=2)
    worth += catalogue.quality[items]
    worth -= truth.users.price_sensitivity[user][:, None] * catalogue.price_level[items]
    return worth
