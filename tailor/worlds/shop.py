"""Make an outdoor shop's data set, and keep the truth it was made from.

Every pattern that a method can find was put in on purpose, so that tests can check whether it was
found. `shop` lists the patterns.
"""

from dataclasses import dataclass

import numpy as np

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.progress import Progress, silent
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_tables import events_table, items_table, texts_table, users_table
from tailor.worlds.shop_truth import Truth, make_catalogue, make_users
from tailor.worlds.shop_visits import Slates, World, make_visits


@dataclass(frozen=True, eq=False)
class Shop:
    """A shop's data, and the truth it was made from, which no method may see."""

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
    """Make a log of views, carts and buys with catalogue, users, reviews and searches.

    A visit: a user comes with a kind of item in mind (by taste, need and season), sees a slate of
    that kind drawn by fame, views the item of largest utility after some noise, goes on to a
    similar or matching item or to another kind, puts some into the cart and buys some of those.
    Buys therefore follow views of the same item: to evaluate "the next item", split the views.

    Settings, each with the pattern that it plants; 0 removes the pattern:
    - taste: how much users differ. Users of one of 12 (mixed) segments like the same attributes;
      country and age band hint at the segment.
    - drift: how far tastes turn over the whole period; 1 is a quarter turn, after which only the
      part that country and age hint at is left.
    - price: how much users mind the price within a kind (each differently); cheap items are bought
      more.
    - season: categories sell by the time of the year (skis in January, water sports in July).
    - popularity_bias: exponent of an item's fame, by which it gets onto slates. Fame adds no
      utility; 0 shows all items equally.
    - sequence: from 0 to 1, coherence of a session. At 1, half of its steps stay within the kind
      and a quarter go to a matching kind, both near the last item's brand, colour, material and
      style; co-visitation finds it.
    - repeat: from 0 to 1, probability that a bought consumable is bought again after its cycle, and
      again after that. Lasting items are bought once.
    - launches: share of items that come on sale during the period; one of each kind is on sale from
      the start.
    - noise: Gumbel scale of every choice from a slate.
    - sessions: mean number that a user starts without a repeat purchase, at least 1, heavy-tailed.
    - slate: items compared at every step.
    - reviews: share of buys with a review 1 to 10 days later that says what the user likes,
      dislikes and misses in the item, with a `rating` of 1 to 5.
    - searches: share of sessions that begin with a search for the item viewed first, naming what
      the user likes in it.

    The same arguments give the same data. Memory is about 1 kB a user for tastes (3 kB while they
    are drawn) and 0.2 kB an event. Raises DataError for settings out of range.
    """
    _check_counts(users=users, items=items, days=days, slate=slate)
    _check_sizes(
        taste=taste,
        drift=drift,
        price=price,
        season=season,
        popularity_bias=popularity_bias,
        noise=noise,
        sessions=sessions,
    )
    _check_shares(
        sequence=sequence, repeat=repeat, launches=launches, reviews=reviews, searches=searches
    )
    catalogue = make_catalogue(items, days, seed, launches)
    truth = Truth(
        user_ids=opaque_ids("u-", users, seed).to_numpy(),
        item_ids=opaque_ids("i-", items, seed).to_numpy(),
        users=make_users(users, days, seed, taste, price, sessions),
        catalogue=catalogue,
        days=days,
        drift=drift,
        season=season,
    )
    world = World(truth, Slates(catalogue, popularity_bias), sequence, repeat, noise, slate)
    visits = make_visits(world, random_of(seed, "visits"), progress)
    tables = {
        "events": events_table(truth, visits, seed),
        "items": items_table(truth, seed),
        "users": users_table(truth),
        "texts": texts_table(truth, visits, seed, reviews, searches),
    }
    labels = {"buy": "action = 'buy'", "view": "action = 'view'"}
    return Shop(Dataset(tables, "shop", labels), truth)


def _check_counts(**counts: int) -> None:
    """Raise DataError for counts below 1."""
    for name, count in counts.items():
        if count < 1:
            raise DataError(f"{name}={count}: a world needs at least one")


def _check_sizes(**sizes: float) -> None:
    """Raise DataError for negative and infinite numbers."""
    for name, size in sizes.items():
        if not 0 <= size < np.inf:
            raise DataError(f"{name}={size}: give 0 to leave it out, or a number above it")


def _check_shares(**shares: float) -> None:
    """Raise DataError for numbers outside 0 to 1."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise DataError(f"{name}={share} is a share: give a number from 0 to 1")
