"""BM25 over a growing collection of texts."""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.errors import DataError
from tailor.text.tfidf import count_terms
from tailor.text.words import Variants, check_language, search_words

FEW_TEXTS = 64  # texts added at once are appended one by one up to here, as one matrix above
BOUND_SLACK = 1e-5  # of a bound: sums of float32 in another order differ by less
# A word of more than 1 / DENSE_SHARE of the texts gets an array over all texts during a search.
DENSE_SHARE = 32


class Postings(NamedTuple):
    """The texts that hold each of W words, one word behind the other."""

    text_counts: np.ndarray
    """(W,) number of texts that hold the word."""
    rows: np.ndarray
    """(P,) int32 rows of the texts, ascending within a word."""
    counts: np.ndarray
    """(P,) float32 occurrences of the word in the text."""


class BM25:
    """Score texts by the words they share with a query, rare words most.

    Robertson et al. (1994) with Lucene's idf, ln(1 + (n - n_word + .5) / (n_word + .5)), which is
    never negative. Every word keeps its own growing list of texts and counts, and is weighed when a
    query uses it: an `add` costs the words of the new texts, a search the words of the queries, and
    neither costs the collection.
    """

    def __init__(self, k1: float = 1.5, b: float = 0.75, language: str | None = None) -> None:
        """Make an empty index.

        `k1` is how soon a repeated word stops counting, `b` how much long texts are held back,
        `language` that of the stems (`search_words`). Raises DataError for settings out of range.
        """
        check_language(language)
        if not k1 >= 0 or not 0 <= b <= 1:
            raise DataError(f"k1 is {k1}, b {b}: k1 from 0, b between 0 and 1")
        self.k1, self.b, self.language = k1, b, language
        self.vocabulary: dict[str, int] = {}
        self._variants = Variants(language)
        self._rows: list[array[int]] = []  # by word: the texts that hold it, ascending
        self._counts: list[array[float]] = []  # by word: how often they do
        self._lengths = array("f")  # words in each text

    def add(self, texts: Sequence[str], titles: Sequence[str] = ()) -> None:
        """Append texts; the first text added is row 0.

        `titles`, one for each text or none at all, are parts of the texts: a title of nothing but
        stop words is found by them. Raises DataError for one string in place of texts.
        """
        if isinstance(texts, str):
            raise DataError(
                f"texts must be a sequence of texts, got one string {texts[:60]!r}: write [text]"
            )
        if titles and len(titles) != len(texts):
            raise DataError(f"{len(titles)} titles for {len(texts)} texts: give one for each")
        term_lists = (
            search_words(text, self.language, title)
            for text, title in zip(texts, titles or [""] * len(texts), strict=True)
        )
        for text in texts:
            self._variants.add_text(text)
        if len(texts) <= FEW_TEXTS:
            self._add_one_by_one(term_lists)
        else:
            self._add_at_once(term_lists)

    def _add_one_by_one(self, term_lists: Iterable[list[str]]) -> None:
        for row, terms in enumerate(term_lists, len(self)):
            for word, count in Counter(terms).items():
                column = self._column(word)
                self._rows[column].append(row)
                self._counts[column].append(count)
            self._lengths.append(len(terms))

    def _add_at_once(self, term_lists: Iterable[list[str]]) -> None:
        start = len(self)
        counts, vocabulary = count_terms(term_lists)
        by_word = counts.tocsc()
        for word, counted_column in vocabulary.items():
            span = slice(by_word.indptr[counted_column], by_word.indptr[counted_column + 1])
            column = self._column(word)
            rows = (by_word.indices[span] + start).astype(np.int32)
            self._rows[column].frombytes(rows.tobytes())
            self._counts[column].frombytes(by_word.data[span].astype(np.float32).tobytes())
        self._lengths.frombytes(np.asarray(counts.sum(axis=1), dtype=np.float32).tobytes())

    def keep(self, rows: np.ndarray) -> None:
        """Forget all texts but `rows` (K,), ascending, which become rows 0 to K - 1.

        Words that no text uses any more go too.
        """
        new_rows = np.full(len(self), -1, dtype=np.int32)
        new_rows[rows] = np.arange(len(rows), dtype=np.int32)
        postings = self._postings(list(self.vocabulary.values()))
        moved = new_rows[postings.rows]
        is_kept = moved >= 0
        kept_before = np.r_[0, np.cumsum(is_kept)]
        offsets = kept_before[np.r_[0, np.cumsum(postings.text_counts)]].tolist()
        moved, counts = moved[is_kept], postings.counts[is_kept]
        words = list(self.vocabulary)
        self.vocabulary = {}
        self._rows, self._counts = [], []
        for word, start, stop in zip(words, offsets, offsets[1:]):
            if start < stop:
                column = self._column(word)
                self._rows[column].frombytes(moved[start:stop].tobytes())
                self._counts[column].frombytes(counts[start:stop].tobytes())
        self._lengths = array("f", np.asarray(self._lengths)[rows].tobytes())
        self._variants.keep(self.vocabulary)

    def _column(self, word: str) -> int:
        column = self.vocabulary.setdefault(word, len(self.vocabulary))
        if column == len(self._rows):
            self._rows.append(array("i"))
            self._counts.append(array("f"))
            self._variants.add(word)
        return column

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def weights(self) -> sp.csr_matrix:
        """(V, n) share of each word in the score of each text."""
        return self._word_weights(range(len(self.vocabulary)))

    def _word_weights(self, columns: Sequence[int]) -> sp.csr_matrix:
        """Return the (W, n) weights of some words."""
        n = len(self)
        text_counts, rows, counts = self._postings(columns)
        lengths = np.frombuffer(self._lengths.tobytes(), dtype=np.float32)
        mean_length = float(lengths.mean(dtype=np.float64)) if n else 0.0
        relative_lengths = lengths / max(mean_length, 1e-12)
        idf = np.log1p((n - text_counts + 0.5) / (text_counts + 0.5)).astype(np.float32)
        length_factor = np.float32(1 - self.b) + np.float32(self.b) * relative_lengths
        saturation = np.float32(self.k1) * length_factor
        data = np.repeat(idf, text_counts) * counts / (counts + saturation[rows])
        offsets = np.r_[0, np.cumsum(text_counts)]
        return sp.csr_matrix((data, rows, offsets), shape=(len(columns), n))

    def _postings(self, columns: Sequence[int]) -> Postings:
        text_counts = np.array([len(self._rows[column]) for column in columns], dtype=np.int64)
        rows = b"".join(self._rows[column].tobytes() for column in columns)
        counts = b"".join(self._counts[column].tobytes() for column in columns)
        return Postings(
            text_counts, np.frombuffer(rows, dtype=np.int32), np.frombuffer(counts, np.float32)
        )

    def _query_matrix(self, queries: Sequence[str]) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Return (Q, W) counts of the W words of all queries, and (W, n) weights."""
        local: dict[int, int] = {}  # column of the vocabulary -> column of the counts
        counters = [
            Counter(
                local.setdefault(self.vocabulary[word], len(local))
                for word in self._variants.indexed_words(query, self.vocabulary)
            )
            for query in queries
        ]
        counts = np.array([c for counter in counters for c in counter.values()], dtype=np.float32)
        columns = np.array([column for counter in counters for column in counter], dtype=np.int32)
        offsets = np.r_[0, np.cumsum([len(counter) for counter in counters], dtype=np.int64)]
        query_counts = sp.csr_matrix((counts, columns, offsets), shape=(len(queries), len(local)))
        return query_counts, self._word_weights(list(local))

    def scores(self, queries: Sequence[str]) -> sp.csr_matrix:
        """Return (Q, n) sparse scores; a word that stands twice in a query counts twice."""
        query_counts, weights = self._query_matrix(queries)
        return (query_counts @ weights).tocsr()

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best texts per query: (Q, k) int32 rows and (Q, k) float32 scores.

        Rows are -1 where fewer texts share a word; equal scores are in row order. Raises DataError
        for k below 1.
        """
        if k < 1:
            raise DataError(f"k is {k}: ask for at least 1 text")
        query_counts, weights = self._query_matrix(queries)
        word_lists = [
            _WordList(weights.indices[start:stop], weights.data[start:stop], len(self), k)
            for start, stop in zip(weights.indptr, weights.indptr[1:])
        ]
        rows = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        scratch = np.zeros(len(self), dtype=bool)
        for i in range(len(queries)):
            span = slice(query_counts.indptr[i], query_counts.indptr[i + 1])
            columns, factors = query_counts.indices[span], query_counts.data[span]
            scored_lists = [
                _Scored(word_lists[column], factor)
                for column, factor in zip(columns.tolist(), factors.tolist(), strict=True)
            ]
            scored_lists.sort(key=lambda scored: -scored.max_score)
            best_rows, best_scores = _best(scored_lists, k, scratch)
            rows[i, : len(best_rows)] = best_rows
            scores[i, : len(best_rows)] = best_scores
        return rows, scores


