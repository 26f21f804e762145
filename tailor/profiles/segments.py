"""Segments of users by their vectors: widen an audience, discover groups, describe them.

Shapes: U users, D width of a vector, S segments, V attribute values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from scipy.optimize import linear_sum_assignment

from tailor.core.run import Run
from tailor.data.nouns import Query
from tailor.errors import DataError
from tailor.metrics.agreement import adjusted_rand
from tailor.metrics.recalibration import fit_logistic
from tailor.nn.quantizers import k_means, nearest_word

RIDGE = 10.0  # on the weights of a classifier of members
OTHERS_PER_MEMBER = 5  # random users that a classifier of members is learned against
MIN_OTHERS = 1_000
STEPS = 50  # of k-means
RESTARTS = 8  # of k-means, of which the tightest counts
TOLERANCE = 0.02  # of agreement, within which more segments are better
PRIOR = 10.0
"""Imagined events at the usual shares, by which log-odds of a card are shrunk."""


# ---- lookalike


class Lookalike(NamedTuple):
    """A user who resembles an audience."""

    user_id: str | None
    score: float
    """Log-odds of belonging to it."""


@runtime_checkable
class Segmenter(Protocol):
    """A fitted method that widens audiences and describes segments of users."""

    def expand(
        self,
        queries: Sequence[Query],
        members: Sequence[str],
        size: int | None = None,
        run: Run = ...,
    ) -> list[Lookalike]:
        """Return users of `queries` who resemble an audience and are not in it, best first."""
        ...

    def cards(
        self, queries: Sequence[Query], before: np.ndarray | None = None
    ) -> list["SegmentCard"]:
        """Return a card a segment."""
        ...


def lookalike(
    vectors: np.ndarray, members: np.ndarray, rng: np.random.Generator, ridge: float = RIDGE
) -> np.ndarray:
    """Return (U,) log-odds of belonging to an audience, by the vectors (U, D) of all users.

    `members` are rows of known members, `ridge` is the penalty on squared weights. A logistic
    classifier tells them from random other users; members that are not known may be among those,
    which lowers all log-odds alike. Raises DataError
    without a member, or where all users are members.
    """
    is_member = np.zeros(len(vectors), bool)
    is_member[members] = True
    strangers = np.flatnonzero(~is_member)
    if not is_member.any() or not len(strangers):
        raise DataError(
            f"{is_member.sum()} of {len(vectors)} users are members: an audience can be widened"
            " where some are and some are not"
        )
    size = min(len(strangers), max(MIN_OTHERS, OTHERS_PER_MEMBER * int(is_member.sum())))
    drawn = rng.choice(strangers, size, replace=False)
    inputs = np.c_[_scaled(vectors), np.ones(len(vectors))].astype(np.float64)
    rows = np.r_[np.flatnonzero(is_member), drawn]
    weights = fit_logistic(is_member[rows].astype(float), inputs[rows], ridge)
    log_odds: np.ndarray = inputs @ weights
    return log_odds


def _scaled(vectors: np.ndarray) -> np.ndarray:
    """Return columns in standard deviations from their mean."""
    spread = vectors.std(axis=0)
    centred = vectors - vectors.mean(axis=0)
    scaled: np.ndarray = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    return scaled


# ---- discovery


class Stability(NamedTuple):
    """Likeness of the segments of two halves of the users, for a number of segments."""

    segments: int
    agreement: float
    """Adjusted Rand index of all users, grouped by the centres of either half."""


def choose_centres(
    vectors: np.ndarray, sizes: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, list[Stability]]:
    """Return the centres (S, D) of the most stable number of segments, and what was tried.

    For each of `sizes`, k-means is made of two random halves of the vectors (U, D). Of numbers
    that are about as stable as the best, the largest is taken: it says most.
    """
    tried = []
    for size in sizes:
        order = rng.permutation(len(vectors))
        halves = np.array_split(order, 2)
        groupings = [
            nearest_word(vectors, tightest_centres(vectors[half], size, rng))
            for half in halves
            if len(half)
        ]
        tried.append(Stability(size, adjusted_rand(groupings[0], groupings[-1])))
    highest = max(stability.agreement for stability in tried)
    stable = [s.segments for s in tried if s.agreement >= highest - TOLERANCE]
    return tightest_centres(vectors, max(stable), rng), tried


def tightest_centres(vectors: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the centres (S, D) of the tightest of several k-means of vectors (U, D)."""
    runs = [k_means(vectors, size, STEPS, rng) for _ in range(RESTARTS)]
    spreads = [
        float(((vectors - centres[nearest_word(vectors, centres)]) ** 2).sum()) for centres in runs
    ]
    return runs[int(np.argmin(spreads))]


