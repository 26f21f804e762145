"""A planted log of visits: slates that ignore likes, and clicks, carts and orders that follow them.

    world = facet_visits(600, 8, seed=0)
    lists = model.recommend(queries, 5).reindexed(world.data.catalogue).rows
    world.truth.utility(world.data.users.rows(queries.user_ids.tolist()), lists, variety=0.5)

Shapes: U people, V visits of a person, S places of a slate, N items, F facets, W values of the
largest facet, n lists, K places of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.worlds.facet_items import FacetItems, check_disjoint
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
STEP_MS = 60_000  # from a click to the cart, and from the cart to the order
ACTIONS = ("click", "cart", "order")
# probability of each action after the one before, of an item with nothing and with all liked
LEAST, MOST = np.array([0.15, 0.2, 0.3]), np.array([0.75, 0.8, 0.9])


@dataclass(frozen=True, eq=False)
class VisitTruth:
    """The truth that no method may see. Rows of people and items are those of the data."""

    items: FacetItems
    """The catalogue: `facets`, `words`, `codes` (N, F), `matching(codes)`."""
    ways: np.ndarray
    """(U, V, F) values that every slate of a person shows; -1: any."""
    likes: np.ndarray
    """(U, F, W) bool: the values that a person likes; none of a facet that nobody cares about."""
    noise: float
    """Probability of a shown item to be any item."""

    def liking(self, people: np.ndarray) -> np.ndarray:
        """Return (n, N) the share of cared-for facets whose value a person likes."""
        is_liked = np.zeros((len(people), len(self.items.codes)))
        columns = np.flatnonzero(self.likes.any(axis=(0, 2)))
        for column in columns.tolist():
            is_liked += self.likes[people][:, column, self.items.codes[:, column]]
        return is_liked / len(columns)

    def probabilities(self, people: np.ndarray) -> np.ndarray:
        """Return (n, N, 3) probabilities of click, cart and order of shown items."""
        steps = LEAST + (MOST - LEAST) * self.liking(people)[:, :, None]
        return np.cumprod(steps, axis=2)

    def utility(self, people: np.ndarray, lists: np.ndarray, variety: float = 0.0) -> np.ndarray:
        """Return (n,) the expected orders of a place of lists (n, K); -1: no item.

        An item that stands twice in a list counts once. With `variety` an item counts less, by this
        share for each item before it that has the same values of the liked facets.
        """
        orders = np.take_along_axis(
            self.probabilities(people)[:, :, 2], np.maximum(lists, 0).astype(np.int64), axis=1
        )
        columns = np.flatnonzero(self.likes.any(axis=(0, 2)))
        looks = self.items.codes[lists][:, :, columns]  # n, K, columns
        before = np.tril(np.ones((lists.shape[1], lists.shape[1]), dtype=bool), -1)
        is_item = lists >= 0
        pairs = before & is_item[:, None, :]
        alike = (looks[:, :, None] == looks[:, None]).all(axis=3) & pairs
        repeated = ((lists[:, :, None] == lists[:, None]) & pairs).any(axis=2)
        worths = orders * (1 - variety) ** alike.sum(axis=2)
        utility: np.ndarray = np.where(is_item & ~repeated, worths, 0.0).mean(axis=1)
        return utility

    def best(self, people: np.ndarray, visit: int, k: int) -> np.ndarray:
        """Return (n, k) the most liked items among those that a visit's slate shows.

        The oracle of lists that stay with what the slates show.
        """
        fits = self.items.matching(self.ways[people, visit])
        worths = np.where(fits, self.probabilities(people)[:, :, 2], -1.0)
        rows: np.ndarray = np.argsort(-worths, axis=1, kind="stable")[:, :k]
        return rows


@dataclass(frozen=True, eq=False)
class FacetVisits:
    """A log, and the truth that no method may see."""

    data: Dataset
    """Events with action (click, cart, order) and request_id; requests, a visit each; impressions
    with the position of each shown item; items, and assets where facets are drawn. Labels: click,
    cart and order.
    """
    truth: VisitTruth
    """What the slates show, and what people like."""


def facet_visits(
    people: int = 600,
    visits: int = 8,
    seed: int = 0,
    *,
    slate: int = 6,
    values: Sequence[int] = (6, 5, 6, 4),
    kept: Sequence[str] = ("kind",),
    walked: Sequence[str] = ("maker",),
    liked: Sequence[str] = ("colour", "shape"),
    likes: int = 2,
    named: Sequence[str] | None = None,
    drawn: Sequence[str] = (),
    noise: float = 0.1,
    copies: int = 1,
    side: int = 32,
) -> FacetVisits:
    """Make a log of `people` with `visits` each, one a day; a knob at 0 or () is off.

    Items are those of `facets` (`values`, `named`, `drawn`, `copies`, `side`). A visit shows a
    slate of different items, in any order: each is any item with probability `noise`, else one with
    the person's own value of the facets `kept` and the value of this visit of those `walked`. A
    person likes `likes` values of each facet in `liked`, which the slates ignore: a shown item is
    clicked, put into the cart and ordered, each after the one before, with a probability that rises
    with the share of its facets that the person likes. So who copies what was shown leaves worth to
    be gained.

    The same arguments give the same log. Raises DataError for sizes and names that cannot be.
    """
    if min(people, visits, slate, likes) < 1 or not 0 <= noise <= 1 or not liked:
        raise DataError(
            f"people {people}, visits {visits}, slate {slate}, likes {likes}, noise {noise}, liked"
            f" {tuple(liked)}: at least 1 each, noise from 0 to 1"
        )
    check_disjoint(kept=kept, walked=walked, liked=liked)
    items = FacetItems.make(values, copies, seed)
    rng = random_of(seed, "visits")
    ways = items.ways(people, visits, kept, walked, rng)
    liked_values = _likes(people, items, liked, likes, rng)
    truth = VisitTruth(items, ways, liked_values, noise)
    slates = _slates(truth, slate, rng)
    users = Vocabulary(opaque_ids("u-", people, seed).to_list())
    tables = _logs(users, slates, truth, seed, rng) | items.tables(named, drawn, side, seed)
    labels = {action: f"action = '{action}'" for action in ACTIONS}
    data = Dataset(tables, f"facet-visits-{seed}", labels, catalogue=items.catalogue, users=users)
    return FacetVisits(data, truth)


def _likes(
    people: int, items: FacetItems, liked: Sequence[str], likes: int, rng: np.random.Generator
) -> np.ndarray:
    """Return (U, F, W) bool: `likes` values of each liked facet, or all."""
    width = int(items.sizes.max())
    liked_values = np.zeros((people, len(items.facets), width), dtype=bool)
    for column in items.columns(liked, "liked"):
        size = int(items.sizes[column])
        ranks = rng.random((people, size)).argsort(axis=1).argsort(axis=1)
        liked_values[:, column, :size] = ranks < likes
    return liked_values


def _slates(truth: VisitTruth, slate: int, rng: np.random.Generator) -> np.ndarray:
    """Return (U, V, S) different items of each visit."""
    people, visits, _ = truth.ways.shape
    n_items = len(truth.items.codes)
    if slate > n_items:
        raise DataError(f"slate is {slate}: there are {n_items} items")
    rows = np.empty((people, visits, slate), dtype=np.int64)
    for person in range(people):
        fits = truth.items.matching(truth.ways[person])  # V, N
        draws = rng.random((visits, n_items))
        is_noise = rng.random((visits, slate)) < truth.noise
        # what fits comes first, each visit in an order of its own
        fitting = np.argsort(draws + ~fits, axis=1)[:, :slate]
        other = np.argsort(draws + fits, axis=1)[:, :slate]
        rows[person] = np.where(is_noise, other, fitting)
    return rows


def _logs(
    users: Vocabulary, slates: np.ndarray, truth: VisitTruth, seed: int, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Return the tables of requests, impressions and events."""
    people, visits, slate = slates.shape
    times = START_MS + DAY_MS * np.arange(visits) + rng.integers(DAY_MS // 2, size=(people, 1))
    requests = pl.DataFrame(
        {
            "request_id": opaque_ids("r-", people * visits, seed),
            "user_id": users.ids.repeat(visits).tolist(),
            "time_ms": times.ravel(),
        }
    )
    item_ids = pl.Series(truth.items.catalogue.ids[slates.ravel()].tolist())
    request_of = np.repeat(np.arange(people * visits), slate)
    impressions = pl.DataFrame(
        {
            "request_id": requests["request_id"][request_of],
            "item_id": item_ids,
            "position": np.tile(np.arange(slate), people * visits),
        }
    )
    steps = truth.probabilities(np.arange(people))
    person = np.arange(people)[:, None, None]
    reached = rng.random((people, visits, slate, 1)) < steps[person, slates]  # U, V, S, 3
    impression, step = np.nonzero(reached.reshape(-1, len(ACTIONS)))
    request = request_of[impression]
    # actions of one slate follow each other by place
    delays = (1 + impression % slate) * len(ACTIONS) + step
    events = pl.DataFrame(
        {
            "user_id": requests["user_id"][request],
            "item_id": item_ids[impression],
            "time_ms": times.ravel()[request] + STEP_MS * delays,
            "action": np.array(ACTIONS)[step].tolist(),
            "request_id": requests["request_id"][request],
        }
    )
    return {
        "events": events.sort("time_ms", maintain_order=True),
        "requests": requests.sort("time_ms", maintain_order=True),
        "impressions": impressions,
    }
