"""Studies: measurements over methods, and the reports that they return."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from tailor.core.methods import Method
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import plain
from tailor.errors import DataError
from tailor.ports.base import Port


@dataclass(frozen=True, eq=False)
class ReportTable:
    """A table of a report."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    """Strings and numbers; None: not known."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise DataError(
                    f'table "{self.title}": a row has {len(row)} cells for {len(self.columns)}'
                    f" columns: {row!r}"
                )


class StudyReport(ABC):
    """The result of a study: tables for readers, plain values for programs."""

    @abstractmethod
    def tables(self) -> list[ReportTable]:
        """Return the tables of the report, the most important first."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""

    def notes(self) -> list[str]:
        """Return sentences for readers of the tables: what was left out, what limits them."""
        return []

    def text(self) -> str:
        """Return the tables and notes as plain text."""
        parts = [_table_text(table) for table in self.tables()]
        return "\n\n".join([*parts, *self.notes()])


@dataclass(frozen=True, eq=False)
class TableReport(StudyReport):
    """A report that consists of tables, single figures and notes."""

    results: tuple[ReportTable, ...] = ()
    """The tables, the most important first."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Single figures by name."""
    remarks: tuple[str, ...] = ()
    """The notes."""

    def tables(self) -> list[ReportTable]:
        """Return the tables, and the single figures as the last one."""
        if not self.figures:
            return list(self.results)
        figures = ReportTable("figures", ("figure", "value"), tuple(self.figures.items()))
        return [*self.results, figures]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: every table as a list of rows by column."""
        tables = {
            table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for table in self.results
        }
        values: dict[str, Any] = plain(
            {"tables": tables, "figures": self.figures, "notes": list(self.remarks)}
        )
        return values

    def notes(self) -> list[str]:
        """Return the remarks."""
        return list(self.remarks)


R = TypeVar("R", bound=StudyReport)


class Study(ABC, Generic[R]):
    """A measurement over methods: a benchmark, an audit, an arena, an experiment.

    A dataclass, whose fields are the settings; `Study[MyReport]` returns a MyReport. The methods
    need not be recommenders: predictors, generators, agents and language models are measured too.
    """

    measures: ClassVar[tuple[type, ...]] = (Method, Port)
    """The classes of which a measured method must be one."""

    def run(self, data: Dataset, methods: Mapping[str, Any], run: Run = Run()) -> R:
        """Measure the methods, by name, on the data.

        Raises DataError for what is no data set, or a method of another kind than `measures`.
        """
        name = type(self).__name__
        if not isinstance(data, Dataset):
            raise DataError(f"{name} takes a data set, got {data!r}: write Dataset.open(folder)")
        if not isinstance(methods, Mapping):
            raise DataError(
                f'{name} takes methods by name, got {methods!r}: write {{"name": method}}'
            )
        for label, method in methods.items():
            if not isinstance(method, self.measures):
                kinds = " or ".join(kind.__name__ for kind in self.measures)
                raise DataError(f'{name}: "{label}" is {method!r}; it must be a {kinds}')
        return self._run(data, methods, run)

    @abstractmethod
    def _run(self, data: Dataset, methods: Mapping[str, Any], run: Run) -> R:
        """Measure; the arguments are checked."""


def _table_text(table: ReportTable) -> str:
    """Return a table with aligned columns."""
    cells = [table.columns, *(tuple(_cell(value) for value in row) for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    return "\n".join([table.title, *(_line(row, widths) for row in cells)])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
