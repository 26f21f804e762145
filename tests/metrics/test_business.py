"""Business figures by hand; a figure without its columns is not computable, never 0."""

import math

import numpy as np
import pytest

from tailor.metrics import business as b

DAY = b.DAY_MS
SHOWN = (
    np.array(["a", "a", "b", "c"]),
    np.array(["x", "y", "x", "x"]),
    np.array([0, 0, 5 * DAY, 0]),
)
ACTS = (
    np.array(["a", "b", "b", "c", "d"]),
    np.array(["x", "x", "y", "x", "x"]),
    np.array([7 * DAY, 4 * DAY, 6 * DAY, 8 * DAY, DAY]),
)
PAID = np.array([10.0, 20, 30, 40, 100])


def test_rates_by_hand():
    clicked, bought, refunded = (
        np.array([1, 1, 0, 0, 1]),
        np.array([1, 0, 0, 1, 0]),
        np.array([1, 0, 0, 0, 0]),
    )
    assert (
        b.click_rate(clicked) == 0.6
        and b.conversion_per_impression(bought) == 0.4
        and b.refund_rate(bought, refunded) == 0.5
    )
    # the one bought without a click is not of a click
    assert b.conversion_per_click(clicked, bought) == pytest.approx(1 / 3)
    assert b.revenue_per_mille(np.array([5.0, 0, 0, 0])) == 1250
    assert b.order_value(np.array(["o1", "o1", "o2", ""]), np.array([5.0, 5, 20, 0])) == 15


def test_an_act_counts_where_it_follows_within_the_window():
    """a bought x after exactly 7 days; b bought x before it was shown; c's came a day too late; d
    was shown nothing.
    """
    assert b.adoption(*SHOWN, *ACTS) == pytest.approx(1 / 3)
    assert b.item_adoption(*SHOWN, *ACTS) == 0.5
    assert b.attributed_revenue(*SHOWN, *ACTS, PAID) == pytest.approx(10 / 200)
    assert b.adoption(*SHOWN, *ACTS, window_ms=8 * DAY) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_attribution_equals_the_loop(seed):
    rng = np.random.default_rng(seed)
    shown, acts = (
        [rng.integers(0, 5, n), rng.integers(0, 4, n), rng.integers(0, 30 * DAY, n)]
        for n in (40, 30)
    )
    follows = np.array(
        [
            [
                su == au and si == ai and 0 <= at - st <= b.WINDOW_MS
                for au, ai, at in zip(*acts, strict=True)
            ]
            for su, si, st in zip(*shown, strict=True)
        ]
    )
    revenue = rng.random(30)
    assert b.attributed_revenue(*shown, *acts, revenue) == pytest.approx(
        revenue[follows.any(axis=0)].sum() / revenue.sum()
    )
    assert b.adoption(*shown, *acts) == pytest.approx(
        len(set(shown[0][follows.any(axis=1)])) / len(set(shown[0]))
    )


def test_sessions_and_returns():
    session, item, when = (
        np.array([1, 1, 2, 2, 2]),
        np.array(["x", "x", "x", "y", "z"]),
        np.array([0, 4000, 0, 1000, 2000]),
    )
    assert b.session_length_s(session, when) == 3 and b.items_per_session(session, item) == 2
    user, days = np.array(["a", "a", "a", "b", "b", "c"]), np.array([0, 1, 7, 0, 2, 6]) * DAY
    assert b.return_time_days(user, days) == 2  # gaps 1, 6, 2
    # the log ends on day 7: all three could have come back
    assert b.retention(user, days, 1) == pytest.approx(1 / 3)
    assert b.retention(user, days, 7) == 0.5  # c began on day 6 and could not
    assert math.isnan(b.retention(user, days, 30)) and math.isnan(b.churn(user, days))
    assert b.churn(np.array(["a", "b", "b"]), np.array([0, 0, 40]) * DAY) == 0.5


def test_the_lift_s_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        found = b.lift(rng.exponential(1.2, 300), rng.exponential(1.0, 300))
        covered.append(found.low <= 0.2 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.975
    with pytest.raises(ValueError, match="at least 2"):
        b.lift(np.ones(1), np.ones(5))
    assert math.isnan(b.lift(np.ones(3), np.zeros(3)).value)


def test_a_customer_s_worth():
    assert b.lifetime_value(np.array([10.0, 10, 10]), 0.5, 0.0) == 17.5
    assert b.lifetime_value(np.array([10.0, 10]), 0.5, 0.25) == pytest.approx(10 + 10 * 0.4)


def test_what_lacks_its_columns_is_not_computable():
    found = b.measures({"clicked": np.array([1, 0])})
    assert found["click rate"] == 0.5
    assert str(found["refund rate"]) == "not computable: the log has no bought and no refunded"
    assert [one for one in found.values() if not isinstance(one, b.NotComputable)] == [0.5]
    with pytest.raises(ValueError, match='no measure "clicks"'):
        b.measures({}, ["clicks"])


def test_nothing_to_divide_by_is_nan():
    empty = np.zeros(0)
    everything = {name: empty for _, needs in b.MEASURES.values() for name in needs}
    assert all(math.isnan(float(value)) for value in b.measures(everything).values())
