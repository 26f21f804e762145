"""A planted professional feed: posts shown to members, of which some engage, by topic and by how
often a post was viewed.
"""

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
    """What the feed has (`data`), and what it was made from, which no method may see."""

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
    """Posts (item_id, text, views), members (user_id, headline), what was shown to whom, and an
    event for each engagement; the same arguments, the same data.

    Every visit shows `slate` posts drawn at random, half of them of the member's two topics. A
    member engages with probability sigmoid(taste * (own topic) + views * z - 3.5), z the standard
    normal score of the post's rank by views, which are lognormal over five powers of ten. A third
    of the members are new: one visit; the others have 2 + Poisson(`visits`). Raises DataError where
    there are too few members or posts.
    """
    if members < 3 or posts < 4 * len(TOPICS) or slate < 2:
        raise DataError(
            f"members={members}, posts={posts}, slate={slate}: at least 3, {4 * len(TOPICS)} and 2"
        )
    rng, names = random_of(seed, "feed"), list(TOPICS)
    topic = rng.integers(len(names), size=posts)
    z = rng.standard_normal(posts)
    ids, users = opaque_ids("p-", posts, seed).to_list(), opaque_ids("m-", members, seed).to_list()
    texts = [
        str(rng.choice(FRAMES)).format(*rng.choice(TOPICS[names[one]].split(), 3, replace=False))
        for one in topic
    ]
    items = pl.DataFrame(
        {"item_id": ids, "text": texts, "views": np.round(10 ** (3.5 + 1.2 * z)).astype(np.int64)}
    )
    own = np.array([rng.choice(len(names), 2, replace=False) for _ in range(members)])
    known = pl.DataFrame(
        {"user_id": users, "headline": [f"{names[a]} and {names[b]}" for a, b in own]}
    )
    of_topic = [np.flatnonzero(topic == one) for one in range(len(names))]
    comings = np.where(np.arange(members) % 3 == 0, 1, 2 + rng.poisson(visits, members))
    shown = {
        name: [] for name in ("request_id", "position", "item_id", "user_id", "time_ms", "engaged")
    }  # type: ignore[var-annotated]
    for request, member in enumerate(
        rng.permutation(np.repeat(np.arange(members), comings)).tolist()
    ):
        liked = np.concatenate([of_topic[one] for one in own[member]])
        slated = rng.permutation(
            np.unique(
                np.r_[rng.choice(liked, slate // 2), rng.integers(posts, size=slate - slate // 2)]
            )
        )
        logit = taste * np.isin(topic[slated], own[member]) + views * z[slated] - 3.5
        shown["request_id"] += [f"r{request}"] * len(slated)
        shown["position"] += range(1, len(slated) + 1)
        shown["item_id"] += [ids[one] for one in slated]
        shown["user_id"] += [users[member]] * len(slated)
        shown["time_ms"] += [START_MS + request * MINUTE_MS] * len(slated)
        shown["engaged"] += (rng.random(len(slated)) < 1 / (1 + np.exp(-logit))).tolist()
    table = pl.DataFrame(shown, schema_overrides={"position": pl.Int32})
    events = table.filter("engaged").select(
        "user_id",
        "item_id",
        pl.col("time_ms") + pl.col("position"),
        "request_id",
        action=pl.lit("engage"),
    )
    data = Dataset(
        {
            "events": events,
            "items": items,
            "users": known,
            "requests": (
                table.select("request_id", "user_id", "time_ms").unique(
                    "request_id", maintain_order=True
                )
            ),
            "impressions": table.select("request_id", "position", "item_id", shown=pl.lit(True)),
        },
        "feed",
    )
    worth = dict(zip(ids, (views * z).tolist(), strict=True))
    return Feed(data, np.array([worth[one] for one in data.catalogue.ids.tolist()]))
