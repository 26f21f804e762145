"""A planted outdoor shop: a data set such as a shop would have, and the truth it was made from.

Everything a method may find is put in on purpose, so that one can ask afterwards whether it was found. `shop` says what is planted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa

from tailor.data.dataset import Dataset
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest
from tailor.progress import Progress, silent
from tailor.worlds import words

DAY_MS = 86_400_000
START_MS = 1_704_067_200_000  # 2024-01-01 UTC
VIEW, CART, BUY = range(3)
ACTIONS = ("view", "cart", "buy")
NAMES = words.attribute_names()
GROUP_OF, VALUES = np.array([name.split(": ") for name in NAMES], dtype=object).T
FIRST = {group: int(np.argmax(group == GROUP_OF)) for group in dict.fromkeys(GROUP_OF)}  # the first column of each group
WEIGHTS = {"category": 1.5, "kind": 1.1, "brand": 0.9, "colour": 1.0, "material": 0.8, "style": 1.0}  # how much people differ in each
KINDS_N = len(words.KINDS)
CATEGORY_OF = np.array([list(words.CATEGORIES).index(kind.category) for kind in words.KINDS])  # (kinds,)
CYCLE_OF = np.array([kind.cycle_days for kind in words.KINDS])  # (kinds,)
COUNTRIES = ("NO", "DE", "FR", "GB", "ES", "PL")
AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")
HOURS = np.array([1, 2, 4, 4, 4, 4, 5, 4, 3, 3, 4, 5, 7, 9, 10, 6]) / 75.0  # of sessions from 6 o'clock to 21 o'clock
BANDS = ("budget", "middle", "premium")
LONGEST = 15  # views of one session


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items as the world knows them; row i of everything is the i-th item made, which no outside id reveals."""

    kind: np.ndarray  # (N,) row in words.KINDS
    traits: np.ndarray  # (N, 4) columns of brand, colour, material and style among the attributes
    price: np.ndarray  # (N,)
    price_level: np.ndarray  # (N,) log price within its kind, about unit variance
    quality: np.ndarray  # (N,) what everyone values in it
    fame: np.ndarray  # (N,) how visible it is; no part of its worth
    created_ms: np.ndarray  # (N,)
    kind_appeal: np.ndarray  # (kinds,) what everyone needs more or less

    @cached_property
    def columns(self) -> np.ndarray:
        """(N, 6) the attribute columns that are 1 for each item."""
        return np.column_stack([FIRST["category"] + CATEGORY_OF[self.kind], FIRST["kind"] + self.kind, self.traits])


@dataclass(frozen=True, eq=False)
class People:
    """Users as the world knows them. Tastes turn from `start` towards `end`."""

    start: np.ndarray  # (U, A) float32
    end: np.ndarray  # (U, A) float32
    price_sensitivity: np.ndarray  # (U,) float32
    sessions: np.ndarray  # (U,) int64: sessions started by the user alone, a heavy tail
    joined_day: np.ndarray  # (U,) int64, below 0 for who joined before the log begins
    country: np.ndarray  # (U,) row in COUNTRIES
    age_band: np.ndarray  # (U,) row in AGE_BANDS


