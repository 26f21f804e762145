"""SEAGET: counts as of the moment worked out by hand, opening hours, the time of the request."""

import numpy as np
import pytest

pytest.importorskip("torch")

from dataclasses import replace

import torch

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.moments import DAY_MS, HOUR_MS
from tailor.data.nouns import History, Query
from tailor.data.queries import NO_TIME
from tailor.errors import DataError
from tailor.nn.packing import pad_rows
from tailor.papers.retrieval.seaget import SEAGET, WEIGHT_SCALE, _open_hours
from tailor.training.sequences import Windows
from tailor.worlds.places import places

START = 18_000 * DAY_MS  # midnight
SMALL = {"width": 8, "heads": 1, "blocks": 1, "length": 12, "epochs": 2, "patience": None}


def log(**visits) -> Dataset:
    """Return the visits of users: pairs of a place and hours since the start."""
    rows = [
        {"user_id": user, "item_id": place, "time_ms": START + hour * HOUR_MS}
        for user, pairs in visits.items()
        for place, hour in pairs
    ]
    return Dataset.from_events(rows)


def two_users() -> Dataset:
    return log(
        ann=[("a", 8), ("b", 13), ("a", 32), ("b", 37), ("a", 56)], bob=[("a", 9), ("c", 20)]
    )


def fitted(data: Dataset, **settings) -> SEAGET:
    return SEAGET(**SMALL, **settings).fit(data, Run(seed=1))


def window(method: SEAGET, places_: str, hours: list[int], now: int | None) -> Windows:
    times_ms = START + np.array(hours) * HOUR_MS
    now_ms = None if now is None else np.array([START + now * HOUR_MS])
    rows = method.items_.rows(list(places_)).astype(np.int32)
    return Windows(rows, np.array([0]), np.array([len(rows)]), times_ms, now_ms=now_ms)


def dense_counts(method: SEAGET, batch: Windows, positions) -> dict:
    """Return part -> (M, N) counts."""
    counts = method._counts(batch, np.array(positions))
    dense = np.zeros((5, len(positions) * len(method.items_)))
    np.add.at(dense, (counts.part, counts.cell), counts.value)
    dense = np.expm1(dense).reshape(5, len(positions), -1)
    return dict(zip(("popularity", "moves", "own", "same hour", "steps"), dense, strict=True))


def test_own_counts_are_of_visits_hours_and_steps():
    method = fitted(two_users(), parts=("own",))
    batch = window(method, "abaca", [8, 13, 32, 44, 57], now=80)  # at 8 in the morning
    counts = dense_counts(method, batch, [4])
    own, same_hour, steps = (counts[name][0] for name in ("own", "same hour", "steps"))
    row = {item_id: number for number, item_id in enumerate(method.items_.ids)}
    assert [round(own[row[p]]) for p in "abc"] == [3, 1, 1]
    assert [round(same_hour[row[p]]) for p in "abc"] == [3, 0, 0]  # 8, 8 and 9 o'clock
    assert [round(steps[row[p]]) for p in "abc"] == [0, 1, 1]  # after a came b, then c


def test_counts_of_a_position_do_not_know_what_follows():
    method = fitted(two_users())
    first = window(method, "abab", [8, 13, 32, 37], now=None)
    other = window(method, "abca", [8, 13, 32, 56], now=None)
    method._net.train()  # the visit after a window is read from the log
    first, other = (replace(batch, lengths=np.array([3])) for batch in (first, other))
    before, after = (dense_counts(method, batch, [0, 1]) for batch in (first, other))
    bins = [method._bins(batch)[:, :2] for batch in (first, other)]
    method._net.eval()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert before["own"].any() and np.array_equal(*bins)


def test_a_request_sees_all_moves():
    method = fitted(two_users(), parts=("flow",))
    batch = window(method, "a", [9], now=20)
    moves = dense_counts(method, batch, [0])["moves"][0]
    row = {item_id: number for number, item_id in enumerate(method.items_.ids)}
    assert [round(moves[row[p]]) for p in "abc"] == [0, 2, 1]


def test_a_move_is_learned_from_those_before_it(monkeypatch):
    visits = [("ab"[hour % 2], hour) for hour in range(10)]
    data = log(ann=visits, bob=[("a", 4), ("b", 6), ("a", 30), ("c", 31)])
    seen = []
    plain_counts = SEAGET._counts

    def counts(self, batch, positions):
        if self._is_learning(batch):
            found = plain_counts(self, batch, positions)
            dense = np.zeros((len(positions), len(self.items_)))
            np.add.at(dense.ravel(), found.cell, found.value)
            next_ms = self._padded_times(batch)[:, 1:].ravel()[positions]
            last, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
            seen.append((last.ravel()[positions], next_ms, np.expm1(dense)))
        return plain_counts(self, batch, positions)

    monkeypatch.setattr(SEAGET, "_counts", counts)
    method = fitted(data, parts=("flow",))
    row = {item_id: number for number, item_id in enumerate(method.items_.ids)}
    counted = {}
    for last, next_ms, moves in seen:
        hours = (next_ms - START) // HOUR_MS
        for place, hour, found in zip(last, hours, moves, strict=True):
            counted[place, hour] = [round(found[row[p]]) for p in "abc"]
    # moves from a to b arrive at 1, 3, 5, 6, 7 and 9, one from a to c at 31
    assert [counted[row["a"], hour][1] for hour in (1, 3, 5, 7, 9, 31)] == [0, 1, 2, 4, 5, 6]
    assert all(found[2] == 0 for found in counted.values())
    assert counted[row["b"], 2] == [0, 0, 0] and counted[row["b"], 4] == [1, 0, 0]


