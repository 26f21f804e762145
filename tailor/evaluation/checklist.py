"""Checklists: every row is a call that runs, and a figure with its interval and noise floor."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tailor.core.run import Run
from tailor.core.studies import ReportTable, StudyReport
from tailor.data.nouns import plain
from tailor.errors import DataError, TailorError
from tailor.evaluation.significance import bootstrap

DIGITS = 4
DRAWS = 2_000  # of the rows of a quantile
FIT = "tailor fit {} --split SPLIT --out MODEL"  # the command of a check's method
BEFORE, AFTER, GAIN = "before", "after", "gain"
ROUNDING = 1e-9  # of sums of the same numbers in another order
COLUMNS = (
    "check",
    "method",
    "metric",
    "value",
    "low",
    "high",
    "floor",
    "beyond floor",
    "floor is",
    "n",
    "seconds",
    "ask",
)


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval, beside the mean where nothing but chance differs."""

    value: float
    low: float
    high: float
    floor: float
    """The noise floor: the same measure where only chance differs."""
    floor_of: str
    """Words for the floor, such as "the same prompt again"."""
    is_beyond_floor: bool
    """Whether chance does not explain the distance from the floor."""
    n: int
    """Rows with a value: users, pairs, lists."""

    @classmethod
    def of(
        cls, values: np.ndarray, floor: np.ndarray | float, floor_of: str, seed: int = 0
    ) -> "Figure":
        """Return the mean of values (n,), NaN where undefined, and of their floor.

        A floor (n,) is paired with the values: rows are drawn together. Raises DataError where no
        row has a value and a floor.
        """
        values = np.asarray(values, dtype=np.float64)
        floors = np.broadcast_to(np.asarray(floor, dtype=np.float64), values.shape)
        is_defined = ~np.isnan(values) & ~np.isnan(floors)
        if not is_defined.any():
            raise DataError(
                f"none of {len(values)} rows has a value and a floor ({floor_of}): nothing could"
                " be measured"
            )
        values, floors = values[is_defined], floors[is_defined]
        low, high = bootstrap(np.stack([values, values - floors], axis=1), seed=seed)
        return cls(
            value=float(values.mean()),
            low=float(low[0]),
            high=float(high[0]),
            floor=float(floors.mean()),
            floor_of=floor_of,
            is_beyond_floor=bool(low[1] > ROUNDING or high[1] < -ROUNDING),
            n=len(values),
        )

    @classmethod
    def of_quantile(
        cls, values: np.ndarray, floor: np.ndarray, share: float, floor_of: str, seed: int = 0
    ) -> "Figure":
        """Return the quantile `share` of values (n,), and of their paired floor (n,).

        Rows are drawn together, as by `of`. Raises DataError without a row.
        """
        pairs = np.stack([values, floor], axis=1).astype(np.float64)
        if not len(pairs):
            raise DataError(f"no row has a value and a floor ({floor_of}): nothing was measured")
        rows = np.random.default_rng(seed).integers(len(pairs), size=(DRAWS, len(pairs)))
        drawn = np.quantile(pairs[rows], share, axis=1)  # DRAWS, 2
        low, high = np.quantile(drawn[:, 0], (0.025, 0.975))
        apart = np.quantile(drawn[:, 0] - drawn[:, 1], (0.025, 0.975))
        value, floor_value = np.quantile(pairs, share, axis=0)
        return cls(
            value=float(value),
            low=float(low),
            high=float(high),
            floor=float(floor_value),
            floor_of=floor_of,
            is_beyond_floor=bool(apart[0] > ROUNDING or apart[1] < -ROUNDING),
            n=len(pairs),
        )


@dataclass(frozen=True)
class Check:
    """A row of a checklist: what is checked, by which method and metric, and the call."""

    name: str
    """Capability, finding or trouble that is checked."""
    method: str
    """Method that does it."""
    metric: str
    """Measure of the figure, with its unit where it has one."""
    ask: str
    """Call or command by which a reader gets the same from their own data."""
    call: Callable[[], Figure]
    """Measures it; a TailorError leaves the row empty, with its message."""
    group: str = ""
    """Part of the checklist; empty: there is one part."""


class Sample(NamedTuple):
    """Values of requests, and the same where only chance differs."""

    values: np.ndarray
    """(n,)."""
    floor: np.ndarray | float
    """(n,) paired with the values, or one number for all."""
    floor_of: str
    """Words for the floor."""


@dataclass(frozen=True)
class BeforeAfter:
    """A measure before and after a remedy, on the same requests: three checks.

    The gain's floor is the gain of the remedy where only chance differs. For a loss, such as what
    noise costs, a gain is what is lost less, and its floor is that of both floors.
    """

    name: str
    """Trouble that is to be eased."""
    metric: str
    """Measure of all three checks."""
    methods: tuple[str, str]
    """Method before and after."""
    asks: tuple[str, str]
    """Call or command of each."""
    before: Callable[[], Sample]
    after: Callable[[], Sample]
    group: str = ""
    """Part of the checklist."""
    is_loss: bool = False
    """Whether the measure is better where it is lower."""
    stages: tuple[str, ...] = (BEFORE, AFTER, GAIN)
    """Checks to be made; another comparison may have the same before."""
    seed: int = 0
    """Random state of the intervals."""

    @cached_property
    def sample_before(self) -> Sample:
        """Measured once."""
        return self.before()

    @cached_property
    def sample_after(self) -> Sample:
        """Measured once."""
        return self.after()

    def checks(self) -> list[Check]:
        """Return the checks "NAME: before", "NAME: after" and "NAME: gain", those of `stages`."""
        old, new = self.methods
        rows = (
            (BEFORE, old, self.asks[0], lambda: Figure.of(*self.sample_before, self.seed)),
            (AFTER, new, self.asks[1], lambda: Figure.of(*self.sample_after, self.seed)),
            (GAIN, f"{new}, not {old}", self.asks[1], self._gain),
        )
        return [
            Check(f"{self.name}: {stage}", method, self.metric, ask, call, self.group)
            for stage, method, ask, call in rows
            if stage in self.stages
        ]

    def _gain(self) -> Figure:
        before, after = self.sample_before, self.sample_after
        if self.is_loss:
            gain, floor = before.values - after.values, np.subtract(before.floor, after.floor)
        else:
            gain, floor = after.values - before.values, after.floor - before.values
        return Figure.of(gain, floor, after.floor_of, self.seed)


