"""Conditions on the rows of a table: what `expressions` reads, made into Polars expressions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import polars as pl
from polars.datatypes import DataType, DataTypeClass

from tailor.data.expressions import Test, Token, Tree, Value, read, refuse
from tailor.errors import nearest

KINDS = {bool: "true or false", float: "a number", int: "a number", str: "a text"}
COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": pl.Expr.eq,
    "!=": pl.Expr.ne,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}
Kind = DataType | DataTypeClass


@dataclass(frozen=True)
class Condition:
    """A condition that has been read. Raises DataError, with the place, where it cannot be, or does
    not fit a table.
    """

    text: str
    what: str = "condition"
    """What errors call it."""
    tree: Tree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", read(self.text, self.what))

    @property
    def tests(self) -> list[Test]:
        """Every fact it asks about, in the order written."""
        waiting: list[Tree] = [self.tree]
        out = []
        while waiting:
            one = waiting.pop()
            if isinstance(one, Test):
                out.append(one)
            else:
                waiting += reversed(one.parts)
        return out

    def compiled(self, schema: Mapping[str, Kind]) -> pl.Expr:
        """A Polars expression of true and false, never null, for tables of this schema."""
        return self._expression(self.tree, schema).fill_null(False)

    def holds(self, frame: pl.DataFrame) -> np.ndarray:
        """(rows,) bool: where it holds."""
        return frame.select(self.compiled(frame.schema).alias("holds"))["holds"].to_numpy()

    def refuse(self, problem: str, token: Token | None = None) -> NoReturn:
        refuse(self.text, self.what, problem, token)

    def _expression(self, node: Tree, schema: Mapping[str, Kind]) -> pl.Expr:
        if isinstance(node, Test):
            return self._fact(node, schema)
        parts = [self._expression(one, schema) for one in node.parts]
        return (
            ~parts[0]
            if node.word == "not"
            else pl.all_horizontal(parts)
            if node.word == "and"
            else pl.any_horizontal(parts)
        )

    def _fact(self, test: Test, schema: Mapping[str, Kind]) -> pl.Expr:
        column, kind = self._column(test.column, schema)
        if test.sign == "missing":
            return column.is_null()
        if kind == pl.Null:  # a column that holds nothing at all
            return column.cast(pl.Boolean)
        name = test.column.text.strip("`")
        if isinstance(kind, pl.List) != (test.sign == "has"):
            wanted = (
                "is for columns of lists"
                if test.sign == "has"
                else "is not for columns of lists: write has"
            )
            self.refuse(
                f'"{test.sign or name}" {wanted}; {name} is {_described(kind)}', test.column
            )
        if isinstance(kind, pl.List):
            if kind.inner == pl.Null:
                return column.list.len() < 0
            self._fits(test, kind.inner)
            return column.list.eval(
                _among(pl.element(), kind.inner, test.values).fill_null(False)
            ).list.any()
        if test.sign == "":
            return (
                column
                if kind == pl.Boolean
                else self.refuse(
                    f"{name} is {_described(kind)}: compare it with something", test.column
                )
            )
        if test.sign == "contains" and not _is_text(kind):
            self.refuse(f'"contains" is for texts; {name} is {_described(kind)}', test.column)
        column = column.cast(pl.String) if _is_text(kind) else column
        if test.other is not None:
            if (word := test.other.text.strip("`")) not in schema:
                self.refuse(
                    f'there is no column "{word}".{nearest(word, schema)} A text stands in'
                    f" quotation marks: '{word}'",
                    test.other,
                )
            other, its = self._column(test.other, schema)
            if _group(its) != _group(kind) or _group(kind) is None:
                self.refuse(
                    f"{name} is {_described(kind)}, {test.other.text} is {_described(its)}",
                    test.other,
                )
            return COMPARE[test.sign](column, other.cast(pl.String) if _is_text(its) else other)
        self._fits(test, kind)
        if test.sign == "contains":
            return column.str.to_lowercase().str.contains(
                pl.lit(test.values[0]).str.to_lowercase(), literal=True
            )
        if test.sign == "in":
            return _among(column, kind, test.values)
        return COMPARE[test.sign](column, pl.lit(test.values[0]))

    def _column(self, token: Token, schema: Mapping[str, Kind]) -> tuple[pl.Expr, Kind]:
        name = token.text.strip("`")
        if name not in schema:
            self.refuse(f'there is no column "{name}".{nearest(name, schema)}', token)
        kind = schema[name]
        # NaN would be above every number
        return (pl.col(name).fill_nan(None) if kind.is_float() else pl.col(name)), kind

    def _fits(self, test: Test, kind: Kind) -> None:
        for one in test.values:
            if _group(kind) != KINDS[type(one)]:
                self.refuse(
                    f"{test.column.text} is {_described(kind)}, {one!r} is {KINDS[type(one)]}",
                    test.column,
                )


def _among(column: pl.Expr, kind: Kind, values: Sequence[Value]) -> pl.Expr:
    if not kind.is_numeric():
        return (column.cast(pl.String) if _is_text(kind) else column).is_in(list(values))
    return pl.any_horizontal([column == pl.lit(one) for one in values])


def _group(kind: Kind) -> str | None:
    return (
        "a number"
        if kind.is_numeric()
        else "true or false"
        if kind == pl.Boolean
        else "a text"
        if _is_text(kind)
        else None
    )


def _is_text(kind: Kind) -> bool:
    return kind in (pl.String, pl.Categorical, pl.Enum)


def _described(kind: Kind) -> str:
    return "a list" if kind == pl.List else _group(kind) or f"of the type {kind}"
