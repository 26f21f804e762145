"""Semantic ids: short codes of vectors, whose digits go from coarse to fine.

Similar vectors have codes that begin alike. Shapes: N vectors, D width, L levels, K words a level.
`nn/codebooks.py` names all kinds of codes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

SEED_VECTORS = 3_072  # vectors among which k-means++ chooses its first centres
VECTORS_PER_WORD = 256  # vectors per word that k-means learns from, at most
BLOCK_BYTES = 64 * 2**20  # size of a block of distances
BALANCED_MOVES = 3  # moves of the centres to the means of balanced groups
MOST_RAISES = 100_000  # price changes until groups are balanced, at most


@dataclass(frozen=True, eq=False)
class Codebooks:
    """Codebooks of residual quantization, a set of words (centres) per level.

    vector ~ word 1 + length * (word 2 + length * (word 3 + ...)), where each length is the mean
    length of the residual that its word leaves.
    """

    words: np.ndarray
    """(L, K, D) float32; rows beyond a level's number of words hold infinity."""
    lengths: np.ndarray
    """(L, K) float32 mean lengths of the residuals."""
    prices: np.ndarray | None = None
    """(L, K) float32 added to the squared distance from a word; None: zeros."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes (N, L) int32 of vectors (N, D).

        Each row has the code that it would have alone, except where two words are equally near.
        """
        codes = np.empty((len(vectors), len(self.words)), dtype=np.int32)
        residual = np.asarray(vectors, dtype=np.float32)
        for level, words in enumerate(self.words):
            residual = unit(residual)
            used = used_words(words)
            prices = None if self.prices is None else self.prices[level, : len(used)]
            codes[:, level] = nearest_word(residual, used, prices)
            residual = residual - words[codes[:, level]]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return approximately the unit vectors (N, D) that have these codes (N, L)."""
        vectors = np.zeros((len(codes), self.words.shape[2]), dtype=np.float32)
        for level in reversed(range(len(self.words))):
            length = self.lengths[level, codes[:, level], None]
            vectors = self.words[level, codes[:, level]] + length * vectors
        return vectors


@dataclass(frozen=True)
class ResidualKMeans:
    """Residual quantization by k-means (RQ-KMeans).

    The words of a level are k-means centres of the residuals of the level before, scaled to length
    one. No net is trained, and no word stays unused: a centre without vectors restarts at the
    vector that is farthest from its own centre.
    """

    levels: int = 3
    """Number of levels."""
    words: int = 256
    """Words per level, at most."""
    shared: int = 8
    """Vectors per word, at least, on average.

    A small catalogue has fewer words; else every first digit would be an item of its own.
    """
    steps: int = 25
    """Steps of k-means per level, at most."""
    balanced: bool = False
    """Whether no word of a level takes more than its share of the vectors, rounded up (OneRec).

    Popular words have a price, which is added to the squared distance; so new vectors have codes
    too. Equal vectors share a code and count once. Beyond 256 vectors a word, a sample is balanced.
    """

    def __post_init__(self) -> None:
        check_minima(self, {"levels": 1, "words": 2, "shared": 1, "steps": 1})

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> Codebooks:
        """Learn codebooks from vectors (N, D).

        Raises ValueError for values that are not finite, and where there is no vector.
        """
        residual = checked_vectors(vectors)
        size = words_for(residual, self.words, self.shared)
        words = np.full((self.levels, size, residual.shape[1]), np.inf, dtype=np.float32)
        lengths = np.zeros((self.levels, size), dtype=np.float32)
        prices = np.zeros((self.levels, size), dtype=np.float32)
        for level in range(self.levels):
            residual = unit(residual)
            centres = k_means(residual, size, self.steps, rng)
            if self.balanced:
                centres, prices[level, : len(centres)] = balance(residual, centres, rng)
            words[level, : len(centres)] = centres
            nearest = nearest_word(residual, centres, prices[level, : len(centres)])
            residual = residual - centres[nearest]
            sums = np.bincount(nearest, np.linalg.norm(residual, axis=1), size)
            counts = np.bincount(nearest, minlength=size)
            lengths[level] = sums / np.maximum(counts, 1)
        return Codebooks(words, lengths, prices if self.balanced else None)


def check_minima(settings: object, minima: dict[str, int]) -> None:
    """Raise ValueError for a setting below its minimum."""
    for name, minimum in minima.items():
        if getattr(settings, name) < minimum:
            raise ValueError(f"{name} is {getattr(settings, name)}: it must be at least {minimum}")


def checked_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (N, D) as float32.

    Raises ValueError for values that are not finite, and where there is no vector.
    """
    if not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError(
            f"{len(vectors)} vectors, {int((~np.isfinite(vectors)).sum())} values that are no"
            " number: give some, all finite"
        )
    return np.asarray(vectors, dtype=np.float32)


