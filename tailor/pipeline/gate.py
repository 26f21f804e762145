"""Gate: who answers depends on the query."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, check_settings, clone
from tailor.data.conditions import Condition, Kind
from tailor.data.dataset import Dataset
from tailor.data.expressions import Test
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import NO_TIME, Queries, Rankings
from tailor.data.splits import Split, inner_cut
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError
from tailor.metrics.ranking import hits, ndcg, relevant_counts
from tailor.pipeline.joining import part_names, scattered

ASKED: dict[str, Kind] = {
    "history_length": pl.Int64(),
    "text": pl.String(),
    "user_id": pl.String(),
    "time_ms": pl.Int64(),
    "threshold": pl.Float64(),
}
CONTEXT = "context."
BLOCK = 2048  # queries answered at a time while the threshold is learned


@dataclass(eq=False)
class Gate(Recommender):
    """Asks one recommender or another: by how long the history is, by whether there is a search
    text, by where the query comes from.

    Each condition stands for the part at its place; the first that holds decides, and the last
    part, which has none, serves the rest. Conditions (the language of `data/expressions.py`) ask
    for `history_length` (events of items known here), `text` (missing where blank), `user_id`,
    `time_ms`, `context.NAME` (a value of `Query.context`; missing where absent or of another type
    than it is compared with) and `threshold`: a number given, or the one of `grid` with the best
    NDCG@10 on validation. Wrap it in a Fallback where lists must be full.
    """

    parts: list[Recommender] = field(default_factory=list)
    conditions: list[str] = field(default_factory=lambda: ["history_length < threshold"])
    """One less than parts."""
    threshold: float | None = None
    """What the word stands for in conditions; left out: learned."""
    grid: tuple[float, ...] = (1, 2, 3, 5, 8, 13, 21)
    """Thresholds tried."""
    exclude_history: bool = True
    """While the threshold is learned: whether items of the history may be answered."""

    parts_: list[Recommender] = field(init=False, repr=False)
    items_: Vocabulary = field(init=False, repr=False)
    threshold_: float = field(init=False, repr=False)
    """NaN: no condition asks for it."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.parts or not all(isinstance(part, Recommender) for part in self.parts):
            raise ModelError(f"Gate.parts is {self.parts!r}: it must be recommenders, at least one")
        if len(self.conditions) != len(self.parts) - 1:
            raise ModelError(
                f"Gate has {len(self.parts)} parts and {len(self.conditions)} conditions: one each,"
                " and none for the last part"
            )
        if not self.grid:
            raise ModelError("Gate.grid is empty: give the thresholds to try, or the threshold")
        read = self._read()
        for one in read:
            # a condition that cannot be used is said before anything is fitted
            one.compiled(_schema(read))

    @classmethod
    def tiny(cls) -> Self:
        about = {
            "class": "Gate",
            "parts": [{"class": "Popularity"}, {"class": "CoVisitation"}],
            "grid": [2, 5],
        }
        return build(about, cls)

    def _read(self) -> list[Condition]:
        return [Condition(one, "condition") for one in self.conditions]

    @property
    def _asks_threshold(self) -> bool:
        return any(
            token is not None and token.text == "threshold"
            for one in self._read()
            for test in one.tests
            for token in (test.column, test.other)
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        def fitted(on: Dataset) -> list[Recommender]:
            steps = run.progress(
                [clone(part) for part in self.parts], "fitting parts", len(self.parts)
            )
            return [part.fit(on, run, valid if on is data else None) for part in steps]

        self.items_ = data.catalogue
        self.threshold_ = float("nan") if self.threshold is None else float(self.threshold)
        learns = self._asks_threshold and self.threshold is None
        cut = (valid or inner_cut(data, run.seed)) if learns else None
        if cut is not None:
            self.parts_ = fitted(data if valid else cut.train)
            self._learn(cut, run, "validation" if valid else "an inner cut, then refitted")
        elif learns:
            self.threshold_ = float(min(self.grid))
            self.fit_report_ = {
                "threshold": (
                    f"{self.threshold_:g}, the smallest: nobody has the 3 events needed to learn it"
                )
            }
        if cut is None or valid is None:
            self.parts_ = fitted(data)
        self.fit_report_ |= {
            name: part.fit_report_
            for name, part in zip(part_names(self.parts_), self.parts_, strict=True)
        }

    def _learn(self, cut: Split, run: Run, where: str) -> None:
        """The threshold whose choice of parts has the best mean NDCG@10; of equally good ones the
        smallest.
        """
        queries, targets = cut.queries("valid")
        values = np.zeros((len(queries), len(self.parts_)))
        starts = range(0, len(queries), BLOCK)
        for start in run.progress(starts, "learning the threshold", len(starts)):
            asked = queries[start : start + BLOCK]
            asked = self.restrict(asked.without_history() if self.exclude_history else asked)
            wanted = targets.slice(start, min(start + BLOCK, len(queries)))
            for at, part in enumerate(self.parts_):
                rows = part.recommend(asked, 10).reindexed(queries.catalogue).rows
                found = hits(rows, wanted.offsets, wanted.values)
                values[start : start + BLOCK, at] = ndcg(
                    found, relevant_counts(wanted.offsets, wanted.values), 10
                )
        quality = {}
        for one in sorted(set(map(float, self.grid))):
            self.threshold_ = one
            quality[one] = (
                float(np.nanmean(values[np.arange(len(queries)), self._choice(queries)]))
                if len(queries)
                else 0.0
            )
        self.threshold_ = max(quality, key=lambda one: quality[one])
        shares = np.bincount(self._choice(queries), minlength=len(self.parts_)) / max(
            len(queries), 1
        )
        self.fit_report_ = {
            "threshold": self.threshold_,
            "validation_ndcg@10": {f"{one:g}": round(value, 5) for one, value in quality.items()},
            "answered_by": [round(float(one), 4) for one in shares],
            "learned_on": where,
        }

    def restrict(self, queries: Queries) -> Queries:
        for part in self.parts_:
            queries = part.restrict(queries)
        return queries

    def _choice(self, queries: Queries) -> np.ndarray:
        """(n,) which part answers each query."""
        read = self._read()
        schema = _schema(read)
        known = queries.reindexed(self.items_)
        now = [NO_TIME] * len(queries) if queries.now_ms is None else queries.now_ms.tolist()
        columns: dict[str, Any] = {
            "history_length": known.histories.lengths,
            "text": [queries.text(i).strip() or None for i in range(len(queries))],
            "user_id": list(queries.user_ids),
            "time_ms": [None if one == NO_TIME else one for one in now],
            "threshold": np.full(len(queries), self.threshold_),
        }
        for name in schema:
            if name.startswith(CONTEXT):
                columns[name] = [
                    _value(one, schema[name]) for one in queries.context(name.removeprefix(CONTEXT))
                ]
        frame = pl.DataFrame(columns, schema=schema)
        choice = np.full(len(queries), len(self.parts) - 1)
        for at in reversed(range(len(read))):
            choice[read[at].holds(frame)] = at
        return choice

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        choice = self._choice(queries)
        answers = []
        for at, part in enumerate(self.parts_):
            places = np.flatnonzero(choice == at)
            if len(places):
                some = None if candidates is None else candidates.take(places)
                answers.append((places, part.recommend(queries.take(places), k, some)))
        return scattered(answers, len(queries), k)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The explanations of the part that answers each query; a part that cannot explain is
        itself the reason.
        """
        self._check_fitted()
        asked = self.restrict(Queries.of(queries))
        choice = self._choice(asked)
        out: list[list[Explanation]] = [[] for _ in rankings]
        for at, (part, name) in enumerate(zip(self.parts_, part_names(self.parts_), strict=True)):
            places = np.flatnonzero(choice == at)
            some = [rankings[i] for i in places.tolist()]
            told = (
                part.explain(asked.take(places), some)
                if part.explains() and some
                else _named(name, some)
            )
            for i, reasons in zip(places.tolist(), told, strict=True):
                out[i] = reasons
        return out


def _named(name: str, rankings: Sequence[Ranking]) -> list[list[Explanation]]:
    return [
        [Explanation(one, (Evidence("part", name, 1.0),)) for one in ranking.ids]
        for ranking in rankings
    ]


def _schema(conditions: Sequence[Condition]) -> dict[str, Kind]:
    """What conditions may ask for; a value of the context has the type of what it is compared with,
    so that no other query changes it.

    Two values of the context are compared as numbers.
    """
    schema = dict(ASKED)
    tests = [test for one in conditions for test in one.tests]
    # which says nothing about the type
    for test in sorted(tests, key=lambda one: one.sign == "missing"):
        for token, other in ((test.column, test.other), (test.other, test.column)):
            name = token.text.strip("`") if token else ""
            if name.startswith(CONTEXT) and name not in schema:
                is_text = other is not None and ASKED.get(other.text) == pl.String
                schema[name] = pl.String() if is_text else pl.Float64() if other else _kind(test)
    return schema


def _kind(test: Test) -> Kind:
    if test.sign in ("", "missing"):
        return pl.Boolean() if not test.sign else pl.UInt8()
    value = test.values[0]
    one = (
        pl.Boolean()
        if isinstance(value, bool)
        else pl.String()
        if isinstance(value, str)
        else pl.Float64()
    )
    return pl.List(one) if test.sign == "has" else one


def _value(value: Any, kind: Kind) -> Any:
    """The value where it is of this type, else None; UInt8 stands for any type, where all that is
    asked is whether it is there.
    """
    if kind == pl.UInt8:
        return None if value is None else 0
    if isinstance(kind, pl.List):
        return (
            [_value(one, kind.inner) for one in value] if isinstance(value, list | tuple) else None
        )
    if kind == pl.Boolean:
        return bool(value) if isinstance(value, bool | np.bool_) else None
    if kind == pl.String:
        return value if isinstance(value, str) else None
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    # NaN, infinity and numbers beyond a float are none
    return float(value) if is_number and abs(value) < 1e300 else None
