"""Measure whether single items get a fair share of exposure, as published and corrected.

Measures of Raj and Ekstrand, Biega and others, with the corrections of "Properties of Group and
Individual Item Fairness Measures" (2311.01013, forms reconstructed), which make each reach 0 and 1.
Symbols: m lists of k different items out of n; S = m k places in all; counts c (n,) lists that hold
each item.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.metrics.lists import concentration, exposure
from tailor.metrics.ranking import refuse_repeats

NAN = float("nan")
PATIENCE = 0.8  # probability that a reader goes on after each place
CLICKS = 0.9  # the same for clicks in `HD`
BAND = 0.1  # IBO and IWO count items this share above or below the impact of random lists


class Measure(NamedTuple):
    """One measure of a set of lists."""

    name: str
    raw: float
    """Value as published; NaN where undefined."""
    corrected: float
    """0 for the most unfair and 1 for the fairest lists where `better` is "higher", else the other
    way round; NaN where there is no such form.
    """
    better: str
    """"higher" or "lower" is fairer."""
    note: str = ""
    """Reason for a missing value, or limits of the measure."""


def item_fairness(
    rows: np.ndarray, items: int, relevant: sp.csr_matrix | None = None
) -> list[Measure]:
    """Compute every measure of lists (m, k) of item rows, best first.

    `items` is the size of the catalogue, which changes every value. With relevance (m, items), also
    measures that weight exposure by it; these disagree with one another and move little, so read
    them together. Raises ValueError for lists of unequal length (a row of -1), an item twice in a
    list, or rows outside the catalogue.
    """
    rows = np.asarray(rows)
    _check_lists(rows, items)
    if relevant is not None and relevant.shape != (len(rows), items):
        raise ValueError(
            f"relevance has the shape {relevant.shape}, the lists ask for {(len(rows), items)}"
        )
    counts = exposure(rows, items).astype(np.float64)
    measures = [*_exposure_measures(counts, *rows.shape), *_position_measures(rows, items)]
    if relevant is not None:
        relevance = sp.csr_matrix(relevant, dtype=np.float64)
        measures += _relevance_measures(rows, relevance)
    return measures


def _check_lists(rows: np.ndarray, items: int) -> None:
    """Raise ValueError unless rows (m, k) are full lists without repeats over the catalogue."""
    if rows.ndim != 2 or not rows.size:
        raise ValueError(
            f"lists have the shape {rows.shape}: there must be at least one list of at least one"
            " item"
        )
    if rows.min() < 0 or rows.max() >= items:
        raise ValueError(
            f"rows go from {rows.min()} to {rows.max()}: lists must be of equal length, without -1,"
            f" over {items} items"
        )
    refuse_repeats(rows)


# ---- exposure, whatever the position


def _exposure_measures(counts: np.ndarray, m: int, k: int) -> list[Measure]:
    """Compute the measures of counts (n,)."""
    n = len(counts)
    places = m * k
    floor, remainder = divmod(
        places, n
    )  # the fairest lists show `remainder` items once more than others
    note = ""
    if n == k:
        note = "lists of the whole catalogue"
    if m == 1:
        note = "one list"

    def scaled(value: float, worst: float, best: float) -> float:
        """Scale to 0 at the worst and 1 at the best; NaN where all are equal."""
        return NAN if note or best == worst else (value - worst) / (best - worst)

    jain = places**2 / (n * (counts**2).sum())
    fairest_jain = places**2 / (n * (n * floor**2 + remainder * (2 * floor + 1)))
    covered = float((counts > 0).mean())
    entropy = _entropy(counts)
    fairest_counts = np.repeat([floor, floor + 1.0], [n - remainder, remainder])
    worst_entropy = np.log(k) / np.log(n) if n > 1 else NAN
    gini = concentration(counts)
    fairest_gini = (n - remainder) * remainder / (n * places)
    satisfied = float((counts >= floor).mean()) if floor else NAN
    too_few = "fewer places than items: every list would be perfectly fair"
    return [
        Measure("Jain", jain, scaled(jain, k / n, fairest_jain), "higher", note),
        Measure("QF", covered, scaled(covered, k / n, min(1.0, places / n)), "higher", note),
        Measure(
            "Ent", entropy, scaled(entropy, worst_entropy, _entropy(fairest_counts)), "higher", note
        ),
        Measure("Gini", gini, 1 - scaled(gini, 1 - k / n, fairest_gini), "lower", note),
        Measure(
            "FSat",
            satisfied,
            scaled(satisfied, k / n, 1.0) if floor else NAN,
            "higher",
            note if floor else too_few,
        ),
        _vocd(counts),
    ]


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of the items' shares of exposure / log n; NaN for one item."""
    if len(counts) < 2:
        return NAN
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def _vocd(counts: np.ndarray) -> Measure:
    """Mean over pairs of shown items of |c_i - c_j| / max.

    With c sorted from high to low, a pair is 1 - c_j / c_i, so no loop over pairs is needed.
    """
    counts = np.sort(counts[counts > 0])[::-1]
    pairs = len(counts) * (len(counts) - 1) / 2
    if not pairs:
        return Measure("VoCD", NAN, NAN, "lower", "fewer than two items are shown")
    sums_after = counts.sum() - np.cumsum(counts)
    value = float(1 - (sums_after / counts).sum() / pairs)
    return Measure("VoCD", value, NAN, "lower", "sees shown items only: 0 where a few have all")