def words_for(vectors: np.ndarray, words: int, shared: int) -> int:
    """Return the words of a level for vectors (N, D): at most `words`, one for `shared` vectors."""
    return min(words, max(2, -(-len(vectors) // shared)))


def balance(
    vectors: np.ndarray, centres: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres (K, D) and prices (K,) that share vectors (N, D) out evenly.

    Groups are balanced and centres moved to their means by turns; the prices are found last.
    """
    distinct = np.unique(vectors, axis=0)
    sample_size = VECTORS_PER_WORD * len(centres)
    if len(distinct) > sample_size:
        distinct = distinct[np.sort(rng.choice(len(distinct), sample_size, replace=False))]
    for _ in range(BALANCED_MOVES):
        prices = balanced_prices(_squared_distances(distinct, centres))
        groups = nearest_word(distinct, centres, prices)
        counts = np.bincount(groups, minlength=len(centres))
        members = sp.csr_matrix(
            (np.ones(len(groups), np.float32), (groups, np.arange(len(groups)))),
            shape=(len(centres), len(groups)),
        )
        means = np.asarray(members @ distinct) / np.maximum(counts, 1)[:, None]
        centres = np.where(counts[:, None] > 0, means, centres).astype(np.float32)
    return centres, balanced_prices(_squared_distances(distinct, centres))


def balanced_prices(costs: np.ndarray) -> np.ndarray:
    """Return prices (K,) at which no word is the cheapest for more than ceil(N / K) vectors.

    `costs` (N, K) are those of a word without its price. An auction (Bertsekas 1979): the fullest
    word raises its price until the vectors leave that lose least by it. Vectors of equal costs may
    stay together.
    """
    vectors, words = costs.shape
    capacity = -(-vectors // words)
    prices = np.zeros(words)
    cheapest = costs.argmin(axis=1)
    for raises in range(MOST_RAISES):
        loads = np.bincount(cheapest, minlength=words)
        word = int(loads.argmax())
        excess = int(loads[word]) - capacity
        if excess <= 0:
            break
        members = np.flatnonzero(cheapest == word)
        totals = costs[members] + prices
        own_totals = totals[:, word].copy()
        totals[:, word] = np.inf
        others = totals.argmin(axis=1)
        losses = totals[np.arange(len(members)), others] - own_totals
        last, first_to_stay = np.partition(losses, [excess - 1, excess])[excess - 1 : excess + 1]
        # a little more than needed, less and less: else two words would raise in turns for ever
        rise = (last + first_to_stay) / 2 + 1e-3 * 0.5 ** (raises / 5_000)
        prices[word] += rise
        leaves = losses < rise
        cheapest[members[leaves]] = others[leaves]
    return (prices - prices.min()).astype(np.float32)


def _squared_distances(vectors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return (N, K) float64 squared distances, without the vectors' own squares."""
    return ((words**2).sum(axis=1) - 2 * vectors @ words.T).astype(np.float64)


def k_means(vectors: np.ndarray, words: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return centres (K, D), K <= words: no more than there are different vectors."""
    sample = vectors
    sample_size = VECTORS_PER_WORD * words
    if len(vectors) > sample_size:
        sample = vectors[np.sort(rng.choice(len(vectors), sample_size, replace=False))]
    seeds = sample
    if len(sample) > SEED_VECTORS:
        seeds = sample[rng.choice(len(sample), SEED_VECTORS, replace=False)]
    centres = _choose_centres(seeds, words, rng)
    for _ in range(steps):
        moved = _move_centres(sample, centres)
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved.astype(np.float32)
    return centres


def _move_centres(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the means of the vectors nearest to each centre.

    A centre without vectors moves to the vector that is farthest from its own centre.
    """
    nearest = nearest_word(vectors, centres)
    ones = np.ones(len(vectors), np.float32)
    shape = (len(vectors), len(centres))
    members = sp.csr_matrix((ones, nearest, np.arange(len(vectors) + 1)), shape=shape).T
    counts = np.asarray(members.sum(axis=1)).ravel()
    moved = np.asarray(members @ vectors) / np.maximum(counts, 1)[:, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        distances = ((vectors - centres[nearest]) ** 2).sum(axis=1)
        farthest = np.argsort(-distances, kind="stable")
        moved[empty] = vectors[farthest[: len(empty)]]
    return moved


def _choose_centres(vectors: np.ndarray, words: int, rng: np.random.Generator) -> np.ndarray:
    """Return the first centres by k-means++ (Arthur and Vassilvitskii 2007).

    Each next centre is drawn in proportion to the squared distance from the nearest centre so far;
    the best of a few draws is taken.
    """
    chosen = [int(rng.integers(len(vectors)))]
    squares = (vectors**2).sum(axis=1)
    distances = squares + squares[chosen[0]] - 2 * vectors @ vectors[chosen[0]]
    distances = np.maximum(distances, 0)
    draws = 2 + int(np.log(words))
    while len(chosen) < words and distances.max() > 1e-6:
        probabilities = distances.astype(np.float64) / distances.sum(dtype=np.float64)
        drawn = rng.choice(len(vectors), draws, p=probabilities)
        # draws, N
        to_drawn = squares + squares[drawn, None] - 2 * vectors[drawn] @ vectors.T
        remaining = np.minimum(distances, to_drawn)
        best = int(remaining.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        distances = np.maximum(remaining[best], 0)
    return vectors[chosen].copy()


def nearest_word(
    vectors: np.ndarray, words: np.ndarray, prices: np.ndarray | None = None
) -> np.ndarray:
    """Return (N,) int32 the nearest of `words` (K, D) to each of `vectors` (N, D).

    The first of several that are equally near. `prices` (K,) are added to squared distances.
    """
    nearest = np.empty(len(vectors), dtype=np.int32)
    size = max(1, BLOCK_BYTES // (4 * len(words)))
    squares = (words**2).sum(axis=1)
    if prices is not None:
        squares = squares + prices
    for start in range(0, len(vectors), size):
        distances = squares - 2 * vectors[start : start + size] @ words.T
        nearest[start : start + size] = distances.argmin(axis=1)
    return nearest


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors scaled to length one; those of almost no length become zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)


def used_words(words: np.ndarray) -> np.ndarray:
    """Return the words without the rows of infinity."""
    return words[np.isfinite(words).all(axis=1)]


def with_last_digit(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return codes (N, L + 1) whose last digit makes codes (N, L) unique.

    Items of one code are numbered 0, 1, ... in random order. The last digit has a vocabulary of its
    own and is never cut off.
    """
    n = len(codes)
    shuffled = rng.permutation(n)
    digits = codes[shuffled].T
    order = shuffled[np.lexsort(digits[::-1])]  # stable: groups together, random within
    ordered = codes[order]
    differs = (ordered[1:] != ordered[:-1]).any(axis=1)
    is_first = np.r_[True, differs][:n]
    positions = np.arange(n)
    first_positions = np.where(is_first, positions, 0)
    group_start = np.maximum.accumulate(first_positions)
    last = np.empty(n, dtype=codes.dtype)
    last[order] = positions - group_start
    return np.column_stack([codes, last])


def with_next_digit(codes: np.ndarray, existing: np.ndarray) -> np.ndarray:
    """Return codes (M, L + 1) of new items with a free last digit.

    It is the lowest that neither `existing` (N, L + 1) nor an earlier new item has.
    """
    taken: dict[tuple[int, ...], set[int]] = {}
    for row in existing.tolist():
        taken.setdefault(tuple(row[:-1]), set()).add(row[-1])
    last = np.empty(len(codes), dtype=codes.dtype)
    for i, row in enumerate(codes.tolist()):
        used = taken.setdefault(tuple(row), set())
        last[i] = next(digit for digit in range(len(used) + 1) if digit not in used)
        used.add(int(last[i]))
    return np.column_stack([codes, last])


def code_report(codes: np.ndarray, sizes: list[int]) -> dict[str, Any]:
    """Return figures of codes (N, L) without their last digit.

    They are the number of distinct codes, the largest group of one code, and per level the share of
    its `sizes` words that are used and the entropy of their use in bits.
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
