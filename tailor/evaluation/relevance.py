"""Evaluate search and reranking on judged collections.

A judged collection has queries with texts, items with grades for a query, and perhaps a list of
candidates per query.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.conditions import Condition
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.data.queries import Rankings
from tailor.errors import DataError
from tailor.evaluation.report import (
    GIVEN,
    Report,
    Result,
    add_intervals,
    check_depths,
    check_names,
)
from tailor.metrics.battery import per_user
from tailor.metrics.graded import GRADED
from tailor.metrics.ranking import PER_USER

CANDIDATES = "candidates"


@dataclass(frozen=True, eq=False)
class JudgedCollection:
    """A data set with judgements whose requests are the queries; nothing is learned from it."""

    data: Dataset
    among: str = ""
    """Items that a query may be answered with: "" for all, "candidates" for the list of the query,
    or a column of the items that must equal the request's `context` (the turns of one dialogue).
    """
    only: str | None = None
    """Condition on the requests."""
    binary: bool = False
    """True: any grade above 0 counts as 1."""

    def __post_init__(self) -> None:
        tables = ["requests", "judgements"]
        if self.among == CANDIDATES:
            tables.append(CANDIDATES)
        for table in tables:
            if table not in self.data.tables:
                raise DataError(
                    f'data set "{self.data.name}" has no table {table}: judged retrieval needs it'
                )
        if self.among not in ("", CANDIDATES, *self.data.item_table.columns):
            raise DataError(
                f'among is "{self.among}": write "candidates", or a column of the items'
                f" ({', '.join(self.data.item_table.columns)})"
            )

    @cached_property
    def hash(self) -> str:
        """Hash of the content and the settings."""
        content = json.dumps([self.data.content_hash, self.among, self.only, self.binary])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    @cached_property
    def queries(self) -> pl.DataFrame:
        """request_id, text and context of the queries that have a judgement above 0."""
        requests = self.data.tables["requests"]
        if self.only is not None:
            requests = requests.filter(pl.Series(Condition(self.only).holds(requests)))
        judgements = self.data.tables["judgements"]
        answerable = judgements.filter(pl.col("grade") > 0)["query_id"].unique()
        requests = requests.filter(
            pl.col("request_id").is_in(answerable.implode()) & pl.col("text").is_not_null()
        )
        if not len(requests):
            condition = f' where "{self.only}"' if self.only else ""
            raise DataError(
                f'data set "{self.data.name}" has no query with a judgement above 0{condition}'
            )
        columns = ["request_id", "text"]
        if "context" in requests.columns:
            columns.append("context")
        return requests.select(columns)

    @cached_property
    def judgements(self) -> tuple[Ragged, np.ndarray]:
        """Judged item rows of every query, and their grades (m,); the highest of several.

        Judged items that the catalogue lacks have rows beyond it: no method can find them, but a
        perfect list would hold them.
        """
        order = self.queries.select("request_id").with_row_index("query")
        table = (
            self.data.tables["judgements"]
            .group_by("query_id", "item_id", maintain_order=True)
            .agg(pl.col("grade").max())
            .join(order, left_on="query_id", right_on="request_id")
            .sort("query", maintain_order=True)
        )
        rows = self.data.catalogue.codes(table["item_id"]).astype(np.int64)
        is_missing = rows < 0
        missing_ids = table["item_id"].to_numpy()[is_missing].astype(str)
        _, codes = np.unique(missing_ids, return_inverse=True)
        rows[is_missing] = len(self.data.catalogue) + codes
        grades = table["grade"].cast(pl.Float64).to_numpy()
        if self.binary:
            grades = (grades > 0).astype(np.float64)
        lengths = np.bincount(table["query"].to_numpy(), minlength=len(self.queries))
        return Ragged.of_lengths(lengths, rows), grades

    @cached_property
    def candidates(self) -> list[Ranking] | None:
        """Items that each query may be answered with; None for all items."""
        if not self.among:
            return None
        if self.among == CANDIDATES:
            return self._listed_candidates()
        return self._context_candidates()

    def _listed_candidates(self) -> list[Ranking]:
        """Return the list of candidates of each query, best first."""
        table = self.data.tables[CANDIDATES]
        if "rank" in table.columns:
            table = table.sort("rank")
        else:
            table = table.sort("score", descending=True)
        parts = table.partition_by("query_id", as_dict=True, maintain_order=True)
        lists = {query_id: _ranking(part) for (query_id,), part in parts.items()}
        empty = _ranking(table.clear())
        return [lists.get(query_id, empty) for query_id in self.queries["request_id"]]

    def _context_candidates(self) -> list[Ranking]:
        """Return the items whose column `among` equals the context of each query."""
        if "context" not in self.queries.columns:
            raise DataError(
                f'among is "{self.among}", which must equal the context of a request, and the'
                " requests have none"
            )
        context = pl.col(self.among).cast(pl.String).alias("context")
        table = self.data.item_table.select("item_id", context)
        groups = {
            name: Ranking(tuple(part["item_id"]), np.zeros(len(part), np.float32))
            for (name,), part in table.partition_by("context", as_dict=True).items()
        }
        empty = Ranking((), np.zeros(0, np.float32))
        return [groups.get(str(name), empty) for name in self.queries["context"]]

    def facts(self) -> dict[str, float | None]:
        """Return sizes of the collection, and the share of relevant items among candidates."""
        rows, grades = self.judgements
        relevant_counts = np.bincount(rows.row_ids, grades > 0, len(rows))
        lists = self.candidates
        mean_candidates = None
        share = None
        if lists is not None:
            mean_candidates = float(np.mean([len(ranking.ids) for ranking in lists]))
            reachable = sum(
                len(set(ranking.ids) & self._relevant_ids(i)) for i, ranking in enumerate(lists)
            )
            share = float(reachable / max(relevant_counts.sum(), 1))
        return {
            "items": float(len(self.data.catalogue)),
            "queries": float(len(self.queries)),
            "fitting items a query": float(relevant_counts.mean()),
            "items a query may be answered with": mean_candidates,
            "share of fitting items among them": share,
        }

    def _relevant_ids(self, query: int) -> set[str]:
        """Return the ids of the items with a grade above 0 for a query, by its index."""
        rows, grades = self.judgements
        query_grades = grades[rows.offsets[query] : rows.offsets[query + 1]]
        relevant_rows = rows[query][query_grades > 0]
        return set(self.data.catalogue.named(relevant_rows))


def _ranking(table: pl.DataFrame) -> Ranking:
    """Return a table's items in its order, with its scores or descending ones."""
    if "score" in table.columns:
        scores = table["score"].fill_null(0.0).to_numpy().astype(np.float32)
    else:
        scores = -np.arange(len(table), dtype=np.float32)
    return Ranking(tuple(table["item_id"]), scores)


