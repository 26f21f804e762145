"""Planted logs of users of a few styles, who like the same values of items or the same texts.

Shapes: U users, N items, V visits of a user, S styles, C topics.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

GROUPS = ("brand", "colour", "style")
DAY_MS = 86_400_000
PERIOD_DAYS = 100.0
FAME = 0.8  # how fast popularity falls with the rank of an item
TOPICS = (
    "kettle stove teapot saucepan",
    "tent canvas campfire backpack",
    "novel paperback library chapter",
    "lamp lantern candle chandelier",
    "violin piano cello trumpet",
    "saddle stirrup bridle horseshoe",
    "shampoo lotion soap perfume",
    "hammer chisel screwdriver pliers",
    "tulip orchid daffodil rose",
    "sweater scarf mitten jacket",
    "racket football cricket hockey",
    "keyboard monitor laptop printer",
    "puppy leash kennel terrier",
    "cradle stroller diaper pacifier",
    "necklace bracelet earring brooch",
    "anchor sail rudder yacht",
    "noodle dumpling curry rice",
    "telescope comet planet eclipse",
    "carburettor clutch gearbox exhaust",
    "aquarium goldfish coral seahorse",
    "cheese butter yoghurt cream",
    "chess domino dice backgammon",
    "microphone headphone speaker amplifier",
    "pillow blanket mattress duvet",
)
ADJECTIVES = ("small", "large", "plain", "fine", "old", "new", "blue", "green", "cheap", "solid")


@dataclass(frozen=True, eq=False)
class Styles:
    """A log, and the segment of each user that it was made from."""

    data: Dataset
    segments: dict[str, int]


def styles(
    users: int = 1_200,
    items: int = 600,
    segments: int = 5,
    events: int = 10,
    seed: int = 0,
    *,
    values: int = 8,
    taste: float = 2.0,
) -> Styles:
    """Make a log of users who choose items by the values that their segment likes.

    Every item has one of `values` values in each of three groups. A segment likes two values of a
    group; an item with m liked values is exp(taste * m) times as likely to be chosen. Users choose
    between 2 and 2 * `events` - 2 items.
    """
    rng = random_of(seed, "styles")
    item_values = rng.integers(values, size=(items, len(GROUPS)))
    likes = np.zeros((segments, len(GROUPS), values), bool)
    for segment in range(segments):
        for group in range(len(GROUPS)):
            likes[segment, group, rng.choice(values, 2, replace=False)] = True
    fame = rng.permutation(1 / np.arange(1, items + 1) ** 0.5)
    user_ids = opaque_ids("u-", users, seed).to_list()
    item_ids = np.array(opaque_ids("i-", items, seed).to_list(), dtype=object)
    segment_of = rng.integers(segments, size=users)
    rows = []
    for user, segment in zip(user_ids, segment_of.tolist(), strict=True):
        matches = likes[segment, np.arange(len(GROUPS)), item_values].sum(axis=1)
        worth = fame * np.exp(taste * matches)
        n = int(rng.integers(2, 2 * events - 1))
        chosen = rng.choice(items, min(n, items), replace=False, p=worth / worth.sum())
        rows += [
            (user, item_ids[item], START_MS + number * DAY_MS)
            for number, item in enumerate(chosen.tolist())
        ]
    events_table = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    traits = {
        name: [f"{name} {value}" for value in item_values[:, column].tolist()]
        for column, name in enumerate(GROUPS)
    }
    table = pl.DataFrame({"item_id": item_ids.tolist(), **traits})
    data = Dataset({"events": events_table, "items": table}, f"styles {seed}")
    return Styles(data, dict(zip(user_ids, segment_of.tolist(), strict=True)))


@dataclass(frozen=True, eq=False)
class Responses:
    """A log of shown texts, and the truth that no method may see.

    Rows are those of the data, in which users without a choice do not occur.
    """

    data: Dataset
    """Choices as events, impressions with their requests, and items with titles."""
    styles: np.ndarray
    """(U,) style of each user."""
    topics: np.ndarray
    """(N,) topic of each item."""
    probabilities: np.ndarray
    """(U, N) probability that a user chooses an item that is shown."""
    is_tail: np.ndarray
    """(N,) bool: the half of the items that are shown least."""

    def oracle(self, tail: float, head: float = 0.5, seed: int = 0) -> pl.DataFrame:
        """Return scores of all pairs, as rows of user_id, item_id and score from 0 to 1.

        Of two items of a user, of which one is likely to be chosen and one is not, the likely one
        has the higher score with a probability of `tail` or `head`, by the kind of the items.
        """
        rng = random_of(seed, "oracle")
        accuracies = np.where(self.is_tail, tail, head)
        shape = self.probabilities.shape
        is_right = rng.random(shape) < accuracies
        says_yes = (self.probabilities > 0.5) == is_right
        scores = (rng.random(shape) + says_yes) / 2
        users, items = np.indices(shape)
        return pl.DataFrame(
            {
                "user_id": self.data.users.ids[users.ravel()].tolist(),
                "item_id": self.data.catalogue.ids[items.ravel()].tolist(),
                "score": scores.ravel(),
            }
        )


def responses(
    users: int = 600,
    items: int = 400,
    styles: int = 4,
    topics: int = 24,
    visits: int = 10,
    slate: int = 6,
    seed: int = 0,
    *,
    gain: float = 2.0,
    worth: float = 0.5,
    cold: float = 0.0,
) -> Responses:
    """Make a log of users who are shown texts, and who like or dislike a topic by their style.

    Styles come in pairs that respond oppositely to every topic. The log-odds of a choice are `gain`
    times the response, and a worth of the item (standard deviation `worth`) that its title does not
    tell. Users have `visits` visits, at which `slate` items are shown, popular ones more often; of
    a share `cold` of the users only one in the middle of the period and the last are in the log.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    if min(users, items, visits, slate) < 1 or styles < 2 or styles % 2 or slate > items:
        raise DataError(
            f"users {users}, items {items}, styles {styles}, visits {visits}, slate {slate}: at"
            " least 1 each, an even number of styles, and a slate of different items"
        )
    if not 1 <= topics <= len(TOPICS):
        raise DataError(f"topics is {topics}: from 1 to {len(TOPICS)}")
    rng = random_of(seed, "responses")
    signs = rng.choice([-1.0, 1.0], (styles // 2, topics))
    answers = np.concatenate([signs, -signs])  # S, C
    style_of = rng.integers(styles, size=users)
    topic_of = rng.integers(topics, size=items)
    log_odds = gain * answers[style_of][:, topic_of] + worth * rng.normal(size=items)
    probabilities = 1 / (1 + np.exp(-log_odds))  # U, N
    slates = _slates(users, items, visits, slate, rng)
    is_chosen = rng.random(slates.shape) < probabilities[np.arange(users)[:, None, None], slates]
    is_logged = np.ones((users, visits), dtype=bool)
    is_cold = rng.random(users) < cold
    is_logged[is_cold, :-1] = False
    is_logged[is_cold, visits // 2 - 1] = True
    user_ids = opaque_ids("u-", users, seed)
    item_ids = opaque_ids("i-", items, seed)
    tables = _tables_of_visits(user_ids, item_ids, slates, is_chosen, is_logged, rng)
    tables["items"] = pl.DataFrame({"item_id": item_ids, "title": _titles(topic_of, rng)})
    data = Dataset(tables, f"responses {seed}")
    # truth in the order of the data's rows; who never chose has none
    user_order = _data_order(data.users, user_ids)
    item_order = _data_order(data.catalogue, item_ids)
    return Responses(
        data,
        style_of[user_order],
        topic_of[item_order],
        probabilities[user_order][:, item_order],
        (np.arange(items) >= items // 2)[item_order],
    )


def _data_order(vocabulary: Vocabulary, ids: pl.Series) -> np.ndarray:
    """Return positions in ids of those that a vocabulary holds, in the order of its rows."""
    rows = vocabulary.rows(ids.to_list())
    return np.argsort(rows, kind="stable")[(rows < 0).sum() :]


def _slates(
    users: int, items: int, visits: int, slate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return (U, V, slate) different items of each visit, early ones more often."""
    keys = rng.gumbel(size=(users, visits, items))
    keys -= FAME * np.log(np.arange(1, items + 1))
    return np.argpartition(-keys, slate - 1, axis=2)[:, :, :slate]


def _titles(topics: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return (N,) titles: an adjective and two words of the item's topic (N,)."""
    titles = []
    for topic in topics.tolist():
        words = rng.choice(TOPICS[topic].split(), 2, replace=False).tolist()
        titles.append(" ".join([str(rng.choice(ADJECTIVES)), *words]))
    return titles


def _tables_of_visits(
    user_ids: pl.Series,
    item_ids: pl.Series,
    slates: np.ndarray,
    is_chosen: np.ndarray,
    is_logged: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, pl.DataFrame]:
    """Return events, requests, impressions and users of the logged visits (U, V).

    `slates` and `is_chosen` are (U, V, slate). Visits lie all over the period.
    """
    slate = slates.shape[2]
    days = np.sort(rng.random(is_logged.shape), axis=1) * PERIOD_DAYS
    visitors, visits = np.nonzero(is_logged)
    visit_ms = (START_MS + days[visitors, visits] * DAY_MS).astype(np.int64)
    request_ids = opaque_ids("r-", len(visitors), int(rng.integers(2**31)))
    requests = pl.DataFrame(
        {"request_id": request_ids, "user_id": user_ids[visitors], "time_ms": visit_ms}
    )
    request_of = np.repeat(np.arange(len(visitors)), slate)
    shown_items = slates[visitors, visits].ravel()
    impressions = pl.DataFrame(
        {
            "request_id": request_ids[request_of],
            "item_id": item_ids[shown_items],
            "position": np.tile(np.arange(slate), len(visitors)),
        }
    )
    chosen = np.flatnonzero(is_chosen[visitors, visits].ravel())
    events = pl.DataFrame(
        {
            "user_id": user_ids[visitors[request_of[chosen]]],
            "item_id": item_ids[shown_items[chosen]],
            "time_ms": visit_ms[request_of[chosen]] + 1,
            "request_id": request_ids[request_of[chosen]],
        }
    ).sort("time_ms", maintain_order=True)
    users = pl.DataFrame({"user_id": user_ids})
    return {"events": events, "requests": requests, "impressions": impressions, "users": users}