# ---- exposure by position


def _position_measures(rows: np.ndarray, n: int) -> list[Measure]:
    """Compute the measures that weight exposure by position."""
    m, k = rows.shape
    attention = PATIENCE ** np.arange(k)
    even_attention = (1 - PATIENCE**k) / ((1 - PATIENCE) * n)
    per_list = (((attention - even_attention) ** 2).sum() + (n - k) * even_attention**2) / n
    mean_attention = np.bincount(rows.ravel(), np.tile(attention, m), minlength=n) / m
    return [
        _weighted_gini(rows, n),
        Measure(
            "II-D",
            float(per_list),
            NAN,
            "lower",
            "the same for all lists of this length: it cannot see which items are shown",
        ),
        Measure("AI-D", float(((mean_attention - even_attention) ** 2).mean()), NAN, "lower"),
    ]


def _weighted_gini(rows: np.ndarray, n: int) -> Measure:
    """Gini coefficient of exposure discounted by position as in NDCG."""
    m, k = rows.shape
    ranks = np.arange(1, k + 1)
    discounts = 1 / np.log2(ranks + 1)
    raw = concentration(np.bincount(rows.ravel(), np.tile(discounts, m), minlength=n))
    total = n * discounts.sum()
    # most unfair: the same k items in every list, the last k in ascending order of exposure
    high = float(((2 * (n - k + ranks) - n - 1) * discounts[::-1]).sum() / total)
    low = 0.0
    note = "its lower end is a bound that is not always reached"
    if m * k <= n:
        note = ""
        # fairest: every item at most once; the items at rank r are m in a row in ascending order
        for rank, discount in zip(ranks, discounts, strict=True):
            orders = np.arange(n - rank * m + 1, n - rank * m + m + 1)
            low += float(discount * (2 * orders - n - 1).sum())
        low /= m * total
    if high == low:
        return Measure("Gini-w", raw, NAN, "lower", "all lists are alike to it")
    return Measure("Gini-w", raw, (raw - low) / (high - low), "lower", note)


# ---- exposure weighted by relevance


