"""Filters: what must never be recommended."""

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
    """Hands a recommender queries that exclude the items of a rule, so that the recommender itself
    leaves them out.

    `rules` are conditions that an item must meet, all of them (the language of
    `data/expressions.py`): "price <= 200 and not (categories has 'adult')". `blocked` names items;
    `only` and `never` hold, per column of the items table, the values an item must or must not have
    (for a list column: at least one of them); `at_most` bounds a number. An item whose value is
    missing fails `only`, `at_most` and every rule that asks for it. When the rule cannot be
    applied, nothing is recommended: a filter fails closed.
    """

    inner: Recommender
    blocked: list[str] = field(default_factory=list)
    only: dict[str, list[Any]] = field(default_factory=dict)
    never: dict[str, list[Any]] = field(default_factory=dict)
    at_most: dict[str, float] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)

    inner_: Recommender = field(init=False, repr=False)
    blocked_: Vocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # a rule that is one string would be read letter by letter, and block nothing
        check_settings(self)
        for rule in self.rules:
            Condition(rule, "rule")  # what cannot be read is said before anything is fitted

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
        self.blocked_ = Vocabulary(dict.fromkeys([*self.blocked, *self._ruled_out(data)]))
        self.inner_ = clone(self.inner).fit(data, run, valid)
        self.fit_report_ = {
            "items_blocked": len(self.blocked_),
            self.inner_.name: self.inner_.fit_report_,
        }
        if idle := self._idle(data):
            self.fit_report_["rules_that_match_no_item"] = idle

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.blocked_ = Vocabulary(dict.fromkeys([*self.blocked, *self._ruled_out(data)]))
        self.inner_, cost = stand_in(clone(self.inner), data, run, valid)
        return cost

    def _ruled_out(self, data: Dataset) -> list[str]:
        table = data.item_table
        bad = pl.lit(False)
        for column in (*self.only, *self.never, *self.at_most):
            if column not in table.columns:
                raise DataError(
                    f'Filter: the items have no column "{column}".{nearest(column, table.columns)}'
                )
        for column, values in self.only.items():
            bad |= ~_has(table, column, values)
        for column, values in self.never.items():
            bad |= _has(table, column, values)
        for column, most in self.at_most.items():
            bad |= ~(pl.col(column) <= most).fill_null(False)
        for rule in self.rules:
            bad |= ~Condition(rule, "rule").compiled(table.schema)
        try:
            return table.filter(bad)["item_id"].to_list()
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"Filter: a rule does not fit the type of its column: {str(error).splitlines()[0]}"
            ) from None

    def _idle(self, data: Dataset) -> dict[str, list[Any]]:
        """The named items and values that no item has, and the rules that all items meet: misspelt,
        as a rule.
        """
        table = data.item_table
        idle = {"blocked": [one for one in self.blocked if one not in data.catalogue]}
        idle["rules"] = [rule for rule in self.rules if Condition(rule, "rule").holds(table).all()]
        for column, values in (*self.only.items(), *self.never.items()):
            there = table[column].explode() if table.schema[column] == pl.List else table[column]
            idle[column] = [
                *idle.get(column, []),
                *(one for one in values if not there.is_in([one]).any()),
            ]
        return {name: values for name, values in idle.items() if values}

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries.without(self.blocked_))

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return self.inner_.recommend(queries, k, candidates)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The inner recommender's explanations."""
        self._check_fitted()
        return self.inner_.explain(self.restrict(Queries.of(queries)), rankings)


def _has(table: pl.DataFrame, column: str, values: Sequence[Any]) -> pl.Expr:
    if table.schema[column] == pl.List:
        return (
            pl.col(column).list.eval(pl.element().is_in(list(values))).list.any().fill_null(False)
        )
    return pl.col(column).is_in(list(values)).fill_null(False)
