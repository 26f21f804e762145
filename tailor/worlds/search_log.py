"""A planted log of pages and searches: the next search joins the page with the user's interest."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

TOPIC_NAMES = (
    "harbour museum tramway orchard lighthouse brewery observatory canal theatre quarry vineyard"
    " aquarium cathedral windmill velodrome planetarium"
)
ASPECT_NAMES = (
    "architecture timetable photography accessibility history budget restaurants volunteering"
    " parking geology cycling concerts weddings engineering wildlife childcare"
)
TOPICS = TOPIC_NAMES.split()
ASPECTS = ASPECT_NAMES.split()
DAY_MS = 86_400_000


@dataclass(frozen=True, eq=False)
class SearchLog:
    """A log, and the truth that it was made from."""

    data: Dataset
    """Pages read as events; searches as texts, with the page that they were made at."""
    aspects: dict[str, tuple[tuple[str, ...], ...]]
    """User -> the aspects of interest in the first half of the time, and in the second."""


def search_log(
    users: int = 200,
    events: int = 24,
    seed: int = 0,
    *,
    personal: float = 0.8,
    search: float = 0.6,
    drift: bool = True,
) -> SearchLog:
    """Make a log of users who read pages and search at them.

    A page is about a topic and an aspect. A user reads pages of three favourite topics mostly, and
    searches for the page's topic with an aspect: with probability `personal` one of two of their
    own, which change halfway where `drift` is set; else any, the first of the list most often. So
    the next search is known from page and user together, and from neither alone. `search` is the
    probability of a search at a page.
    """
    rng = random_of(seed, "searches")
    pages = [(topic, aspect) for topic in range(len(TOPICS)) for aspect in range(len(ASPECTS))]
    page_ids = opaque_ids("p-", len(pages), seed).to_list()
    user_ids = opaque_ids("u-", users, seed).to_list()
    fame = 1 / np.arange(1, len(ASPECTS) + 1)
    rows: list[tuple[str, str, int, str]] = []
    truth: dict[str, tuple[tuple[str, ...], ...]] = {}
    for user in user_ids:
        topics = rng.choice(len(TOPICS), 3, replace=False)
        halves = [rng.choice(len(ASPECTS), 2, replace=False) for _ in range(2)]
        halves = halves if drift else [halves[0], halves[0]]
        truth[user] = tuple(tuple(ASPECTS[a] for a in half) for half in halves)
        for number in range(events):
            is_favourite = rng.random() < 0.8
            topic = int(rng.choice(topics)) if is_favourite else int(rng.integers(len(TOPICS)))
            page = topic * len(ASPECTS) + int(rng.integers(len(ASPECTS)))
            aspects = halves[2 * number // events]
            is_personal = rng.random() < personal
            aspect = int(
                rng.choice(aspects)
                if is_personal
                else rng.choice(len(ASPECTS), p=fame / fame.sum())
            )
            time_ms = START_MS + number * 3 * DAY_MS + int(rng.integers(DAY_MS))
            text = f"{TOPICS[topic]} {ASPECTS[aspect]}" if rng.random() < search else ""
            rows.append((user, page_ids[page], time_ms, text))
    return SearchLog(_dataset(rows, page_ids, pages, seed), truth)


def _dataset(
    rows: list[tuple[str, str, int, str]],
    page_ids: list[str],
    pages: list[tuple[int, int]],
    seed: int,
) -> Dataset:
    columns = ["user_id", "item_id", "time_ms", "text"]
    log = pl.DataFrame(rows, schema=columns, orient="row")
    items = pl.DataFrame(
        {
            "item_id": page_ids,
            "title": [f"{TOPICS[topic]} {ASPECTS[aspect]}" for topic, aspect in pages],
            "categories": [[TOPICS[topic]] for topic, _ in pages],
        }
    )
    texts = log.filter(pl.col("text") != "").with_columns(pl.lit("query").alias("kind"))
    return Dataset(
        {"events": log.drop("text"), "items": items, "texts": texts}, f"search log {seed}"
    )