class _WordList:
    """The texts that hold a word, ascending, and its weight in each."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray, n: int, k: int) -> None:
        self.rows, self.weights, self.n = rows, weights, n
        self.max_weight = float(weights.max())
        self.kth_weight = nth_largest(weights, k) if len(weights) >= k else 0.0
        self._dense: np.ndarray | None = None

    def weights_of(self, rows: np.ndarray) -> np.ndarray:
        """Return what the word adds to these texts, 0 where they lack it."""
        if len(self.rows) * DENSE_SHARE < self.n:
            positions = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            is_held = self.rows[positions] == rows
            weights: np.ndarray = np.where(is_held, self.weights[positions], np.float32(0))
            return weights
        # a word of many texts that is used often: one array over all of them is looked up faster
        if self._dense is None:
            self._dense = np.zeros(self.n, dtype=np.float32)
            self._dense[self.rows] = self.weights
        dense_weights: np.ndarray = self._dense[rows]
        return dense_weights


@dataclass(frozen=True)
class _Scored:
    """A word list with the number of times that its word stands in the query."""

    words: _WordList
    factor: float

    @property
    def max_score(self) -> float:
        return self.factor * self.words.max_weight

    @property
    def kth_score(self) -> float:
        return self.factor * self.words.kth_weight

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        return np.float32(self.factor) * self.words.weights_of(rows)


def nth_largest(values: np.ndarray, k: int) -> float:
    """Return the k-th largest of at least k values."""
    return float(np.partition(values, len(values) - k)[len(values) - k])


def _best(lists: list[_Scored], k: int, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and scores of the k best texts.

    `lists` come by falling largest score.

    MaxScore (Turtle and Flood 1995): a text is taken in only where its first word and all words
    after it could lift it among the k best so far, and is dropped once they no longer can. `seen`
    (n,) is scratch of False, and is left so.
    """
    # by list: what it and all lists after it add at most
    bounds = np.cumsum([scored.max_score for scored in lists][::-1])[::-1]
    remaining = (np.r_[bounds, 0] * (1 + BOUND_SLACK)).tolist()
    # k texts have this score by one word alone
    threshold = max((scored.kth_score for scored in lists), default=0.0) * (1 - BOUND_SLACK)
    rows, scores = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    marked = []
    for i, scored in enumerate(lists):
        if len(rows):
            can_win = scores >= threshold - remaining[i]
            rows = rows[can_win]
            scores = scores[can_win] + scored.scores_of(rows)
        if remaining[i] >= threshold:
            new_rows, new_weights = _candidates(scored, threshold - remaining[i + 1])
            fresh = ~seen[new_rows]
            rows = np.concatenate((rows, new_rows[fresh]))
            scores = np.concatenate((scores, np.float32(scored.factor) * new_weights[fresh]))
            seen[new_rows] = True
            marked.append(new_rows)
        high = scores[scores >= threshold]
        if len(high) >= k:
            threshold = nth_largest(high, k)
    for marked_rows in marked:
        seen[marked_rows] = False
    is_best = scores >= threshold
    rows, scores = rows[is_best], scores[is_best]
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _candidates(scored: _Scored, missing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and weights of the texts that score at least `missing`."""
    rows, weights = scored.words.rows, scored.words.weights
    if missing <= 0:
        return rows, weights
    is_enough = weights >= missing / scored.factor
    return rows[is_enough], weights[is_enough]