def matched(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return (S,) the old segment that each new one continues, -1 for none.

    `old` and `new` (U,) are segments of the same users. Segments are matched so that most users
    stay where they were (Hungarian method).
    """
    shared = np.zeros((int(new.max(initial=-1)) + 1, int(old.max(initial=-1)) + 1))
    is_placed = (new >= 0) & (old >= 0)
    np.add.at(shared, (new[is_placed], old[is_placed]), 1)
    rows, columns = linear_sum_assignment(-shared)
    previous = np.full(len(shared), -1)
    has_shared = shared[rows, columns] > 0
    previous[rows[has_shared]] = columns[has_shared]
    return previous


# ---- description


@dataclass(frozen=True)
class SegmentCard:
    """A description of a segment: its size and what its users choose more than others."""

    segment: int
    users: int
    attributes: tuple[tuple[str, float], ...]
    """Value and its log-odds against all users, shrunk, largest first."""
    drift: float | None = None
    """Share of users who came from elsewhere since the last version; None: no last version."""
    previous: int | None = None
    """The segment of the last version that it continues."""
    warnings: tuple[str, ...] = field(default=())
    """Protected groups that the segment reproduces."""

    def plain(self) -> dict[str, Any]:
        """Return the card as values that JSON can write."""
        values = {
            "segment": self.segment,
            "users": self.users,
            "attributes": {name: round(odds, 3) for name, odds in self.attributes},
        }
        if self.drift is not None:
            values |= {"drift": round(self.drift, 4), "previous": self.previous}
        return values | ({"warnings": list(self.warnings)} if self.warnings else {})

    @property
    def text(self) -> str:
        """The card in a line."""
        names = ", ".join(name for name, _ in self.attributes) or "nothing in particular"
        return f"segment {self.segment}: {self.users} users, more than usual: {names}"


def segment_cards(
    segments: np.ndarray,
    counts: np.ndarray,
    names: Sequence[str],
    most: int = 5,
    before: np.ndarray | None = None,
) -> list[SegmentCard]:
    """Return a card a segment.

    `segments` (U,) are those of users, `counts` (U, V), dense or sparse, say how often a user chose
    items with a value, `names` (V,) name the values. `before` (U,) are the segments of the same
    users in the last version.
    """
    usual = np.asarray(counts.sum(axis=0)).ravel()
    shares = usual / max(usual.sum(), 1)
    previous = None if before is None else matched(before, segments)
    cards = []
    for number in range(int(segments.max(initial=-1)) + 1):
        users = np.flatnonzero(segments == number)
        of_segment = np.asarray(counts[users].sum(axis=0)).ravel()
        odds = _log_odds(of_segment, shares)
        order = [row for row in np.argsort(-odds, kind="stable")[:most].tolist() if odds[row] > 0]
        attributes = tuple((names[row], float(odds[row])) for row in order)
        drift: float | None = None
        origin: int | None = None
        if before is not None and previous is not None and len(users):
            origin = int(previous[number])
            drift = float((before[users] != origin).mean())
        cards.append(SegmentCard(number, len(users), attributes, drift, origin))
    return cards


def _log_odds(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return (V,) log-odds of counts against usual shares, shrunk by PRIOR events."""
    total = counts.sum() + PRIOR
    share = np.clip((counts + PRIOR * shares) / total, 1e-9, 1 - 1e-9)
    usual = np.clip(shares, 1e-9, 1 - 1e-9)
    odds: np.ndarray = np.log(share / (1 - share)) - np.log(usual / (1 - usual))
    return np.where(counts + shares > 0, odds, 0.0)


def association(segments: np.ndarray, groups: Sequence[Any]) -> float:
    """Return how much segments (U,) say of protected groups (U,), from 0 to 1 (Cramer's V)."""
    pairs = [
        (segment, str(group)) for segment, group in zip(segments, groups, strict=True) if group
    ]
    if not pairs:
        return 0.0
    rows = np.unique([segment for segment, _ in pairs], return_inverse=True)[1]
    columns = np.unique([group for _, group in pairs], return_inverse=True)[1]
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    smaller = min(table.shape) - 1
    if smaller < 1:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(pairs)
    chi = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi / len(pairs) / smaller))
