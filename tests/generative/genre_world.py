"""A planted world: items in genres, sub-genres and kinds, named by their words; people stay in a
genre and kind and go from sub-genre to sub-genre.
"""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset

GENRES = ("crime", "space", "garden", "history")
SUBS = ("harbour", "winter", "letters", "music", "island")
KINDS = ("short", "long")


def genre_world(users=500, each=5, length=10, seed=0, titled=True):
    """4 x 5 x 2 x `each` items; the next sub-genre follows from the last one but for one time in
    five.
    """
    rng = np.random.default_rng(seed)
    names = [
        (g, s, k, n)
        for g in range(len(GENRES))
        for s in range(len(SUBS))
        for k in range(len(KINDS))
        for n in range(each)
    ]
    ids = dict(zip(names, (f"b{i:03d}" for i in rng.permutation(len(names))), strict=True))
    rows = []
    for user in range(users):
        genre, sub, kind = (
            rng.integers(len(GENRES)),
            rng.integers(len(SUBS)),
            rng.integers(len(KINDS)),
        )
        for at in range(length):
            item = (
                (genre, sub, kind, rng.integers(each))
                if rng.random() < 0.8
                else names[rng.integers(len(names))]
            )
            rows.append((f"u{user}", ids[tuple(int(part) for part in item)], 1_000_000 * (at + 1)))
            sub = (sub + 1) % len(SUBS)
    titles = {
        ids[name]: f"{GENRES[name[0]]} {SUBS[name[1]]} {KINDS[name[2]]} {name[3]}" for name in names
    }
    items = pl.DataFrame(
        {"item_id": list(titles), "title": list(titles.values()) if titled else [""] * len(titles)}
    )
    return Dataset(
        {
            "events": pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row"),
            "items": items,
        }
    )
