"""Estimates from a log: right on average where the truth is known, wide where little was left to
chance.
"""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.errors import DataError
from tailor.evaluation.off_policy import estimate
from tailor.metrics import off_policy as m
from tailor.pipeline.explore import PROPENSITY, Explore
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = tiny_data(users=200)
# chance that a shown item is chosen
LIKED = {item: 0.02 + 0.3 * (at % 5 == 0) for at, item in enumerate(DATA.catalogue.ids)}
LOGGED, OTHER = Popularity().fit(DATA), CoVisitation().fit(DATA)
K = 3


def log_of(n: int, epsilon: float, seed: int = 0, depth: int = 40) -> Dataset:
    """n requests answered by LOGGED with exploration, and what was chosen of them."""
    rng = np.random.default_rng(seed)
    users, start = DATA.users.ids, int(DATA.events["time_ms"].max()) + 1
    who = rng.integers(len(users), size=n)
    histories = DATA.queries([users[u] for u in who])
    asked = [
        Query(
            users[u],
            histories[i].history,
            request_id=f"r{seed}-{i}",
            exclude=histories[i].history.item_ids,
        )
        for i, u in enumerate(who)
    ]
    lists = Explore.around(LOGGED, epsilon=epsilon, depth=depth).recommend(asked, K)
    rows = [
        (q.request_id, place, item, float(chance), q.user_id, start + i)
        for i, (q, one) in enumerate(zip(asked, lists, strict=True))
        for place, (item, chance) in enumerate(
            zip(one.ids, one.columns[PROPENSITY], strict=True), 1
        )
    ]
    shown = pl.DataFrame(
        rows,
        schema=["request_id", "position", "item_id", "propensity", "user_id", "time_ms"],
        orient="row",
    )
    chosen = shown.filter(
        pl.Series(rng.random(len(shown)) < np.array([LIKED[item] for item in shown["item_id"]]))
    )
    events = chosen.select(
        "user_id", "item_id", "request_id", time_ms=pl.lit(start + n)
    ).with_columns(action=pl.lit("click"))
    return Dataset(
        {
            "events": pl.concat([DATA.events, events], how="diagonal_relaxed"),
            "items": DATA.tables["items"],
            "requests": (
                shown.select("request_id", "user_id", "time_ms").unique(
                    "request_id", maintain_order=True
                )
            ),
            "impressions": shown.select("request_id", "position", "item_id", "propensity"),
        }
    )


def truth_of(model) -> float:
    """Mean expected reward of a list, over all users."""
    queries = DATA.queries().without_history()
    return float(
        np.mean([sum(LIKED[item] for item in one.ids) for one in model.recommend(queries, K)])
    )


def test_the_log_s_own_model_and_another_are_valued_right():
    log, plain = log_of(8_000, 0.3), truth_of(LOGGED)
    own, other = estimate(log, LOGGED), estimate(log, OTHER)
    assert own.logged.low < own.logged.mean < own.logged.high and own.agreement > 0.65
    assert own.dr.mean == pytest.approx(plain, abs=0.05) and own.ips.mean == pytest.approx(
        plain, abs=0.08
    )
    truth = truth_of(OTHER)
    assert abs(truth - plain) > 0.05, "the two must differ for the test to tell anything"
    assert other.dr.low - 0.05 < truth < other.dr.high + 0.05
    # it agrees with the log less often
    assert other.dr.high - other.dr.low > own.dr.high - own.dr.low


def test_what_the_log_could_never_have_shown_is_told():
    found = estimate(log_of(4_000, 0.3, depth=8), OTHER)
    assert found.covered < 0.6 and "could have shown" in found.notes[0]
    assert not estimate(log_of(4_000, 0.3), LOGGED).notes


def test_intervals_cover_the_truth():
    truth, covered = truth_of(LOGGED), 0
    for seed in range(20):
        found = estimate(log_of(800, 0.3, seed), LOGGED, run=Run(seed=seed)).dr
        covered += found.low <= truth <= found.high
    assert covered >= 16


def test_a_log_without_chance_says_so():
    found = estimate(log_of(300, 0.0), OTHER)
    assert "left to chance" in found.notes[0]


def test_a_reward_may_be_a_condition():
    log = log_of(500, 0.2)
    assert (
        estimate(log, LOGGED, "action = 'click'").logged.mean
        == estimate(log, LOGGED).logged.mean
        > 0
    )
    none = estimate(log, LOGGED, "action = 'buy'")
    assert none.logged.mean == 0 and "request_id" in " ".join(none.notes)


def test_what_the_log_lacks_is_named():
    with pytest.raises(DataError, match="no requests"):
        estimate(DATA, LOGGED)
    log = log_of(20, 0.2)
    with pytest.raises(DataError, match="propensity"):
        estimate(
            Dataset({**log.tables, "impressions": log.tables["impressions"].drop("propensity")}),
            LOGGED,
        )
    with pytest.raises(DataError, match="names the request"):
        estimate(Dataset({**log.tables, "events": log.events.drop("request_id")}), LOGGED)


def test_figures_by_hand():
    weights = m.importance_weights(np.array([1.0, 0, 1]), np.array([0.5, 0.5, 0.25]))
    assert weights.tolist() == [2, 0, 4] and m.importance_weights(
        np.ones(2), np.array([0.01, 1]), most=10
    ).tolist() == [10, 1]
    assert m.inverse_propensity(np.array([1.0, 1, 0]), weights).tolist() == [2, 0, 0]
    assert m.self_normalised(np.array([1.0, 1, 0]), weights, np.array([0, 0, 0])) == pytest.approx(
        2 / 6
    )
    # a sum over places
    assert m.self_normalised(np.array([1.0, 0.5]), np.array([2.0, 4]), np.array([0, 1])) == 1.5
    assert np.isnan(m.self_normalised(np.ones(1), np.zeros(1), np.zeros(1, int)))
    assert m.doubly_robust(
        np.array([1.0]), np.array([2.0]), np.array([0.25]), np.array([0.25])
    ).tolist() == [1.75]
    assert (
        m.effective_sample_size(np.array([1.0, 1, 1])) == 3
        and m.effective_sample_size(np.zeros(3)) == 0
    )
    for target, logged in (([1.0], [0.0]), ([1.0], [1.1]), ([2.0], [0.5]), ([1.0], [np.nan])):
        with pytest.raises(ValueError, match="probabilities"):
            m.importance_weights(np.array(target), np.array(logged))