def evaluate_judged(
    methods: Mapping[str, Recommender],
    judged: JudgedCollection,
    k: Sequence[int] = (10,),
    metrics: Sequence[str] = ("NDCG", "recall"),
    run: Run = Run(),
) -> Report:
    """Answer every query by its text and compare the answers with the judgements.

    Metrics are those of `metrics.battery`, graded where there are grades. In the report, queries
    take the place of users: intervals and tests are over queries.
    """
    check_names("metrics", metrics, {**PER_USER, **GRADED, "bpref": None})
    if not methods:
        raise DataError("there is no method to evaluate")
    check_depths(k)
    queries = [
        Query(text=text, request_id=request_id)
        for request_id, text in judged.queries.select("request_id", "text").iter_rows()
    ]
    longest = max((len(ranking.ids) for ranking in judged.candidates or []), default=0)
    depth = min(max(k), max(longest, len(judged.data.catalogue)))
    rows, grades = judged.judgements
    results = {}
    for name, method in run.progress(list(methods.items()), "evaluating", len(methods)):
        started = time.perf_counter()
        rankings = Rankings.of(method.recommend(queries, depth, judged.candidates))
        lists = rankings.reindexed(judged.data.catalogue)
        seconds = time.perf_counter() - started
        values = per_user(lists.rows, rows.offsets, rows.values, k, metrics, grades=grades)
        figures = {
            "empty": float((lists.lengths == 0).mean()),
            "short": float((lists.lengths < max(k)).mean()),
            "ms_a_query": 1000 * seconds / len(queries),
        }
        results[name, GIVEN] = Result(values, figures, seconds, "the collection")
    report = Report(
        split={
            "kind": "judgements",
            "hash": judged.hash,
            "among": judged.among or "all items",
            "only": judged.only,
        },
        part="judged",
        user_ids=judged.queries["request_id"].to_list(),
        strata={"all": np.ones(len(queries), dtype=bool)},
        results=results,
        repeat_targets=0.0,
        ranked=_ranked_items(judged.among),
    )
    return add_intervals(report, run.seed)


def _ranked_items(among: str) -> str:
    """Return in words which items are ranked."""
    if not among:
        return "the whole collection"
    return "the candidates given" if among == CANDIDATES else f"items of the same {among}"
