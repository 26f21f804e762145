"""The protocol for judged collections: queries with texts, items whose fit somebody judged, and
perhaps a list to order for each.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
    known_depths,
    known_names,
    with_intervals,
)
from tailor.metrics.battery import per_user
from tailor.metrics.graded import GRADED
from tailor.metrics.ranking import PER_USER

CANDIDATES = "candidates"


@dataclass(frozen=True, eq=False)
class Judged:
    """A collection with judgements: its requests are the queries, and nothing of the judgements is
    learned from.

    `among`: what a query may be answered with: "" for all items, "candidates" for the list that
    comes with it, or a column of the items that must equal the request's `context` (the turns of
    one dialogue). `only`: a condition on the requests. `binary`: any grade above 0 counts as 1.
    """

    data: Dataset
    among: str = ""
    only: str | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        for table in (
            "requests",
            "judgements",
            *([CANDIDATES] if self.among == CANDIDATES else []),
        ):
            if table not in self.data.tables:
                raise DataError(
                    f'data set "{self.data.name}" has no table {table}: judged retrieval needs it'
                )
        if self.among not in ("", CANDIDATES) and self.among not in self.data.item_table.columns:
            raise DataError(
                f'among is "{self.among}": write "candidates", or a column of the items'
                f" ({', '.join(self.data.item_table.columns)})"
            )

    @cached_property
    def hash(self) -> str:
        about = json.dumps([self.data.content_hash, self.among, self.only, self.binary])
        return hashlib.blake2b(about.encode(), digest_size=16).hexdigest()

    @cached_property
    def asked(self) -> pl.DataFrame:
        """request_id, text and context of the queries that have a judgement above 0, in the order
        of the requests table.
        """
        requests, judgements = self.data.tables["requests"], self.data.tables["judgements"]
        if self.only is not None:
            requests = requests.filter(pl.Series(Condition(self.only).holds(requests)))
        good = judgements.filter(pl.col("grade") > 0)["query_id"].unique()
        requests = requests.filter(
            pl.col("request_id").is_in(good.implode()) & pl.col("text").is_not_null()
        )
        if not len(requests):
            raise DataError(
                f'data set "{self.data.name}" has no query with a judgement above 0'
                + (f' where "{self.only}"' if self.only else "")
            )
        return requests.select(
            "request_id", "text", *(["context"] if "context" in requests.columns else [])
        )

    @cached_property
    def judgements(self) -> tuple[Ragged, np.ndarray]:
        """Judged item rows of every query, and their grades; of several grades of one item the
        highest.

        Judged items that the collection lacks have rows past its end: nobody can find them, and a
        perfect list would hold them.
        """
        found = (
            self.data.tables["judgements"]
            .group_by("query_id", "item_id", maintain_order=True)
            .agg(pl.col("grade").max())
            .join(
                self.asked.select("request_id").with_row_index("at"),
                left_on="query_id",
                right_on="request_id",
            )
            .sort("at", maintain_order=True)
        )
        rows = self.data.catalogue.codes(found["item_id"]).astype(np.int64)
        missing = rows < 0
        rows[missing] = (
            len(self.data.catalogue)
            + np.unique(found["item_id"].to_numpy()[missing].astype(str), return_inverse=True)[1]
        )
        lengths = np.bincount(found["at"].to_numpy(), minlength=len(self.asked))
        grades = found["grade"].cast(pl.Float64).to_numpy()
        return Ragged.of_lengths(lengths, rows), (
            (grades > 0).astype(np.float64) if self.binary else grades
        )

    @cached_property
    def candidates(self) -> list[Ranking] | None:
        """What each query may be answered with; None for everything."""
        if not self.among:
            return None
        if self.among == CANDIDATES:
            listed = self.data.tables[CANDIDATES]
            listed = (
                listed.sort("rank")
                if "rank" in listed.columns
                else listed.sort("score", descending=True)
            )
            held = {
                one: frame
                for (one,), frame in listed.partition_by(
                    "query_id", as_dict=True, maintain_order=True
                ).items()
            }
            empty = listed.clear()
            return [_ranking(held.get(one, empty)) for one in self.asked["request_id"]]
        if "context" not in self.asked.columns:
            raise DataError(
                f'among is "{self.among}", which must equal the context of a request, and the'
                " requests have none"
            )
        table = self.data.item_table.select(
            "item_id", pl.col(self.among).cast(pl.String).alias("of")
        )
        groups = {
            of: Ranking(tuple(frame["item_id"]), np.zeros(len(frame), np.float32))
            for (of,), frame in table.partition_by("of", as_dict=True).items()
        }
        return [
            groups.get(str(one), Ranking((), np.zeros(0, np.float32)))
            for one in self.asked["context"]
        ]

    def facts(self) -> dict[str, float | None]:
        """How much there is to find."""
        rows, grades = self.judgements
        positive = np.bincount(rows.row_ids, grades > 0, len(rows))
        lists = self.candidates
        within = None
        if lists is not None:
            found = [
                len(
                    set(one.ids)
                    & set(
                        self.data.catalogue.named(
                            rows[at][grades[rows.offsets[at] : rows.offsets[at + 1]] > 0]
                        )
                    )
                )
                for at, one in enumerate(lists)
            ]
            within = float(np.sum(found) / max(positive.sum(), 1))
        return {
            "items": float(len(self.data.catalogue)),
            "queries": float(len(self.asked)),
            "fitting items a query": float(positive.mean()),
            "items a query may be answered with": (
                None if lists is None else float(np.mean([len(one) for one in lists]))
            ),
            "share of fitting items among them": within,
        }


def _ranking(frame: pl.DataFrame) -> Ranking:
    scores = (
        -np.arange(len(frame), dtype=np.float32)
        if "score" not in frame.columns
        else frame["score"].fill_null(0.0).to_numpy().astype(np.float32)
    )
    return Ranking(tuple(frame["item_id"]), scores)


def evaluate_judged(
    methods: Mapping[str, Recommender],
    judged: Judged,
    k: Sequence[int] = (10,),
    metrics: Sequence[str] = ("NDCG", "recall"),
    run: Run = Run(),
) -> Report:
    """Answer every query by its text, and hold the answers against the judgements.

    Metrics are those of `metrics.battery` (graded where there are grades). In the report, queries
    stand where people do: intervals and tests are over queries.
    """
    known_names("metrics", metrics, {**PER_USER, **GRADED, "bpref": None})
    if not methods:
        raise DataError("there is no method to evaluate")
    known_depths(k)
    queries = [
        Query(text=text, request_id=one)
        for one, text in judged.asked.select("request_id", "text").iter_rows()
    ]
    rows, grades = judged.judgements
    results = {}
    for name, method in run.progress(list(methods.items()), "evaluating", len(methods)):
        started = time.perf_counter()
        lists = Rankings.of(method.recommend(queries, max(k), judged.candidates)).reindexed(
            judged.data.catalogue
        )
        seconds = time.perf_counter() - started
        values = per_user(lists.rows, rows.offsets, rows.values, k, metrics, grades=grades)
        own: dict[str, float] = {
            "empty": float((lists.lengths == 0).mean()),
            "short": float((lists.lengths < max(k)).mean()),
            "ms_a_query": 1000 * seconds / len(queries),
        }
        results[name, GIVEN] = Result(values, own, seconds, "the collection")
    about: dict[str, Any] = {
        "kind": "judgements",
        "hash": judged.hash,
        "among": judged.among or "all items",
        "only": judged.only,
    }
    everyone = {"all": np.ones(len(queries), dtype=bool)}
    ranked = {"": "the whole collection", CANDIDATES: "the candidates given"}.get(
        judged.among, f"items of the same {judged.among}"
    )
    return with_intervals(
        Report(
            about, "judged", judged.asked["request_id"].to_list(), everyone, results, 0.0, ranked
        ),
        run.seed,
    )
