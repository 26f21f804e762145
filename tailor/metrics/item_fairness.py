"""Whether single items get their share of exposure: the measures as published, and corrected so
that they reach their ends.

Raj and Ekstrand's, Biega's and others' measures with the corrections of "Properties of Group and
Individual Item Fairness Measures" (2311.01013, forms reconstructed). m lists of k different items
out of n; S = m k places; c (n,) how often each item is shown; f = floor(S / n), r = S mod n.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.metrics.lists import concentration, exposure
from tailor.metrics.ranking import refuse_repeats

PATIENCE = 0.8  # of who looks down a list: the share that goes on after each place
CLICKS = 0.9  # the same for clicks in `HD`
# of the impact that an item has by chance: more than that above or below counts for IBO and IWO
BAND = 0.1


class Measure(NamedTuple):
    """One measure of a set of lists."""

    name: str
    raw: float
    """As published; NaN where it says nothing."""
    corrected: float
    """0 at the most unfair lists and 1 at the fairest, where `better` is "higher", else the other
    way round; NaN where there is no such form.
    """
    better: str
    """"higher" or "lower" is fairer."""
    note: str = ""
    """Why a value is missing, or what it cannot see."""


def item_fairness(
    rows: np.ndarray, items: int, relevant: sp.csr_matrix | None = None
) -> list[Measure]:
    """Every measure of lists (m, k) of item rows, best first, over a catalogue of `items`; with
    relevance (m, items) also those that weigh exposure by it.

    The measures with relevance disagree with one another and move little: they are for reading
    beside each other. Which items count as the catalogue changes every value. Raises ValueError for
    lists of unequal length (a row of -1), an item twice in a list, or rows outside the catalogue.
    """
    rows = np.asarray(rows)
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
    if relevant is not None and relevant.shape != (len(rows), items):
        raise ValueError(
            f"relevance has the shape {relevant.shape}, the lists ask for {(len(rows), items)}"
        )
    counts = exposure(rows, items).astype(np.float64)
    out = [*_of_counts(counts, *rows.shape), *_of_places(rows, items)]
    return (
        out
        if relevant is None
        else out + _with_relevance(rows, sp.csr_matrix(relevant, dtype=np.float64))
    )


def _of_counts(c: np.ndarray, m: int, k: int) -> list[Measure]:
    n, s = len(c), m * k
    f, r = divmod(s, n)
    only = "one list" if m == 1 else "lists of the whole catalogue" if n == k else ""

    def scaled(value: float, worst: float, best: float) -> float:
        return float("nan") if only or best == worst else (value - worst) / (best - worst)

    jain = s**2 / (n * (c**2).sum())
    shown = c[c > 0] / s
    base = np.log(n) if n > 1 else float("nan")
    entropy = float(-(shown * np.log(shown)).sum() / base)
    most = (
        np.log(s) / base
        if s < n
        else -sum(
            count * share * np.log(share)
            for count, share in ((n - r, f / s), (r, (f + 1) / s))
            if count
        )
        / base
    )
    covered = float((c > 0).mean())
    gini = concentration(c)
    least = (n - r) * r / (n * s)
    satisfied = float((c >= f).mean()) if f else float("nan")
    return [
        Measure(
            "Jain",
            jain,
            scaled(jain, k / n, s**2 / (n * (n * f**2 + r * (2 * f + 1)))),
            "higher",
            only,
        ),
        Measure("QF", covered, scaled(covered, k / n, min(1.0, s / n)), "higher", only),
        Measure("Ent", entropy, scaled(entropy, np.log(k) / base, most), "higher", only),
        Measure("Gini", gini, 1 - scaled(gini, 1 - k / n, least), "lower", only),
        Measure(
            "FSat",
            satisfied,
            scaled(satisfied, k / n, 1.0) if f else float("nan"),
            "higher",
            only if f else "fewer places than items: every list would be perfectly fair",
        ),
        _vocd(c),
    ]


def _vocd(c: np.ndarray) -> Measure:
    """Mean over pairs of shown items of |c_i - c_j| / max; with c falling, a pair is 1 - c_j / c_i,
    so that no pair is visited.
    """
    c = np.sort(c[c > 0])[::-1]
    pairs = len(c) * (len(c) - 1) / 2
    after = c.sum() - np.cumsum(c)
    value = float(1 - (after / c).sum() / pairs) if pairs else float("nan")
    return Measure(
        "VoCD",
        value,
        float("nan"),
        "lower",
        (
            "sees shown items only: 0 where a few have all"
            if pairs
            else "fewer than two items are shown"
        ),
    )


def _of_places(rows: np.ndarray, n: int) -> list[Measure]:
    m, k = rows.shape
    discount = 1 / np.log2(np.arange(2, k + 2))
    weights = np.bincount(rows.ravel(), np.tile(discount, m), minlength=n)
    raw = concentration(weights)
    place = np.arange(1, k + 1)
    high = float(((2 * (n - k + place) - n - 1) * discount[::-1]).sum() / (n * discount.sum()))
    low, note = 0.0, "its lower end is a bound that is not always reached"
    if m * k <= n:
        # the fairest lists show every item once: the first places' items stand last in the
        # ascending order
        low = sum(
            float(
                discount[at - 1] * (2 * np.arange(n - at * m + 1, n - at * m + m + 1) - n - 1).sum()
            )
            for at in place
        ) / (n * m * discount.sum())
        note = ""
    looks = PATIENCE ** (place - 1)
    even = (1 - PATIENCE**k) / ((1 - PATIENCE) * n)
    each = (((looks - even) ** 2).sum() + (n - k) * even**2) / n
    mean = np.bincount(rows.ravel(), np.tile(looks, m), minlength=n) / m
    return [
        Measure(
            "Gini-w",
            raw,
            (raw - low) / (high - low) if high != low else float("nan"),
            "lower",
            note if high != low else "all lists are alike to it",
        ),
        Measure(
            "II-D",
            float(each),
            float("nan"),
            "lower",
            "the same for all lists of this length: it cannot see which items are shown",
        ),
        Measure("AI-D", float(((mean - even) ** 2).mean()), float("nan"), "lower"),
    ]


def _with_relevance(rows: np.ndarray, relevant: sp.csr_matrix) -> list[Measure]:
    m, k = rows.shape
    n, users, place = relevant.shape[1], np.arange(m), np.arange(1, k + 1)
    rel = np.asarray(relevant[np.repeat(users, k), rows.ravel()]).reshape(m, k)  # of what is shown
    all_rel = np.asarray(relevant.sum(axis=1)).ravel()
    has = all_rel > 0
    attention = (k - place) / (k - 1) if k > 1 else np.zeros(1)
    iaa = (
        float(((np.abs(attention - rel) - rel).sum(axis=1) + all_rel).mean() / n)
        if k > 1
        else float("nan")
    )
    discount = 1 / np.log2(place + 1)
    joint = rel * discount
    multiplied = (
        float(((n * (joint**2).sum(axis=1) - joint.sum(axis=1) ** 2) / (n * (n - 1) / 2)).mean())
        if n > 1
        else float("nan")
    )
    looks = PATIENCE ** (place - 1)
    # of each relevant item
    wanted = np.divide(1 - PATIENCE**all_rel, (1 - PATIENCE) * all_rel, out=np.zeros(m), where=has)
    of_shown = (looks - rel * wanted[:, None]) ** 2
    rest = np.asarray(relevant.power(2).sum(axis=1)).ravel() - (rel**2).sum(axis=1)
    ii_f = float((of_shown.sum(axis=1) + rest * wanted**2).mean() / n)
    mean = (
        np.bincount(rows.ravel(), np.tile(looks, m), minlength=n) / m
        - np.asarray(relevant.T @ wanted).ravel() / m
    )
    by_rank = sp.csr_matrix(
        (np.tile(1 / place, m), (np.repeat(users, k), rows.ravel())), shape=(m, n)
    )
    better, worse = _impact(by_rank, relevant, k)
    note = "" if has.all() else f"{int((~has).sum())} lists without a relevant item are left out"
    return [
        Measure("IAA", iaa, float("nan"), "lower", "" if k > 1 else "lists of one item"),
        Measure("IFD_mul", multiplied, float("nan"), "lower"),
        Measure(
            "IFD_div",
            _divided(rows, relevant, discount),
            float("nan"),
            "lower",
            "over lists with two relevant items",
        ),
        Measure("II-F", ii_f, float("nan"), "lower"),
        Measure("AI-F", float((mean**2).mean()), float("nan"), "lower"),
        Measure("MME", _envy(by_rank, relevant), float("nan"), "lower"),
        better,
        worse,
        Measure("HD", _hellinger(rel), float("nan"), "lower", note),
    ]


def _divided(rows: np.ndarray, relevant: sp.csr_matrix, discount: np.ndarray) -> float:
    """Mean over lists, and over ordered pairs of relevant items, of how much more exposure the one
    gets.
    """
    values = []
    for mine, at in zip(rows, range(len(rows)), strict=True):
        wanted = relevant.indices[relevant.indptr[at] : relevant.indptr[at + 1]]
        if len(wanted) > 1:
            given = np.zeros(len(wanted))
            own = np.isin(mine, wanted)
            given[: own.sum()] = discount[own]
            given = np.sort(given)
            above = (given * np.arange(len(given))).sum() - (
                np.cumsum(given) - given
            ).sum()  # sum over pairs of the larger less the smaller
            values.append(above / (len(wanted) * (len(wanted) - 1)))
    return float(np.mean(values)) if values else float("nan")


def _envy(by_rank: sp.csr_matrix, relevant: sp.csr_matrix) -> float:
    """Mean over items of how much more it would gain, at most, from another item's places among
    those to whom it is relevant (MME).
    """
    gains = sp.csr_matrix(relevant.T @ by_rank)  # (n, n): item i in j's places
    best = np.maximum(np.asarray(gains.max(axis=1).todense()).ravel(), 0)
    return float((best - gains.diagonal()).mean() / by_rank.shape[0])


def _impact(by_rank: sp.csr_matrix, relevant: sp.csr_matrix, k: int) -> tuple[Measure, Measure]:
    """Shares of items whose impact, mean of relevance / rank, is BAND above or below that of lists
    by chance.
    """
    n = relevant.shape[1]
    impact = np.asarray(by_rank.multiply(relevant).sum(axis=0)).ravel()
    by_chance = np.asarray(relevant.sum(axis=0)).ravel() * (1 / np.arange(1, k + 1)).sum() / n
    known = by_chance > 0
    out = []
    for name, holds, better in (
        ("IBO", impact >= (1 + BAND) * by_chance, "higher"),
        ("IWO", impact <= (1 - BAND) * by_chance, "lower"),
    ):
        share = float(holds[known].mean()) if known.any() else float("nan")
        note = (
            ""
            if known.all()
            else (
                f"{int((~known).sum())} items are relevant to nobody: raw says nothing, corrected"
                " leaves them out"
            )
        )
        out.append(Measure(name, share if known.all() else float("nan"), share, better, note))
    return out[0], out[1]


def _hellinger(rel: np.ndarray) -> float:
    """Distance of mean relevance by place from mean clicks by place of a cascade, each of sum 1."""
    rel = rel[rel.sum(axis=1) > 0]
    if not len(rel):
        return float("nan")
    share = (rel / rel.sum(axis=1, keepdims=True)).mean(axis=0)
    clicks = CLICKS ** np.arange(1, rel.shape[1] + 1)
    return float(np.sqrt(((np.sqrt(share) - np.sqrt(clicks / clicks.sum())) ** 2).sum() / 2))
