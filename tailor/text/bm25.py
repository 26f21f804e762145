"""BM25 over a growing collection of texts."""

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from tailor.errors import DataError
from tailor.text.tfidf import count_words
from tailor.text.words import check_language, telling

FEW = 64  # texts added at once are appended one by one up to here, as one matrix above
SLACK = 1e-5  # of a bound: sums of float32 in another order differ by less
# a word of more than 1 / DENSE of the texts gets an array over all texts while a batch is searched
DENSE = 32


class BM25:
    """Scores texts by the words they share with a query; rare words count more, long texts less.

    Robertson et al. (1994) with Lucene's idf, ln(1 + (n - n_word + .5) / (n_word + .5)), which is
    never negative. Every word keeps its own growing list of texts and counts, and is weighed when
    it is asked for: an `add` costs the words of the new texts, a search the words of the queries,
    and neither costs the collection.
    """

    def __init__(self, k1: float = 1.5, b: float = 0.75, language: str | None = None) -> None:
        check_language(language)
        if not k1 >= 0 or not 0 <= b <= 1:
            raise DataError(f"k1 is {k1}, b {b}: k1 from 0, b between 0 and 1")
        self.k1, self.b, self.language = k1, b, language
        self.vocabulary: dict[str, int] = {}
        self._rows: list[array[int]] = []  # by word: the texts that hold it, ascending
        self._counts: list[array[float]] = []  # by word: how often they do
        self._lengths = array("f")  # words in each text

    def add(self, texts: Sequence[str]) -> None:
        """Append texts; the first text added is row 0. Raises DataError for one string in their
        place.
        """
        if isinstance(texts, str):
            raise DataError(
                f"texts must be a sequence of texts, got one string {texts[:60]!r}: write [text]"
            )
        start = len(self)
        if len(texts) <= FEW:
            for at, text in enumerate(texts, start):
                found = telling(text, self.language)
                for word, count in Counter(found).items():
                    column = self._column(word)
                    self._rows[column].append(at)
                    self._counts[column].append(count)
                self._lengths.append(len(found))
            return
        counts, vocabulary = count_words(texts, language=self.language)
        by_word = counts.tocsc()
        for word, column in vocabulary.items():
            span, mine = (
                slice(by_word.indptr[column], by_word.indptr[column + 1]),
                self._column(word),
            )
            self._rows[mine].frombytes((by_word.indices[span] + start).astype(np.int32).tobytes())
            self._counts[mine].frombytes(by_word.data[span].astype(np.float32).tobytes())
        self._lengths.frombytes(np.asarray(counts.sum(axis=1), dtype=np.float32).tobytes())

    def keep(self, rows: np.ndarray) -> None:
        """Forget all texts but these (K,), ascending, which become rows 0 to K - 1; words that
        nobody uses any more go too.
        """
        new = np.full(len(self), -1, dtype=np.int32)
        new[rows] = np.arange(len(rows), dtype=np.int32)
        texts_with, places, counts = self._postings(list(self.vocabulary.values()))
        places = new[places]
        held = places >= 0
        offsets = np.r_[0, np.cumsum(held)][np.r_[0, np.cumsum(texts_with)]].tolist()
        places, counts = places[held], counts[held]
        words, self.vocabulary, self._rows, self._counts = list(self.vocabulary), {}, [], []
        for word, start, stop in zip(words, offsets, offsets[1:]):
            if start < stop:
                column = self._column(word)
                self._rows[column].frombytes(places[start:stop].tobytes())
                self._counts[column].frombytes(counts[start:stop].tobytes())
        self._lengths = array("f", np.asarray(self._lengths)[rows].tobytes())

    def _column(self, word: str) -> int:
        column = self.vocabulary.setdefault(word, len(self.vocabulary))
        if column == len(self._rows):
            self._rows.append(array("i"))
            self._counts.append(array("f"))
        return column

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def weights(self) -> sp.csr_matrix:
        """(V, n): what each word adds to the score of each text."""
        return self._weighed(range(len(self.vocabulary)))

    def _weighed(self, columns: Sequence[int]) -> sp.csr_matrix:
        """(W, n) the weights of some words."""
        n = len(self)
        texts_with, rows, counts = self._postings(columns)
        lengths = np.frombuffer(self._lengths.tobytes(), dtype=np.float32)
        share = lengths / max(float(lengths.mean(dtype=np.float64)) if n else 0.0, 1e-12)
        idf = np.log1p((n - texts_with + 0.5) / (texts_with + 0.5)).astype(np.float32)
        saturation = np.float32(self.k1) * (np.float32(1 - self.b) + np.float32(self.b) * share)
        data = np.repeat(idf, texts_with) * counts / (counts + saturation[rows])
        return sp.csr_matrix((data, rows, np.r_[0, np.cumsum(texts_with)]), shape=(len(columns), n))

    def _postings(self, columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(W,) how many texts hold each of some words, and, one word behind the other, which texts
        and how often.
        """
        texts_with = np.array([len(self._rows[column]) for column in columns], dtype=np.int64)
        rows = np.frombuffer(
            b"".join(self._rows[column].tobytes() for column in columns), dtype=np.int32
        )
        counts = np.frombuffer(
            b"".join(self._counts[column].tobytes() for column in columns), dtype=np.float32
        )
        return texts_with, rows, counts

    def _asked(self, queries: Sequence[str]) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """(Q, W) counts of the known words of the queries, and (W, n) their weights."""
        known: dict[int, int] = {}
        counted = [
            Counter(
                known.setdefault(self.vocabulary[word], len(known))
                for word in telling(query, self.language)
                if word in self.vocabulary
            )
            for query in queries
        ]
        counts = np.array([count for one in counted for count in one.values()], dtype=np.float32)
        columns = np.array([column for one in counted for column in one], dtype=np.int32)
        offsets = np.r_[0, np.cumsum([len(one) for one in counted], dtype=np.int64)]
        return sp.csr_matrix(
            (counts, columns, offsets), shape=(len(queries), len(known))
        ), self._weighed(list(known))

    def scores(self, queries: Sequence[str]) -> sp.csr_matrix:
        """(Q, n) sparse scores; a word standing twice in a query counts twice."""
        counts, weights = self._asked(queries)
        return (counts @ weights).tocsr()

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k best texts: (Q, k) int32 rows, -1 where fewer share a word, and (Q, k) float32
        scores; equal scores stand in row order. Raises DataError for k below 1.
        """
        if k < 1:
            raise DataError(f"k is {k}: ask for at least 1 text")
        counts, weights = self._asked(queries)
        lists = [
            _List(weights.indices[start:stop], weights.data[start:stop], len(self), k)
            for start, stop in zip(weights.indptr, weights.indptr[1:])
        ]
        rows, scores = (
            np.full((len(queries), k), -1, dtype=np.int32),
            np.full((len(queries), k), -np.inf, dtype=np.float32),
        )
        seen = np.zeros(len(self), dtype=bool)
        for i in range(len(queries)):
            span = slice(counts.indptr[i], counts.indptr[i + 1])
            asked = [
                (lists[w], factor)
                for w, factor in zip(
                    counts.indices[span].tolist(), counts.data[span].tolist(), strict=True
                )
            ]
            found, values = _best(sorted(asked, key=lambda one: -one[1] * one[0].most), k, seen)
            rows[i, : len(found)], scores[i, : len(found)] = found, values
        return rows, scores


class _List:
    """The texts that hold a word, ascending, and what the word adds to each."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray, n: int, k: int) -> None:
        self.rows, self.weights, self.n = rows, weights, n
        self.most = float(weights.max())
        self._all: np.ndarray | None = None
        self.nth = nth_largest(weights, k) if len(weights) >= k else 0.0  # the k-th largest weight

    def of(self, rows: np.ndarray) -> np.ndarray:
        """What the word adds to these texts, 0 where they lack it."""
        if len(self.rows) * DENSE < self.n:
            place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            found: np.ndarray = np.where(
                self.rows[place] == rows, self.weights[place], np.float32(0)
            )
            return found
        # a word of many texts, asked often: one array over all of them is looked up faster
        if self._all is None:
            self._all = np.zeros(self.n, dtype=np.float32)
            self._all[self.rows] = self.weights
        held: np.ndarray = self._all[rows]
        return held


def nth_largest(values: np.ndarray, k: int) -> float:
    """The k-th largest of at least k values."""
    return float(np.partition(values, len(values) - k)[len(values) - k])


def _best(
    lists: list[tuple[_List, float]], k: int, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k texts of the largest sums over word lists, each with its factor, which stand by falling
    largest weight.

    MaxScore (Turtle and Flood 1995): a text is taken in only where its first word and all words
    after it could lift it among the k best so far, and is dropped once they no longer can. `seen`
    (n,) is scratch of False, and is left so.
    """
    most = [factor * one.most for one, factor in lists]
    # by list: what it and all after it add at most
    rest = (np.r_[np.cumsum(most[::-1])[::-1], 0] * (1 + SLACK)).tolist()
    # so much k texts have by one word alone
    least = max((factor * one.nth for one, factor in lists), default=0.0) * (1 - SLACK)
    taken, values = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    marked = []
    for at, (one, factor) in enumerate(lists):
        if len(taken):
            kept = values >= least - rest[at]
            taken = taken[kept]
            values = values[kept] + np.float32(factor) * one.of(taken)
        if rest[at] >= least:
            enough = (
                one.weights >= (least - rest[at + 1]) / factor
                if least > rest[at + 1]
                else slice(None)
            )
            rows, weights = one.rows[enough], one.weights[enough]
            fresh = ~seen[rows]
            taken, values = (
                np.concatenate((taken, rows[fresh])),
                np.concatenate((values, np.float32(factor) * weights[fresh])),
            )
            seen[rows] = True
            marked.append(rows)
        high = values[values >= least]
        if len(high) >= k:
            least = nth_largest(high, k)
    for rows in marked:
        seen[rows] = False
    kept = values >= least
    taken, values = taken[kept], values[kept]
    order = np.lexsort((taken, -values))[:k]
    return taken[order], values[order]
