"""Semantic ids: short code words for vectors, whose digits go from coarse to fine, so that what is
alike begins alike.

Shapes: N vectors, D width, L levels, K words a level.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

STARTED_FROM = 3_072  # vectors among which k-means++ looks for its first words
LEARNED_FROM = 256  # vectors a word that k-means learns from at most
NEAR_BYTES = 64 * 2**20  # of one block of distances


@dataclass(frozen=True, eq=False)
class Codebooks:
    """Words by level: vector ~ word 1 + length * (word 2 + length * (word 3 + ...)), each length
    that of the rest its word leaves on average.
    """

    words: np.ndarray
    """(L, K, D) float32; places beyond a level's own words hold infinity."""
    lengths: np.ndarray
    """(L, K) float32."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, L) int32 numbers of words. Each row has the code it would have alone, but
        for words equally near.
        """
        codes = np.empty((len(vectors), len(self.words)), dtype=np.int32)
        rest = np.asarray(vectors, dtype=np.float32)
        for level, words in enumerate(self.words):
            rest = unit(rest)
            codes[:, level] = nearest_word(rest, _real(words))
            rest = rest - words[codes[:, level]]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(N, L) -> (N, D) about the vector of unit length that has this code."""
        out = np.zeros((len(codes), self.words.shape[2]), dtype=np.float32)
        for level in reversed(range(len(self.words))):
            out = (
                self.words[level, codes[:, level]]
                + self.lengths[level, codes[:, level], None] * out
            )
        return out


@dataclass(frozen=True)
class ResidualKMeans:
    """Each level's words are k-means centres of what the words before leave of a vector, brought to
    length one (RQ-KMeans).

    No net is trained, and no word can stay unused: a centre that nothing is nearest to starts again
    at the vector that is farthest from its own.
    """

    levels: int = 3
    words: int = 256
    """A level at most."""
    shared: int = (
        # vectors a word at least, on average: a small catalogue has fewer words, else every first
        # digit were an item of its own
        8
    )
    steps: int = 25
    """Of k-means a level."""

    def __post_init__(self) -> None:
        for name, least in {"levels": 1, "words": 2, "shared": 1, "steps": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> Codebooks:
        """Learn from (N, D). Raises ValueError for values that are not finite and for no vector at
        all.
        """
        if not len(vectors) or not np.isfinite(vectors).all():
            raise ValueError(
                f"{len(vectors)} vectors, {int((~np.isfinite(vectors)).sum())} values that are no"
                " number: give some, all finite"
            )
        rest = np.asarray(vectors, dtype=np.float32)
        size = min(self.words, max(2, -(-len(rest) // self.shared)))
        words = np.full((self.levels, size, rest.shape[1]), np.inf, dtype=np.float32)
        lengths = np.zeros((self.levels, size), dtype=np.float32)
        for level in range(self.levels):
            rest = unit(rest)
            found = k_means(rest, size, self.steps, rng)
            words[level, : len(found)] = found
            own = nearest_word(rest, found)
            rest = rest - found[own]
            sums, counts = (
                np.bincount(own, np.linalg.norm(rest, axis=1), size),
                np.bincount(own, minlength=size),
            )
            lengths[level] = sums / np.maximum(counts, 1)
        return Codebooks(words, lengths)


def k_means(vectors: np.ndarray, words: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """(K, D) centres, K <= words: as many as there are different vectors where these are fewer."""
    most = LEARNED_FROM * words
    some = (
        vectors
        if len(vectors) <= most
        else vectors[np.sort(rng.choice(len(vectors), most, replace=False))]
    )
    centres = _spread_start(
        (
            some
            if len(some) <= STARTED_FROM
            else some[rng.choice(len(some), STARTED_FROM, replace=False)]
        ),
        words,
        rng,
    )
    for _ in range(steps):
        own = nearest_word(some, centres)
        members = sp.csr_matrix(
            (np.ones(len(some), np.float32), own, np.arange(len(some) + 1)),
            shape=(len(some), len(centres)),
        ).T
        counts = np.asarray(members.sum(axis=1)).ravel()
        moved = np.asarray(members @ some) / np.maximum(counts, 1)[:, None]
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            far = np.argsort(-((some - centres[own]) ** 2).sum(axis=1), kind="stable")
            moved[empty] = some[far[: len(empty)]]
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved.astype(np.float32)
    return centres


def _spread_start(vectors: np.ndarray, words: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007): each next centre is drawn by its squared distance
    from those there are, the best of a few draws.
    """
    chosen = [int(rng.integers(len(vectors)))]
    squares = (vectors**2).sum(axis=1)
    away = np.maximum(squares + squares[chosen[0]] - 2 * vectors @ vectors[chosen[0]], 0)
    while len(chosen) < words and away.max() > 1e-6:
        drawn = rng.choice(
            len(vectors),
            2 + int(np.log(words)),
            p=away.astype(np.float64) / away.sum(dtype=np.float64),
        )
        # draws, N
        left = np.minimum(away, squares + squares[drawn, None] - 2 * vectors[drawn] @ vectors.T)
        best = int(left.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        away = np.maximum(left[best], 0)
    return vectors[chosen].copy()


def nearest_word(vectors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """(N,) int32: which of `words` (K, D) lies nearest to each of `vectors` (N, D); the first of
    several.
    """
    out = np.empty(len(vectors), dtype=np.int32)
    size, squares = max(1, NEAR_BYTES // (4 * len(words))), (words**2).sum(axis=1)
    for start in range(0, len(vectors), size):
        out[start : start + size] = (squares - 2 * vectors[start : start + size] @ words.T).argmin(
            axis=1
        )
    return out


def unit(vectors: np.ndarray) -> np.ndarray:
    """The same of length one; what has next to no length is zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)


def _real(words: np.ndarray) -> np.ndarray:
    return words[np.isfinite(words).all(axis=1)]


def with_last_digit(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, L) codes -> (N, L + 1), no two alike: those of one code are numbered 0, 1, ... in random
    order. The last digit has a vocabulary of its own and is never cut off.
    """
    order = rng.permutation(len(codes))
    order = order[np.lexsort(codes[order].T[::-1])]  # stable: groups together, random within
    ordered = codes[order]
    begins = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)][: len(codes)]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(codes)), 0))
    last = np.empty(len(codes), dtype=codes.dtype)
    last[order] = np.arange(len(codes)) - first
    return np.column_stack([codes, last])


