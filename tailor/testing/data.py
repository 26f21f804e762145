"""A small data set for tests: topics with their own words, users who stay within a topic."""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset

TOPICS = ("kettle copper stove", "tent canvas pole", "novel paper cover", "lamp brass shade")
DAY_MS = 86_400_000


def tiny_data(users: int = 60, items: int = 40, events: int = 8, seed: int = 0) -> Dataset:
    """Return `users` users with `events` events each, mostly of one of four topics.

    Items have titles, categories and prices; some events have reviews.
    """
    rng = np.random.default_rng(seed)
    topic_of_item = np.arange(items) % len(TOPICS)
    rows: dict[str, list[object]] = {
        "user_id": [],
        "item_id": [],
        "time_ms": [],
        "action": [],
        "value": [],
    }
    for user in range(users):
        topic_items = np.flatnonzero(topic_of_item == user % len(TOPICS))
        start = rng.integers(len(topic_items))
        walk = [
            topic_items[(start + step) % len(topic_items)]
            if rng.random() < 0.8
            else rng.integers(items)
            for step in range(events)
        ]
        for step, item in enumerate(walk):
            rows["user_id"].append(f"person-{user:03d}")
            rows["item_id"].append(f"thing-{item:03d}")
            rows["time_ms"].append(1_600_000_000_000 + step * DAY_MS + int(rng.integers(DAY_MS)))
            rows["action"].append("buy")
            rows["value"].append(float(rng.integers(1, 6)))
    title = [f"{TOPICS[topic]} no {number}" for number, topic in enumerate(topic_of_item)]
    table = pl.DataFrame(
        {
            "item_id": [f"thing-{number:03d}" for number in range(items)],
            "title": title,
            "categories": [[TOPICS[topic].split()[0]] for topic in topic_of_item],
            "price": (5 + rng.integers(0, 50, items)).astype(float),
        }
    )
    texts = pl.DataFrame(
        {
            "user_id": rows["user_id"][::8],
            "item_id": rows["item_id"][::8],
            "time_ms": rows["time_ms"][::8],
            "text": [f"I like it, number {number}" for number in range(len(rows["user_id"][::8]))],
        }
    )
    return Dataset(
        {
            "events": pl.DataFrame(rows).sort("time_ms", maintain_order=True),
            "items": table,
            "texts": texts,
        },
        "tiny",
    )
