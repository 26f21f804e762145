"""Habits: Repeat on buys that come back in the planted shop, popularity by segment there, TimeOfDay
on Foursquare's visits.

    python benchmarks/habits.py

Foursquare: given train, validation and test visits; every test visit is asked with its person's
train visits, places seen before are kept; own_hour is chosen on validation. Days there are relative
to each person's first; they are put where the given weekdays agree.
"""

import itertools
import json
from dataclasses import replace

import numpy as np
import polars as pl
from shared_data import foursquare
from writing import write_result

from tailor.core.methods import Recommender
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.evaluation.protocol import compare, evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.recent_popularity import RecentPopularity
from tailor.retrieval.repeat import Repeat
from tailor.retrieval.time_of_day import TimeOfDay
from tailor.worlds.shop import shop

KS = (1, 5, 10)


def main() -> None:
    figures = {
        "repeat buys of the shop, seen kept": buys(),
        "popularity by segment in the shop, NDCG@10": segments(),
        "foursquare, accuracy at 1, 5, 10": visits(),
    }
    print(json.dumps(figures, indent=1))
    print(write_result("habits", 0, "python benchmarks/habits.py", figures))


def buys() -> list[dict]:
    out = []
    for repeat, seed in itertools.product((0.6, 0.9), (0, 1, 2)):
        split = split_by(
            shop(2_000, 600, 360, seed=seed, repeat=repeat).data, "last", only="action = 'buy'"
        )
        queries, targets = split.queries("test")
        again = np.array([targets[i][0] in queries.histories[i] for i in range(len(queries))])
        methods = {
            one.name: one.fit(split.train) for one in (Repeat(), CoVisitation(), Popularity())
        }
        report = evaluate(methods, split, k=(1, 10), seen=("kept",))
        rows = {
            name: {
                metric: round(float(report.results[name, "kept"].per_user[metric][again].mean()), 4)
                for metric in ("HR@1", "HR@10", "NDCG@10")
            }
            for name in methods
        }
        out.append(
            {
                "repeat": repeat,
                "seed": seed,
                "repeat targets": int(again.sum()),
                "of": len(queries),
                **rows,
            }
        )
    return out


def segments() -> dict:
    """Cut in time; the half-life is chosen on validation."""
    split = split_by(shop(2_000, 400, 180, seed=1).data, "time")
    lives = (5.0, 10.0, 20.0, 40.0, None)
    tried = {
        str(life): (
            evaluate(RecentPopularity(half_life_days=life).fit(split.train), split, "valid").mean(
                "RecentPopularity", "NDCG@10"
            )
        )
        for life in lives
    }
    best = lives[int(np.argmax(list(tried.values())))]
    methods = {
        "everything, everybody": RecentPopularity(),
        "everything, country": RecentPopularity(segment="country"),
        "recent, everybody": RecentPopularity(half_life_days=best),
        "recent, country": RecentPopularity(half_life_days=best, segment="country"),
        "recent, age band": RecentPopularity(half_life_days=best, segment="age_band"),
    }
    report = evaluate({name: method.fit(split.train) for name, method in methods.items()}, split)
    tests = [one.to_dict() for one in compare(report, "recent, everybody", ["NDCG@10"])]
    return {
        "half-life tried on validation": tried,
        "chosen": best,
        "test": {name: round(report.mean(name, "NDCG@10"), 4) for name in methods},
        "against recent, everybody": tests,
    }


def visits() -> dict:
    parts = {part: foursquare(part).drop("lat", "lon") for part in ("train", "valid", "test")}
    everywhere = pl.concat(list(parts.values())).select("item_id").unique()
    train = Dataset({"events": parts["train"], "items": everywhere}, "foursquare")

    def accuracy(method: Recommender, part: str) -> list[float]:
        asked = parts[part]
        ids = asked["user_id"].unique(maintain_order=True).to_list()
        row = {one: at for at, one in enumerate(ids)}
        queries = train.queries(ids).take(np.array([row[one] for one in asked["user_id"]]))
        lists = method.fit(train).recommend(
            replace(queries, now_ms=asked["time_ms"].to_numpy()), max(KS)
        )
        found = (
            lists.reindexed(train.catalogue).rows
            == train.catalogue.rows(asked["item_id"].to_list())[:, None]
        )
        return [round(float(found[:, :k].any(axis=1).mean()), 4) for k in KS]

    tried = {
        hour: accuracy(TimeOfDay(own_hour=hour), "valid")
        for hour in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
    }
    best = max(tried, key=lambda hour: tried[hour][1])
    methods = {
        "popularity": Popularity(),
        "popularity at this time": TimeOfDay(history_length=0),
        "own frequency": TimeOfDay(own_hour=0.0, own_weekday=0.0),
        f"TimeOfDay(own_hour={best})": TimeOfDay(own_hour=best),
        "Repeat": Repeat(),
    }
    return {
        "own_hour tried on validation": tried,
        "test": {name: accuracy(method, "test") for name, method in methods.items()},
    }


if __name__ == "__main__":
    main()
