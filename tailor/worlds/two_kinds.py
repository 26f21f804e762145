"""Plant a shop with an established kind of items and a new, sparse one.

Tastes link them: users who like a group of old items like the group of new items that goes with it.
Which goes with which is told by events alone: titles of the two kinds share no words. Shapes: U
people, N items.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
PERIOD_DAYS = 100.0
LATE_DAYS = 20.0  # at the end, in which most people play a new item
WORDS = 4  # of a group's vocabulary, and of a title
COMMON_WORDS = 30
REGIONS = 6
LATE_SHARE = 0.8  # of people who play a new item in the last days
PREVIEW_AGREES = 0.8  # share of `agree` that previews have


@dataclass(frozen=True, eq=False)
class TwoKinds:
    """A log, and the truth that no method may see.

    Rows are those of the data's catalogue and users.
    """

    data: Dataset
    """Events with the action "play" or "preview", items with title and kind, users with region."""
    is_new: np.ndarray
    """(N,) bool: items of the new kind."""
    groups: np.ndarray
    """(N,) group of each item; a new item has that of the old items which go with it."""
    tastes: np.ndarray
    """(U, liked) groups that a person likes."""


def two_kinds(
    people: int = 1_500,
    new: int = 120,
    old: int = 480,
    groups: int = 12,
    liked: int = 2,
    seed: int = 0,
    *,
    plays: int = 20,
    new_plays: float = 0.7,
    previews: float = 1.5,
    agree: float = 0.85,
    title: float = 0.6,
) -> TwoKinds:
    """Make a log of people who like `liked` of `groups` groups of items.

    A person plays `plays` old items over the period, and on average `new_plays` new ones before its
    last days, in which four of five play one more. Of new items there are `previews` besides, which
    say less. A share `agree` of all events is of a group that the person likes. Each word of a
    title is with probability `title` one of the group's for this kind, else a common one.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    if min(people, new, old, liked, plays) < 1 or liked > groups or groups > min(new, old):
        raise DataError(
            f"people {people}, new {new}, old {old}, groups {groups}, liked {liked}, plays {plays}:"
            " at least 1 each, liked at most groups, groups at most the items of a kind"
        )
    rng = random_of(seed, "two kinds")
    items = new + old
    numbers = np.arange(items)
    is_new = numbers < new
    group_of_item = np.where(is_new, numbers, numbers - new) % groups
    tastes = rng.random((people, groups)).argsort(axis=1)[:, :liked]
    counts = {
        ("play", False): np.full(people, plays),
        ("play", True): rng.poisson(new_plays, people),
        ("preview", True): rng.poisson(previews, people),
        ("late", True): (rng.random(people) < LATE_SHARE).astype(np.int64),
    }
    item_ids = opaque_ids("i-", items, seed)
    user_ids = opaque_ids("u-", people, seed)
    parts = []
    for (action, is_of_new), count in counts.items():
        person = np.repeat(np.arange(people), count)
        share = agree * PREVIEW_AGREES if action == "preview" else agree
        group = _liked_groups(tastes[person], groups, share, rng)
        row = _items_of(group, new if is_of_new else old, groups, rng)
        row += 0 if is_of_new else new
        parts.append(_events(user_ids[person], item_ids[row], action, is_of_new, rng))
    titles = _titles(is_new, group_of_item, title, rng)
    kinds = np.where(is_new, "new", "old")
    tables = {
        "events": pl.concat(parts).sort("time_ms", maintain_order=True),
        "items": pl.DataFrame({"item_id": item_ids, "title": titles, "kind": kinds}),
        "users": pl.DataFrame({"user_id": user_ids, "region": _regions(tastes, rng)}),
    }
    data = Dataset(tables, f"two-kinds-{seed}")
    order = np.argsort(data.catalogue.rows(item_ids.to_list()))
    users = np.argsort(data.users.rows(user_ids.to_list()))
    return TwoKinds(data, is_new[order], group_of_item[order], tastes[users])


def _regions(tastes: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return a region for each person, one of two of their first taste."""
    numbers = (tastes[:, 0] + rng.integers(2, size=len(tastes))) % REGIONS
    return [f"region {number}" for number in numbers.tolist()]


def _events(
    user_ids: pl.Series, item_ids: pl.Series, action: str, is_of_new: bool, rng: np.random.Generator
) -> pl.DataFrame:
    """Return events of an action, at random times of its days; "late" ones are plays."""
    first, last = _days(action, is_of_new)
    draws = rng.random(len(user_ids))
    days = first + draws * (last - first)
    times_ms = START_MS + (days * DAY_MS).astype(np.int64)
    name = "preview" if action == "preview" else "play"
    return pl.DataFrame(
        {
            "user_id": user_ids,
            "item_id": item_ids,
            "time_ms": times_ms,
            "action": [name] * len(user_ids),
        }
    )


def _days(action: str, is_of_new: bool) -> tuple[float, float]:
    """Return the first and the last day of events of an action."""
    if action == "late":
        return PERIOD_DAYS - LATE_DAYS, PERIOD_DAYS
    return 0.0, PERIOD_DAYS - LATE_DAYS if is_of_new else PERIOD_DAYS


def _liked_groups(
    tastes: np.ndarray, groups: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a group for each row of tastes (n, liked): a liked one with probability `share`."""
    events, liked = tastes.shape
    columns = rng.integers(liked, size=events)
    liked_groups = tastes[np.arange(events), columns]
    is_liked = rng.random(events) < share
    any_groups = rng.integers(groups, size=events)
    return np.where(is_liked, liked_groups, any_groups)


def _items_of(group: np.ndarray, items: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Return an item of each group (n,); early ones are more popular."""
    sizes = (items - 1 - group) // groups + 1
    ranks = (rng.random(len(group)) ** 2 * sizes).astype(np.int64)
    return np.asarray(group + groups * ranks)


def _titles(
    is_new: np.ndarray, group_of_item: np.ndarray, share: float, rng: np.random.Generator
) -> list[str]:
    """Return a title for each item, of words of its kind's group and common ones."""
    groups = int(group_of_item.max()) + 1
    size = 2 * groups * WORDS
    words = np.array(_random_words(size + COMMON_WORDS, rng))
    vocabularies = words[:size].reshape(2, groups, WORDS)
    vocabulary_of_item = vocabularies[is_new.astype(np.int64), group_of_item]
    common_words = words[size:]
    titles = []
    for vocabulary in vocabulary_of_item:
        is_of_group = rng.random(WORDS) < share
        group_words = rng.choice(vocabulary, WORDS)
        other_words = rng.choice(common_words, WORDS)
        title_words = np.where(is_of_group, group_words, other_words)
        titles.append(" ".join(title_words.tolist()))
    return titles


def _random_words(n: int, rng: np.random.Generator) -> list[str]:
    """Return n distinct words of four syllables."""
    pairs = product("bdfgklmnprstvz", "aeiou")
    syllables = np.array(["".join(pair) for pair in pairs])
    words: dict[str, None] = {}  # in the order of drawing
    while len(words) < n:
        word = "".join(rng.choice(syllables, 4))
        words[word] = None
    return list(words)
