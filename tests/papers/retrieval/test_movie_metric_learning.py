"""MovieMetricLearning: what was known at a time, negatives of the day, audiences of new films."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import NO_TIME
from tailor.errors import DataError
from tailor.papers.retrieval.movie_metric_learning import DAY_MS, MovieMetricLearning, _Log
from tailor.text.hashing import HashingEncoder
from tailor.worlds.releases import WEEK_MS, releases

WORLD = {"customers": 150, "films": 60, "weeks": 30}
SMALL = {"encoder": HashingEncoder(64), "layers": (16,), "width": 16, "epochs": 3}


def small_log() -> _Log:
    days = np.array([0, 10, 40, 5])
    released = np.array([0, 9, 1]) * DAY_MS
    return _Log(Ragged.of([[0, 1, 2], [0]]), days * DAY_MS, released, 7.0 * DAY_MS)


def test_a_customer_is_what_was_known_before_the_time():
    log = small_log()
    past = log.past(np.array([0, 0, 1, 1]), np.array([40, 41, 5, 6]) * DAY_MS, length=2)
    assert [row.tolist() for row in (past.films[i] for i in range(4))] == [[0, 1], [1, 2], [], [0]]
    months = [40 / 30, 41 / 30, 1, 1]  # a month at least
    counts = np.array([2, 3, 0, 1])
    openings = [1.0, 2 / 3, 0.0, 1.0]  # film 2 was seen 39 days after its release
    expected = np.c_[np.log1p(counts), np.log1p(counts / months), openings]
    assert np.allclose(past.activity, expected, atol=1e-6)


def test_a_film_without_a_date_has_no_opening():
    times_ms = np.array([1_600_000_000_000, NO_TIME, 1_600_000_000_000])
    released_ms = np.array([NO_TIME, 1_500_000_000_000, 1_599_999_000_000])
    log = _Log(Ragged.of([[0, 1, 2]]), times_ms, released_ms, 7.0 * DAY_MS)
    assert log.is_opening.tolist() == [False, False, True]


def test_later_events_do_not_change_what_was_known():
    world = releases(**WORLD)
    cut_ms = int(world.released_ms.min()) + 15 * WEEK_MS
    early = world.data.cut((world.data.events["time_ms"] < cut_ms).to_numpy())
    users = np.arange(len(world.data.users))
    times = np.full(len(users), cut_ms - 1)
    whole, part = (
        _Log.of(data, 7.0 * DAY_MS).past(users, times, 20) for data in (world.data, early)
    )
    assert np.array_equal(whole.films.values, part.films.values)
    assert np.allclose(whole.activity, part.activity)


def test_negatives_are_in_release_unseen_and_not_of_the_latest_films(monkeypatch):
    world = releases(**WORLD)
    method = MovieMetricLearning(**SMALL, release_days=42.0, calibration_share=0.2)
    drawn = []
    plain_draw = MovieMetricLearning._draw

    def draw(self, *args):
        drawn.append(plain_draw(self, *args))
        return drawn[-1]

    monkeypatch.setattr(MovieMetricLearning, "_draw", draw)
    method.fit(world.data)
    assert len(drawn) > 3
    log = _Log.of(world.data, 7.0 * DAY_MS)
    for pairs in drawn:
        age = pairs.time_ms - world.released_ms[pairs.film]
        assert age.min() >= 0 and age.max() <= 42 * DAY_MS
        assert log.has_seen(pairs.user, pairs.film).tolist() == (pairs.label > 0).tolist()
        assert (log.before(pairs.user, pairs.time_ms) > 0).all()
    latest = method._latest_films(log)
    assert latest.sum() > 5
    assert not latest[np.concatenate([pairs.film for pairs in drawn])].any()


def test_the_audience_of_a_new_film_are_those_who_like_its_like():
    world = releases(**WORLD, strength=20.0)
    settings = {**SMALL, "layers": (), "epochs": 15}  # a linear map, which so few films can teach
    method = MovieMetricLearning(**settings, release_days=42.0).fit(world.data)
    queries = world.data.queries()
    audience = method.audience(["astronaut rocket comet orbit galaxy alien asteroid"], queries)[0]
    probabilities = audience.probabilities[world.frequent]
    taste = world.tastes[world.frequent, 0]  # of space
    assert np.corrcoef(probabilities, taste)[0, 1] > 0.3
    assert audience.size == pytest.approx(audience.probabilities.sum())
    assert sum(audience.by_tier) == pytest.approx(audience.size) and len(audience.by_tier) == 3
    plots = world.plots[world.data.catalogue.rows(list(audience.nearest))]
    assert (plots[:, 0] > 0).mean() > 0.5


def test_the_size_is_calibrated_on_films_that_taught_nothing():
    world = releases(**WORLD)
    method = MovieMetricLearning(**SMALL, release_days=42.0, calibration_share=0.3).fit(world.data)
    plain = MovieMetricLearning(**SMALL, release_days=42.0, calibration_share=0.0).fit(world.data)
    queries = world.data.queries()
    viewers = np.bincount(world.data.sequences.rows.values).mean()
    sizes = [one.size for one in method.audience(world.data.item_texts[:20], queries)]
    raw = [one.size for one in plain.audience(world.data.item_texts[:20], queries)]
    assert 0.5 * viewers < np.mean(sizes) < 1.6 * viewers
    assert np.mean(raw) > 1.6 * viewers  # negatives are drawn, so that raw probabilities are high


def test_a_film_without_an_event_is_recommended_by_its_plot():
    events = [
        {
            "user_id": f"{kind}-{user}",
            "item_id": f"{kind}-{film}",
            "timestamp": 1_600_000_000 + film,
        }
        for kind in ("space", "war")
        for user in range(8)
        for film in range(6)
    ]
    texts = {"space": "rocket orbit moon", "war": "trench siege tank"}
    items = [
        {"item_id": f"{kind}-{film}", "text": f"{text} {film}"}
        for kind, text in texts.items()
        for film in range(7)
    ]
    data = Dataset.from_events(events, items)
    method = MovieMetricLearning(**{**SMALL, "epochs": 20}, calibration_share=0).fit(data)
    seen = tuple(f"space-{film}" for film in range(6))
    ranking = method.recommend([Query(history=History(seen), exclude=seen)], 3)[0]
    assert ranking.ids[0] == "space-6"


def test_a_request_without_a_time_is_of_the_last_event():
    world = releases(**WORLD)
    method = MovieMetricLearning(**{**SMALL, "epochs": 0}).fit(world.data)
    queries = world.data.queries()
    late = replace(queries, now_ms=np.full(len(queries), world.end_ms))
    untimed, timed = (method._past_of(one.reindexed(method.items_)) for one in (queries, late))
    has_events = queries.histories.lengths > 3  # they go on to about the end
    difference = np.abs(untimed.activity - timed.activity)[has_events]
    assert np.median(difference[:, 1]) < 0.1
    nameless = replace(queries, columns={})
    rates = method._past_of(nameless.reindexed(method.items_)).activity[has_events, 1]
    assert np.allclose(rates, method.usual_rate_) and method.usual_rate_ > 0


def test_scores_need_the_bias_of_the_tier_and_the_tower_of_customers():
    world = releases(**WORLD)
    method = MovieMetricLearning(**SMALL, tiers=2).fit(world.data)
    queries = world.data.queries().reindexed(method.items_)
    tiers = method._tiers(method._past_of(queries))
    assert 0 < tiers.mean() < 1
    before = method._scores(queries)
    weights = method._net["bias"].weight.data
    weights[1] += 1
    with_bias = method._scores(queries)
    weights[1] -= 1
    is_higher = (with_bias > before).all(axis=1)
    assert is_higher.tolist() == (tiers == 1).tolist()
    method._net["customer"][1].bias.data += 1
    assert not np.allclose(method._scores(queries), before)


def test_frequent_customers_have_the_higher_bias():
    world = releases(**WORLD)
    method = MovieMetricLearning(**{**SMALL, "epochs": 10}, release_days=42.0).fit(world.data)
    bias = method._net["bias"].weight[:, 0].tolist()
    assert bias == sorted(bias) and bias[0] < bias[-1]


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="needs times"):
        MovieMetricLearning(**SMALL).fit(Dataset.from_events([{"user_id": "a", "item_id": "b"}]))
    method = MovieMetricLearning(**SMALL).fit(releases(**WORLD).data, Run())
    with pytest.raises(DataError, match="one plot"):
        method.audience("a rocket", [])
    with pytest.raises(DataError, match="plot 1 has no words"):
        method.audience(["a rocket", ""], [Query()])
    for wrong in ({"tiers": 0}, {"lr": 0.0}, {"history_decay": 0.0}, {"calibration_share": 1.0}):
        with pytest.raises(DataError):
            MovieMetricLearning(**wrong)
