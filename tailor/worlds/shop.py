"""A planted outdoor shop: a data set such as a shop would have, and the truth it was made from.

Everything a method may find is put in on purpose, so that one can ask afterwards whether it was
found. `shop` says what is planted.
"""

from dataclasses import dataclass

import numpy as np

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.progress import Progress, silent
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_tables import events_table, items_table, texts_table, users_table
from tailor.worlds.shop_truth import Truth, make_catalogue, make_people
from tailor.worlds.shop_visits import Slates, World, make_visits


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
    """An outdoor shop's log of views, carts and buys with catalogue, users, reviews and searches;
    the same arguments, the same data.

    A visit: somebody comes with a kind of item in mind (by taste, need and season), sees a slate of
    that kind drawn by fame, looks at what is worth most to them after some noise, goes on to a
    similar or matching item or to something new, puts some into the cart and buys some of that.
    Buys therefore follow views of the same item: who wants "the next item" to be a question splits
    the views.

    What each knob plants, and how it shows; 0 takes the effect away:
    - taste: how much people differ. Users of one of 12 (mixed) segments like the same attributes;
      country and age band hint at the segment.
    - drift: how far tastes turn over the whole period, 1 being a quarter turn, after which only
      what country and age hint at is left.
    - price: how much people mind the price within a kind (differently strongly); cheap items are
      bought more.
    - season: categories sell by the time of the year (skis in January, water sports in July).
    - popularity_bias: exponent of an item's fame, by which it gets onto slates. Fame has no worth;
      0 shows all items equally.
    - sequence: in [0, 1]. How far a session hangs together: at 1, half of its steps stay within the
      kind and a quarter go to a matching
      kind, both near the last item's brand, colour, material and style; co-visitation finds it.
    - repeat: in [0, 1]. Chance that a bought consumable is bought again after its cycle, and again
      after that. What lasts is bought once.
    - launches: share of items that come on sale during the period; one of each kind is always there
      before.
    - noise: Gumbel scale of every choice from a slate.
    - sessions: mean number a user starts by themselves, at least 1, heavily tailed.
    - slate: items compared at every step.
    - reviews: share of buys with a review 1 to 10 days later that says what the user likes and
      dislikes about the item and misses in it,
      with a `rating` of 1 to 5.
    - searches: share of sessions that begin with a search for what is looked at first, naming what
      the user likes in it.

    Memory is about 1 kB a user for tastes (3 kB while they are drawn) and 0.2 kB an event. Raises
    DataError for knobs out of range.
    """
    _check(users=users, items=items, days=days, slate=slate)
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
    people = make_people(users, days, seed, taste, price, sessions)
    truth = Truth(
        opaque_ids("u-", users, seed).to_numpy(),
        opaque_ids("i-", items, seed).to_numpy(),
        people,
        catalogue,
        days,
        drift,
        season,
    )
    world = World(truth, Slates(catalogue, popularity_bias), sequence, repeat, noise, slate)
    visits = make_visits(world, random_of(seed, "visits"), progress)
    tables = {
        "events": events_table(truth, visits, seed),
        "items": items_table(truth, seed),
        "users": users_table(truth),
        "texts": texts_table(truth, visits, seed, reviews, searches),
    }
    return Shop(
        Dataset(tables, "shop", {"buy": "action = 'buy'", "view": "action = 'view'"}), truth
    )


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
