"""The large log: exact counts, Zipf popularity, neighbours, and made in linear time."""

import time

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.shop_log import shop_log


def test_counts_are_exact():
    data = shop_log(users=2_000, items=700, events=40_000)
    assert len(data.events) == 40_000
    assert len(data.users) == data.events["user_id"].n_unique() == 2_000
    assert len(data.catalogue) == len(data.tables["items"]) == 700
    assert data.events["time_ms"].is_sorted()
    assert data.events.columns == ["user_id", "item_id", "time_ms"]
    assert data.sequences.rows.lengths.min() >= 1


def test_same_arguments_same_data():
    one, again, other = (shop_log(50, 40, 500, seed=seed).content_hash for seed in (1, 1, 2))
    assert one == again != other


def test_popularity_is_zipf_and_neighbours_come_together():
    data = shop_log(users=2_000, items=2_000, events=100_000)
    rows = data.sequences.rows
    counts = np.sort(np.bincount(rows.values, minlength=2_000))[::-1]
    assert counts[:20].sum() > 0.15 * counts.sum()
    assert counts[0] > 5 * counts[100] > 10 * counts[1_500]
    same_user = rows.row_ids[1:] == rows.row_ids[:-1]
    pairs = rows.values[:-1][same_user].astype(np.int64) * 2_000 + rows.values[1:][same_user]
    shuffled = rows.values[:-1][same_user] * 2_000 + np.random.default_rng(0).permutation(
        rows.values[1:][same_user]
    )
    often = [
        np.sort(np.unique(one, return_counts=True)[1])[::-1][:500].sum()
        for one in (pairs, shuffled)
    ]
    assert often[0] > 1.5 * often[1]


@pytest.mark.parametrize("sizes", [(0, 5, 5), (5, 0, 5), (5, 5, 4)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(DataError, match="events="):
        shop_log(*sizes)


def test_one_of_each():
    assert len(shop_log(1, 1, 1).events) == 1


def test_the_work_grows_with_the_events_and_no_faster():
    def work(events: int) -> float:
        started = time.process_time()
        assert len(shop_log(events // 50, 3_000, events).events) == events
        return time.process_time() - started

    small = work(100_000)
    assert work(2_000_000) < 100 * small  # 20 where linear, 400 where quadratic