@dataclass(frozen=True)
class CheckResult:
    """A check that was run: its figure, or the reason why there is none."""

    check: Check
    figure: Figure | None
    """None: nothing could be measured."""
    seconds: float
    """Seconds of the wall clock, since a language model may be elsewhere."""
    processor_seconds: float
    """Seconds of this process's processors, which other work on the machine lengthens little."""
    reason: str = ""
    """Why there is no figure."""

    @property
    def row(self) -> tuple[Any, ...]:
        """The cells of `COLUMNS`."""
        check, figure = self.check, self.figure
        first = (check.name, check.method, check.metric)
        last = (round(self.seconds, 2), check.ask)
        if figure is None:
            return (*first, *[None] * 7, *last)
        numbers = (figure.value, figure.low, figure.high, figure.floor)
        is_beyond = "yes" if figure.is_beyond_floor else "no"
        rounded = (round(number, DIGITS) for number in numbers)
        return (*first, *rounded, is_beyond, figure.floor_of, figure.n, *last)


@dataclass(frozen=True, eq=False)
class Checklist(StudyReport):
    """Results of a checklist, a table per group, and tables of details behind them."""

    title: str
    results: tuple[CheckResult, ...]
    """The checks in order."""
    details: tuple[ReportTable, ...] = ()
    """Tables of what is behind the figures."""
    remarks: tuple[str, ...] = ()
    """Sentences for readers."""

    @property
    def is_complete(self) -> bool:
        """True if every check has a figure."""
        return all(result.figure is not None for result in self.results)

    def figure(self, name: str) -> Figure:
        """Return the figure of a check; DataError where there is none."""
        for result in self.results:
            if result.check.name == name and result.figure is not None:
                return result.figure
        names = [result.check.name for result in self.results if result.figure is not None]
        raise DataError(f'no figure of "{name}": there are {names}')

    def tables(self) -> list[ReportTable]:
        """Return a table per group of checks, then the details."""
        groups = dict.fromkeys(result.check.group for result in self.results)
        tables = [
            ReportTable(
                f"{self.title}: {group}" if group else self.title,
                COLUMNS,
                tuple(result.row for result in self.results if result.check.group == group),
            )
            for group in groups
        ]
        return [*tables, *self.details]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: a row per check, then the tables of details."""
        rows = [
            {
                "group": result.check.group,
                **dict(zip(COLUMNS, result.row, strict=True)),
                "reason": result.reason,
            }
            for result in self.results
        ]
        details = {
            table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for table in self.details
        }
        content = {
            "title": self.title,
            "complete": self.is_complete,
            "checks": rows,
            "details": details,
            "notes": self.notes(),
        }
        values: dict[str, Any] = plain(content)
        return values

    def notes(self) -> list[str]:
        """Return why checks have no figure, and the remarks."""
        missing = [
            f"{result.check.name}: not measured. {result.reason}"
            for result in self.results
            if result.figure is None
        ]
        return [*missing, *self.remarks]


def run_checks(checks: Sequence[Check], run: Run, title: str) -> Checklist:
    """Run all checks in order, and return their figures.

    Raises DataError for an empty list, a check with an empty cell, and two checks that have the
    same name, or the same method, metric and call: one thing counts once.
    """
    _refuse_empty(checks, title)
    _refuse_repeats(checks, title)
    results = tuple(_run_check(check) for check in run.progress(checks, title, len(checks)))
    return Checklist(title, results)


def _refuse_empty(checks: Sequence[Check], title: str) -> None:
    if not checks:
        raise DataError(f'checklist "{title}" has no check: give at least one')
    for check in checks:
        for cell in ("name", "method", "metric", "ask"):
            if not getattr(check, cell).strip():
                raise DataError(f'checklist "{title}": check {check.name!r} has no {cell}')


def _refuse_repeats(checks: Sequence[Check], title: str) -> None:
    names = Counter(check.name for check in checks)
    contents = Counter((check.method, check.metric, check.ask) for check in checks)
    for check in checks:
        content = (check.method, check.metric, check.ask)
        if names[check.name] > 1 or contents[content] > 1:
            raise DataError(
                f'checklist "{title}": check {check.name!r} is there twice, by name or by method,'
                " metric and call: count one thing once"
            )


def _run_check(check: Check) -> CheckResult:
    start_s = time.perf_counter()
    start_processor_s = time.process_time()
    figure, reason = None, ""
    try:
        figure, reason = _finite(check.call())
    except TailorError as error:
        reason = str(error)
    seconds = time.perf_counter() - start_s
    processor_seconds = time.process_time() - start_processor_s
    return CheckResult(check, figure, seconds, processor_seconds, reason)


def _finite(figure: Figure) -> tuple[Figure | None, str]:
    """Return a figure that is a number, or none and the reason."""
    if np.isfinite([figure.value, figure.floor]).all():
        return figure, ""
    return None, f"the figure is {figure.value}, its floor {figure.floor}"
