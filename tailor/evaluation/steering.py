"""Measure how far recommenders obey wishes in words: five axes of Paischer et al. (2024).

Shapes: U users, N items, V words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.studies import ReportTable, Study, TableReport
from tailor.data.event_columns import with_typed_texts
from tailor.data.queries import Queries
from tailor.data.splits import Split, split_by
from tailor.errors import DataError
from tailor.text.title_words import telling_words

WISHES = 5  # said at once where only the last one fits the target
UNION = " or "  # between wishes that are said at once


@dataclass(frozen=True, eq=False)
class Axes:
    """Queries of the same users by axis, and the items to be found."""

    queries: Mapping[str, Queries]
    """Axis -> queries with a text; "nothing asked" without."""
    targets: Mapping[str, np.ndarray]
    """Axis -> (U,) the row of the item that should be found."""
    positive: Queries
    """Queries that want words of the target."""
    negative: Queries
    """Queries that avoid the same words."""


@dataclass(eq=False)
class Steering(Study[TableReport]):
    """Asks recommenders by `Query.text` for items, and counts how often they obey.

    Wishes are what users typed before the target (texts of kind "query"), else words of its title.
    A stranger's wish is that of another user's target. A similar item shares most words of its
    title with the target, a distinct one none; their words are asked for, and they should be found.
    Order is the share of users whose target ranks higher when its words are wanted than when they
    are to be avoided; equal ranks count half. All wishes but a stranger's see the item that they
    ask for: the figures say whether a method obeys, and are never those of plain next items.

    Differs from the paper: no language model writes preferences; items are similar by words.
    """

    by: str = "last"
    """Kind of split."""
    part: str = "test"
    """Part of the split that is asked about: "test", or "valid" while settings are chosen."""
    k: int = 10
    """Depth of lists."""
    depth: int = 200
    """Depth at which ranks are compared; items below share a rank."""
    words: int = 3
    """Words of a wish made of a title, at most."""
    wished: str = "I want {}"
    """How words are wanted."""
    avoided: str = "avoid {}"
    """How words are avoided."""

    measures: ClassVar[tuple[type, ...]] = (Recommender,)

    def _run(self, data: Any, methods: Mapping[str, Any], run: Run) -> TableReport:
        split = split_by(data, self.by)
        fitted = {name: method.fit(split.train, run, split) for name, method in methods.items()}
        axes = self.axes(split, run)
        figures = {name: self.measure(method, axes) for name, method in fitted.items()}
        columns = ("method", *axes.queries, "order")
        rows = tuple((name, *values.values()) for name, values in figures.items())
        sizes = {"users": len(axes.positive), "items": len(data.catalogue)}
        return TableReport((ReportTable("wishes obeyed", columns, rows),), sizes)

    def measure(self, method: Recommender, axes: Axes) -> dict[str, float]:
        """Return HR@k of every axis, and the order of wanted and avoided."""
        figures = {
            axis: float(hit_users(method, queries, axes.targets[axis], self.k).mean())
            for axis, queries in axes.queries.items()
        }
        return figures | {"order": float(self.orders(method, axes).mean())}

    def orders(self, method: Recommender, axes: Axes) -> np.ndarray:
        """Return (U,) 1 where the target ranks higher wanted than avoided, .5 where equal."""
        target = axes.targets["nothing asked"]
        positive, negative = (
            _ranks(method, queries, target, self.depth)
            for queries in (axes.positive, axes.negative)
        )
        return np.where(positive == negative, 0.5, positive < negative)

    def axes(self, split: Split, run: Run) -> Axes:
        """Return the queries of all axes. Raises DataError where no title has a known word."""
        rng = run.rng("steering")
        queries, of_user = split.queries(self.part)
        targets = of_user.values[of_user.offsets[:-1]]
        titles = _Titles.of(split.data.item_texts)
        if not titles.bags.nnz:
            raise DataError(f"{split.data.name}: no two titles share a word to wish for")
        title_wishes = self._texts(titles.drawn(targets, self.words, rng))
        typed = with_typed_texts(queries, of_user, split.data)
        wishes = np.array(
            [typed.text(i) or title_wishes[i] for i in range(len(targets))], dtype=object
        )
        strangers = _deranged(len(targets), rng)
        similar = titles.similar(targets, rng)
        distinct = titles.distinct(targets, rng)
        texts_of = {
            "nothing asked": (np.full(len(targets), "", dtype=object), targets),
            "own wish": (wishes, targets),
            "a stranger's wish": (wishes[strangers], targets),
            "similar item": (self._texts(titles.lacking(similar, targets)), similar),
            "distinct item": (self._texts(titles.drawn(distinct, self.words, rng)), distinct),
            f"{WISHES} wishes": (_together(wishes, rng), targets),
        }
        words = titles.drawn(targets, 1, rng)
        return Axes(
            {axis: replace(queries, texts=texts) for axis, (texts, _) in texts_of.items()},
            {axis: rows for axis, (_, rows) in texts_of.items()},
            replace(queries, texts=_phrased(self.wished, words)),
            replace(queries, texts=_phrased(self.avoided, words)),
        )

    def _texts(self, words: Sequence[Sequence[str]]) -> np.ndarray:
        return _phrased(self.wished, [drawn[: self.words] for drawn in words])


def hit_users(method: Recommender, queries: Queries, targets: np.ndarray, k: int) -> np.ndarray:
    """Return (U,) bool: users whose target is among k answers, seen items removed."""
    lists = method.recommend(queries.without_history(), k).reindexed(queries.catalogue)
    is_hit = lists.rows == targets[:, None]
    return np.asarray(is_hit.any(axis=1))


def _ranks(method: Recommender, queries: Queries, targets: np.ndarray, depth: int) -> np.ndarray:
    """Return (U,) the rank of each target, depth + 1 for those below."""
    k = min(depth, len(queries.catalogue))
    lists = method.recommend(queries, k).reindexed(queries.catalogue)
    is_target = lists.rows == targets[:, None]
    return np.where(is_target.any(axis=1), is_target.argmax(axis=1) + 1, depth + 1)


def _phrased(pattern: str, words: Sequence[Sequence[str]]) -> np.ndarray:
    """Return (U,) texts of words in a pattern, "" where there are no words."""
    texts = [pattern.format(" ".join(drawn)) if drawn else "" for drawn in words]
    return np.array(texts, dtype=object)


def _deranged(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) for each user another one, where there are two."""
    order = rng.permutation(n)
    others = np.empty(n, dtype=np.int64)
    others[order] = np.roll(order, 1)
    return others


