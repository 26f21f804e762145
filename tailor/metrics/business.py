"""What recommendations do for a business, from columns of its log; a measure whose columns are
missing is not computable, never 0.

Columns are (n,) arrays by name; `measures` runs all that a log allows. Rates are between 0 and 1;
NaN where there is nothing to divide by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DAY_MS = 86_400_000
WINDOW_MS = 7 * DAY_MS  # within which an act counts as the fruit of a recommendation


@dataclass(frozen=True)
class NotComputable:
    """Stands in the place of a figure for which the log lacks columns."""

    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"not computable: the log has no {' and no '.join(self.missing)}"


def measures(
    log: Mapping[str, np.ndarray], names: Sequence[str] | None = None
) -> dict[str, float | NotComputable]:
    """Every measure of MEASURES (or those named) that the columns of `log` allow. Raises ValueError
    for a name there is not.
    """
    out: dict[str, float | NotComputable] = {}
    for name in MEASURES if names is None else names:
        if name not in MEASURES:
            raise ValueError(f'there is no measure "{name}"; known: {", ".join(MEASURES)}')
        function, needs = MEASURES[name]
        missing = tuple(column for column in needs if column not in log)
        out[name] = (
            NotComputable(missing)
            if missing
            else function(*(np.asarray(log[column]) for column in needs))
        )
    return out


def _share(above: float, below: float) -> float:
    return float(above / below) if below else float("nan")


# ---- one row an impression


def click_rate(clicked: np.ndarray) -> float:
    """Clicks / impressions; `clicked` 0 or 1."""
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
    """Revenue / orders; rows without a revenue belong to no order."""
    paid = revenue > 0
    return _share(revenue.sum(), len(np.unique(order_id[paid])))


def refund_rate(bought: np.ndarray, refunded: np.ndarray) -> float:
    """Purchases given back / purchases."""
    return _share((refunded * bought).sum(), bought.sum())


def mean_of(values: np.ndarray) -> float:
    """Mean of a column: dwell seconds, cost or latency of a request."""
    return _share(values.sum(), len(values))


def percentile_95(values: np.ndarray) -> float:
    """What 95 % of a column's values do not exceed."""
    return float(np.quantile(values, 0.95)) if len(values) else float("nan")


# ---- what was shown, joined with what was done


def _touches(
    shown: Sequence[np.ndarray], acts: Sequence[np.ndarray], window_ms: int
) -> tuple[np.ndarray, np.ndarray]:
    """(impressions,) bool: followed by an act of the same user on the same item in time, and
    (acts,) bool: preceded by such an impression.

    `shown` and `acts` are (user, item, time_ms) arrays. The last touch wins where there are
    several, which changes no share.
    """
    pairs = np.stack([np.concatenate([shown[i], acts[i]]) for i in (0, 1)])
    pair = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
    n = len(shown[0])
    return (
        _within(pair[:n], np.asarray(shown[2]), pair[n:], np.asarray(acts[2]), window_ms),
        _within(pair[n:], -np.asarray(acts[2]), pair[:n], -np.asarray(shown[2]), window_ms),
    )


def _within(
    pair: np.ndarray, start: np.ndarray, other_pair: np.ndarray, other: np.ndarray, window: int
) -> np.ndarray:
    """Whether a time of the same pair lies in [start, start + window]."""
    if not len(other):
        return np.zeros(len(start), dtype=bool)
    order = np.lexsort((other, other_pair))
    low = min(int(other.min()), int(start.min(initial=0)))
    span = max(int(other.max()), int(start.max(initial=0))) - low + 1
    keys = other_pair[order].astype(np.int64) * span + (other[order] - low)
    wanted = pair.astype(np.int64) * span + (start - low)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return (
        (keys[at] >= wanted)
        & (other_pair[order][at] == pair)
        & (other[order][at] - start <= window)
    )


def adoption(
    user: np.ndarray,
    item: np.ndarray,
    time_ms: np.ndarray,
    act_user: np.ndarray,
    act_item: np.ndarray,
    act_time_ms: np.ndarray,
    window_ms: int = WINDOW_MS,
) -> float:
    """Share of the users shown something who acted on something shown to them within the window
    after it.
    """
    reached, _ = _touches((user, item, time_ms), (act_user, act_item, act_time_ms), window_ms)
    return _share(len(np.unique(user[reached])), len(np.unique(user)))


