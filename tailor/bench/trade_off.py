"""TradeOff: what a reranker's strength costs in relevance, and what it brings in return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.bench.fronts import Curve, front, front_svg
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import clone, find_class
from tailor.core.studies import ReportTable, Study, StudyReport
from tailor.data.dataset import Dataset
from tailor.data.folders import replaced_by
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split, split_by
from tailor.errors import DataError
from tailor.evaluation.significance import bootstrap
from tailor.metrics.battery import per_user
from tailor.metrics.calibration import list_miscalibration
from tailor.metrics.fairness import exposure_disparity
from tailor.metrics.lists import intra_list_diversity
from tailor.reranking.calibrate import category_shares, history_shares
from tailor.reranking.fair_exposure import POPULARITY, item_groups
from tailor.reranking.reordering import Reordering
from tailor.text.tfidf import tfidf

AIMS = {
    "disparity": "spread of exposure between groups, per item of a group; 0: equal",
    "miscalibration": "divergence of categories from the history's; 0: the same",
    "sameness": "mean cosine of the words of a list's items; 0: all differ",
}
"""Measures beside relevance, all of them better where they are lower."""


@dataclass(frozen=True)
class Point:
    """A recommender with one reranker at one strength."""

    recommender: str
    reranker: str
    strength: float
    relevance: float
    """Mean NDCG@k."""
    low: float
    """Lower end of the 95 % interval of the difference to the recommender's own lists."""
    difference: float
    high: float
    aims: Mapping[str, float]
    """Name of AIMS -> value, NaN where it is not defined."""


@dataclass(frozen=True, eq=False)
class Traded(StudyReport):
    """The points of all curves."""

    points: tuple[Point, ...]
    k: int
    part: str
    picture: str = ""
    """Where the picture was written; empty: nowhere."""

    def tables(self) -> list[ReportTable]:
        """Return one table a recommender."""
        names = dict.fromkeys(point.recommender for point in self.points)
        return [self._table(name) for name in names]

    def _table(self, name: str) -> ReportTable:
        points = [point for point in self.points if point.recommender == name]
        on_front = self.on_front(points)
        rows = tuple(
            (
                point.reranker,
                point.strength,
                round(point.relevance, 4),
                f"{point.difference:+.4f} [{point.low:+.4f}, {point.high:+.4f}]",
                *(_rounded(point.aims[aim]) for aim in AIMS),
                ", ".join(on_front[i]),
            )
            for i, point in enumerate(points)
        )
        columns = ("reranker", "strength", f"NDCG@{self.k}", "difference", *AIMS, "on the front of")
        return ReportTable(f"{name}, {self.part}", columns, rows)

    def on_front(self, points: Sequence[Point]) -> list[list[str]]:
        """Return for every point the aims at which no other point is better in both measures."""
        names: list[list[str]] = [[] for _ in points]
        for aim in AIMS:
            values = np.array([[point.aims[aim], -point.relevance] for point in points])
            for i in front(values).tolist():
                names[i].append(aim)
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        points = [{**vars(point), "aims": dict(point.aims)} for point in self.points]
        return {"k": self.k, "part": self.part, "points": points, "picture": self.picture}

    def notes(self) -> list[str]:
        """Return what the columns mean."""
        lines = [f"{aim}: {meaning}" for aim, meaning in AIMS.items()]
        return [*lines, f"drawn in {self.picture}"] if self.picture else lines


@dataclass(eq=False)
class TradeOff(Study[Traded]):
    """Draws what rerankers that aim at more than relevance cost, at every strength.

    Each recommender is fitted once; its lists are reordered by each reranker at each strength, for
    the users of a split's part. Choose a strength on "valid"; look at "test" once.
    """

    measures = (Recommender,)

    rerankers: tuple[str, ...] = ("FairExposure", "Calibrate", "Diversify")
    """Classes of `reranking.reordering.Reordering`."""
    strengths: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
    """Strengths beside 0, the recommender's own lists."""
    groups: str = POPULARITY
    """Groups of items whose exposure is compared, as of `FairExposure`."""
    by: str = "last"
    """Kind of split, as of `tailor data split`."""
    part: str = "valid"
    """Part of the split whose users are asked: "valid" or "test"."""
    k: int = 10
    """Length of lists."""
    out: str = ""
    """File for the picture, an SVG; empty: none."""

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Traded:
        split = split_by(data, self.by)
        judge = _Judge.of(split, self.part, self.groups, self.k)
        points: list[Point] = []
        for name, method in methods.items():
            fitted = method if method.is_fitted else clone(method).fit(split.train, run, split)
            points += self._curve(name, fitted, judge, run)
        report = Traded(tuple(points), self.k, self.part)
        if not self.out:
            return report
        with replaced_by(Path(self.out)) as aside:
            aside.write_text(picture(report), encoding="utf-8")
        return replace(report, picture=self.out)

    def _curve(self, name: str, fitted: Recommender, judge: "_Judge", run: Run) -> list[Point]:
        """Return the points of a recommender."""
        own_lists = judge.lists_of(fitted)
        base = judge.relevance(own_lists)
        points = [judge.point(name, "as it is", 0.0, own_lists, base, run.seed)]
        around = {
            reranker: self._around(reranker, fitted, judge.data) for reranker in self.rerankers
        }
        jobs = [(reranker, strength) for reranker in self.rerankers for strength in self.strengths]
        for reranker, strength in run.progress(jobs, f"reordering {name}", len(jobs)):
            method = around[reranker]
            method.strength = strength
            method.__post_init__()  # refuses a strength that is none
            lists = judge.lists_of(method)
            points.append(judge.point(name, reranker, strength, lists, base, run.seed))
        return points

    def _around(self, reranker: str, fitted: Recommender, data: Dataset) -> Reordering:
        """Return a reranker that has learned the items; only its strength is still to be set."""
        cls = find_class(reranker)
        if not issubclass(cls, Reordering):
            raise DataError(f"rerankers: {reranker} is none of FairExposure, Calibrate, Diversify")
        settings = {"groups": self.groups} if reranker == "FairExposure" else {}
        return cls.around(fitted, data, **settings)


