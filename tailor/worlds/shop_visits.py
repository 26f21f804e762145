"""How people walk through the planted shop: sessions, slates, choices, carts and buys."""

from dataclasses import dataclass
from typing import Any

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

# of sessions from 6 o'clock to 21 o'clock
HOURS = np.array([1, 2, 4, 4, 4, 4, 5, 4, 3, 3, 4, 5, 7, 9, 10, 6]) / 75.0
LONGEST = 15  # views of one session


class Slates:
    """Draws items of a kind by fame among those on sale.

    Items stand in order of kind and, within it, of their launch: those on sale are a run, a draw is
    one search in the running sum of fame.
    """

    def __init__(self, catalogue: Catalogue, popularity_bias: float) -> None:
        self.order = np.lexsort((catalogue.created_ms, catalogue.kind))
        self.sums = np.r_[0.0, np.cumsum(catalogue.fame[self.order] ** popularity_bias)]
        self.starts = np.searchsorted(catalogue.kind[self.order], np.arange(KINDS_N + 1))
        # (kinds,); a small catalogue has not every kind
        self.exists = self.starts[1:] > self.starts[:-1]
        self._keys = self._key(catalogue.kind, catalogue.created_ms)[self.order]

    @staticmethod
    def _key(kind: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
        key: np.ndarray = kind.astype(np.int64) * 2**42 + time_ms  # 2 ** 42 ms is the year 2109
        return key

    def draw(
        self, kind: np.ndarray, time_ms: np.ndarray, size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(n, size) item rows."""
        low = self.sums[self.starts[kind]][:, None]
        high = self.sums[np.searchsorted(self._keys, self._key(kind, time_ms), side="right")][
            :, None
        ]
        places = (
            np.searchsorted(
                self.sums, low + rng.random((len(kind), size)) * (high - low), side="right"
            )
            - 1
        )
        rows: np.ndarray = self.order[np.minimum(places, len(self.order) - 1)]
        return rows


@dataclass(frozen=True, eq=False)
class World:
    """What every step of a visit needs: the truth, what the shop shows, and the knobs that `shop`
    explains.
    """

    truth: Truth
    slates: Slates
    sequence: float
    repeat: float
    noise: float
    slate: int


@dataclass(frozen=True, eq=False)
class Sessions:
    """Visits to be made; `first` is the item somebody comes back for, -1 where the first item is to
    be chosen.
    """

    user: np.ndarray
    """(S,)."""
    start_ms: np.ndarray
    """(S,)."""
    length: np.ndarray
    """(S,) views."""
    first: np.ndarray
    """(S,)."""


@dataclass(frozen=True, eq=False)
class Visits:
    """Events as rows; unsorted until `make_visits` has put them into order of time."""

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

    def take(self, which: np.ndarray) -> "Visits":
        return Visits(*(column[which] for column in vars(self).values()))


def make_visits(world: World, rng: np.random.Generator, progress: Progress) -> Visits:
    """All sessions: those people start by themselves, then round after round those that consumables
    call for.
    """
    todo, done, started = _own_sessions(world.truth, rng), [], 0
    while len(todo.user):
        # small enough to stay near the processor
        parts = np.array_split(np.arange(len(todo.user)), 1 + len(todo.user) // 8_192)
        made = [
            _walk(world, todo, part, started, rng)
            for part in progress(parts, "visiting the shop", len(parts))
        ]
        started += len(todo.user)
        done.append(_joined(made))
        todo = _returns(world.truth, done[-1], world.repeat, rng)
    visits = _joined(done)
    visits = visits.take(np.argsort(visits.time_ms, kind="stable"))
    return visits.take(~_bought_before(world.truth.catalogue, visits))


def _bought_before(catalogue: Catalogue, visits: Visits) -> np.ndarray:
    """(E,) the buys of a lasting item that its buyer has already: such an item stays in the cart."""
    lasting = np.flatnonzero((visits.action == BUY) & (CYCLE_OF[catalogue.kind[visits.item]] == 0))
    _, first = np.unique(
        visits.user[lasting] * len(catalogue.kind) + visits.item[lasting], return_index=True
    )
    again = np.zeros(len(visits.user), dtype=bool)
    again[np.delete(lasting, first)] = True
    return again


def _joined(parts: list[Visits]) -> Visits:
    return Visits(
        *(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts)))
    )


def _own_sessions(truth: Truth, rng: np.random.Generator) -> Sessions:
    user = np.repeat(np.arange(len(truth.user_ids)), truth.people.sessions)
    first_day = np.maximum(truth.people.joined_day, 0)[user]
    day = first_day + (rng.random(len(user)) * (truth.days - first_day)).astype(np.int64)
    length = np.minimum(rng.geometric(0.25, len(user)), LONGEST)
    return Sessions(user, _at_some_hour(day, rng), length, np.full(len(user), -1))


def _returns(truth: Truth, visits: Visits, repeat: float, rng: np.random.Generator) -> Sessions:
    """Sessions in which a consumable bought before is bought again, one cycle later, with a tenth
    of its length either way.
    """
    cycles = CYCLE_OF[truth.catalogue.kind[visits.item]]
    again = np.flatnonzero((visits.action == BUY) & (cycles > 0))
    again = again[rng.random(len(again)) < repeat]
    bought_day = (visits.time_ms[again] - START_MS) // DAY_MS
    day = bought_day + np.maximum(
        1, np.round(cycles[again] * rng.normal(1, 0.1, len(again)))
    ).astype(np.int64)
    again, day = again[day < truth.days], day[day < truth.days]
    length = np.minimum(rng.geometric(0.5, len(again)), LONGEST)
    return Sessions(visits.user[again], _at_some_hour(day, rng), length, visits.item[again])


def _at_some_hour(day: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A moment between 6 and 22 o'clock, so that a session of at most an hour and a half ends on
    its day.
    """
    hour = 6 + np.searchsorted(np.cumsum(HOURS)[:-1], rng.random(len(day)))
    return START_MS + day * DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, len(day))


def _walk(
    world: World, sessions: Sessions, part: np.ndarray, started: int, rng: np.random.Generator
) -> Visits:
    """The events of some sessions, all of them one step at a time: views and carts as they go, buys
    at the end.
    """
    user, start, length = sessions.user[part], sessions.start_ms[part], sessions.length[part]
    tastes = world.truth.tastes_of(user, start)  # (S, A)
    odds = _kind_odds(world, tastes, start)  # (S, kinds)
    item, back = sessions.first[part].copy(), sessions.first[part] >= 0
    clock, carts, out = start.copy(), [], []
    for step in range(int(length.max())):
        on = np.flatnonzero(length > step)
        clock[on] += rng.integers(5_000, 150_000, len(on))
        choosing = on[~back[on]] if step == 0 else on
        kind, near = _next_kinds(world, item[choosing] if step else None, odds[choosing], rng)
        item[choosing] = _choose(
            world,
            tastes[choosing],
            user[choosing],
            kind,
            near,
            item[choosing],
            clock[choosing],
            rng,
        )
        out.append((on, item[on], VIEW, clock[on]))
        worth = worth_of(world.truth, tastes[on], user[on], item[on][:, None])[:, 0]
        sure = back[on] & (step == 0)
        taken = (rng.random(len(on)) < 1 / (1 + np.exp(3.2 - 0.7 * worth))) | sure
        cart = on[taken]
        clock[cart] += rng.integers(3_000, 30_000, len(cart))
        out.append((cart, item[cart], CART, clock[cart]))
        carts.append((cart, item[cart], sure[taken]))
    out += _checkout(carts, clock, rng)
    rows, items, times = (np.concatenate([one[column] for one in out]) for column in (0, 1, 3))
    action = np.repeat([one[2] for one in out], [len(one[0]) for one in out])
    return Visits(started + part[rows], user[rows], items, action, times)


def _checkout(carts: list[Any], clock: np.ndarray, rng: np.random.Generator) -> list[Any]:
    """At the end of a session three of five cart items are bought, and everything somebody came
    back for; each item once.

    `carts` holds, for every step, rows of sessions, items, and whether it is what somebody came
    back for.
    """
    rows, items, sure = (np.concatenate(columns) for columns in zip(*carts))
    _, once = np.unique(rows * 2**32 + items, return_index=True)
    step = np.repeat(np.arange(len(carts)), [len(one[0]) for one in carts])
    bought = np.zeros(len(rows), dtype=bool)
    bought[once] = True
    bought &= (rng.random(len(rows)) < 0.6) | sure
    out = []
    for now in range(len(carts)):
        which = bought & (step == now)
        clock[rows[which]] += rng.integers(2_000, 40_000, which.sum())
        out.append((rows[which], items[which], BUY, clock[rows[which]]))
    return out


def _kind_odds(world: World, tastes: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    """(n, kinds) running sums of the chances that a person has each kind in mind."""
    worth = (
        tastes[:, FIRST["kind"] : FIRST["kind"] + KINDS_N]
        + tastes[:, FIRST["category"] + CATEGORY_OF]
    )
    worth += world.truth.kinds_now(times_ms)
    worth[:, ~world.slates.exists] = -np.inf
    np.exp(worth - worth.max(axis=1, keepdims=True), out=worth)
    return np.cumsum(worth / worth.sum(axis=1, keepdims=True), axis=1)


GOES_WITH = [
    [[one.name for one in words.KINDS].index(other) for other in kind.goes_with]
    for kind in words.KINDS
]
# (kinds, 6), each match equally often (2 or 3 of them)
MATCHES = np.array([(rows * 6)[:6] for rows in GOES_WITH])


def _next_kinds(
    world: World, before: np.ndarray | None, odds: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the kind looked at next, and (n,) whether it is sought near the item before."""
    exists = world.slates.exists
    fresh = np.minimum(
        (odds < 1 - rng.random((len(odds), 1))).sum(axis=1), np.flatnonzero(exists)[-1]
    )
    if before is None:
        return fresh, np.zeros(len(odds), dtype=bool)
    kind = world.truth.catalogue.kind[before]
    match = MATCHES[kind, rng.integers(0, 6, len(kind))]
    match = np.where(exists[match], match, kind)
    draw = rng.random(len(kind)) / max(world.sequence, 1e-9)
    return np.where(draw < 0.5, kind, np.where(draw < 0.75, match, fresh)), draw < 0.75


def _choose(
    world: World,
    tastes: np.ndarray,
    user: np.ndarray,
    kind: np.ndarray,
    near: np.ndarray,
    before: np.ndarray,
    time_ms: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n,) the item of a slate that is worth most after noise; where `near`, being like the item
    before counts.
    """
    slate = world.slates.draw(kind, time_ms, world.slate, rng)  # (n, slate)
    score = worth_of(world.truth, tastes, user, slate)
    traits = world.truth.catalogue.traits
    shared = (traits[slate] == traits[before][:, None]).sum(axis=2)
    score += 1.5 * shared * near[:, None] + world.noise * rng.gumbel(size=slate.shape).astype(
        np.float32
    )
    # nobody looks twice in a row at the same item, unless there is no other
    score[slate == before[:, None]] = -np.inf
    return np.take_along_axis(slate, score.argmax(axis=1)[:, None], axis=1)[:, 0]


def worth_of(truth: Truth, tastes: np.ndarray, user: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n, m) what items (n, m) of a kind are worth beside their kind: traits, price and quality."""
    made = truth.catalogue
    columns = made.traits[items].reshape(len(items), 4 * items.shape[1])  # (n, m * 4)
    worth: np.ndarray = (
        np.take_along_axis(tastes, columns, axis=1).reshape(*items.shape, 4).sum(axis=2)
    )
    worth += made.quality[items]
    worth -= truth.people.price_sensitivity[user][:, None] * made.price_level[items]
    return worth
