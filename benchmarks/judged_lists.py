"""Judged collections as shortlists: DL19's BM25 lists, Cranfield, CACM and NPL with our BM25.

Texts, queries and judgements are read from the shared data; nothing is learned here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shared_data import data_folder, judged

from tailor.data.nouns import Query
from tailor.evaluation.significance import bootstrap
from tailor.metrics.graded import ndcg
from tailor.reranking.examples import Example, grades_of
from tailor.reranking.shortlist import Shortlist, blended

Grades = dict[str, dict[str, float]]


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


def judged_lists(name: str, depth: int = 50) -> list[JudgedList]:
    """Return the lists of "dl19", "cranfield", "cacm" or "npl", best first by BM25.

    DL19 has the 20 passages that come with it; queries without a judgement above 0 are left out.
    """
    if name == "dl19":
        return _dl19(depth)
    data = judged(name, depth)
    grades = grades_of(data)
    texts = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    parts = data.tables["candidates"].partition_by("query_id", as_dict=True, maintain_order=True)
    lists = []
    for key, request in data.tables["requests"].select("request_id", "text").iter_rows():
        part = parts[(key,)]
        docs = part["item_id"].to_list()
        lists.append(_list(key, request, docs, texts, part["score"].to_numpy(), grades[key]))
    return lists


def ndcg_of(lists: Sequence[JudgedList], orders: Sequence[np.ndarray], k: int = 10) -> np.ndarray:
    """Return (Q,) nDCG@k of the lists in these orders, against all judged documents."""
    width = max(k, *(len(of_query.grades) for of_query in lists))
    ranked = np.zeros((len(lists), width))
    best = np.zeros((len(lists), k))
    for i, (of_query, order) in enumerate(zip(lists, orders, strict=True)):
        ranked[i, : len(order)] = of_query.grades[order]
        best[i, : len(of_query.best[:k])] = of_query.best[:k]
    return ndcg(ranked, best, k)


def ndcg_by(lists: Sequence[JudgedList], scores: Sequence[np.ndarray], k: int = 10) -> np.ndarray:
    """Return (Q,) nDCG@k by scores (n,) of each list; equal scores keep the list's order."""
    return ndcg_of(lists, [np.argsort(-values, kind="stable") for values in scores], k)


def with_prior(
    lists: Sequence[JudgedList], scores: Sequence[np.ndarray], weight: float
) -> list[np.ndarray]:
    """Return the scores (n,) of each list blended with its first stage's."""
    pairs = zip(scores, lists, strict=True)
    return [blended(values, item.shortlist.prior, weight) for values, item in pairs]


def best_prior_weight(
    lists: Sequence[JudgedList], scores: Sequence[np.ndarray], weights: Sequence[float]
) -> float:
    """Return the first stage's weight whose blend has the highest nDCG@10; the first of several."""
    return max(weights, key=lambda weight: ndcg_by(lists, with_prior(lists, scores, weight)).mean())


def above(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return by how much a is above b (Q,), and the 95 % interval over queries."""
    low, high = bootstrap((a - b)[:, None], seed=seed)
    interval = {"low": round(float(low[0]), 4), "high": round(float(high[0]), 4)}
    return {"difference": round(float((a - b).mean()), 4), **interval}


def _list(
    key: str,
    request: str,
    docs: Sequence[str],
    texts: Mapping[str, str],
    prior: np.ndarray,
    grades: Mapping[str, float],
) -> JudgedList:
    shortlist = Shortlist(
        Query(text=request, request_id=key),
        tuple(texts[doc] for doc in docs),
        np.asarray(prior, np.float64),
        request=request,
    )
    best = np.sort([grade for grade in grades.values() if grade > 0])[::-1]
    return JudgedList(shortlist, np.array([grades.get(doc, 0.0) for doc in docs]), best)


def _dl19(depth: int) -> list[JudgedList]:
    folder = data_folder() / "dl19-bm25-top20"
    grades: Grades = {}
    for line in _lines(folder / "qrels.dl19-passage.txt"):
        key, _, doc, grade = line.split()
        grades.setdefault(key, {})[doc] = float(grade)
    lists = []
    for line in _lines(folder / "dl19_bm25_top20.jsonl"):
        record = json.loads(line)
        hits = record["hits"][:depth]
        key = str(hits[0]["qid"])
        texts = {hit["docid"]: hit["content"] for hit in hits}
        prior = np.array([hit["score"] for hit in hits])
        lists.append(_list(key, record["query"], list(texts), texts, prior, grades[key]))
    return lists


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