@dataclass(frozen=True, eq=False)
class _Judge:
    """Measures lists for the users of a part."""

    data: Dataset
    queries: Queries
    open_queries: Queries
    """The queries with all items of their histories excluded."""
    offsets: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    available: np.ndarray
    """(G,) items of each group."""
    categories: sp.csr_matrix | None
    """(N, C); None: the items have no categories."""
    words: sp.csr_matrix
    k: int

    @classmethod
    def of(cls, split: Split, part: str, groups: str, k: int) -> "_Judge":
        """Return the judge of a part of a split."""
        queries, targets = split.queries(part)
        data = split.train
        names, numbers = item_groups(data, groups)
        has_categories = "categories" in data.item_table.columns
        return cls(
            data,
            queries.reindexed(data.catalogue),
            queries.without_history(),
            targets.offsets,
            targets.values,
            numbers,
            np.bincount(numbers[numbers >= 0], minlength=len(names)),
            category_shares(data, "TradeOff") if has_categories else None,
            tfidf(data.item_texts),
            k,
        )

    def lists_of(self, method: Recommender) -> Rankings:
        """Return lists of the catalogue's items."""
        return method.recommend(self.open_queries, self.k).reindexed(self.data.catalogue)

    def relevance(self, lists: Rankings) -> np.ndarray:
        """Return NDCG@k (U,)."""
        rows = lists.reindexed(self.open_queries.catalogue).rows
        values = per_user(rows, self.offsets, self.targets, (self.k,), ("NDCG",))
        return values[f"NDCG@{self.k}"]

    def point(
        self,
        name: str,
        reranker: str,
        strength: float,
        lists: Rankings,
        base: np.ndarray,
        seed: int,
    ) -> Point:
        """Return the measures of lists; `base` (U,) is the relevance of the unchanged ones."""
        relevance = self.relevance(lists)
        low, high = bootstrap((relevance - base)[:, None], seed=seed)
        return Point(
            name,
            reranker,
            strength,
            float(np.nanmean(relevance)),
            float(low[0]),
            float(np.nanmean(relevance - base)),
            float(high[0]),
            self._aims(lists),
        )

    def _aims(self, lists: Rankings) -> dict[str, float]:
        return {
            "disparity": self._disparity(lists),
            "miscalibration": self._miscalibration(lists),
            "sameness": 1 - _mean(intra_list_diversity(lists.rows, self.words)),
        }

    def _disparity(self, lists: Rankings) -> float:
        discounts = 1 / np.log2(np.arange(lists.rows.shape[1]) + 2)
        groups = np.where(lists.rows >= 0, self.groups[np.maximum(lists.rows, 0)], -1)
        weights = np.broadcast_to(discounts, groups.shape)
        is_grouped = groups >= 0
        exposed = np.bincount(
            groups[is_grouped], weights[is_grouped], minlength=len(self.available)
        )
        return exposure_disparity(exposed, self.available)

    def _miscalibration(self, lists: Rankings) -> float:
        if self.categories is None:
            return float("nan")
        targets = history_shares(self.queries, np.arange(len(self.queries)), self.categories)
        lengths = lists.lengths
        values = np.concatenate(
            [row[:length] for row, length in zip(lists.rows, lengths, strict=True)]
        )
        owners = np.repeat(np.arange(len(lengths)), lengths)
        ones = np.ones(len(values), np.float32)
        shape = (len(lengths), self.categories.shape[0])
        counts = sp.csr_matrix((ones, (owners, values)), shape=shape)
        return _mean(list_miscalibration(targets, (counts @ self.categories).toarray()))


def picture(report: Traded) -> str:
    """Return an SVG with one panel an aim: lower is better to the left, higher is better up."""
    panels = {}
    for aim, meaning in AIMS.items():
        curves = []
        for name in dict.fromkeys((point.recommender, point.reranker) for point in report.points):
            points = [
                point for point in report.points if (point.recommender, point.reranker) == name
            ]
            pairs = [(point.aims[aim], point.relevance) for point in points]
            labels = [f"{point.strength:g}" for point in points]
            curves.append(
                Curve(" ".join(name) if len(report.tables()) > 1 else name[1], pairs, labels)
            )
        if any(np.isfinite(x) for curve in curves for x, _ in curve.points):
            panels[f"{aim} ({meaning})"] = curves
    return front_svg(panels, f"NDCG@{report.k}")


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
