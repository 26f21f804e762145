"""Codes whose digits have no order: a vector is the sum of a word from each of several books.

Shapes: N vectors, D width, M books, K words a book.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tailor.nn.quantizers import (
    BLOCK_BYTES,
    check_minima,
    checked_vectors,
    k_means,
    nearest_word,
    used_words,
    words_for,
)

SWEEPS = 10  # passes over the books while encoding, at most
RIDGE = 1e-3  # added to the diagonal of the least squares, in vectors


@dataclass(frozen=True, eq=False)
class ParallelCodebooks:
    """Codebooks of which each gives a vector one word; their sum is near it."""

    words: np.ndarray
    """(M, K, D) float32; rows beyond a book's number of words hold infinity."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes (N, M) int32 of vectors (N, D).

        Books choose their words by turns, each with those of the others at hand, until nothing
        changes. Each book begins once; the code with the least error counts. Each row has the code
        that it would have alone, except where two are equally near.
        """
        vectors = np.asarray(vectors, dtype=np.float32)
        codes = np.empty((len(vectors), len(self.words)), dtype=np.int32)
        books = [used_words(words) for words in self.words]
        size = max(1, BLOCK_BYTES // (4 * sum(map(len, books)) * (2 + len(books))))
        for start in range(0, len(vectors), size):
            block = slice(start, start + size)
            codes[block] = _encode(vectors[block], books)
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return approximately the vectors (N, D) that have these codes (N, M)."""
        vectors = np.zeros((len(codes), self.words.shape[2]), dtype=np.float32)
        for book, words in enumerate(self.words):
            vectors += words[codes[:, book]]
        return vectors


def _encode(vectors: np.ndarray, books: list[np.ndarray]) -> np.ndarray:
    """Return the best codes (N, M) of vectors (N, D), by turns from each book first."""
    best = np.zeros((len(vectors), len(books)), dtype=np.int32)
    least = np.full(len(vectors), np.inf, dtype=np.float32)
    products = [2 * vectors @ words.T for words in books]  # N, K
    for first in range(len(books)):
        codes = np.zeros((len(vectors), len(books)), dtype=np.int32)
        chosen: set[int] = set()
        for sweep in range(SWEEPS):
            previous = codes.copy()
            for book in np.roll(np.arange(len(books)), -first).tolist():
                others = _sum_of(codes, books, chosen - {book})
                squares = (books[book] ** 2).sum(axis=1)
                costs = squares - products[book] + 2 * others @ books[book].T
                codes[:, book] = costs.argmin(axis=1)
                chosen.add(book)
            if sweep and (codes == previous).all():
                break
        errors = ((vectors - _sum_of(codes, books, chosen)) ** 2).sum(axis=1)
        is_better = errors < least - 1e-6
        best[is_better] = codes[is_better]
        least[is_better] = errors[is_better]
    return best


def _sum_of(codes: np.ndarray, books: list[np.ndarray], chosen: set[int]) -> np.ndarray:
    """Return (N, D) the sums of the words that some books have chosen."""
    total = np.zeros((len(codes), books[0].shape[1]), dtype=np.float32)
    for book in sorted(chosen):
        total += books[book][codes[:, book]]
    return total


@dataclass(frozen=True)
class ProductKMeans:
    """Product quantization: k-means in each of several orthogonal parts of the space.

    The directions are the principal ones, dealt out so that the parts have alike variance (Ge et
    al. 2013, optimized product quantization). So the digits are as independent as can be.
    """

    books: int = 4
    """Number of books, and of parts of the space."""
    words: int = 256
    """Words per book, at most."""
    shared: int = 8
    """Vectors per word, at least, on average."""
    steps: int = 25
    """Steps of k-means per book, at most."""

    def __post_init__(self) -> None:
        check_minima(self, {"books": 1, "words": 2, "shared": 1, "steps": 1})

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> ParallelCodebooks:
        """Learn books from vectors (N, D).

        Raises ValueError for values that are not finite, where there is no vector, and for fewer
        directions than books.
        """
        vectors = checked_vectors(vectors)
        if vectors.shape[1] < self.books:
            raise ValueError(
                f"{self.books} books, vectors of {vectors.shape[1]} numbers: a book needs a"
                " direction of its own, so take fewer books"
            )
        size = words_for(vectors, self.words, self.shared)
        words = np.full((self.books, size, vectors.shape[1]), np.inf, dtype=np.float32)
        for book, directions in enumerate(_deal_directions(vectors, self.books)):
            centres = k_means(vectors @ directions.T, size, self.steps, rng)
            words[book, : len(centres)] = centres @ directions
        return ParallelCodebooks(words)