def test_season_and_hour_are_parts_of_their_own():
    sizes = {
        parts: [
            table.num_embeddings for table in fitted(two_users(), parts=parts)._positions().moments
        ]
        for parts in (("times",), ("season",), ("times", "season"), ("own",))
    }
    hours, seasons = [25, 8], [5]
    expected = [hours * 2, seasons * 2, (hours + seasons) * 2, []]
    assert list(sizes.values()) == expected
    method = fitted(two_users(), parts=("season",))
    moments = method._positions()
    torch.nn.init.zeros_(moments.table)
    slots = torch.tensor([[[1, 2, 3, 4, 5, 1]]])
    added = moments(torch.zeros(1, 1, 8), slots=slots)
    assert torch.equal(added[0, 0], moments.moments[0].weight[3] + moments.moments[1].weight[1])


def test_popularity_is_counted_before_the_bin_of_the_moment():
    week = 7 * 24
    data = log(ann=[("a", 0), ("a", 1), ("b", week + 1)], bob=[("a", 2), ("c", week + 2)])
    method = fitted(data, parts=("popularity",), visitors=0.0, recency=0.0)
    row = {item_id: number for number, item_id in enumerate(method.items_.ids)}
    floor = 1 / (10 * 3)
    shares = np.exp(method.popularity_) - floor
    assert np.allclose(shares[0], 0, atol=1e-6)  # nothing before the first week
    assert np.allclose(shares[1][[row[p] for p in "abc"]], [1, 0, 0], atol=1e-6)
    assert np.allclose(shares[2][[row[p] for p in "abc"]], [3 / 5, 1 / 5, 1 / 5], atol=1e-6)
    batch = window(method, "a", [0], now=week + 3)
    assert method._bins(batch).tolist() == [[1]]
    logits = method._add_counts(torch.zeros(1, 3), batch, np.array([0]))
    weight = WEIGHT_SCALE * method._net.part_weights[0].item()
    assert np.allclose(logits.detach(), weight * method.popularity_[1], atol=1e-6)
    visitors = fitted(data, parts=("popularity",), visitors=1.0, recency=0.0)
    assert np.exp(visitors.popularity_[2])[row["a"]] - floor == pytest.approx(2 / 4)


def test_places_are_open_an_hour_around_their_visits():
    hours = np.array([8] * 5 + [12] * 4)
    is_open = _open_hours(np.array([0] * 5 + [1] * 4), hours, 2)
    assert np.flatnonzero(is_open[0]).tolist() == [7, 8, 9, 24]  # 24: the hour is not known
    assert is_open[1].all()  # four visits tell too little


def test_closed_places_are_punished_or_left_out():
    world = places(people=60, items=30, visits=30, favourites=6)
    method = fitted(world.data)
    queries = replace(world.data.queries(), now_ms=np.full(60, START + 8 * HOUR_MS))
    is_closed = ~method.open_[:, 8]
    assert 3 < is_closed.sum() < 30
    scores = {}
    for closed in ("open", "soft", "hard"):
        method.closed = closed
        scores[closed] = method._scores(queries.reindexed(method.items_))
    assert np.isinf(scores["hard"][:, is_closed]).all()
    assert np.isfinite(scores["hard"][:, ~is_closed]).all()
    ratio = scores["soft"] / scores["open"]
    ratio /= ratio[:, np.flatnonzero(~is_closed)[:1]]
    assert np.allclose(ratio[:, ~is_closed], 1, rtol=1e-3)
    assert np.allclose(ratio[:, is_closed], np.exp(-3), rtol=1e-3)


def test_the_next_moment_is_that_of_the_request():
    method = fitted(two_users())
    batch = window(method, "ab", [8, 13], now=33)  # 9 o'clock
    assert method._slots(batch)[0, :, 0].tolist() == [8, 13]
    assert method._slots(batch)[0, :, 3].tolist() == [13, 9]
    timeless = replace(batch, now_ms=np.array([NO_TIME]))
    assert method._slots(timeless)[0, :, 3].tolist() == [13, 24]
    history = History(tuple("ab"), times_ms=(START + 8 * HOUR_MS, START + 13 * HOUR_MS))
    morning, noon = (
        method.recommend([Query(history=history, time_ms=START + hour * HOUR_MS)], 3)[0]
        for hour in (32, 37)
    )
    assert not np.allclose(np.sort(morning.scores), np.sort(noon.scores))
    assert method.recommend([Query(history=History.of("a", "b"))], 3)[0].ids  # no times at all


def test_training_learns_when_people_go_where():
    visits = [("a", 24 * day + 8) for day in range(12)] + [
        ("b", 24 * day + 18) for day in range(12)
    ]
    visits.sort(key=lambda pair: pair[1])
    data = log(**{f"user-{number}": visits for number in range(6)})
    method = SEAGET(**{**SMALL, "epochs": 30}, parts=("times",), lr=1e-2).fit(data, Run(seed=0))
    query = data.queries()[0]
    day = 12 * 24
    top = [
        method.recommend([replace(query, time_ms=START + (day + hour) * HOUR_MS)], 1)[0].ids[0]
        for hour in (8, 18)
    ]
    assert top == ["a", "b"]


@pytest.mark.parametrize("wrong", [{"parts": ("weather",)}, {"visitors": 1.5}, {"heads": 3}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        SEAGET(**wrong)
