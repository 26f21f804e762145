"""Business metrics from the columns of a log.

Columns are (n,) arrays by name; `measures` runs all that a log allows. A measure whose columns are
missing is not computable, never 0. Rates are between 0 and 1; NaN where the divisor is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DAY_MS = 86_400_000
WINDOW_MS = 7 * DAY_MS  # an act within it is attributed to a recommendation
Z_95 = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class NotComputable:
    """Placeholder for a figure for which the log lacks columns."""

    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"not computable: the log has no {' and no '.join(self.missing)}"


def measures(
    log: Mapping[str, np.ndarray], names: Sequence[str] | None = None
) -> dict[str, float | NotComputable]:
    """Compute every measure of MEASURES, or those named, that the columns allow.

    Raises ValueError for an unknown name.
    """
    figures: dict[str, float | NotComputable] = {}
    for name in MEASURES if names is None else names:
        if name not in MEASURES:
            raise ValueError(f'there is no measure "{name}"; known: {", ".join(MEASURES)}')
        function, columns = MEASURES[name]
        missing = tuple(column for column in columns if column not in log)
        if missing:
            figures[name] = NotComputable(missing)
        else:
            figures[name] = function(*(np.asarray(log[column]) for column in columns))
    return figures


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


# ---- one row per impression


def click_rate(clicked: np.ndarray) -> float:
    """Clicks / impressions; `clicked` is 0 or 1."""
    return _share(clicked.sum(), len(clicked))


def conversion_per_click(clicked: np.ndarray, bought: np.ndarray) -> float:
    """Impressions clicked and bought / impressions clicked."""
    return _share((bought * clicked).sum(), clicked.sum())


def conversion_per_impression(bought: np.ndarray) -> float:
    """Impressions bought / impressions."""
    return _share(bought.sum(), len(bought))


def revenue_per_mille(revenue: np.ndarray) -> float:
    """1000 * revenue / impressions, in the log's currency."""
    return 1000 * _share(revenue.sum(), len(revenue))


def order_value(order_id: np.ndarray, revenue: np.ndarray) -> float:
    """Revenue / orders; rows without revenue belong to no order."""
    is_paid = revenue > 0
    return _share(revenue.sum(), len(np.unique(order_id[is_paid])))


def refund_rate(bought: np.ndarray, refunded: np.ndarray) -> float:
    """Refunded purchases / purchases."""
    return _share((refunded * bought).sum(), bought.sum())


def mean_of(values: np.ndarray) -> float:
    """Mean of a column: dwell seconds, cost or latency of a request."""
    return _share(values.sum(), len(values))


def percentile_95(values: np.ndarray) -> float:
    """95th percentile of a column."""
    return float(np.quantile(values, 0.95)) if len(values) else float("nan")


# ---- impressions joined with acts


def _attributed(
    impressions: Sequence[np.ndarray], acts: Sequence[np.ndarray], window_ms: int
) -> tuple[np.ndarray, np.ndarray]:
    """Match impressions with later acts of the same user on the same item.

    `impressions` and `acts` are (user, item, time_ms) arrays. Returns (impressions,) bool: followed
    by an act within the window; and (acts,) bool: preceded by such an impression. Attribution to
    the last or the first of several impressions would not change these shares.
    """
    users = np.concatenate([impressions[0], acts[0]])
    items = np.concatenate([impressions[1], acts[1]])
    codes = np.unique(np.stack([users, items]), axis=1, return_inverse=True)[1].ravel()
    n = len(impressions[0])
    shown_codes = codes[:n]
    act_codes = codes[n:]
    shown_ms = np.asarray(impressions[2])
    act_ms = np.asarray(acts[2])
    return (
        _has_match(shown_codes, shown_ms, act_codes, act_ms, window_ms),
        _has_match(act_codes, -act_ms, shown_codes, -shown_ms, window_ms),
    )