def _together(wishes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (U,) texts of each user's wish among those of others, in any order."""
    n = len(wishes)
    texts = []
    for wish in wishes.tolist():
        others = wishes[rng.integers(n, size=WISHES - 1)].tolist()
        drawn = np.array([wish, *others], dtype=object)[rng.permutation(WISHES)]
        texts.append(UNION.join(text for text in drawn.tolist() if text))
    return np.array(texts, dtype=object)


@dataclass(frozen=True, eq=False)
class _Titles:
    """Words that at least two items share, by item."""

    bags: sp.csr_matrix
    """(N, V) 1 where an item has a word."""
    words: np.ndarray
    """(V,) the words."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Titles":
        distinct = [list(dict.fromkeys(telling_words(text))) for text in texts]
        counts: dict[str, int] = {}
        for word in (word for bag in distinct for word in bag):
            counts[word] = counts.get(word, 0) + 1
        column_of = {word: i for i, word in enumerate(w for w, n in counts.items() if n > 1)}
        columns = [[column_of[word] for word in bag if word in column_of] for bag in distinct]
        offsets = np.cumsum([0, *(len(bag) for bag in columns)])
        values = np.concatenate([*columns, []]).astype(np.int64)
        shape = (len(texts), len(column_of))
        ones = np.ones(len(values), np.float32)
        return cls(sp.csr_matrix((ones, values, offsets), shape=shape), np.array([*column_of]))

    def of_item(self, row: int) -> list[str]:
        """Return the known words of an item, in the order of its title."""
        columns = self.bags.indices[self.bags.indptr[row] : self.bags.indptr[row + 1]]
        return [str(word) for word in self.words[columns]]

    def drawn(self, rows: np.ndarray, most: int, rng: np.random.Generator) -> list[list[str]]:
        """Return for each item at most `most` of its words, in any order."""
        return [rng.permutation(self.of_item(row))[:most].tolist() for row in rows.tolist()]

    def lacking(self, rows: np.ndarray, others: np.ndarray) -> list[list[str]]:
        """Return the words of items that other items lack; all words where they lack none."""
        pairs = zip(rows.tolist(), others.tolist(), strict=True)
        bags = [(self.of_item(row), set(self.of_item(other))) for row, other in pairs]
        return [[word for word in bag if word not in other] or bag for bag, other in bags]

    def similar(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return for each item another one that shares most words with it."""
        shared = self.bags[rows] @ self.bags.T
        shared = shared.toarray() + 0.5 * rng.random(shared.shape)  # ties by chance
        shared[np.arange(len(rows)), rows] = -1
        return np.asarray(shared.argmax(axis=1))

    def distinct(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return for each item one that shares fewest words with it, and has words."""
        shared = (self.bags[rows] @ self.bags.T).toarray() + 0.5 * rng.random(
            (len(rows), self.bags.shape[0])
        )
        shared[:, np.diff(self.bags.indptr) == 0] = np.inf
        return np.asarray(shared.argmin(axis=1))