def item_adoption(
    user: np.ndarray,
    item: np.ndarray,
    time_ms: np.ndarray,
    act_user: np.ndarray,
    act_item: np.ndarray,
    act_time_ms: np.ndarray,
    window_ms: int = WINDOW_MS,
) -> float:
    """Share of the items shown on which somebody shown them acted within the window after it."""
    reached, _ = _touches((user, item, time_ms), (act_user, act_item, act_time_ms), window_ms)
    return _share(len(np.unique(item[reached])), len(np.unique(item)))


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
    """Share of all revenue that came within the window after the item was shown to the buyer."""
    _, touched = _touches((user, item, time_ms), (act_user, act_item, act_time_ms), window_ms)
    return _share(act_revenue[touched].sum(), act_revenue.sum())


# ---- activity over time


def session_length_s(session: np.ndarray, time_ms: np.ndarray) -> float:
    """Mean seconds from the first to the last event of a session."""
    if not len(session):
        return float("nan")
    _, code = np.unique(session, return_inverse=True)
    first, last = np.full(code.max() + 1, time_ms.max()), np.full(code.max() + 1, time_ms.min())
    np.minimum.at(first, code, time_ms)
    np.maximum.at(last, code, time_ms)
    return float((last - first).mean() / 1000)


def items_per_session(session: np.ndarray, item: np.ndarray) -> float:
    """Mean number of distinct items of a session."""
    pairs = np.unique(
        np.stack([np.unique(one, return_inverse=True)[1].ravel() for one in (session, item)]),
        axis=1,
    )
    return _share(pairs.shape[1], len(np.unique(session)))


def return_time_days(user: np.ndarray, time_ms: np.ndarray) -> float:
    """Median days from one day of a user's activity to the next; NaN where nobody came back."""
    pairs = np.unique(
        np.stack([np.unique(user, return_inverse=True)[1].ravel(), time_ms // DAY_MS]), axis=1
    )
    gaps = np.diff(pairs[1])[pairs[0, 1:] == pairs[0, :-1]]
    return float(np.median(gaps)) if len(gaps) else float("nan")


def retention(user: np.ndarray, time_ms: np.ndarray, day: int) -> float:
    """Share of users active exactly `day` days after their first day, of those whose day lies
    inside the log.
    """
    if not len(user):
        return float("nan")
    _, code = np.unique(user, return_inverse=True)
    days = time_ms // DAY_MS
    first = np.full(code.max() + 1, days.max())
    np.minimum.at(first, code, days)
    followed = first + day <= days.max()
    back = np.zeros(len(first), dtype=bool)
    back[code[days == first[code] + day]] = True
    return _share((back & followed).sum(), followed.sum())


def churn(user: np.ndarray, time_ms: np.ndarray, days: int = 30) -> float:
    """Share of users without an event in the last `days` days of the log. NaN where the log is
    shorter than that.
    """
    if not len(user) or np.ptp(time_ms) < days * DAY_MS:
        return float("nan")
    kept = np.unique(user[time_ms > time_ms.max() - days * DAY_MS])
    return 1 - _share(len(kept), len(np.unique(user)))


# ---- of two groups, and over a life


@dataclass(frozen=True)
class Lift:
    """How much more the treated group did, relative to the control, and its 95 % interval; NaN
    where the control did nothing.
    """

    value: float
    low: float
    high: float


def lift(treated: np.ndarray, control: np.ndarray) -> Lift:
    """mean(treated) / mean(control) - 1 of values per user, the interval from the logarithm of the
    ratio (delta method).

    Raises ValueError for a group of fewer than 2.
    """
    if min(len(treated), len(control)) < 2:
        raise ValueError(
            f"groups of {len(treated)} and {len(control)}: each needs at least 2 users"
        )
    a, b = float(treated.mean()), float(control.mean())
    if a <= 0 or b <= 0:
        return Lift(float("nan") if b <= 0 else a / b - 1, float("nan"), float("nan"))
    error = np.sqrt(
        treated.var(ddof=1) / (len(treated) * a**2) + control.var(ddof=1) / (len(control) * b**2)
    )
    return Lift(
        a / b - 1,
        float(a / b * np.exp(-1.959964 * error) - 1),
        float(a / b * np.exp(1.959964 * error) - 1),
    )


def lifetime_value(margins: np.ndarray, retained: float, discount: float) -> float:
    """Sum over periods t = 0, 1, ... of margin_t * retained^t / (1 + discount)^t, in the margins'
    currency (Berger and Nasr 1998).
    """
    return float((margins * (retained / (1 + discount)) ** np.arange(len(margins))).sum())


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
