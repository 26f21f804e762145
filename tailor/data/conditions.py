"""Conditions on the rows of a table, as Polars expressions; `expressions` reads their text."""

import re
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
ORDERED = ("<", "<=", ">", ">=")
NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
Kind = DataType | DataTypeClass


@dataclass(frozen=True)
class Condition:
    """A condition on the rows of a table.

    Raises DataError, with the place, where the text cannot be read or does not fit a table.
    """

    text: str
    what: str = "condition"
    """Name of the condition in errors."""
    tree: Tree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", read(self.text, self.what))

    @property
    def tests(self) -> list[Test]:
        """Return the tests of the condition in the order written."""
        nodes: list[Tree] = [self.tree]
        tests = []
        while nodes:
            node = nodes.pop()
            if isinstance(node, Test):
                tests.append(node)
            else:
                nodes += reversed(node.parts)
        return tests

    def compiled(self, schema: Mapping[str, Kind]) -> pl.Expr:
        """Return a Polars expression of true and false, never null, for tables of this schema."""
        return self._expression(self.tree, schema).fill_null(False)

    def holds(self, frame: pl.DataFrame) -> np.ndarray:
        """Return (rows,) bool: True where the condition holds."""
        return frame.select(self.compiled(frame.schema).alias("holds"))["holds"].to_numpy()

    def decides(self, frame: pl.DataFrame) -> np.ndarray:
        """Return (rows,) bool: True where the condition holds or does not, so is not undecided."""
        is_decided = self._expression(self.tree, frame.schema).is_not_null()
        return frame.select(is_decided.alias("decides"))["decides"].to_numpy()

    def refuse(self, problem: str, token: Token | None = None) -> NoReturn:
        """Raise DataError that quotes the condition and the place."""
        refuse(self.text, self.what, problem, token)

    def _expression(self, node: Tree, schema: Mapping[str, Kind]) -> pl.Expr:
        if isinstance(node, Test):
            return self._fact(node, schema)
        parts = [self._expression(part, schema) for part in node.parts]
        if node.word == "not":
            return ~parts[0]
        return pl.all_horizontal(parts) if node.word == "and" else pl.any_horizontal(parts)

    def _fact(self, test: Test, schema: Mapping[str, Kind]) -> pl.Expr:
        column, kind = self._column(test.column, schema)
        if test.sign == "missing":
            return column.is_null()
        if kind == pl.Null:  # a column that holds nothing at all
            return column.cast(pl.Boolean)
        if isinstance(kind, pl.List) or test.sign == "has":
            return self._list_fact(test, column, kind)
        name = _name(test.column)
        if test.sign == "":
            if kind != pl.Boolean:
                self.refuse(f"{name} is {_described(kind)}: compare it with something", test.column)
            return column
        if test.sign == "contains" and not _is_text(kind):
            self.refuse(f'"contains" is for texts; {name} is {_described(kind)}', test.column)
        column = column.cast(pl.String) if _is_text(kind) else column
        if test.other is not None:
            return COMPARE[test.sign](column, self._other_column(test, test.other, kind, schema))
        self._fits(test, kind)
        if test.sign == "contains":
            lower = pl.lit(test.values[0]).str.to_lowercase()
            return column.str.to_lowercase().str.contains(lower, literal=True)
        if test.sign == "in":
            return _among(column, kind, test.values)
        return COMPARE[test.sign](column, pl.lit(test.values[0]))

    def _list_fact(self, test: Test, column: pl.Expr, kind: Kind) -> pl.Expr:
        """Return a test of a column of lists. Raises DataError where only one of both is such."""
        if not isinstance(kind, pl.List) or test.sign != "has":
            name = _name(test.column)
            problem = "is not for columns of lists: write has"
            if test.sign == "has":
                problem = "is for columns of lists"
            self.refuse(
                f'"{test.sign or name}" {problem}; {name} is {_described(kind)}', test.column
            )
        if kind.inner == pl.Null:
            return column.list.len() < 0
        self._fits(test, kind.inner)
        among = _among(pl.element(), kind.inner, test.values).fill_null(False)
        return column.list.eval(among).list.any()

    def _other_column(
        self, test: Test, other: Token, kind: Kind, schema: Mapping[str, Kind]
    ) -> pl.Expr:
        """Return the column compared with. Raises DataError where it is of another type."""
        word = _name(other)
        if word not in schema:
            self.refuse(
                f'there is no column "{word}".{nearest(word, schema)} A text stands in'
                f" quotation marks: '{word}'",
                other,
            )
        column, other_kind = self._column(other, schema)
        if _group(other_kind) != _group(kind) or _group(kind) is None:
            self.refuse(
                f"{_name(test.column)} is {_described(kind)}, {other.text} is"
                f" {_described(other_kind)}",
                other,
            )
        return column.cast(pl.String) if _is_text(other_kind) else column

    def _column(self, token: Token, schema: Mapping[str, Kind]) -> tuple[pl.Expr, Kind]:
        name = _name(token)
        if name not in schema:
            self.refuse(f'there is no column "{name}".{nearest(name, schema)}', token)
        kind = schema[name]
        # NaN would be above every number
        column = pl.col(escaped(name))
        return (column.fill_nan(None) if kind.is_float() else column), kind

    def _fits(self, test: Test, kind: Kind) -> None:
        """Raise DataError for a value that the column's type cannot be compared with."""
        name = _name(test.column)
        for value in test.values:
            if _group(kind) != KINDS[type(value)]:
                self.refuse(
                    f"{name} is {_described(kind)}, {value!r} is {KINDS[type(value)]}"
                    f"{_remedy(name, kind, value)}",
                    test.column,
                )
            if test.sign in ORDERED and isinstance(value, str) and NUMBER.fullmatch(value):
                self.refuse(
                    f"{name} is a text, and letter by letter '9' comes after '12': import it as"
                    f" numbers (--types {name}=int) and write {value} without quotation marks",
                    test.column,
                )


def escaped(name: str) -> str:
    """Return a name that Polars reads as the column of that name, never as a pattern of names."""
    is_pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return f"^{re.escape(name)}$" if is_pattern else name


def _remedy(name: str, kind: Kind, value: Value) -> str:
    """Return how to mend a comparison of a text with a number, or the reverse."""
    if _is_text(kind) and not isinstance(value, str | bool):
        return f": import the column as numbers (--types {name}=int, or number)"
    if kind.is_numeric() and isinstance(value, str) and NUMBER.fullmatch(value):
        return f": write {value} without quotation marks"
    return ""


def _name(token: Token) -> str:
    return token.text.strip("`")


def _among(column: pl.Expr, kind: Kind, values: Sequence[Value]) -> pl.Expr:
    """Return where a column is one of some values."""
    if not kind.is_numeric():
        return (column.cast(pl.String) if _is_text(kind) else column).is_in(list(values))
    return pl.any_horizontal([column == pl.lit(value) for value in values])


def _group(kind: Kind) -> str | None:
    if kind.is_numeric():
        return "a number"
    if kind == pl.Boolean:
        return "true or false"
    return "a text" if _is_text(kind) else None


def _is_text(kind: Kind) -> bool:
    return kind in (pl.String, pl.Categorical, pl.Enum)


def _described(kind: Kind) -> str:
    return "a list" if kind == pl.List else _group(kind) or f"of the type {kind}"
