"""The health of semantic ids: how they use their codebooks, and whether similar items are alike.

Shapes: N items, M new items, L levels of a code without its last digit, D width, K words.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.generative.speller import Speller
from tailor.metrics.texts import jensen_shannon
from tailor.nn.quantizers import code_report, unit

NEIGHBOURS = 10  # nearest items of an item, whose digits are compared with its own
MOST_ITEMS = 2_000  # items whose neighbours are looked at
DRAWS = 20  # samples of old items that new ones are compared with


@dataclass(frozen=True)
class LevelUse:
    """Use of a level's words, and likeness of neighbours up to it."""

    words: int
    """Number of words."""
    used: float
    """Share of the words that some item has."""
    bits: float
    """Entropy of their use."""
    even_bits: float
    """Entropy if all words were used alike."""
    purity: float | None
    """Share of the ten nearest items that have the same digits up to here; None without vectors."""
    chance: float
    """The same share of any other item."""


@dataclass(frozen=True)
class Drift:
    """Fit of items that are added to codes that were learned before."""

    items: int
    """Number of new items that have a text."""
    left_out: int
    """Those whose code has no free last digit."""
    in_known_codes: float | None
    """Share of the others whose digits, but the last, some old item has too."""
    use_bits: tuple[float, ...] | None
    """(L,) Jensen-Shannon divergence of the use of words by new and old items, 0 to 1 bit."""
    chance_bits: tuple[float, ...] | None
    """(L,) the same of as many old items, drawn by chance, and all old ones."""
    cosine: float | None
    """Mean cosine of a new item and the mean of the old items with its first digit."""
    old_cosine: float | None
    """The same of old items."""


@dataclass(frozen=True)
class IdReport:
    """Figures of the semantic ids of a fitted speller."""

    items: int
    """Items that have an id."""
    distinct_codes: int
    """Distinct codes without the last digit."""
    colliding: int
    """Items whose code without the last digit another item has too."""
    largest_group: int
    """Most items that share one."""
    last_digits: int
    """Last digits that the net can generate: items of one code, at most."""
    levels: tuple[LevelUse, ...]
    """Figures of each level, the last digit left out."""
    drift: Drift | None = None
    """How further items fit; None where none were shown."""

    def plain(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def report_ids(method: Speller, items: Dataset | None = None, run: Run = Run()) -> IdReport:
    """Return the health of a fitted speller's ids, and how the items of another data set fit.

    Raises DataError where no item has an id, and where new items could have none.
    """
    method._check_fitted()
    codes = method.codes_[:, :-1]
    if not len(codes):
        raise DataError("no item has an id: the data had neither events nor texts of items")
    sizes = [max(size, 1) for size in _words_per_level(method)]
    figures = code_report(codes, sizes)
    groups, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)[1:]
    purities = _purities(method, run)
    levels = tuple(
        LevelUse(
            size,
            figures["words_used"][level],
            figures["bits"][level],
            round(float(np.log2(size)), 3),
            None if purities is None else purities[level],
            _chance(codes[:, : level + 1]),
        )
        for level, size in enumerate(sizes)
    )
    return IdReport(
        len(codes),
        figures["distinct_codes"],
        int((counts[groups.ravel()] > 1).sum()),
        figures["largest_group"],
        int(method.sizes_[-1]),
        levels,
        None if items is None else measure_drift(method, items, run),
    )


def _words_per_level(method: Speller) -> list[int]:
    """Return the number of words of each level that hold numbers."""
    words_per_level = method._codebooks().words
    return [int(np.isfinite(words).all(axis=1).sum()) for words in words_per_level]


def _chance(codes: np.ndarray) -> float:
    """Return how often two different items have the same digits (N, l)."""
    counts = np.unique(codes, axis=0, return_counts=True)[1].astype(np.float64)
    pairs = len(codes) * (len(codes) - 1)
    return round(float((counts * (counts - 1)).sum() / max(pairs, 1)), 4)


def _purities(method: Speller, run: Run) -> list[float] | None:
    """Return (L,) the share of an item's nearest ones with its digits up to each level.

    Looked up for a sample of items; None where the model holds no vectors.
    """
    n = len(method.codes_)
    if not method.vectors_.shape[1] or n < 2:
        return None
    vectors = unit(method.vectors_ - method.centre_)
    sample = np.sort(run.rng("id report").permutation(n)[:MOST_ITEMS])
    cosines = vectors[sample] @ vectors.T
    cosines[np.arange(len(sample)), sample] = -np.inf
    count = min(NEIGHBOURS, n - 1)
    nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    codes = method.codes_[:, :-1]
    is_same = (codes[nearest] == codes[sample][:, None]).cumprod(axis=2)
    return [round(float(share), 4) for share in is_same.mean(axis=(0, 1))]


def measure_drift(method: Speller, items: Dataset, run: Run = Run()) -> Drift:
    """Return how the items of a data set that the method does not know fit its codes.

    Raises DataError where codes were made from users' choices, which new items have none of.
    """
    extended = method.with_items(items, run)
    left_out = int(extended.fit_report_["left_out"])
    is_new = method.items_.rows(extended.items_.ids.tolist()) < 0
    added = int(is_new.sum())
    if not added:
        return Drift(left_out, left_out, None, None, None, None, None)
    old, new = method.codes_[:, :-1], extended.codes_[is_new, :-1]
    known_codes = set(map(tuple, old.tolist()))
    in_known = np.mean([tuple(code) in known_codes for code in new.tolist()])
    rng = run.rng("id drift")
    size = min(added, len(old))
    samples = [_divergences(old[rng.permutation(len(old))[:size]], old) for _ in range(DRAWS)]
    cosine, old_cosine = _cosines(method, extended, is_new)
    return Drift(
        added + left_out,
        left_out,
        round(float(in_known), 4),
        tuple(_divergences(new, old).round(4).tolist()),
        tuple(np.mean(samples, axis=0).round(4).tolist()),
        cosine,
        old_cosine,
    )


def _divergences(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (L,) Jensen-Shannon divergences, in bits, of the use of words by codes (·, L)."""
    uses = zip(left.T.tolist(), right.T.tolist(), strict=True)
    return np.array([jensen_shannon(Counter(ours), Counter(others)) for ours, others in uses])


def _cosines(
    method: Speller, extended: Speller, is_new: np.ndarray
) -> tuple[float | None, float | None]:
    """Return mean cosines of new and of old items with the old ones of their first digit.

    An old item is left out of the mean that it is compared with. None without vectors.
    """
    if not method.vectors_.shape[1]:
        return None, None
    vectors = unit(extended.vectors_ - method.centre_)
    first = extended.codes_[:, 0]
    sums = np.zeros((int(first.max()) + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, first[~is_new], vectors[~is_new])
    means = sums[first]
    means[~is_new] -= vectors[~is_new]
    cosines = (vectors * unit(means)).sum(axis=1)
    return round(float(cosines[is_new].mean()), 4), round(float(cosines[~is_new].mean()), 4)
