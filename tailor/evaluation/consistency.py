"""Audit whether a method answers the same request in other words with the same items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import polars as pl

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.core.studies import ReportTable, Study, TableReport
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Rankings
from tailor.errors import DataError
from tailor.metrics.candidates import shared_share
from tailor.metrics.ranking import hits, ndcg, relevant_counts

INTENT = "intent_id"
"""The column of the table of requests that wordings of one request share."""
LOW = 0.5  # share of items in common below which a group counts as inconsistent
NAMED = 5  # items that a table names
SHOWN = 60  # characters of a text in a table


@dataclass(frozen=True, eq=False)
class WordingGroup:
    """Wordings of one request, and the items that answer it."""

    intent: str
    texts: tuple[str, ...]
    item_ids: tuple[str, ...]
    """Items with a judgement above 0 for any of the wordings."""


def wording_groups(data: Dataset, least: int = 2) -> list[WordingGroup]:
    """Return the groups of at least `least` wordings of one request.

    Wordings share the `intent_id` of the table of requests; without that column every request is a
    group of its own.
    """
    if "requests" not in data.tables or "text" not in data.tables["requests"].columns:
        return []
    table = data.tables["requests"].filter(pl.col("text").str.contains(r"\S").fill_null(False))
    request_id = pl.col("request_id").cast(pl.String)
    intent = pl.col(INTENT).cast(pl.String) if INTENT in table.columns else request_id
    table = table.select("text", request_id=request_id, intent=pl.coalesce(intent, request_id))
    good = _good_items(data)
    groups = []
    for (name,), part in table.group_by(["intent"], maintain_order=True):
        if len(part) < least:
            continue
        of_group = [item for key in part["request_id"] for item in good.get(key, ())]
        texts = tuple(part["text"].to_list())
        groups.append(WordingGroup(str(name), texts, tuple(dict.fromkeys(of_group))))
    return groups


def _good_items(data: Dataset) -> dict[str, list[str]]:
    """Return request id -> the items judged above 0."""
    if "judgements" not in data.tables:
        return {}
    good = data.tables["judgements"].filter(pl.col("grade") > 0)
    parts = good.group_by(["query_id"], maintain_order=True)
    return {str(key): part["item_id"].to_list() for (key,), part in parts}


def consensus(rows: np.ndarray, k: int) -> np.ndarray:
    """Return the k items (k,) that most lists (P, K) hold, -1 where there are fewer.

    Of equally frequent items, the one that stands higher in them comes first.
    """
    places = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    is_item = rows >= 0
    items, numbers = np.unique(rows[is_item], return_inverse=True)
    votes = np.bincount(numbers, minlength=len(items))
    heights = np.bincount(numbers, -places[is_item], len(items))
    best = items[np.lexsort((-heights, -votes))][:k]
    padded: np.ndarray = np.r_[best, np.full(k - len(best), -1)].astype(rows.dtype)
    return padded


@dataclass(eq=False)
class Consistency(Study[TableReport]):
    """Asks every wording of a request and compares the lists.

    Requests that mean the same share an `intent_id`. The share of items in common (Jaccard) is over
    all pairs of wordings of a request. A method that answers everything alike is perfectly
    consistent: so the share in common of different requests stands beside it, and NDCG where there
    are judgements. Methods that are not fitted are fitted on the data.
    """

    measures: ClassVar[tuple[type, ...]] = (Recommender,)

    k: int = 10
    """Length of lists."""
    worst: int = 5
    """Requests shown of each method, the least consistent first."""

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> TableReport:
        groups = wording_groups(data)
        if self.k < 1 or self.worst < 0 or not groups:
            raise DataError(
                f"k is {self.k}, worst {self.worst}, requests in several wordings {len(groups)}:"
                f" at least 1, 0 and 1; wordings share the {INTENT} of the table requests"
            )
        audits = {
            name: Audit.of(self._fitted(method, data, run), groups, data, self.k)
            for name, method in run.progress(list(methods.items()), "asking", len(methods))
        }
        summary = tuple((name, *audit.summary) for name, audit in audits.items())
        columns = ("method", "requests", "wordings", *Audit.columns)
        worst = tuple(
            (name, *row) for name, audit in audits.items() for row in audit.worst_rows(self.worst)
        )
        names = ("method", "request", "in common", "wording", "other wording", "only one has")
        remarks = ["The vote asks all wordings of a request: it costs that many calls."]
        fresh = [name for name, method in methods.items() if not method.is_fitted]
        if fresh:
            remarks.append(f"Fitted on these data, requests and all: {', '.join(fresh)}")
        tables = (
            ReportTable("consistency", columns, summary),
            ReportTable("least consistent requests", names, worst),
        )
        return TableReport(tables, remarks=tuple(remarks))

    def _fitted(self, method: Recommender, data: Dataset, run: Run) -> Recommender:
        if method.needs_candidates:
            raise DataError(
                f"{method.name} orders lists and finds nothing by itself: make it the second stage"
                " of a Cascade"
            )
        return method if method.is_fitted else clone(method).fit(data, run)


@dataclass(frozen=True, eq=False)
class Audit:
    """Lists of one method for groups of wordings."""

    groups: Sequence[WordingGroup]
    lists: Rankings
    """One list a wording, of all groups in order, over the data's catalogue."""
    names: Mapping[str, str]
    """Titles of items by their ids, else their texts."""
    k: int

    columns: ClassVar[tuple[str, ...]] = (
        "in common",
        f"requests below {LOW}",
        "in common of different requests",
        "NDCG",
        "NDCG of the vote",
    )

    @classmethod
    def of(
        cls, method: Recommender, groups: Sequence[WordingGroup], data: Dataset, k: int
    ) -> "Audit":
        """Ask a fitted method all wordings, and keep its lists."""
        queries = [Query(text=text) for group in groups for text in group.texts]
        lists = Rankings.of(method.recommend(queries, k)).reindexed(data.catalogue)
        columns = (data.catalogue.ids.tolist(), data.texts_of("title"), data.item_texts)
        names = {item: title or text or item for item, title, text in zip(*columns, strict=True)}
        return cls(groups, lists, names, k)

    @property
    def group_rows(self) -> list[np.ndarray]:
        """One (P, k) array of item rows a group."""
        edges = np.cumsum([len(group.texts) for group in self.groups])[:-1]
        return np.split(self.lists.rows, edges)

    @property
    def agreements(self) -> np.ndarray:
        """(groups,) mean share in common over the pairs of wordings; 1 where all are empty."""
        return np.array([_pairs(rows)[1].mean() for rows in self.group_rows])

    @property
    def between(self) -> float | None:
        """Mean share in common of neighbouring requests; None for one request."""
        first = np.stack([rows[0] for rows in self.group_rows])
        if len(first) < 2:
            return None
        return round(float(np.nan_to_num(shared_share(first[1:], first[:-1]), nan=1.0).mean()), 4)

    def ndcgs(self, lists: Sequence[np.ndarray]) -> np.ndarray:
        """Return NDCG@k of all lists, (P, k) a group; NaN where no item is judged."""
        values = []
        for group, rows in zip(self.groups, lists, strict=True):
            targets = np.tile(self.lists.catalogue.rows(group.item_ids), len(rows))
            offsets = np.arange(len(rows) + 1) * len(group.item_ids)
            relevant = relevant_counts(offsets, targets)
            values.append(ndcg(hits(rows, offsets, targets), relevant, self.k))
        return np.concatenate(values)

    @property
    def summary(self) -> tuple[Any, ...]:
        """Numbers of requests and wordings, and the figures of `columns`."""
        agreements = self.agreements
        votes = [consensus(rows, rows.shape[1])[None] for rows in self.group_rows]
        return (
            len(self.groups),
            len(self.lists),
            round(float(agreements.mean()), 4),
            int((agreements < LOW).sum()),
            self.between,
            _mean(self.ndcgs(self.group_rows)),
            _mean(self.ndcgs(votes)),
        )

    def worst_rows(self, count: int) -> list[tuple[Any, ...]]:
        """Return the least consistent requests: their two wordings that differ most, and items."""
        order = np.argsort(self.agreements, kind="stable")[:count]
        return [self._worst_row(number) for number in order.tolist()]

    def _worst_row(self, number: int) -> tuple[Any, ...]:
        rows = self.group_rows[number]
        pairs, shares = _pairs(rows)
        a, b = pairs[int(np.argmin(shares))]
        differing = np.setxor1d(rows[a], rows[b])
        ids = self.lists.catalogue.named(differing[differing >= 0])
        names = [self.names[item_id][:SHOWN] for item_id in ids[:NAMED]]
        rest_count = len(ids) - NAMED
        ending = f" and {rest_count} more" if rest_count > 0 else ""
        group = self.groups[number]
        return (
            group.intent,
            round(float(self.agreements[number]), 4),
            group.texts[a][:SHOWN],
            group.texts[b][:SHOWN],
            "; ".join(names) + ending,
        )


def _mean(values: np.ndarray) -> float | None:
    """Return the mean of the values that are numbers; None for none."""
    numbers = values[~np.isnan(values)]
    return round(float(numbers.mean()), 4) if len(numbers) else None


def _pairs(rows: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Return the pairs of lists (P, k), and the share of items that each has in common."""
    numbers = range(len(rows))
    pairs = list(combinations(numbers, 2))
    first_rows = [a for a, _ in pairs]
    second_rows = [b for _, b in pairs]
    shares = shared_share(rows[first_rows], rows[second_rows])
    shares = np.nan_to_num(shares, nan=1.0)
    return pairs, shares