@dataclass(frozen=True, eq=False)
class Truth:
    """What nobody in the shop knows: tastes over time, and the worth of every item to every user.

    `utilities` is what a perfectly informed adviser would rank by. It leaves out what only moves attention: fame and the session so far.
    """

    user_ids: np.ndarray  # (U,) outside ids
    item_ids: np.ndarray  # (N,) outside ids
    people: People
    catalogue: Catalogue
    days: int
    drift: float
    season: float

    attribute_names = NAMES  # (A,) such as "colour: navy"

    @property
    def start_ms(self) -> int:
        return START_MS

    @property
    def end_ms(self) -> int:
        return START_MS + self.days * DAY_MS

    @cached_property
    def attributes(self) -> np.ndarray:
        """(N, A) float32, 1 where the item has the attribute."""
        out = np.zeros((len(self.item_ids), len(NAMES)), dtype=np.float32)
        np.put_along_axis(out, self.catalogue.columns, 1, axis=1)
        return out

    def tastes(self, user_ids: Sequence[str], time_ms: int | np.ndarray | None = None) -> np.ndarray:
        """(len(user_ids), A) float32: what each attribute adds to an item's utility, at a time (one, or one a user) or at the end."""
        rows = _known(user_ids, self._user_rows, "user")
        return self.tastes_of(rows, np.broadcast_to(self.end_ms if time_ms is None else time_ms, rows.shape))

    def utilities(
        self, user_ids: Sequence[str], item_ids: Sequence[str] | None = None, time_ms: int | np.ndarray | None = None
    ) -> np.ndarray:
        """(users, items) float32 at a time (one, or one a user) or at the end; all items in the order of `item_ids` where none are given.

        Tastes, price, quality, season. Raises DataError for an unknown id.
        """
        users = _known(user_ids, self._user_rows, "user")
        items = np.arange(len(self.item_ids)) if item_ids is None else _known(item_ids, self._item_rows, "item")
        times = np.broadcast_to(self.end_ms if time_ms is None else time_ms, users.shape)
        made = self.catalogue
        out: np.ndarray = self.tastes_of(users, times) @ self.attributes[items].T  # (U, N)
        out -= np.outer(self.people.price_sensitivity[users], made.price_level[items])
        out += self.kinds_now(times)[:, made.kind[items]] + made.quality[items]
        return out.astype(np.float32, copy=False)

    def best(self, user_id: str, k: int = 10, time_ms: int | None = None) -> list[str]:
        """The k items of highest utility among those on sale at a time, or at the end."""
        time_ms = self.end_ms if time_ms is None else time_ms
        worth = np.where(self.catalogue.created_ms <= time_ms, self.utilities([user_id], time_ms=time_ms)[0], -np.inf)
        order = np.argsort(-worth, kind="stable")[:k]
        best: list[str] = self.item_ids[order[worth[order] > -np.inf]].tolist()
        return best

    def tastes_of(self, users: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
        """(n, A) tastes of user rows at times. A turn by an angle keeps their strength, whatever the drift."""
        start: np.ndarray = self.people.start[users]
        if not self.drift:
            return start
        angle = (self.drift * np.pi / 2) * np.clip((times_ms - START_MS) / (self.days * DAY_MS), 0, 1).astype(np.float32)[:, None]
        turned: np.ndarray = np.cos(angle) * start + np.sin(angle) * self.people.end[users]
        return turned

    def kinds_now(self, times_ms: np.ndarray) -> np.ndarray:
        """(n, kinds) float32: what the season and general need add to every kind at each time."""
        peak, strength = np.array(list(words.CATEGORIES.values()), dtype=np.float32)[CATEGORY_OF].T
        day = ((times_ms - START_MS) / DAY_MS).astype(np.float32)[:, None]
        wave: np.ndarray = self.season * strength * np.cos((day - peak) * np.float32(2 * np.pi / 365))
        wave += self.catalogue.kind_appeal
        return wave

    @cached_property
    def _user_rows(self) -> Vocabulary:
        return Vocabulary(self.user_ids)

    @cached_property
    def _item_rows(self) -> Vocabulary:
        return Vocabulary(self.item_ids)


@dataclass(frozen=True, eq=False)
class Shop:
    """What the shop has (`data`), and what it was made from (`truth`), which no method may see."""

    data: Dataset
    truth: Truth


def shop(
    users: int = 2_000,
    items: int = 600,
    days: int = 180,
    seed: int = 0,
    *,
    taste: float = 1.0,
    drift: float = 0.5,
    price: float = 1.0,
    season: float = 1.0,
    popularity_bias: float = 1.0,
    sequence: float = 1.0,
    repeat: float = 0.6,
    launches: float = 0.3,
    noise: float = 1.0,
    sessions: float = 9.0,
    slate: int = 12,
    reviews: float = 0.4,
    searches: float = 0.2,
    progress: Progress = silent,
) -> Shop:
    """An outdoor shop's log of views, carts and buys with catalogue, users, reviews and searches; the same arguments, the same data.

    A visit: somebody comes with a kind of item in mind (by taste, need and season), sees a slate of that kind drawn by fame, looks at
    what is worth most to them after some noise, goes on to a similar or matching item or to something new, puts some into the cart and
    buys some of that. Buys therefore follow views of the same item: who wants "the next item" to be a question splits the views.

    What each knob plants, and how it shows; 0 takes the effect away:
    - taste: how much people differ. Users of one of 12 (mixed) segments like the same attributes; country and age band hint at the segment.
    - drift: how far tastes turn over the whole period, 1 being a quarter turn, after which only what country and age hint at is left.
    - price: how much people mind the price within a kind (differently strongly); cheap items are bought more.
    - season: categories sell by the time of the year (skis in January, water sports in July).
    - popularity_bias: exponent of an item's fame, by which it gets onto slates. Fame has no worth; 0 shows all items equally.
    - sequence: in [0, 1]. How far a session hangs together: at 1, half of its steps stay within the kind and a quarter go to a matching
      kind, both near the last item's brand, colour, material and style; co-visitation finds it.
    - repeat: in [0, 1]. Chance that a bought consumable is bought again after its cycle, and again after that. What lasts is bought once.
    - launches: share of items that come on sale during the period; one of each kind is always there before.
    - noise: Gumbel scale of every choice from a slate.
    - sessions: mean number a user starts by themselves, at least 1, heavily tailed.
    - slate: items compared at every step.
    - reviews: share of buys with a review 1 to 10 days later that says what the user likes and dislikes about the item and misses in it,
      with a `rating` of 1 to 5.
    - searches: share of sessions that begin with a search for what is looked at first, naming what the user likes in it.

    Memory is about 1 kB a user for tastes (3 kB while they are drawn) and 0.2 kB an event. Raises DataError for knobs out of range.
    """
    _check(users=users, items=items, days=days, slate=slate)
    _check_sizes(taste=taste, drift=drift, price=price, season=season, popularity_bias=popularity_bias, noise=noise, sessions=sessions)
    _check_shares(sequence=sequence, repeat=repeat, launches=launches, reviews=reviews, searches=searches)
    catalogue = _catalogue(items, days, seed, launches)
    people = _people(users, days, seed, taste, price, sessions)
    truth = Truth(
        opaque_ids("u-", users, seed).to_numpy(), opaque_ids("i-", items, seed).to_numpy(), people, catalogue, days, drift, season
    )
    world = World(truth, Slates(catalogue, popularity_bias), sequence, repeat, noise, slate)
    visits = _visits(world, random_of(seed, "visits"), progress)
    tables = {
        "events": _events_table(truth, visits, seed),
        "items": _items_table(truth, seed),
        "users": _users_table(truth),
        "texts": _texts_table(truth, visits, seed, reviews, searches),
    }
    return Shop(Dataset(tables, "shop", {"buy": "action = 'buy'", "view": "action = 'view'"}), truth)


# Items and people


def _catalogue(n: int, days: int, seed: int, launches: float) -> Catalogue:
    rng = random_of(seed, "catalogue")
    kind = np.concatenate([rng.permutation(KINDS_N), rng.integers(0, KINDS_N, max(0, n - KINDS_N))])[:n]
    material = [FIRST["material"] + 4 * list(words.MATERIALS).index(one.material) for one in words.KINDS]
    styles = np.where(CYCLE_OF[kind] > 0, words.STYLES_OF_CONSUMABLES, len(words.STYLES))
    brand = rng.integers(0, len(words.BRANDS), n)
    traits = np.column_stack([
        FIRST["brand"] + brand,
        FIRST["colour"] + rng.integers(0, len(words.COLOURS), n),
        np.array(material)[kind] + rng.integers(0, 4, n),
        FIRST["style"] + rng.integers(0, styles),
    ])  # fmt: skip
    level = 0.6 * rng.standard_normal(len(words.BRANDS))[brand] + 0.8 * rng.standard_normal(n)  # a brand has its price
    price = np.maximum(1, np.round(np.array([one.price for one in words.KINDS])[kind] * np.exp(0.3 * level))) - 0.05
    fame = np.exp(rng.standard_normal(n))
    quality = 0.4 * rng.standard_normal(n)
    late = (np.arange(n) >= KINDS_N) & (rng.random(n) < launches)  # the first item of a kind was always there
    day = np.where(late, rng.integers(1, max(2, int(days * 0.9)), n), -rng.integers(1, 700, n))
    return Catalogue(kind, traits, price, level.astype(np.float32), quality.astype(np.float32), fame, START_MS + day * DAY_MS,
                     0.4 * rng.standard_normal(KINDS_N).astype(np.float32))  # fmt: skip


def _people(n: int, days: int, seed: int, taste: float, price: float, sessions: float) -> People:
    rng = random_of(seed, "people")
    segments = rng.standard_normal((12, len(NAMES)), dtype=np.float32)
    country = rng.choice(len(COUNTRIES), n, p=[0.1, 0.3, 0.2, 0.2, 0.1, 0.1])
    age = rng.choice(len(AGE_BANDS), n, p=[0.15, 0.25, 0.3, 0.2, 0.1])
    hints = 0.8 * rng.standard_normal((len(COUNTRIES), 12)), 0.8 * rng.standard_normal((len(AGE_BANDS), 12))
    leaning = hints[0][country] + hints[1][age]  # (U, 12): what makes country and age worth knowing
    scale = taste * np.array([WEIGHTS[group] for group in GROUP_OF], dtype=np.float32)
    start, end = (_tastes(random_of(seed, when), leaning, segments, scale) for when in ("start", "end"))
    joined = np.where(rng.random(n) < 0.6, -rng.integers(1, 1_000, n), rng.integers(0, max(1, int(days * 0.9)), n))
    there = 1 - np.maximum(joined, 0) / days  # share of the period
    activity = rng.lognormal(-0.5, 1.0, n)  # mean 1
    counts = 1 + rng.poisson(np.maximum(sessions - 1, 0) / 0.82 * activity * there)  # .82 is the mean of `there`
    sensitivity = price * 0.3 * rng.gamma(2.0, 1.0, n)
    return People(start, end, sensitivity.astype(np.float32), counts, joined, country, age)


def _tastes(rng: np.random.Generator, leaning: np.ndarray, segments: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(U, A): a mixture of two segments, the first one more, and something of one's own."""
    order = np.argsort(-(leaning + rng.gumbel(size=leaning.shape)), axis=1)  # a draw without replacement by exp(leaning)
    out: np.ndarray = 0.3 * segments[order[:, 1]] + 0.75 * segments[order[:, 0]]
    out += np.float32(0.6) * rng.standard_normal(out.shape, dtype=np.float32)
    out *= scale
    return out


# Visits


class Slates:
    """Draws items of a kind by fame among those on sale.

    Items stand in order of kind and, within it, of their launch: those on sale are a run, a draw is one search in the running sum of fame.
    """

    def __init__(self, catalogue: Catalogue, popularity_bias: float) -> None:
        self.order = np.lexsort((catalogue.created_ms, catalogue.kind))
        self.sums = np.r_[0.0, np.cumsum(catalogue.fame[self.order] ** popularity_bias)]
        self.starts = np.searchsorted(catalogue.kind[self.order], np.arange(KINDS_N + 1))
        self.exists = self.starts[1:] > self.starts[:-1]  # (kinds,); a small catalogue has not every kind
        self._keys = self._key(catalogue.kind, catalogue.created_ms)[self.order]

    @staticmethod
    def _key(kind: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
        key: np.ndarray = kind.astype(np.int64) * 2**42 + time_ms  # 2 ** 42 ms is the year 2109
        return key

    def draw(self, kind: np.ndarray, time_ms: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """(n, size) item rows."""
        low = self.sums[self.starts[kind]][:, None]
        high = self.sums[np.searchsorted(self._keys, self._key(kind, time_ms), side="right")][:, None]
        places = np.searchsorted(self.sums, low + rng.random((len(kind), size)) * (high - low), side="right") - 1
        rows: np.ndarray = self.order[np.minimum(places, len(self.order) - 1)]
        return rows


@dataclass(frozen=True, eq=False)
class World:
    """What every step of a visit needs: the truth, what the shop shows, and the knobs that `shop` explains."""

    truth: Truth
    slates: Slates
    sequence: float
    repeat: float
    noise: float
    slate: int


@dataclass(frozen=True, eq=False)
class Sessions:
    """Visits to be made; `first` is the item somebody comes back for, -1 where the first item is to be chosen."""

    user: np.ndarray  # (S,)
    start_ms: np.ndarray  # (S,)
    length: np.ndarray  # (S,) views
    first: np.ndarray  # (S,)


@dataclass(frozen=True, eq=False)
class Visits:
    """Events as rows; unsorted until `_visits` has put them into order of time."""

    session: np.ndarray  # (E,)
    user: np.ndarray  # (E,)
    item: np.ndarray  # (E,)
    action: np.ndarray  # (E,)
    time_ms: np.ndarray  # (E,)

    def take(self, which: np.ndarray) -> "Visits":
        return Visits(*(column[which] for column in vars(self).values()))


def _visits(world: World, rng: np.random.Generator, progress: Progress) -> Visits:
    """All sessions: those people start by themselves, then round after round those that consumables call for."""
    todo, done, started = _own_sessions(world.truth, rng), [], 0
    while len(todo.user):
        parts = np.array_split(np.arange(len(todo.user)), 1 + len(todo.user) // 8_192)  # small enough to stay near the processor
        made = [_walk(world, todo, part, started, rng) for part in progress(parts, "visiting the shop", len(parts))]
        started += len(todo.user)
        done.append(_joined(made))
        todo = _returns(world.truth, done[-1], world.repeat, rng)
    visits = _joined(done)
    visits = visits.take(np.argsort(visits.time_ms, kind="stable"))
    return visits.take(~_bought_before(world.truth.catalogue, visits))


def _bought_before(catalogue: Catalogue, visits: Visits) -> np.ndarray:
    """(E,) the buys of a lasting item that its buyer has already: such an item stays in the cart."""
    lasting = np.flatnonzero((visits.action == BUY) & (CYCLE_OF[catalogue.kind[visits.item]] == 0))
    _, first = np.unique(visits.user[lasting] * len(catalogue.kind) + visits.item[lasting], return_index=True)
    again = np.zeros(len(visits.user), dtype=bool)
    again[np.delete(lasting, first)] = True
    return again


def _joined(parts: list[Visits]) -> Visits:
    return Visits(*(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts))))


def _own_sessions(truth: Truth, rng: np.random.Generator) -> Sessions:
    user = np.repeat(np.arange(len(truth.user_ids)), truth.people.sessions)
    first_day = np.maximum(truth.people.joined_day, 0)[user]
    day = first_day + (rng.random(len(user)) * (truth.days - first_day)).astype(np.int64)
    length = np.minimum(rng.geometric(0.25, len(user)), LONGEST)
    return Sessions(user, _at_some_hour(day, rng), length, np.full(len(user), -1))


def _returns(truth: Truth, visits: Visits, repeat: float, rng: np.random.Generator) -> Sessions:
    """Sessions in which a consumable bought before is bought again, one cycle later, with a tenth of its length either way."""
    cycles = CYCLE_OF[truth.catalogue.kind[visits.item]]
    again = np.flatnonzero((visits.action == BUY) & (cycles > 0))
    again = again[rng.random(len(again)) < repeat]
    bought_day = (visits.time_ms[again] - START_MS) // DAY_MS
    day = bought_day + np.maximum(1, np.round(cycles[again] * rng.normal(1, 0.1, len(again)))).astype(np.int64)
    again, day = again[day < truth.days], day[day < truth.days]
    length = np.minimum(rng.geometric(0.5, len(again)), LONGEST)
    return Sessions(visits.user[again], _at_some_hour(day, rng), length, visits.item[again])


def _at_some_hour(day: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A moment between 6 and 22 o'clock, so that a session of at most an hour and a half ends on its day."""
    hour = 6 + np.searchsorted(np.cumsum(HOURS)[:-1], rng.random(len(day)))
    return START_MS + day * DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, len(day))


def _walk(world: World, sessions: Sessions, part: np.ndarray, started: int, rng: np.random.Generator) -> Visits:
    """The events of some sessions, all of them one step at a time: views and carts as they go, buys at the end."""
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
        item[choosing] = _choose(world, tastes[choosing], user[choosing], kind, near, item[choosing], clock[choosing], rng)
        out.append((on, item[on], VIEW, clock[on]))
        worth = _worth(world.truth, tastes[on], user[on], item[on][:, None])[:, 0]
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
    """At the end of a session three of five cart items are bought, and everything somebody came back for; each item once.

    `carts` holds, for every step, rows of sessions, items, and whether it is what somebody came back for.
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
    worth = tastes[:, FIRST["kind"] : FIRST["kind"] + KINDS_N] + tastes[:, FIRST["category"] + CATEGORY_OF]
    worth += world.truth.kinds_now(times_ms)
    worth[:, ~world.slates.exists] = -np.inf
    np.exp(worth - worth.max(axis=1, keepdims=True), out=worth)
    return np.cumsum(worth / worth.sum(axis=1, keepdims=True), axis=1)


GOES_WITH = [[[one.name for one in words.KINDS].index(other) for other in kind.goes_with] for kind in words.KINDS]
MATCHES = np.array([(rows * 6)[:6] for rows in GOES_WITH])  # (kinds, 6), each match equally often (2 or 3 of them)


def _next_kinds(world: World, before: np.ndarray | None, odds: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the kind looked at next, and (n,) whether it is sought near the item before."""
    exists = world.slates.exists
    fresh = np.minimum((odds < 1 - rng.random((len(odds), 1))).sum(axis=1), np.flatnonzero(exists)[-1])
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
    """(n,) the item of a slate that is worth most after noise; where `near`, being like the item before counts."""
    slate = world.slates.draw(kind, time_ms, world.slate, rng)  # (n, slate)
    score = _worth(world.truth, tastes, user, slate)
    traits = world.truth.catalogue.traits
    shared = (traits[slate] == traits[before][:, None]).sum(axis=2)
    score += 1.5 * shared * near[:, None] + world.noise * rng.gumbel(size=slate.shape).astype(np.float32)
    score[slate == before[:, None]] = -np.inf  # nobody looks twice in a row at the same item, unless there is no other
    return np.take_along_axis(slate, score.argmax(axis=1)[:, None], axis=1)[:, 0]


def _worth(truth: Truth, tastes: np.ndarray, user: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n, m) what items (n, m) of a kind are worth beside their kind: traits, price and quality."""
    made = truth.catalogue
    columns = made.traits[items].reshape(len(items), 4 * items.shape[1])  # (n, m * 4)
    worth: np.ndarray = np.take_along_axis(tastes, columns, axis=1).reshape(*items.shape, 4).sum(axis=2)
    worth += made.quality[items]
    worth -= truth.people.price_sensitivity[user][:, None] * made.price_level[items]
    return worth


# Tables


def _events_table(truth: Truth, visits: Visits, seed: int) -> pl.DataFrame:
    sessions = opaque_ids("s-", int(visits.session.max()) + 1, seed)
    discount = random_of(seed, "discounts").choice([0, 0, 0, 0.1, 0.2], len(visits.user))
    paid = np.round(truth.catalogue.price[visits.item] * (1 - discount), 2)
    return pl.DataFrame({
        "event_id": opaque_ids("e-", len(visits.user), seed),
        "user_id": pl.Series(truth.user_ids, dtype=pl.String).gather(visits.user),
        "item_id": pl.Series(truth.item_ids, dtype=pl.String).gather(visits.item),
        "time_ms": visits.time_ms,
        "action": pl.Series(ACTIONS).gather(visits.action),
        "value": pl.select(pl.when(pl.Series(visits.action == BUY)).then(pl.Series(paid)))[:, 0],
        "session_id": sessions.gather(visits.session),
    })  # fmt: skip


def _items_table(truth: Truth, seed: int) -> pl.DataFrame:
    made = truth.catalogue
    draws = random_of(seed, "titles").random((len(made.kind), 4)).tolist()
    kinds = [words.KINDS[kind] for kind in made.kind]
    values = _values(made.traits)
    bands = [BANDS[band] for band in np.digitize(made.price_level, [-0.5, 0.5])]
    columns = {
        "item_id": truth.item_ids,
        "title": [words.title(*row) for row in zip(kinds, values, draws)],
        "text": [words.description(*row) for row in zip(kinds, values, bands, draws)],
        "categories": [[kind.category, kind.name] for kind in kinds],
        "price": made.price,
        "created_ms": made.created_ms,
        **dict(zip(words.GROUPS, map(list, zip(*values)))),
        "price_band": bands,
    }
    return _by_id(pl.DataFrame(columns), "item_id")


def _users_table(truth: Truth) -> pl.DataFrame:
    people = truth.people
    columns = {
        "user_id": truth.user_ids,
        "country": [COUNTRIES[row] for row in people.country],
        "age_band": [AGE_BANDS[row] for row in people.age_band],
        "joined_ms": START_MS + people.joined_day * DAY_MS,
    }
    return _by_id(pl.DataFrame(columns), "user_id")


def _texts_table(truth: Truth, visits: Visits, seed: int, reviews: float, searches: float) -> pl.DataFrame:
    frames = [_reviews(truth, visits, random_of(seed, "reviews"), reviews), _searches(truth, visits, random_of(seed, "searches"), searches)]
    frame = pl.concat(frames, how="diagonal").sort("time_ms", maintain_order=True)
    return frame.with_columns(text_id=opaque_ids("t-", len(frame), seed))


def _reviews(truth: Truth, visits: Visits, rng: np.random.Generator, share: float) -> pl.DataFrame:
    """One review at most for a buy. It names the two traits of the item felt about most strongly, and what is missed in it."""
    time = visits.time_ms + rng.integers(DAY_MS, 10 * DAY_MS, len(visits.user))
    which = np.flatnonzero((visits.action == BUY) & (rng.random(len(visits.user)) < share) & (time < truth.end_ms))
    user, item, time = visits.user[which], visits.item[which], time[which]
    tastes = truth.tastes_of(user, time)
    traits = truth.catalogue.traits[item]
    felt = np.take_along_axis(tastes, traits, axis=1)  # (n, 4)
    strongest = np.argsort(-np.abs(felt), axis=1)[:, :2]
    worth = _worth(truth, tastes, user, item[:, None])[:, 0]
    rating = np.digitize(worth + rng.standard_normal(len(item)), [0.5, 1.7, 2.9, 4.3]) + 1
    price = -truth.people.price_sensitivity[user] * truth.catalogue.price_level[item]
    tone = np.where(price < -0.8, 1, np.where(price > 0.8, -1, 0))
    texts = [
        words.review(words.KINDS[kind], [(words.GROUPS[t], values[t], feel[t] > 0) for t in two if abs(feel[t]) > 0.4], wish, *rest)
        for kind, values, feel, two, wish, *rest in zip(
            truth.catalogue.kind[item].tolist(), _values(traits), felt.tolist(), strongest.tolist(), _wishes(tastes, traits, rng),
            rating.tolist(), tone.tolist(), rng.random((len(item), 9)).tolist(),
        )
    ]  # fmt: skip
    return _texts("review", truth.user_ids[user], truth.item_ids[item], texts, time, rating)


def _wishes(tastes: np.ndarray, traits: np.ndarray, rng: np.random.Generator) -> list[tuple[str, str] | None]:
    """For about half of the reviews a favourite colour, style or brand that the item lacks, or none."""
    out: list[tuple[str, str] | None] = [None] * len(tastes)
    group = rng.integers(0, 7, len(tastes))
    for number, name in ((0, "brand"), (1, "colour"), (2, "style")):
        column = words.GROUPS.index(name)
        rows = np.flatnonzero(group == number)
        best = FIRST[name] + tastes[rows][:, name == GROUP_OF].argmax(axis=1)
        rows_of_wish = (tastes[rows, best] > 0.5) & (traits[rows, column] != best)
        for row, value in zip(rows[rows_of_wish].tolist(), VALUES[best[rows_of_wish]].tolist()):
            out[row] = (name, value)
    return out


def _searches(truth: Truth, visits: Visits, rng: np.random.Generator, share: float) -> pl.DataFrame:
    """A few seconds before a session's first view: its kind and the two traits of it that the user likes best."""
    _, first = np.unique(visits.session, return_index=True)  # events stand in order of time
    first = first[rng.random(len(first)) < share]
    user, item, time = visits.user[first], visits.item[first], visits.time_ms[first] - rng.integers(2_000, 4_900, len(first))
    traits = truth.catalogue.traits[item]
    liked = np.argsort(-np.take_along_axis(truth.tastes_of(user, time), traits, axis=1), axis=1)[:, :2]
    wanted = _values(np.take_along_axis(traits, liked, axis=1))
    draws = rng.random((len(item), 1)).tolist()
    texts = [words.search(words.KINDS[kind], *row) for kind, *row in zip(truth.catalogue.kind[item].tolist(), wanted, draws)]
    nothing = np.full(len(texts), None)
    return _texts("query", truth.user_ids[user], nothing, texts, time, nothing)


def _texts(kind: str, user_ids: np.ndarray, item_ids: np.ndarray, texts: list[str], time: np.ndarray, rating: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        [user_ids, item_ids, [kind] * len(texts), texts, time, rating],
        {"user_id": pl.String, "item_id": pl.String, "kind": pl.String, "text": pl.String, "time_ms": pl.Int64, "rating": pl.Int32},
    )


def _values(columns: np.ndarray) -> list[list[str]]:
    """The words of attribute columns (n, m)."""
    out: list[list[str]] = VALUES[columns].tolist()
    return out


def _by_id(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Rows in order of the id, which tells nothing, instead of the order in which the world made them."""
    return frame.with_columns(pl.col(column).cast(pl.String)).sort(column)


# Seeds and ids


def random_of(seed: int, part: str) -> np.random.Generator:
    """Every part of a world has its own stream, so that a knob of one does not change the draws of another."""
    return np.random.default_rng([seed, crc32(part.encode())])


def opaque_ids(prefix: str, n: int, seed: int) -> pl.Series:
    """n distinct ids such as u-7f3a: a seeded permutation of the numbers below a power of 16, which needs no memory."""
    width = max(4, int(np.ceil(np.log2(max(n, 2)) / 4 + 0.25)))  # 4 ** .5 times as many numbers as ids at least
    rng, bits = random_of(seed, prefix), 4 * width
    mask, half = np.uint64(2**bits - 1), np.uint64(bits // 2)
    number = np.arange(n, dtype=np.uint64)
    for _ in range(3):  # odd factors and shifts by half the bits can be undone, so no two numbers meet
        factor, addend = (np.uint64(value) for value in rng.integers(2 ** (bits - 1), 2**bits, 2))
        number = (number * (factor | np.uint64(1)) + addend) & mask
        number ^= number >> half
    shifts = np.arange(bits - 4, -1, -4, dtype=np.uint64)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[(number[:, None] >> shifts).astype(np.uint8) & 15]
    letters = np.hstack([np.tile(np.frombuffer(prefix.encode(), dtype=np.uint8), (n, 1)), digits])
    offsets = np.arange(n + 1, dtype=np.int64) * letters.shape[1]
    return pl.Series(pl.from_arrow(pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(letters.tobytes()))))


def _known(ids: Sequence[str], vocabulary: Vocabulary, what: str) -> np.ndarray:
    rows = vocabulary.rows(ids)
    if (rows < 0).any():
        unknown = list(ids)[int((rows < 0).argmax())]
        raise DataError(f'this world has no {what} "{unknown}".{nearest(unknown, vocabulary.ids[:1000])}')
    return rows


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise DataError(f"{name}={count}: a world needs at least one")


def _check_sizes(**knobs: float) -> None:
    for name, size in knobs.items():
        if not 0 <= size < np.inf:
            raise DataError(f"{name}={size}: give 0 to leave it out, or a number above it")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise DataError(f"{name}={share} is a share: give a number from 0 to 1")
