"""Lists with known gains, from which rerankers learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split, inner_cut
from tailor.data.vocabulary import Vocabulary
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Shortlist
from tailor.text.bm25 import BM25


@dataclass(frozen=True, eq=False)
class Example:
    """A shortlist whose documents have known gains."""

    shortlist: Shortlist
    gains: np.ndarray
    """(n,) float: a grade, or 1 for a chosen item and 0 for others."""

    @property
    def has_pairs(self) -> bool:
        """True if some document is better than another."""
        return bool(len(self.gains)) and self.gains.min() < self.gains.max()


def examples(reranker: Reranker, data: Dataset, run: Run) -> list[Example]:
    """Return the lists to learn from, those without two different gains left out.

    They are the lists of an earlier stage where `data.lists` has them (a Cascade's second stage),
    else the judged queries of the data with their candidates, or with the items that share most
    words with them. `reranker` must have read the catalogue: it makes the shortlists.
    """
    if data.lists is not None:
        lists = data.lists
        candidates_with_gains = _of_lists(reranker, lists.queries, lists.rankings, lists.targets)
    elif {"requests", "judgements"} <= set(data.tables):
        candidates_with_gains = _of_judgements(reranker, data)
    else:
        candidates_with_gains = _of_events(reranker, data, run)
    return [example for example in candidates_with_gains if example.has_pairs]


def _of_lists(
    reranker: Reranker, queries: Queries, rankings: Rankings, targets: Ragged
) -> list[Example]:
    shortlists = reranker.shortlists(queries, rankings)
    learnable = []
    for i, shortlist in enumerate(shortlists):
        ids = rankings.catalogue.named(rankings.rows[i, : len(shortlist)])
        chosen = set(queries.catalogue.named(targets[i]))
        learnable.append(Example(shortlist, np.array([float(item in chosen) for item in ids])))
    return learnable


def _of_judgements(reranker: Reranker, data: Dataset) -> list[Example]:
    """Return one example a judged query."""
    requests = data.tables["requests"].filter(pl.col("text").is_not_null())
    grades = grades_of(data)
    rows = [row for row in requests.iter_rows(named=True) if row["request_id"] in grades]
    queries = Queries.of(
        [Query(text=row["text"], request_id=str(row["request_id"])) for row in rows]
    )
    rankings = candidates_of(data, queries, reranker.depth)
    shortlists = reranker.shortlists(queries.reindexed(reranker.items_), rankings)
    learnable = []
    for i, shortlist in enumerate(shortlists):
        ids = rankings.catalogue.named(rankings.rows[i, : len(shortlist)])
        of_query = grades[rows[i]["request_id"]]
        learnable.append(Example(shortlist, np.array([of_query.get(item, 0.0) for item in ids])))
    return learnable


def grades_of(data: Dataset) -> dict[str, dict[str, float]]:
    """Return request id -> item id -> grade; the highest of several."""
    grades: dict[str, dict[str, float]] = {}
    columns = data.tables["judgements"].select("query_id", "item_id", "grade")
    for query_id, item_id, grade in columns.iter_rows():
        of_query = grades.setdefault(query_id, {})
        of_query[item_id] = max(float(grade), of_query.get(item_id, 0.0))
    return grades


def candidates_of(data: Dataset, queries: Queries, depth: int) -> Rankings:
    """Return the candidates of queries by their request ids.

    They stand in the table `candidates`, else are the `depth` items that share most words.
    """
    if "candidates" not in data.tables:
        return by_words(data, [queries.text(i) for i in range(len(queries))], depth)
    table = data.tables["candidates"]
    by_query = {key[0]: part for key, part in table.group_by(["query_id"], maintain_order=True)}
    catalogue: Vocabulary = data.catalogue
    lists = Rankings.empty(catalogue, len(queries), depth)
    for i in range(len(queries)):
        part = by_query.get(queries.request_id(i))
        if part is not None:
            rows = catalogue.rows(part["item_id"].to_list())[:depth]
            scores = _candidate_scores(part)[:depth]
            is_known = rows >= 0
            lists.rows[i, : is_known.sum()] = rows[is_known]
            lists.scores[i, : is_known.sum()] = scores[is_known]
    return lists


def by_words(data: Dataset, requests: Sequence[str], depth: int) -> Rankings:
    """Return the `depth` items whose texts fit each request best (BM25)."""
    index = BM25()
    index.add(data.item_texts)
    rows, scores = index.search(list(requests), min(depth, max(len(data.catalogue), 1)))
    is_match = (rows >= 0) & (scores > 0)
    lists = Rankings(
        data.catalogue,
        np.where(is_match, rows, -1).astype(np.int32),
        np.where(is_match, scores, -np.inf).astype(np.float32),
        "bm25",
    )
    return lists.only(is_match)


def _candidate_scores(part: pl.DataFrame) -> np.ndarray:
    if "score" in part.columns:
        scores: np.ndarray = part["score"].to_numpy()
        return scores
    return -np.arange(len(part), dtype=np.float64)


def _of_events(reranker: Reranker, data: Dataset, run: Run) -> list[Example]:
    """Return lists of items like the history's words, with the user's next item as the gain."""
    cut = inner_cut(data, run.seed)
    if cut is None:
        return []
    queries, targets = cut.queries("valid")
    texts = cut.train.item_texts
    histories = queries.reindexed(cut.train.catalogue).histories
    requests = [
        " ".join(texts[row] for row in history[-reranker.history_length :])
        for history in map(histories.__getitem__, range(len(histories)))
    ]
    rankings = by_words(cut.train, requests, reranker.depth)
    return _of_lists(reranker, queries, rankings, targets)


def split_examples(
    learnable: Sequence[Example], share: float, rng: np.random.Generator
) -> tuple[list[Example], list[Example]]:
    """Return examples to learn from and to validate on; no request stands in both."""
    requests = list(dict.fromkeys(example.shortlist.request for example in learnable))
    held = set(rng.permutation(requests)[: round(share * len(requests))].tolist())
    learned = [example for example in learnable if example.shortlist.request not in held]
    return learned, [example for example in learnable if example.shortlist.request in held]


@dataclass(frozen=True, eq=False)
class ListJudge:
    """Judges a net during training by the NDCG@10 of held-out lists."""

    inputs: Sequence[Any]
    """What the net reads of every list."""
    gains: Sequence[np.ndarray]
    """(n,) gains of the documents of every list."""
    scores: Callable[[Any], np.ndarray]
    """Returns the present scores (n,) of a list's input."""
    split: Split | None = None
    """Split that the lists are from; None: they are part of the training data."""

    def value(self, method: Any) -> float:
        """Return the mean NDCG@10 of the lists, whichever `method` is asked about."""
        pairs = zip(self.inputs, self.gains, strict=True)
        return float(np.mean([list_ndcg(self.scores(read), gains) for read, gains in pairs]))


def list_ndcg(scores: np.ndarray, gains: np.ndarray, k: int = 10) -> float:
    """Return the NDCG@k of a list by its scores and gains (n,), with linear gains.

    The perfect list is the best order of these documents; equal scores keep the list's order.
    """
    depth = min(k, len(gains))
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    perfect = np.sort(gains)[::-1][:depth]
    best = float(perfect @ discounts)
    if not best:
        return 0.0
    order = np.argsort(-scores, kind="stable")[:depth]
    return float(gains[order] @ discounts) / best
