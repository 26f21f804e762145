"""Gate: choose the recommender that answers by the query."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, check_settings, clone
from tailor.data.arrays import Ragged
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

QUERY_COLUMNS: dict[str, Kind] = {
    "history_length": pl.Int64(),
    "text": pl.String(),
    "user_id": pl.String(),
    "time_ms": pl.Int64(),
    "threshold": pl.Float64(),
}
CONTEXT = "context."  # before the name of a value of the query's context
ANY_TYPE = pl.UInt8()  # of a value of the context that is only asked whether it is there
MAX_NUMBER = 1e300  # numbers of the context beyond it count as missing
BLOCK = 2048  # queries answered at a time while the threshold is learned
DEPTH = 10  # of the NDCG by which the threshold is learned


@dataclass(eq=False)
class Gate(Recommender):
    """Asks one recommender or another, by conditions on the query.

    The conditions may ask how long the history is, whether there is a search text, or where the
    query comes from. Condition i belongs to part i. The first that holds decides; the last part,
    which has no condition, answers all other queries. Wrap a Gate in a Fallback where lists must be
    full.

    Conditions (the language of `data/expressions.py`) ask for `history_length` (events of items
    known here), `text` (missing where blank), `user_id`, `time_ms`, `context.NAME` (a value of
    `Query.context`; missing where absent or of another type than it is compared with) and
    `threshold`.
    """

    parts: list[Recommender] = field(default_factory=list)
    """Recommenders to choose from."""
    conditions: list[str] = field(default_factory=lambda: ["history_length < threshold"])
    """Conditions of all parts but the last."""
    threshold: float | None = None
    """Number that the word stands for in conditions; None: learned on validation by NDCG@10."""
    grid: tuple[float, ...] = (1, 2, 3, 5, 8, 13, 21)
    """Thresholds tried where it is learned."""
    exclude_history: bool = True
    """True to learn the threshold for lists without items of the history."""

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
        conditions = self._conditions()
        for condition in conditions:
            # one that cannot be used is refused before anything is fitted
            condition.compiled(_schema(conditions))

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {
                "class": "Gate",
                "parts": [{"class": "Popularity"}, {"class": "CoVisitation"}],
                "grid": [2, 5],
            },
            cls,
        )

    def _conditions(self) -> list[Condition]:
        return [Condition(text, "condition") for text in self.conditions]

    @property
    def _uses_threshold(self) -> bool:
        tokens = [
            token
            for condition in self._conditions()
            for test in condition.tests
            for token in (test.column, test.other)
        ]
        return any(token is not None and token.text == "threshold" for token in tokens)

    # --- fitting

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.threshold_ = float("nan") if self.threshold is None else float(self.threshold)
        is_learned = self._uses_threshold and self.threshold is None
        cut = (valid or inner_cut(data, run.seed)) if is_learned else None
        if cut is not None:
            self.parts_ = self._fitted_parts(data if valid else cut.train, run, valid)
            self._learn_threshold(cut, run)
            learned_on = "validation" if valid else "an inner cut, then refitted"
            self.fit_report_["learned_on"] = learned_on
        elif is_learned:
            self.threshold_ = float(min(self.grid))
            self.fit_report_ = {
                "threshold": (
                    f"{self.threshold_:g}, the smallest: nobody has the 3 events needed to learn it"
                )
            }
        if cut is None or valid is None:
            self.parts_ = self._fitted_parts(data, run, valid)
        names = part_names(self.parts_)
        self.fit_report_ |= {
            name: part.fit_report_ for name, part in zip(names, self.parts_, strict=True)
        }

    def _fitted_parts(self, data: Dataset, run: Run, valid: Split | None) -> list[Recommender]:
        parts = [clone(part) for part in self.parts]
        return [
            part.fit(data, run, valid) for part in run.progress(parts, "fitting parts", len(parts))
        ]

    def _learn_threshold(self, cut: Split, run: Run) -> None:
        """Set the threshold with the best mean NDCG@10; of equally good ones the smallest."""
        queries, targets = cut.queries("valid")
        values = self._part_values(queries, targets, run)
        quality: dict[float, float] = {}
        for threshold in sorted(set(map(float, self.grid))):
            self.threshold_ = threshold
            chosen = values[np.arange(len(queries)), self._choice(queries)]
            quality[threshold] = float(np.nanmean(chosen)) if len(queries) else 0.0
        self.threshold_ = max(quality, key=lambda threshold: quality[threshold])
        answered = np.bincount(self._choice(queries), minlength=len(self.parts_))
        shares = answered / max(len(queries), 1)
        self.fit_report_ = {
            "threshold": self.threshold_,
            "validation_ndcg@10": {
                f"{threshold:g}": round(value, 5) for threshold, value in quality.items()
            },
            "answered_by": [round(float(share), 4) for share in shares],
        }

    def _part_values(self, queries: Queries, targets: Ragged, run: Run) -> np.ndarray:
        """Return (B, P) the NDCG@10 of each part's answer to each query."""
        values = np.zeros((len(queries), len(self.parts_)))
        starts = range(0, len(queries), BLOCK)
        for start in run.progress(starts, "learning the threshold", len(starts)):
            stop = min(start + BLOCK, len(queries))
            batch = queries[start:stop]
            if self.exclude_history:
                batch = batch.without_history()
            batch = self.restrict(batch)
            for position, part in enumerate(self.parts_):
                lists = part.recommend(batch, DEPTH).reindexed(queries.catalogue)
                values[start:stop, position] = _ndcg(lists, targets.slice(start, stop))
        return values

    # --- recommending

    def restrict(self, queries: Queries) -> Queries:
        for part in self.parts_:
            queries = part.restrict(queries)
        return queries

    def _choice(self, queries: Queries) -> np.ndarray:
        """Return (B,) the position of the part that answers each query."""
        conditions = self._conditions()
        frame = self._frame(queries, _schema(conditions))
        choice = np.full(len(queries), len(self.parts) - 1)
        for position in reversed(range(len(conditions))):
            choice[conditions[position].holds(frame)] = position
        return choice

    def _frame(self, queries: Queries, schema: dict[str, Kind]) -> pl.DataFrame:
        """Return the values that conditions may ask for, one row a query."""
        times = [NO_TIME] * len(queries) if queries.now_ms is None else queries.now_ms.tolist()
        columns: dict[str, Any] = {
            "history_length": queries.reindexed(self.items_).histories.lengths,
            "text": [queries.text(i).strip() or None for i in range(len(queries))],
            "user_id": list(queries.user_ids),
            "time_ms": [None if time_ms == NO_TIME else time_ms for time_ms in times],
            "threshold": np.full(len(queries), self.threshold_),
        }
        for name, kind in schema.items():
            if name.startswith(CONTEXT):
                values = queries.context(name.removeprefix(CONTEXT))
                columns[name] = [_typed(value, kind) for value in values]
        return pl.DataFrame(columns, schema=schema)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        choice = self._choice(queries)
        answers = []
        for position, part in enumerate(self.parts_):
            numbers = np.flatnonzero(choice == position)
            if len(numbers):
                lists = None if candidates is None else candidates.take(numbers)
                answers.append((numbers, part.recommend(queries.take(numbers), k, lists)))
        return scattered(answers, len(queries), k)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the explanations of the part that answers each query.

        A part that cannot explain is itself the evidence.
        """
        self._check_fitted()
        restricted = self.restrict(Queries.of(queries))
        choice = self._choice(restricted)
        explanations: list[list[Explanation]] = [[] for _ in rankings]
        names = part_names(self.parts_)
        for position, part in enumerate(self.parts_):
            numbers = np.flatnonzero(choice == position)
            answered = [rankings[i] for i in numbers.tolist()]
            if part.explains() and answered:
                reasons = part.explain(restricted.take(numbers), answered)
            else:
                reasons = _part_as_reason(names[position], answered)
            for i, of_ranking in zip(numbers.tolist(), reasons, strict=True):
                explanations[i] = of_ranking
        return explanations


def _ndcg(lists: Rankings, targets: Ragged) -> np.ndarray:
    """Return (B,) the NDCG@10 of lists over the catalogue of the targets."""
    is_hit = hits(lists.rows, targets.offsets, targets.values)
    return ndcg(is_hit, relevant_counts(targets.offsets, targets.values), DEPTH)


def _part_as_reason(name: str, rankings: Sequence[Ranking]) -> list[list[Explanation]]:
    evidence = (Evidence("part", name, 1.0),)
    return [[Explanation(item_id, evidence) for item_id in ranking.ids] for ranking in rankings]


# --- types of the values that conditions ask for


def _schema(conditions: Sequence[Condition]) -> dict[str, Kind]:
    """Return the names that conditions may ask for, and their types.

    A value of the context has the type of what it is compared with, so that no other query changes
    it. Two values of the context are compared as numbers.
    """
    schema = dict(QUERY_COLUMNS)
    tests = [test for condition in conditions for test in condition.tests]
    tests.sort(key=lambda test: test.sign == "missing")  # last: it says nothing about the type
    for test in tests:
        for token, other in ((test.column, test.other), (test.other, test.column)):
            name = token.text.strip("`") if token else ""
            if not name.startswith(CONTEXT) or name in schema:
                continue
            if other is None:
                schema[name] = _kind_of_value(test)
            elif QUERY_COLUMNS.get(other.text) == pl.String:
                schema[name] = pl.String()
            else:
                schema[name] = pl.Float64()
    return schema


def _kind_of_value(test: Test) -> Kind:
    """Return the type of a column that is compared with values, or with none."""
    if test.sign == "":
        return pl.Boolean()
    if test.sign == "missing":
        return ANY_TYPE
    value = test.values[0]
    kind: Kind = pl.Float64()
    if isinstance(value, bool):
        kind = pl.Boolean()
    elif isinstance(value, str):
        kind = pl.String()
    return pl.List(kind) if test.sign == "has" else kind


def _typed(value: Any, kind: Kind) -> Any:
    """Return a value if it is of this type, else None."""
    if kind == ANY_TYPE:
        return None if value is None else 0
    if isinstance(kind, pl.List):
        if isinstance(value, list | tuple):
            return [_typed(entry, kind.inner) for entry in value]
        return None
    if kind == pl.Boolean:
        return bool(value) if isinstance(value, bool | np.bool_) else None
    if kind == pl.String:
        return value if isinstance(value, str) else None
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    # NaN, infinity and numbers beyond a float count as missing
    return float(value) if is_number and abs(value) < MAX_NUMBER else None
