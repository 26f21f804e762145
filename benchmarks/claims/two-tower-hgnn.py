"""2T-HGNN: planted logs of an established kind of items and a new, sparse one.

Titles of the two kinds share no words of their own: what users consume says which old items go with
which new ones. Judged are plays of new items in the last fifth of the time, among all new items; a
cold user has played none before. Parts are left out in turn: the graph, links among old items, the
balance of kinds of links, previews. Settings were chosen on other logs, for all alike.
"""

from typing import Any

import numpy as np
import polars as pl
from claim_tools import difference_interval, seeded

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import DROPPED, TEST, TRAIN, Split
from tailor.evaluation.protocol import evaluate
from tailor.papers.retrieval.two_tower_hgnn import TwoTowerHGNN
from tailor.retrieval.popularity import Popularity
from tailor.text.hashing import HashingEncoder
from tailor.worlds.seeds import START_MS
from tailor.worlds.two_kinds import DAY_MS, LATE_DAYS, PERIOD_DAYS, TwoKinds, two_kinds

SEEDS = (0, 1, 2)
PEOPLE = 2_000
SETTINGS = {
    "encoder": HashingEncoder(64),
    "new": "new",
    "consumed": ("play",),
    "context": ("region",),
    "width": 32,
    "lr": 3e-3,
    "graph_epochs": 20,
    "epochs": 25,
}
CUT_MS = START_MS + int((PERIOD_DAYS - LATE_DAYS) * DAY_MS)
WITHOUT = ("old links", "balance", "previews")


def measure(run: Run) -> Claim:
    """Planted logs of two kinds of items, three random states."""
    rows = [on_kinds(two_kinds(PEOPLE, seed=seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        f"{users} users: HR@10 above {rival}": all(
            row["leads"][users][rival]["low"] > 0 for row in rows
        )
        for users in ("warm", "cold")
        for rival in ("two towers", "popularity")
    }
    checks |= {
        f"without {part} HR@10 is lower": all(
            row["leads"]["all"][f"without {part}"]["difference"] > 0 for row in rows
        )
        for part in WITHOUT
    }
    return Claim(checks, {"planted": rows}, list(SEEDS), ["two kinds"])


def on_kinds(world: TwoKinds, run: Run) -> dict[str, Any]:
    """Judge 2T-HGNN, its rivals and its parts on plays of new items."""
    split = new_plays(world.data)
    events = world.data.events.filter(pl.col("action") == "play")
    plays = new_plays(Dataset({**world.data.tables, "events": events}, "plays"))
    methods = {
        "2T-HGNN": TwoTowerHGNN(**SETTINGS),
        "two towers": TwoTowerHGNN(**SETTINGS, graph=False),
        "without old links": TwoTowerHGNN(**SETTINGS, relations=("new-new", "new-old")),
        "without balance": TwoTowerHGNN(**SETTINGS, balanced=False),
    }
    hits = {name: hit_rates(m.fit(split.train, run), split, run) for name, m in methods.items()}
    hits["without previews"] = hit_rates(TwoTowerHGNN(**SETTINGS).fit(plays.train, run), plays, run)
    hits["popularity"] = hit_rates(new_popularity(split, run), split, run)
    is_cold = ~np.isin(sorted(hits["2T-HGNN"]), new_players(split))
    values = {
        name: np.array([rates[user] for user in sorted(rates)]) for name, rates in hits.items()
    }
    strata = {"all": np.ones(len(is_cold), bool), "warm": ~is_cold, "cold": is_cold}
    rivals = [name for name in values if name != "2T-HGNN"]
    return {
        "seed": run.seed,
        "users": {label: int(mask.sum()) for label, mask in strata.items()},
        "HR@10": {
            name: {label: round(float(v[mask].mean()), 4) for label, mask in strata.items()}
            for name, v in values.items()
        },
        "leads": {
            label: {
                name: difference_interval(values["2T-HGNN"][mask] - values[name][mask], run.seed)
                for name in rivals
            }
            for label, mask in strata.items()
        },
    }


def new_plays(data: Dataset) -> Split:
    """Return a split whose targets are plays of new items after the cut; the others are dropped."""
    events = data.events.join(data.tables["items"], on="item_id", maintain_order="left")
    is_late = (events["time_ms"] >= CUT_MS).to_numpy()
    is_target = ((events["kind"] == "new") & (events["action"] == "play")).to_numpy() & is_late
    part = np.where(is_late, DROPPED, TRAIN).astype(np.int8)
    part[is_target] = TEST
    return Split(data, "time", {"cuts_ms": [CUT_MS]}, part)


def hit_rates(method: Recommender, split: Split, run: Run) -> dict[str, float]:
    """Return user -> share of their lists of 10 that hold a target."""
    report = evaluate({"method": method}, split, seen=("removed",), run=run)
    rates = report.results["method", "removed"].per_user["HR@10"]
    return dict(zip(report.user_ids, rates.tolist(), strict=True))


def plays_of_new_items(split: Split) -> pl.DataFrame:
    """Return the training events that are plays of new items."""
    items = split.data.tables["items"].filter(pl.col("kind") == "new")["item_id"]
    events = split.train.events
    return events.filter((pl.col("action") == "play") & pl.col("item_id").is_in(items.implode()))


def new_players(split: Split) -> list[str]:
    """Return the users with a play of a new item in the training part."""
    return plays_of_new_items(split)["user_id"].unique().to_list()


def new_popularity(split: Split, run: Run) -> Popularity:
    """Return popularity among new items alone."""
    return Popularity().fit(Dataset({"events": plays_of_new_items(split)}, "new plays"), run)