def _has_match(
    codes: np.ndarray,
    starts: np.ndarray,
    other_codes: np.ndarray,
    other_times: np.ndarray,
    window: int,
) -> np.ndarray:
    """Return whether a time of the same code lies in [start, start + window]."""
    if not len(other_times):
        return np.zeros(len(starts), dtype=bool)
    low = min(int(other_times.min()), int(starts.min(initial=0)))
    high = max(int(other_times.max()), int(starts.max(initial=0)))
    span = high - low + 1
    order = np.lexsort((other_times, other_codes))
    sorted_codes = other_codes[order]
    sorted_times = other_times[order]
    # one sorted number for each pair of code and time
    sorted_keys = sorted_codes.astype(np.int64) * span + (sorted_times - low)
    start_keys = codes.astype(np.int64) * span + (starts - low)
    nearest = np.minimum(np.searchsorted(sorted_keys, start_keys), len(sorted_keys) - 1)
    is_later = sorted_keys[nearest] >= start_keys
    is_same = sorted_codes[nearest] == codes
    return is_later & is_same & (sorted_times[nearest] - starts <= window)


def adoption(
    user: np.ndarray,
    item: np.ndarray,
    time_ms: np.ndarray,
    act_user: np.ndarray,
    act_item: np.ndarray,
    act_time_ms: np.ndarray,
    window_ms: int = WINDOW_MS,
) -> float:
    """Share of users with impressions who acted on one of the items within the window."""
    impressions = (user, item, time_ms)
    is_followed, _ = _attributed(impressions, (act_user, act_item, act_time_ms), window_ms)
    return _share(len(np.unique(user[is_followed])), len(np.unique(user)))


def item_adoption(
    user: np.ndarray,
    item: np.ndarray,
    time_ms: np.ndarray,
    act_user: np.ndarray,
    act_item: np.ndarray,
    act_time_ms: np.ndarray,
    window_ms: int = WINDOW_MS,
) -> float:
    """Share of the items shown on which a user acted within the window after it."""
    impressions = (user, item, time_ms)
    is_followed, _ = _attributed(impressions, (act_user, act_item, act_time_ms), window_ms)
    return _share(len(np.unique(item[is_followed])), len(np.unique(item)))


def attributed_revenue(
    user: np.ndarray,
    item: np.ndarray,
    time_ms: np.ndarray,
    act_user: np.ndarray,
    act_item: np.ndarray,
    act_time_ms: np.ndarray,
    act_revenue: np.ndarray,
    window_ms: int = WINDOW_MS,
) -> float:
    """Share of all revenue from acts within the window after the item was shown."""
    impressions = (user, item, time_ms)
    _, is_preceded = _attributed(impressions, (act_user, act_item, act_time_ms), window_ms)
    return _share(act_revenue[is_preceded].sum(), act_revenue.sum())


# ---- activity over time


def session_length_s(session: np.ndarray, time_ms: np.ndarray) -> float:
    """Mean seconds from the first to the last event of a session."""
    if not len(session):
        return float("nan")
    _, codes = np.unique(session, return_inverse=True)
    first_ms = np.full(codes.max() + 1, time_ms.max())
    last_ms = np.full(codes.max() + 1, time_ms.min())
    np.minimum.at(first_ms, codes, time_ms)
    np.maximum.at(last_ms, codes, time_ms)
    return float((last_ms - first_ms).mean() / 1000)


