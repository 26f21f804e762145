"""Shortlists whose documents are judged, and the NDCG of their orders."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.metrics.graded import ndcg
from tailor.reranking.examples import Example, candidates_of, grades_of
from tailor.reranking.shortlist import Shortlist


@dataclass(frozen=True, eq=False)
class JudgedList:
    """A shortlist with the grades of its documents, and those of all judged documents."""

    shortlist: Shortlist
    grades: np.ndarray
    """(n,) grade of each document, 0 where it is not judged."""
    best: np.ndarray
    """(m,) grades of all judged documents above 0, highest first."""

    @property
    def example(self) -> Example:
        """The list as rerankers learn from it."""
        return Example(self.shortlist, self.grades)

    def cut(self, words: int) -> "JudgedList":
        """Return the list with the first `words` words of each document."""
        texts = tuple(_cut(text, words) for text in self.shortlist.texts)
        return replace(self, shortlist=replace(self.shortlist, texts=texts))


def _cut(text: str, words: int) -> str:
    parts = text.split()
    return text if len(parts) <= words else " ".join(parts[:words])


def judged_lists_of(data: Dataset, depth: int) -> list[JudgedList]:
    """Return the first `depth` candidates of every request that has a judgement above 0.

    Candidates are those of the table `candidates`, else the items that share most words with the
    request.
    """
    grades = grades_of(data)
    rows = [
        (key, text)
        for key, text in data.tables["requests"].select("request_id", "text").iter_rows()
        if text is not None and max(grades.get(key, {}).values(), default=0) > 0
    ]
    queries = Queries.of([Query(text=text, request_id=str(key)) for key, text in rows])
    rankings = candidates_of(data, queries, depth)
    texts = data.item_texts
    lists = []
    for i, (key, text) in enumerate(rows):
        n = int(rankings.lengths[i])
        documents = rankings.rows[i, :n].tolist()
        of_query = grades[key]
        shortlist = Shortlist(
            Query(text=text, request_id=str(key)),
            tuple(texts[row] for row in documents),
            rankings.scores[i, :n].astype(np.float64),
            request=text,
        )
        gains = [of_query.get(name, 0.0) for name in rankings.catalogue.named(documents)]
        lists.append(JudgedList(shortlist, np.array(gains), best_of(of_query.values())))
    return lists


def best_of(grades: Iterable[float]) -> np.ndarray:
    """Return the grades above 0, highest first."""
    return np.sort([float(grade) for grade in grades if grade > 0])[::-1]


def ndcg_of(lists: Sequence[JudgedList], orders: Sequence[np.ndarray], k: int = 10) -> np.ndarray:
    """Return (Q,) NDCG@k of the lists in these orders, against all judged documents."""
    longest = max(len(of_query.grades) for of_query in lists)
    ranked = np.zeros((len(lists), max(k, longest)))
    best = np.zeros((len(lists), k))
    pairs = zip(lists, orders, strict=True)
    for i, (of_query, order) in enumerate(pairs):
        ranked[i, : len(order)] = of_query.grades[order]
        best_grades = of_query.best[:k]
        best[i, : len(best_grades)] = best_grades
    return ndcg(ranked, best, k)


def ndcg_by(lists: Sequence[JudgedList], scores: Sequence[np.ndarray], k: int = 10) -> np.ndarray:
    """Return (Q,) NDCG@k by scores (n,) of each list; equal scores keep the list's order."""
    return ndcg_of(lists, [np.argsort(-values, kind="stable") for values in scores], k)