def with_next_digit(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(M, L) codes of new items -> (M, L + 1): each gets the lowest last digit that neither `known`
    (N, L + 1) nor a new one before it has.
    """
    taken: dict[tuple[int, ...], set[int]] = {}
    for row in known.tolist():
        taken.setdefault(tuple(row[:-1]), set()).add(row[-1])
    last = np.empty(len(codes), dtype=codes.dtype)
    for i, row in enumerate(codes.tolist()):
        used = taken.setdefault(tuple(row), set())
        last[i] = next(digit for digit in range(len(used) + 1) if digit not in used)
        used.add(int(last[i]))
    return np.column_stack([codes, last])


def code_report(codes: np.ndarray, sizes: list[int]) -> dict[str, Any]:
    """What codes (N, L), without the last digit, look like: how many are distinct, the largest
    group of one code, and by level the share of its `sizes` words that are used and the entropy of
    their use in bits.
    """
    counts = np.unique(codes, axis=0, return_counts=True)[1]
    used, bits = [], []
    for level, size in enumerate(sizes):
        share = np.bincount(codes[:, level], minlength=size) / max(len(codes), 1)
        used.append(round(float((share > 0).mean()), 4))
        bits.append(round(float(-(share[share > 0] * np.log2(share[share > 0])).sum()), 3))
    return {
        "distinct_codes": len(counts),
        "largest_group": int(counts.max(initial=0)),
        "words_used": used,
        "bits": bits,
    }