def _deal_directions(vectors: np.ndarray, parts: int) -> list[np.ndarray]:
    """Return orthogonal directions (D / parts, D) per part, of alike variance together.

    The part whose variances have the least product so far takes the next largest.
    """
    centred = vectors - vectors.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
    order = np.argsort(-variances, kind="stable")
    most = -(-len(order) // parts)
    logs = np.log(np.maximum(variances, 1e-10))
    logs -= logs.min()  # none below 0, so that every direction counts
    members: list[list[int]] = [[] for _ in range(parts)]
    for direction in order.tolist():
        # a part without directions comes first, a full one never
        products = [(len(part) >= most, sum(logs[part]) if part else -np.inf) for part in members]
        members[products.index(min(products))].append(direction)
    return [directions[:, part].T.astype(np.float32) for part in members]


@dataclass(frozen=True)
class AdditiveKMeans:
    """Additive quantization by k-means: books by turns learn what the others leave over.

    Between two turns the words of all books are the least-squares solution for the codes at hand.
    The best of several starts is taken, by its error. Where vectors are sums of independent parts,
    each book finds a part, if it has about as many words as the part has values.
    """

    books: int = 4
    """Number of books."""
    words: int = 16
    """Words per book, at most."""
    starts: int = 8
    """Starts, of which the one with the least error is taken."""
    turns: int = 10
    """Turns of a start, at most; each book learns once a turn."""
    shared: int = 8
    """Vectors per word, at least, on average."""

    def __post_init__(self) -> None:
        check_minima(self, {"books": 1, "words": 2, "starts": 1, "turns": 1, "shared": 1})

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> ParallelCodebooks:
        """Learn books from vectors (N, D).

        Raises ValueError for values that are not finite, and where there is no vector.
        """
        vectors = checked_vectors(vectors)
        best = ParallelCodebooks(np.empty((0, 0, 0), dtype=np.float32))
        least = np.inf
        for words in self._starts(vectors, rng):
            codebooks = ParallelCodebooks(words)
            left_over = vectors - codebooks.decode(codebooks.encode(vectors))
            error = float((left_over**2).sum(dtype=np.float64))
            if error < least:
                best = codebooks
                least = error
        return best

    def _starts(self, vectors: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the words (M, K, D) of one start after the other."""
        size = words_for(vectors, self.words, self.shared)
        for _ in range(self.starts):
            codes = np.zeros((len(vectors), self.books), dtype=np.int32)
            words = np.zeros((self.books, size, vectors.shape[1]), dtype=np.float32)
            for turn in range(self.turns):
                previous = codes.copy()
                for book in range(self.books):
                    chosen = ParallelCodebooks(np.delete(words, book, axis=0))
                    left_over = vectors - chosen.decode(np.delete(codes, book, axis=1))
                    words[book] = _centres(left_over, words[book], size, turn, rng)
                    codes[:, book] = nearest_word(left_over, words[book])
                words = _solve_words(vectors, codes, size)
                if turn and (codes == previous).all():
                    break
            yield words


def _centres(
    vectors: np.ndarray, words: np.ndarray, size: int, turn: int, rng: np.random.Generator
) -> np.ndarray:
    """Return words (K, D) for vectors (N, D): by k-means in the first turn, then the same."""
    if turn:
        return words
    centres = k_means(vectors, size, 10, rng)
    return np.concatenate([centres, np.repeat(centres[:1], size - len(centres), axis=0)])


def _solve_words(vectors: np.ndarray, codes: np.ndarray, size: int) -> np.ndarray:
    """Return the words (M, K, D) whose sums by codes (N, M) are nearest to vectors (N, D)."""
    n, books = codes.shape
    columns = codes + size * np.arange(books)
    chosen = np.zeros((n, books * size), dtype=np.float32)
    np.put_along_axis(chosen, columns, 1.0, axis=1)
    gram = chosen.T @ chosen + RIDGE * np.eye(books * size, dtype=np.float32)
    words = np.linalg.solve(gram.astype(np.float64), (chosen.T @ vectors).astype(np.float64))
    return words.reshape(books, size, -1).astype(np.float32)
