"""The planted log of film releases: its dates, tiers and tastes."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.releases import WEEK_MS, releases

SMALL = {"customers": 200, "films": 40, "weeks": 20}


def truth_rows(world):
    rows = world.data.sequences.rows
    return rows.row_ids, rows.values, world.data.sequences.times_ms.values


def test_the_same_arguments_give_the_same_log():
    assert releases(**SMALL).data.content_hash == releases(**SMALL).data.content_hash
    assert releases(**SMALL).data.content_hash != releases(**SMALL, seed=1).data.content_hash


def test_films_are_seen_while_they_run_and_once():
    world = releases(**SMALL, run_weeks=3)
    user, film, time = truth_rows(world)
    age = time - world.released_ms[film]
    assert age.min() >= 0 and age.max() < 3 * WEEK_MS and time.max() < world.end_ms
    assert len(np.unique(user * 40 + film)) == len(film)
    dates = dict(world.data.tables["items"].select("item_id", "created_ms").iter_rows())
    assert [dates[item] for item in world.data.catalogue.ids] == world.released_ms.tolist()


def test_frequent_customers_go_more_often_and_all_choose_by_taste():
    world = releases(**SMALL)
    user, film, _ = truth_rows(world)
    visits = np.bincount(user, minlength=len(world.frequent))
    assert visits[world.frequent].mean() > 2.5 * visits[~world.frequent].mean()
    match = np.einsum("nt,nt->n", world.tastes[user], world.plots[film])
    assert match.mean() > 1.3 * (world.tastes[user] @ world.plots.T).mean()


def test_the_genre_is_the_main_topic_and_the_words_tell_the_other():
    world = releases(**SMALL)
    table = world.data.item_table
    assert (world.plots.max(axis=1) == 0.6).all()
    assert all(len(text.split()) == 8 for text in table["text"])
    genres = {genre for row in table["categories"].to_list() for genre in row}
    assert len(genres) > 4


def test_sizes_below_one_are_refused():
    with pytest.raises(DataError):
        releases(films=0)
