"""Survey metrics over systems: agreement, trade-offs, and users needed by each metric."""

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
from tailor.evaluation.runs import ExternalRun
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
# figures of lists beside accuracy; -1 where lower is better
GOALS = {"coverage": 1, "novelty_bits": 1, "personalisation": 1, "gini": -1}
POWER = 0.8  # power of the tests whose users are counted


class Advice(NamedTuple):
    """Metrics to use, and the reason."""

    group: str
    metrics: tuple[str, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class Survey(StudyReport):
    """Results of the study; keys of `alike` and `users_needed` are metrics of the report."""

    report: Report
    advice: list[Advice]
    alike: dict[tuple[str, str], float]
    """Rank correlation of two metrics' values over all users and systems."""
    front: list[str]
    """Systems of the Pareto front of accuracy and the other goals."""
    users_needed: dict[str, float]
    """Median over pairs of systems of the users that a paired test needs in 4 of 5 cases."""
    undefined: dict[str, int]
    """Users without a value, by metric."""

    def tables(self) -> list[ReportTable]:
        """Return the advice, and the users that each metric needs."""
        advice = [(entry.group, ", ".join(entry.metrics), entry.reason) for entry in self.advice]
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
        """Return plain JSON values."""
        alike = [{"a": a, "b": b, "correlation": value} for (a, b), value in self.alike.items()]
        content = {
            **self.report.to_dict(),
            "advice": [entry._asdict() for entry in self.advice],
            "alike": alike,
            "front": self.front,
            "users_needed": self.users_needed,
            "undefined": self.undefined,
        }
        return cast(dict[str, Any], without_nan(content))


@dataclass(eq=False)
class EvaluationSurvey(Study[Survey]):
    """Measures the same systems by every ranking metric and compares the metrics.

    Systems are fitted on the training part of one split and evaluated by our protocol. Of two
    metrics that order users and systems alike, one is enough; of two that do not, the one that
    needs fewer users separates systems sooner, which does not make it the one that matters. Differs
    from the paper: a survey has no algorithm; the choice of metrics, the front and the count of
    users are our form of its advice.
    """

    by: str = "last"
    """Kind of split."""
    k: int = 10
    """Depth of lists."""
    metrics: tuple[str, ...] = tuple(PER_USER)
    """Ranking metrics to survey."""
    seen: str = "removed"
    """Treatment of seen items: "removed" or "kept"."""
    accuracy: str = "NDCG"
    """The metric of accuracy on the Pareto front."""

    measures: ClassVar[tuple[type, ...]] = (Recommender, ExternalRun)

    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> Survey:
        """Fit the methods (not copies of them) and measure.

        Raises DataError for fewer than two systems or an accuracy that is none of the metrics.
        """
        if len(methods) < 2:
            raise DataError(
                f"the survey compares methods and got {len(methods)}: give two or more, as in"
                " Popularity CoVisitation"
            )
        if self.accuracy not in self.metrics:
            raise DataError(
                f'accuracy is "{self.accuracy}": it must be one of the metrics,'
                f" {', '.join(self.metrics)}"
            )
        split = split_by(data, self.by)
        systems: dict[str, Recommender | ExternalRun] = {}
        for name, method in methods.items():
            if isinstance(method, ExternalRun):
                systems[name] = method
            else:
                systems[name] = cast(Recommender, method).fit(split.train, run, split)
        report = evaluate(systems, split, "test", (self.k,), self.metrics, (self.seen,), run)
        values = {metric: _values(report, metric, self.seen) for metric in report.metrics}
        return Survey(
            report=report,
            advice=advise(data),
            alike=_rank_correlations(values),
            front=_pareto_front(report, f"{self.accuracy}@{self.k}", self.seen),
            users_needed={metric: _users_needed(matrix) for metric, matrix in values.items()},
            undefined={metric: int(np.isnan(matrix[0]).sum()) for metric, matrix in values.items()},
        )


def _values(report: Report, metric: str, seen: str) -> np.ndarray:
    """Return (systems, U) values of a metric."""
    return np.stack([report.results[name, seen].per_user[metric] for name in report.methods])


EVENT_ADVICE = (
    Advice(
        "ranking",
        ("NDCG", "HR", "MRR"),
        "people chose items: what counts is who stands first",
    ),
    Advice(
        "candidates",
        ("recall at 100 and more", "ceiling", "user coverage"),
        "a stage that finds candidates loses for good what it does not find",
    ),
    Advice(
        "discovery",
        ("coverage", "gini", "novelty", "personalisation"),
        "logs reward what everybody has: one figure must speak for the rest",
    ),
)
VALUE_ADVICE = Advice(
    "prediction",
    ("RMSE", "MAE"),
    "events carry a value such as a rating: its size can be predicted",
)
IMPRESSION_ADVICE = Advice(
    "prediction",
    ("log loss", "AUC", "grouped AUC", "ECE"),
    "what was shown and not chosen is known: probabilities can be judged",
)
CATEGORY_ADVICE = Advice(
    "calibration of lists",
    ("list_miscalibration", "category entropy"),
    "items have categories: a list can be held against a history",
)
# column that a business metric needs -> column of the events
LOG_COLUMNS = {"user": "user_id", "item": "item_id", "time_ms": "time_ms", "session": "session_id"}


def advise(data: Dataset) -> list[Advice]:
    """Return the groups of metrics that the tables of a data set allow and ask for."""
    events = data.tables.get("events")
    columns = set() if events is None else set(events.columns)
    advice = [] if events is None else list(EVENT_ADVICE)
    if "value" in columns:
        advice.append(VALUE_ADVICE)
    if "impressions" in data.tables:
        advice.append(IMPRESSION_ADVICE)
    log = {name for name, column in LOG_COLUMNS.items() if column in columns}
    business = tuple(name for name, (_, needs) in MEASURES.items() if set(needs) <= log)
    if business:
        reason = f"the log has {', '.join(sorted(log))}; other figures need columns it lacks"
        advice.append(Advice("business", business, reason))
    if "categories" in data.item_table.columns:
        advice.append(CATEGORY_ADVICE)
    return advice


def _rank_correlations(values: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Return Spearman's correlation of each pair of metrics over users and systems.

    `values` are (systems, U) by metric. Pairs with an undefined value are left out; NaN where a
    metric is constant.
    """
    correlations = {}
    for a, b in combinations(values, 2):
        is_defined = ~np.isnan(values[a]) & ~np.isnan(values[b])
        x = rankdata(values[a][is_defined])
        y = rankdata(values[b][is_defined])
        correlations[a, b] = float("nan")
        if len(x) > 1 and x.std() > 0 and y.std() > 0:
            correlations[a, b] = float(np.corrcoef(x, y)[0, 1])
    return correlations


def _pareto_front(report: Report, accuracy: str, seen: str) -> list[str]:
    """Return the systems that no other one equals or beats in accuracy and all goals."""
    points = {}
    for name in report.methods:
        figures = report.results[name, seen].lists
        goals = [sign * figures[goal] for goal, sign in GOALS.items()]
        point = np.array([report.mean(name, accuracy, seen), *goals])
        points[name] = np.nan_to_num(point, nan=-np.inf)  # undefined is no advantage

    def is_dominated(name: str) -> bool:
        rivals = [point for rival, point in points.items() if rival != name]
        return any(
            (rival >= points[name]).all() and (rival > points[name]).any() for rival in rivals
        )

    return [name for name in points if not is_dominated(name)]


def _users_needed(values: np.ndarray) -> float:
    """Return the median over pairs of systems of the users that a paired test needs.

    (z(.975) + z(.8))^2 * variance / difference^2, from values (systems, U); infinite where two are
    the same.
    """
    z = norm.ppf(0.975) + norm.ppf(POWER)
    users = []
    for a, b in combinations(values, 2):
        differences = (a - b)[~np.isnan(a) & ~np.isnan(b)]
        mean = differences.mean() if len(differences) else 0.0
        users.append(float(z**2 * differences.var() / mean**2) if mean else float("inf"))
    return float(np.median(users))
