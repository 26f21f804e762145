"""A survey of metrics over systems: which to use for which data, how they go together, who trades
what for what, and which need the fewest users.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from scipy.stats import norm, rankdata

from tailor.core.methods import Paper, Recommender
from tailor.core.run import Run
from tailor.core.studies import ReportTable, Study, StudyReport
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.errors import DataError
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.report import Report, without_nan
from tailor.evaluation.runs import GivenLists
from tailor.metrics.business import MEASURES
from tailor.metrics.ranking import PER_USER

PAPER = Paper(
    "evaluation-survey",
    "A Comprehensive Survey of Evaluation Techniques for Recommendation Systems",
    "https://arxiv.org/abs/2312.16015",
    "every metric of the battery equals an independent program; on ml-100k co-visitation,"
    " popularity and chance stand in this order by NDCG, chance, item neighbours and popularity by"
    " coverage, chance above popularity by novelty; undefined cases are NaN and counted",
)
# figures of lists beside accuracy, and which way is better
GOALS = {"coverage": 1, "novelty_bits": 1, "personalisation": 1, "gini": -1}
BETTER = 0.8  # power at which the users needed are counted


class Advice(NamedTuple):
    """Metrics to use, and why the data ask for them."""

    group: str
    metrics: tuple[str, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class Survey(StudyReport):
    """What the study found; keys of `alike` and `users_needed` are metrics of the report."""

    report: Report
    advice: list[Advice]
    alike: dict[tuple[str, str], float]
    """Rank correlation of two metrics' values over all users and systems."""
    front: list[str]
    """Systems that none beats in accuracy and in every goal beside it."""
    users_needed: dict[str, float]
    """Median over pairs of systems: users a paired test needs to tell them apart in 4 of 5 cases.
    """
    undefined: dict[str, int]
    """Users for whom a metric has no value."""

    def tables(self) -> list[ReportTable]:
        """Return the advice, and what each metric costs in users."""
        advice = [(one.group, ", ".join(one.metrics), one.reason) for one in self.advice]
        users = [
            (metric, needed, self.undefined.get(metric, 0))
            for metric, needed in self.users_needed.items()
        ]
        columns = ("metric", "users needed", "users without a value")
        return [
            ReportTable("metrics for these data", ("group", "metrics", "reason"), tuple(advice)),
            ReportTable("users that a paired test needs", columns, tuple(users)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        alike = [{"a": a, "b": b, "correlation": value} for (a, b), value in self.alike.items()]
        about = {
            **self.report.to_dict(),
            "advice": [one._asdict() for one in self.advice],
            "alike": alike,
            "front": self.front,
            "users_needed": self.users_needed,
            "undefined": self.undefined,
        }
        return cast(dict[str, Any], without_nan(about))


@dataclass(eq=False)
class MetricSurvey(Study[Survey]):
    """Measures the same systems by every ranking metric at once, and says what each metric adds to
    the others.

    Systems are fitted on the training part of one split and judged by the one protocol. Two metrics
    that order users and systems alike need not both be reported; of two that do not, the one that
    needs fewer users to tell systems apart decides sooner, though not necessarily about what
    matters. Differs from the paper: a survey has no algorithm; the choice of metrics, the front and
    the count of users are our form of its advice.
    """

    by: str = "last"
    """Kind of split."""
    k: int = 10
    metrics: tuple[str, ...] = tuple(PER_USER)
    seen: str = "removed"
    """Or "kept"."""
    accuracy: str = "NDCG"
    """The metric that stands for accuracy on the front."""

    measures: ClassVar[tuple[type, ...]] = (Recommender, GivenLists)

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Survey:
        """Fit the methods (clones are not made) and measure. Raises DataError for fewer than two
        systems or an accuracy not among the metrics.
        """
        if len(methods) < 2 or self.accuracy not in self.metrics:
            raise DataError(
                f"{len(methods)} systems, accuracy {self.accuracy!r} of {', '.join(self.metrics)}:"
                " give two or more systems, and one of the metrics"
            )
        split = split_by(data, self.by)
        fitted = {
            name: (
                one
                if isinstance(one, GivenLists)
                else cast(Recommender, one).fit(split.train, run, split)
            )
            for name, one in methods.items()
        }
        report = evaluate(fitted, split, "test", (self.k,), self.metrics, (self.seen,), run)
        values = {
            metric: np.stack(
                [report.results[name, self.seen].per_user[metric] for name in report.methods]
            )
            for metric in report.metrics
        }
        undefined = {metric: int(np.isnan(one[0]).sum()) for metric, one in values.items()}
        return Survey(
            report,
            advise(data),
            _alike(values),
            _front(report, f"{self.accuracy}@{self.k}", self.seen),
            {metric: _users_needed(one) for metric, one in values.items()},
            undefined,
        )


def advise(data: Dataset) -> list[Advice]:
    """Which groups of metrics the tables of a data set allow and ask for."""
    out = []
    events = data.tables.get("events")
    columns = set(events.columns) if events is not None else set()
    if events is not None:
        out.append(
            Advice(
                "ranking",
                ("NDCG", "HR", "MRR"),
                "people chose items: what counts is who stands first",
            )
        )
        out.append(
            Advice(
                "candidates",
                ("recall at 100 and more", "ceiling", "user coverage"),
                "a stage that finds candidates loses for good what it does not find",
            )
        )
        out.append(
            Advice(
                "discovery",
                ("coverage", "gini", "novelty", "personalisation"),
                "logs reward what everybody has: one figure must speak for the rest",
            )
        )
    if "value" in columns:
        out.append(
            Advice(
                "prediction",
                ("RMSE", "MAE"),
                "events carry a value such as a rating: its size can be predicted",
            )
        )
    if "impressions" in data.tables:
        out.append(
            Advice(
                "prediction",
                ("log loss", "AUC", "grouped AUC", "ECE"),
                "what was shown and not chosen is known: probabilities can be judged",
            )
        )
    known = {"user": "user_id", "item": "item_id", "time_ms": "time_ms", "session": "session_id"}
    log = {name for name, column in known.items() if column in columns}
    possible = tuple(name for name, (_, needs) in MEASURES.items() if set(needs) <= log)
    if possible:
        out.append(
            Advice(
                "business",
                possible,
                f"the log has {', '.join(sorted(log))}; other figures need columns it lacks",
            )
        )
    if "categories" in data.item_table.columns:
        out.append(
            Advice(
                "calibration of lists",
                ("list_miscalibration", "category entropy"),
                "items have categories: a list can be held against a history",
            )
        )
    return out


def _alike(values: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Spearman over the users and systems for whom both are defined; NaN where one is constant."""
    out = {}
    for a, b in combinations(values, 2):
        both = ~np.isnan(values[a]) & ~np.isnan(values[b])
        x, y = rankdata(values[a][both]), rankdata(values[b][both])
        out[a, b] = (
            float(np.corrcoef(x, y)[0, 1])
            if len(x) > 1 and x.std() > 0 and y.std() > 0
            else float("nan")
        )
    return out


def _front(report: Report, accuracy: str, seen: str) -> list[str]:
    figures = {
        name: [
            report.mean(name, accuracy, seen),
            *(way * report.results[name, seen].lists[goal] for goal, way in GOALS.items()),
        ]
        for name in report.methods
    }
    # undefined is no advantage
    points = {name: np.nan_to_num(np.array(own), nan=-np.inf) for name, own in figures.items()}
    return [
        name
        for name, own in points.items()
        if not any(
            (other >= own).all() and (other > own).any()
            for rival, other in points.items()
            if rival != name
        )
    ]


def _users_needed(values: np.ndarray) -> float:
    """Of (systems, U): (z(.975) + z(.8))^2 * variance / difference^2, the median over pairs of
    systems; infinite where two are the same.
    """
    z = norm.ppf(0.975) + norm.ppf(BETTER)
    needed = []
    for a, b in combinations(range(len(values)), 2):
        difference = (values[a] - values[b])[~np.isnan(values[a]) & ~np.isnan(values[b])]
        mean = difference.mean() if len(difference) else 0.0
        needed.append(float(z**2 * difference.var() / mean**2) if mean else float("inf"))
    return float(np.median(needed))
