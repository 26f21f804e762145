"""Planted pains: each log has its own trouble, and the others do not."""

import numpy as np
import polars as pl
import pytest

from tailor.data.splits import TEST, split_by
from tailor.errors import DataError
from tailor.worlds.pains import PLANTS, pains
from tailor.worlds.styles import TOPICS

THEME_OF = {word: theme for theme, words in enumerate(TOPICS) for word in words.split()}
LOGS = {name: pains(name, users=200, seed=3) for name in PLANTS}


def themes(data):
    titles = dict(data.tables["items"].select("item_id", "title").iter_rows())
    return {item: THEME_OF[title.split()[0]] for item, title in titles.items()}


def shares(data):
    split = split_by(data, "time")
    counts = np.bincount(split.train_valid.sequences.rows.values, minlength=len(data.catalogue))
    queries, targets = split.queries("test")
    first = targets.values[targets.offsets[:-1]]
    theme_of = themes(data)
    events = data.events.with_columns(theme=pl.col("item_id").replace_strict(theme_of))
    mode = events.group_by("user_id").agg(own=pl.col("theme").mode().first())
    inside = events.filter(pl.Series(split.part != TEST)).join(mode, on="user_id")
    return {
        "cold items": (counts[first] == 0).mean(),
        "cold people": (queries.histories.lengths == 0).mean(),
        "noise": (inside["theme"] != inside["own"]).mean(),
        "rare": (np.bincount(data.sequences.rows.values) <= 3).mean(),
    }


@pytest.mark.parametrize(("name", "above"), [("cold items", 0.4), ("cold people", 0.4)])
def test_a_trouble_is_planted_and_not_another(name, above):
    values = {log: shares(data)[name] for log, data in LOGS.items()}
    assert values.pop(name) > above
    values.pop("tail")  # rare items are sometimes new
    assert max(values.values()) < 0.1


def test_random_events_are_planted():
    values = {log: shares(data)["noise"] for log, data in LOGS.items()}
    assert values.pop("noise") > 0.4
    assert max(values.values()) < 0.2


def test_rare_items_are_planted():
    values = {log: shares(data)["rare"] for log, data in LOGS.items()}
    assert values["tail"] > 0.5 > values["none"]


def test_a_release_has_no_event_before_it():
    data = LOGS["cold items"]
    times = data.events.group_by("item_id").agg(first=pl.col("time_ms").min())
    late = data.events["time_ms"].min() + 0.85 * (
        data.events["time_ms"].max() - data.events["time_ms"].min()
    )
    assert (times["first"] > late).sum() > 0.15 * len(times)


def test_the_same_seed_makes_the_same_log_and_titles_are_no_twins():
    again = pains("tail", users=200, seed=3)
    assert again.content_hash == LOGS["tail"].content_hash
    assert pains("tail", users=200, seed=4).content_hash != again.content_hash
    titles = LOGS["none"].tables["items"]["title"]
    assert titles.n_unique() == len(titles)
    with pytest.raises(DataError, match='no trouble "cold item"'):
        pains("cold item")
