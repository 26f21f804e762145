"""Filter: exclude items that must never be recommended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, check_settings, clone
from tailor.data.conditions import Condition
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest


@dataclass(eq=False)
class Filter(Recommender):
    """Excludes all items that break a rule from the queries of a recommender.

    An item breaks `only`, `at_most` or a condition where the value they need is missing. Where the
    rules cannot be applied, an error is raised and nothing is recommended.
    """

    inner: Recommender
    """The recommender that is filtered."""
    blocked: list[str] = field(default_factory=list)
    """Item ids that are never recommended."""
    only: dict[str, list[Any]] = field(default_factory=dict)
    """Column of the items table -> values; an item must have at least one of them."""
    never: dict[str, list[Any]] = field(default_factory=dict)
    """Column of the items table -> values; an item must have none of them."""
    at_most: dict[str, float] = field(default_factory=dict)
    """Column of the items table -> largest value allowed."""
    rules: list[str] = field(default_factory=list)
    """Conditions; an item must meet all of them. Their language is in `data/expressions.py`.

    An example: "price <= 200 and not (categories has 'adult')".
    """

    inner_: Recommender = field(init=False, repr=False)
    """The fitted recommender."""
    blocked_: Vocabulary = field(init=False, repr=False)
    """All items that are excluded."""

    def __post_init__(self) -> None:
        # A string instead of a list of rules would be taken as a list of letters: it is refused.
        check_settings(self)
        for rule in self.rules:
            Condition(rule, "rule")  # raises for a rule that cannot be read

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {
                "class": "Filter",
                "inner": {"class": "CoVisitation"},
                "never": {"categories": ["lamp"]},
                "rules": ["price < 50"],
            },
            cls,
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.blocked_ = self._blocked_items(data)
        self.inner_ = clone(self.inner).fit(data, run, valid)
        self.fit_report_ = {
            "items_blocked": len(self.blocked_),
            self.inner_.name: self.inner_.fit_report_,
        }
        idle = self._idle_rules(data)
        if idle:
            self.fit_report_["rules_that_match_no_item"] = idle

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.blocked_ = self._blocked_items(data)
        self.inner_, cost = stand_in(clone(self.inner), data, run, valid)
        return cost

    def _blocked_items(self, data: Dataset) -> Vocabulary:
        """Return the items of `blocked`, and those that break a rule."""
        return Vocabulary(dict.fromkeys([*self.blocked, *self._ruled_out(data)]))

    def _ruled_out(self, data: Dataset) -> list[str]:
        """Return the items of the catalogue that break a rule.

        Raises DataError for a column that the items lack, or whose type does not fit a rule.
        """
        items = data.item_table
        for column in (*self.only, *self.never, *self.at_most):
            if column not in items.columns:
                raise DataError(
                    f'Filter: the items have no column "{column}".{nearest(column, items.columns)}'
                )
        breaks_rule = pl.lit(False)
        for column, values in self.only.items():
            breaks_rule |= ~_has_value(items, column, values)
        for column, values in self.never.items():
            breaks_rule |= _has_value(items, column, values)
        for column, limit in self.at_most.items():
            breaks_rule |= ~(pl.col(column) <= limit).fill_null(False)
        for rule in self.rules:
            breaks_rule |= ~Condition(rule, "rule").compiled(items.schema)
        try:
            return items.filter(breaks_rule)["item_id"].to_list()
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"Filter: a rule does not fit the type of its column: {str(error).splitlines()[0]}"
            ) from None

    def _idle_rules(self, data: Dataset) -> dict[str, list[Any]]:
        """Return the settings that exclude no item, by field or column; most are misspelt.

        These are ids that are not in the catalogue, values that no item has, and conditions that
        all items meet.
        """
        items = data.item_table
        idle: dict[str, list[Any]] = {
            "blocked": [item for item in self.blocked if item not in data.catalogue],
            "rules": [rule for rule in self.rules if Condition(rule, "rule").holds(items).all()],
        }
        for column, values in (*self.only.items(), *self.never.items()):
            idle[column] = [*idle.get(column, []), *_absent_values(items[column], values)]
        return {name: values for name, values in idle.items() if values}

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries.without(self.blocked_))

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return self.inner_.recommend(queries, k, candidates)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the inner recommender's explanations."""
        self._check_fitted()
        restricted = self.restrict(Queries.of(queries))
        return self.inner_.explain(restricted, rankings)


def _absent_values(column: pl.Series, values: Sequence[Any]) -> list[Any]:
    """Return the values that no item has."""
    present = column.explode() if column.dtype == pl.List else column
    return [value for value in values if not present.is_in([value]).any()]


def _has_value(items: pl.DataFrame, column: str, values: Sequence[Any]) -> pl.Expr:
    """Return an expression that is true where an item has one of the values.

    A list column has a value where one of its entries is the value.
    """
    if items.schema[column] == pl.List:
        is_value = pl.col(column).list.eval(pl.element().is_in(list(values)))
        return is_value.list.any().fill_null(False)
    return pl.col(column).is_in(list(values)).fill_null(False)