def _relevance_measures(rows: np.ndarray, relevance: sp.csr_matrix) -> list[Measure]:
    """Compute the measures that hold exposure against relevance (m, n)."""
    m, k = rows.shape
    list_index = np.repeat(np.arange(m), k)
    shown_relevance = np.asarray(relevance[list_index, rows.ravel()]).reshape(m, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ranks = np.arange(1, k + 1)
    reciprocal_ranks = sp.csr_matrix(
        (np.tile(1 / ranks, m), (list_index, rows.ravel())), shape=relevance.shape
    )
    unreached = int((np.asarray(relevance.sum(axis=1)).ravel() <= 0).sum())
    return [
        _attention_gap(shown_relevance, relevance),
        _multiplied_disparity(shown_relevance, relevance.shape[1], discounts),
        Measure(
            "IFD_div",
            _divided_disparity(rows, relevance, discounts),
            NAN,
            "lower",
            "over lists with two relevant items",
        ),
        *_expected_exposure_loss(rows, shown_relevance, relevance),
        Measure("MME", _mean_max_envy(reciprocal_ranks, relevance), NAN, "lower"),
        *_impact(reciprocal_ranks, relevance, k),
        Measure(
            "HD",
            _hellinger(shown_relevance),
            NAN,
            "lower",
            f"{unreached} lists without a relevant item are left out" if unreached else "",
        ),
    ]


def _attention_gap(shown_relevance: np.ndarray, relevance: sp.csr_matrix) -> Measure:
    """Mean over items of |attention - relevance|; attention falls linearly over a list (IAA)."""
    k = shown_relevance.shape[1]
    if k == 1:
        return Measure("IAA", NAN, NAN, "lower", "lists of one item")
    attention = (k - np.arange(1, k + 1)) / (k - 1)
    shown_gaps = np.abs(attention - shown_relevance) - shown_relevance
    list_relevance = np.asarray(relevance.sum(axis=1)).ravel()
    gaps = shown_gaps.sum(axis=1) + list_relevance  # items not shown have no attention
    return Measure("IAA", float(gaps.mean() / relevance.shape[1]), NAN, "lower")


def _multiplied_disparity(shown_relevance: np.ndarray, n: int, discounts: np.ndarray) -> Measure:
    """Mean over lists and pairs of items of the squared difference of exposure * relevance."""
    if n < 2:
        return Measure("IFD_mul", NAN, NAN, "lower")
    products = shown_relevance * discounts
    squares = n * (products**2).sum(axis=1) - products.sum(axis=1) ** 2
    return Measure("IFD_mul", float((squares / (n * (n - 1) / 2)).mean()), NAN, "lower")


def _divided_disparity(rows: np.ndarray, relevance: sp.csr_matrix, discounts: np.ndarray) -> float:
    """Mean over lists and ordered pairs of relevant items of the surplus of exposure."""
    values = []
    for i, row in enumerate(rows):
        relevant_rows = relevance.indices[relevance.indptr[i] : relevance.indptr[i + 1]]
        n = len(relevant_rows)
        if n < 2:
            continue
        shown_discounts = discounts[np.isin(row, relevant_rows)]
        exposures = np.sort(np.r_[shown_discounts, np.zeros(n - len(shown_discounts))])
        # sum over pairs of the larger minus the smaller
        larger = (exposures * np.arange(n)).sum()
        smaller = (np.cumsum(exposures) - exposures).sum()
        values.append((larger - smaller) / (n * (n - 1)))
    return float(np.mean(values)) if values else NAN


def _expected_exposure_loss(
    rows: np.ndarray, shown_relevance: np.ndarray, relevance: sp.csr_matrix
) -> list[Measure]:
    """Squared distance of attention from that of an ideal ranking, per list and on average.

    The ideal ranking shares the attention of the first places among all relevant items.
    """
    m, k = rows.shape
    n = relevance.shape[1]
    attention = PATIENCE ** np.arange(k)
    list_relevance = np.asarray(relevance.sum(axis=1)).ravel()
    ideal = np.divide(
        1 - PATIENCE**list_relevance,
        (1 - PATIENCE) * list_relevance,
        out=np.zeros(m),
        where=list_relevance > 0,
    )
    shown_losses = (attention - shown_relevance * ideal[:, None]) ** 2
    squares = np.asarray(relevance.power(2).sum(axis=1)).ravel()
    unshown_squares = squares - (shown_relevance**2).sum(axis=1)
    per_list = float((shown_losses.sum(axis=1) + unshown_squares * ideal**2).mean() / n)
    mean_attention = np.bincount(rows.ravel(), np.tile(attention, m), minlength=n) / m
    mean_ideal = np.asarray(relevance.T @ ideal).ravel() / m
    on_average = float(((mean_attention - mean_ideal) ** 2).mean())
    return [Measure("II-F", per_list, NAN, "lower"), Measure("AI-F", on_average, NAN, "lower")]


def _mean_max_envy(reciprocal_ranks: sp.csr_matrix, relevance: sp.csr_matrix) -> float:
    """Mean over items of the largest gain from taking another item's places (MME).

    A place is worth relevance / rank to an item.
    """
    gains = sp.csr_matrix(relevance.T @ reciprocal_ranks)  # (n, n): item i in the places of item j
    best = np.maximum(np.asarray(gains.max(axis=1).todense()).ravel(), 0)
    return float((best - gains.diagonal()).mean() / reciprocal_ranks.shape[0])


def _impact(
    reciprocal_ranks: sp.csr_matrix, relevance: sp.csr_matrix, k: int
) -> tuple[Measure, Measure]:
    """Shares of items whose impact is BAND above or below that in random lists (IBO, IWO).

    An item's impact is its sum of relevance / rank.
    """
    impact = np.asarray(reciprocal_ranks.multiply(relevance).sum(axis=0)).ravel()
    item_relevance = np.asarray(relevance.sum(axis=0)).ravel()
    random_impact = item_relevance * (1 / np.arange(1, k + 1)).sum() / relevance.shape[1]
    return (
        _impact_share("IBO", impact >= (1 + BAND) * random_impact, random_impact, "higher"),
        _impact_share("IWO", impact <= (1 - BAND) * random_impact, random_impact, "lower"),
    )


def _impact_share(
    name: str, is_counted: np.ndarray, random_impact: np.ndarray, better: str
) -> Measure:
    """Return the share of items counted; without those that are relevant to no user, corrected."""
    is_relevant = random_impact > 0
    share = float(is_counted[is_relevant].mean()) if is_relevant.any() else NAN
    if is_relevant.all():
        return Measure(name, share, share, better)
    note = (
        f"{int((~is_relevant).sum())} items are relevant to nobody: raw says nothing, corrected"
        " leaves them out"
    )
    return Measure(name, NAN, share, better, note)


def _hellinger(shown_relevance: np.ndarray) -> float:
    """Hellinger distance of mean relevance by position from clicks of a cascade model."""
    relevant_lists = shown_relevance[shown_relevance.sum(axis=1) > 0]
    if not len(relevant_lists):
        return NAN
    shares = (relevant_lists / relevant_lists.sum(axis=1, keepdims=True)).mean(axis=0)
    clicks = CLICKS ** np.arange(1, shown_relevance.shape[1] + 1)
    differences = np.sqrt(shares) - np.sqrt(clicks / clicks.sum())
    return float(np.sqrt((differences**2).sum() / 2))
