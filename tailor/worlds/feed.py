"""Make a professional feed: posts shown to members, who engage by topic and by views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

MINUTE_MS = 60_000
TOPICS = {
    "hiring": "interview resume recruiter candidate salary offer onboarding vacancy",
    "cloud": "kubernetes servers latency migration containers uptime storage outage",
    "selling": "pipeline quota prospect negotiation discount contract renewal demo",
    "nursing": "patient ward shift vaccine clinic triage surgery recovery",
    "teaching": "classroom homework curriculum pupil exam lesson literacy school",
    "law": "court contract appeal evidence verdict compliance attorney statute",
    "farming": "harvest soil tractor irrigation seeds livestock drought barn",
    "design": "typography wireframe palette sketch prototype layout icon poster",
    "logistics": "warehouse freight pallet customs fleet delivery forklift cargo",
    "money": "budget audit invoice dividend mortgage inflation savings ledger",
    "film": "screenplay camera editing premiere casting director soundtrack scene",
    "energy": "turbine grid battery solar pipeline reactor insulation meter",
}
FRAMES = (
    "What I learned about {}, {} and {}",
    "Three notes on {}, {} and {}",
    "Our team on {} and {}, with a word on {}",
    "{}, {}, {}: a year in review",
)


@dataclass(frozen=True, eq=False)
class Feed:
    """A feed's data, and the effect of views, which no method may see."""

    data: Dataset
    views_worth: np.ndarray
    """(N,) what a post's views add to the logit of engaging, rows as in data.catalogue."""


def feed(
    members: int = 1_500,
    posts: int = 2_000,
    seed: int = 0,
    *,
    views: float = 1.5,
    taste: float = 2.5,
    slate: int = 12,
    visits: float = 3.0,
) -> Feed:
    """Make posts, members, impressions and an event per engagement.

    Posts have item_id, text and views; members user_id and headline. Every visit shows `slate`
    posts drawn at random, half of them of the member's two topics. A member engages with
    probability sigmoid(taste * (own topic) + views * z - 3.5), z the standard normal score of the
    post's rank by views, which are lognormal over five powers of ten. A third of the members are
    new: one visit; the others have 2 + Poisson(`visits`). The same arguments give the same data.
    Raises DataError for too few members or posts.
    """
    if members < 3 or posts < 4 * len(TOPICS) or slate < 2:
        raise DataError(
            f"members={members}, posts={posts}, slate={slate}: at least 3, {4 * len(TOPICS)} and 2"
        )
    rng = random_of(seed, "feed")
    topic_names = list(TOPICS)
    post_topics = rng.integers(len(topic_names), size=posts)
    z = rng.standard_normal(posts)
    item_ids = opaque_ids("p-", posts, seed).to_list()
    user_ids = opaque_ids("m-", members, seed).to_list()
    texts = [_post_text(topic_names[topic], rng) for topic in post_topics]
    member_topics = np.array(
        [rng.choice(len(topic_names), 2, replace=False) for _ in range(members)]
    )
    headlines = [f"{topic_names[a]} and {topic_names[b]}" for a, b in member_topics]
    counts = np.where(np.arange(members) % 3 == 0, 1, 2 + rng.poisson(visits, members))
    visitors = rng.permutation(np.repeat(np.arange(members), counts))
    slates = []
    for member in visitors.tolist():
        topics = member_topics[member]
        rows = _draw_slate(post_topics, topics, slate, rng)
        logit = taste * np.isin(post_topics[rows], topics) + views * z[rows] - 3.5
        is_engaged = rng.random(len(rows)) < 1 / (1 + np.exp(-logit))
        slates.append((rows, is_engaged))
    log = _impression_log(slates, np.array(user_ids)[visitors], np.array(item_ids))
    view_counts = np.round(10 ** (3.5 + 1.2 * z)).astype(np.int64)
    tables = {
        **_log_tables(log),
        "items": pl.DataFrame({"item_id": item_ids, "text": texts, "views": view_counts}),
        "users": pl.DataFrame({"user_id": user_ids, "headline": headlines}),
    }
    data = Dataset(tables, "feed")
    views_worth = dict(zip(item_ids, (views * z).tolist(), strict=True))
    ordered_ids = data.catalogue.ids.tolist()
    return Feed(data, np.array([views_worth[item_id] for item_id in ordered_ids]))


def _post_text(topic: str, rng: np.random.Generator) -> str:
    """Return a title with three words of a topic."""
    frame = str(rng.choice(FRAMES))
    return frame.format(*rng.choice(TOPICS[topic].split(), 3, replace=False))


def _draw_slate(
    post_topics: np.ndarray, topics: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw at most `size` different posts, half of them of a member's topics."""
    by_topic = [np.flatnonzero(post_topics == topic) for topic in topics]
    own_draws = rng.choice(np.concatenate(by_topic), size // 2)
    random_draws = rng.integers(len(post_topics), size=size - size // 2)
    return rng.permutation(np.unique(np.r_[own_draws, random_draws]))


def _impression_log(
    slates: Sequence[tuple[np.ndarray, np.ndarray]], user_ids: np.ndarray, item_ids: np.ndarray
) -> pl.DataFrame:
    """Return one row per impression from (post rows, engaged) and user of each request."""
    lengths = [len(rows) for rows, _ in slates]
    requests = np.repeat(np.arange(len(slates)), lengths)
    positions = np.concatenate([np.arange(1, length + 1) for length in lengths])
    rows = np.concatenate([rows for rows, _ in slates])
    return pl.DataFrame(
        {
            "request_id": [f"r{request}" for request in requests.tolist()],
            "position": positions.astype(np.int32),
            "item_id": item_ids[rows].tolist(),
            "user_id": user_ids[requests].tolist(),
            "time_ms": START_MS + requests * MINUTE_MS,
            "engaged": np.concatenate([is_engaged for _, is_engaged in slates]),
        }
    )


def _log_tables(log: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return events, requests and impressions of everything that was shown."""
    events = log.filter("engaged").select(
        "user_id",
        "item_id",
        pl.col("time_ms") + pl.col("position"),
        "request_id",
        action=pl.lit("engage"),
    )
    requests = log.select("request_id", "user_id", "time_ms")
    return {
        "events": events,
        "requests": requests.unique("request_id", maintain_order=True),
        "impressions": log.select("request_id", "position", "item_id", shown=pl.lit(True)),
    }