def _distinct_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (2, p) the distinct pairs of a's and b's codes, sorted by a."""
    _, a_codes = np.unique(a, return_inverse=True)
    _, b_codes = np.unique(b, return_inverse=True)
    return np.unique(np.stack([a_codes.ravel(), b_codes.ravel()]), axis=1)


def items_per_session(session: np.ndarray, item: np.ndarray) -> float:
    """Mean number of distinct items per session."""
    return _share(_distinct_pairs(session, item).shape[1], len(np.unique(session)))


def return_time_days(user: np.ndarray, time_ms: np.ndarray) -> float:
    """Median days between a user's active days; NaN where no user came back."""
    _, user_codes = np.unique(user, return_inverse=True)
    pairs = np.stack([user_codes.ravel(), time_ms // DAY_MS])
    users, days = np.unique(pairs, axis=1)
    is_same_user = users[1:] == users[:-1]
    gaps = np.diff(days)[is_same_user]
    if not len(gaps):
        return float("nan")
    return float(np.median(gaps))


def retention(user: np.ndarray, time_ms: np.ndarray, day: int) -> float:
    """Share of users active exactly `day` days after their first day.

    Of the users whose day lies inside the log.
    """
    if not len(user):
        return float("nan")
    _, codes = np.unique(user, return_inverse=True)
    days = time_ms // DAY_MS
    first_days = np.full(codes.max() + 1, days.max())
    np.minimum.at(first_days, codes, days)
    is_observed = first_days + day <= days.max()
    has_returned = np.zeros(len(first_days), dtype=bool)
    has_returned[codes[days == first_days[codes] + day]] = True
    return _share((has_returned & is_observed).sum(), is_observed.sum())


def churn(user: np.ndarray, time_ms: np.ndarray, days: int = 30) -> float:
    """Share of users without an event in the last `days` days of the log.

    NaN where the log is shorter than that.
    """
    if not len(user) or np.ptp(time_ms) < days * DAY_MS:
        return float("nan")
    active_users = np.unique(user[time_ms > time_ms.max() - days * DAY_MS])
    return 1 - _share(len(active_users), len(np.unique(user)))


# ---- two groups, and a customer's lifetime


@dataclass(frozen=True)
class Lift:
    """Relative increase over the control, with 95 % interval; NaN for a control of 0."""

    value: float
    low: float
    high: float


def lift(treated: np.ndarray, control: np.ndarray) -> Lift:
    """mean(treated) / mean(control) - 1 of values per user, with interval.

    The interval is that of the logarithm of the ratio (delta method). Raises ValueError for a group
    of fewer than 2.
    """
    if min(len(treated), len(control)) < 2:
        raise ValueError(
            f"groups of {len(treated)} and {len(control)}: each needs at least 2 users"
        )
    treated_mean = float(treated.mean())
    control_mean = float(control.mean())
    if control_mean <= 0:
        return Lift(float("nan"), float("nan"), float("nan"))
    ratio = treated_mean / control_mean
    if treated_mean <= 0:
        return Lift(ratio - 1, float("nan"), float("nan"))
    treated_variance = treated.var(ddof=1) / (len(treated) * treated_mean**2)
    control_variance = control.var(ddof=1) / (len(control) * control_mean**2)
    error = np.sqrt(treated_variance + control_variance)
    low = float(ratio * np.exp(-Z_95 * error) - 1)
    high = float(ratio * np.exp(Z_95 * error) - 1)
    return Lift(ratio - 1, low, high)


def lifetime_value(margins: np.ndarray, retained: float, discount: float) -> float:
    """Sum over periods t of margin_t * retained^t / (1 + discount)^t (Berger and Nasr 1998).

    t starts at 0; in the margins' currency.
    """
    factors = (retained / (1 + discount)) ** np.arange(len(margins))
    return float((margins * factors).sum())


SHOWN = ("user", "item", "time_ms", "act_user", "act_item", "act_time_ms")
MEASURES: dict[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "click rate": (click_rate, ("clicked",)),
    "conversion per click": (conversion_per_click, ("clicked", "bought")),
    "conversion per impression": (conversion_per_impression, ("bought",)),
    "revenue per 1000 impressions": (revenue_per_mille, ("revenue",)),
    "average order value": (order_value, ("order_id", "revenue")),
    "refund rate": (refund_rate, ("bought", "refunded")),
    "adoption by users": (adoption, SHOWN),
    "adoption of items": (item_adoption, SHOWN),
    "share of revenue attributed": (attributed_revenue, (*SHOWN, "act_revenue")),
    "session length, s": (session_length_s, ("session", "time_ms")),
    "items a session": (items_per_session, ("session", "item")),
    "days to return": (return_time_days, ("user", "time_ms")),
    "retention after 1 day": (
        lambda user, time_ms: retention(user, time_ms, 1),
        ("user", "time_ms"),
    ),
    "retention after 7 days": (
        lambda user, time_ms: retention(user, time_ms, 7),
        ("user", "time_ms"),
    ),
    "retention after 30 days": (
        lambda user, time_ms: retention(user, time_ms, 30),
        ("user", "time_ms"),
    ),
    "churn": (churn, ("user", "time_ms")),
    "dwell, s": (mean_of, ("dwell_s",)),
    "cost of a request": (mean_of, ("cost_usd",)),
    "latency, ms": (mean_of, ("latency_ms",)),
    "latency p95, ms": (percentile_95, ("latency_ms",)),
}
