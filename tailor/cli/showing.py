"""Output of commands: tables on standard output, or JSON."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailor.cli.plain import printable
from tailor.evaluation.comparing import Repeated
from tailor.evaluation.diagnosis import Diagnosis
from tailor.evaluation.protocol import Comparison, Report

MAX_INTERVAL_METRICS = 3  # metrics of a leaderboard that fit into a line with their intervals
WIDTH = 100  # columns of output that goes to no terminal
WIDE = 160  # the same for tables of figures: two metrics fit into 100, more must not be torn
COMMAND = re.compile(r"(Next: |Back again: | +)tailor ")


def console(width: int = WIDTH) -> Console:
    """Return a console on standard output, of this width where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=width)


def say(*lines: str) -> None:
    """Print lines, broken between words where too long; commands stay whole, to be copied."""
    for line in lines:
        is_command = COMMAND.match(line) is not None
        console().print(printable(line), markup=False, highlight=False, soft_wrap=is_command)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str | None = None,
    width: int = WIDTH,
) -> None:
    """Print a table: columns of texts to the left, of other values to the right."""
    grid = Table(
        title=None if title is None else Text(printable(title), style="table.title"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for position, column in enumerate(columns):
        is_text = not rows or isinstance(rows[0][position], str)
        grid.add_column(
            Text(printable(column)), justify="left" if is_text else "right", overflow="fold"
        )
    for row in rows:
        # as Text, brackets are no markup
        grid.add_row(*(Text(printable(_cell_text(value))) for value in row))
    console(width).print(grid)


def _cell_text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def show_report(report: Report, comparisons: Sequence[Comparison] = ()) -> None:
    """Print a report: each method with seen items removed and kept, mean and 95 % interval.

    The paired tests follow.
    """
    parts = {result.trained_on for result in report.results.values()}
    # where methods were trained on different parts, a column says so
    trained_on = f", trained on {parts.pop()}" if len(parts) == 1 else ""
    say(
        f"{len(report.user_ids)} users of the {report.part} part, split by {report.split['kind']},"
        f" {report.ranked} ranked{trained_on}; {report.repeat_targets:.1%} of the targets are items"
        " the user had before. [95 % interval over users]"
    )
    if report.ranked != "the whole catalogue":
        say(
            f"These figures are over candidates, of whom {report.reachable:.1%} hold the target;"
            " they are not those of full ranking."
        )
    _show_means(report, with_part=not trained_on)
    show_comparisons(comparisons)


def _show_means(report: Report, with_part: bool) -> None:
    """Print the means of a report, perhaps with the part that each method was trained on."""
    rows = []
    for (method, seen), result in report.results.items():
        cells = [
            f"{report.mean(method, metric, seen):.4f} [{low:.4f} {high:.4f}]"
            for metric, (low, high) in report.interval[method, seen].items()
        ]
        part = [result.trained_on] if with_part else []
        coverage = f"{result.lists['coverage']:.1%}"
        rows.append([method, seen, *part, *cells, coverage, f"{result.seconds:.2f}"])
    part_column = ["trained on"] if with_part else []
    columns = ["method", "seen", *part_column, *report.metrics, "coverage", "seconds"]
    table(columns, rows, width=WIDE)


def show_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print paired tests; nothing without any."""
    if not comparisons:
        return
    rows = [
        [
            f"{test.b} - {test.a}",
            test.seen,
            test.metric,
            f"{test.difference:+.4f} [{test.low:+.4f} {test.high:+.4f}]",
            f"{test.p_holm:.4f}",
            f"{test.wins}/{test.losses}",
            _verdict(test),
        ]
        for test in comparisons
    ]
    columns = ["paired difference", "seen", "metric", "mean", "p (Holm)", "won/lost", "significant"]
    table(columns, rows, width=WIDE)


def _verdict(test: Comparison) -> str:
    """Return "yes", or "no" and the difference that four of five such tests would find."""
    if test.is_significant:
        return "yes"
    return f"no (finds {test.detectable:.4f})" if test.detectable > 0 else "no"


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a data set's figures, the floors that any method must pass, and its problems."""
    facts = [[name, _fact_text(value)] for name, value in diagnosis.facts.items()]
    table(["", diagnosis.name], facts)
    _show_floors(diagnosis)
    for finding in diagnosis.findings:
        level = "WRONG" if finding.wrong else "odd  "
        say(f"{level}  {finding.name}: {finding.says}", f"         -> {finding.remedy}")
    wrong_count = len(diagnosis.wrong)
    say(
        f"{wrong_count} wrong, {len(diagnosis.findings) - wrong_count} odd, in"
        f" {diagnosis.seconds:.1f} s"
    )


def _show_floors(diagnosis: Diagnosis) -> None:
    """Print what methods reach that understand nothing."""
    cells = []
    for floor in diagnosis.floors:
        interval = f" [{floor.low:.4f} {floor.high:.4f}]" if floor.high > floor.low else ""
        cells.append([floor.name, f"{floor.hit:.4f}{interval}", floor.ndcg])
    users = "nobody"
    if diagnosis.floors:
        users = f"{diagnosis.floors[0].users:,} users of the {diagnosis.part} part"
    table(
        ["what understands nothing reaches", "HR@10 [95 %]", "NDCG@10"],
        cells,
        title=f"Floors: {users}, whole catalogue, seen items removed",
    )


def _fact_text(value: float | None) -> str:
    if value is None:
        return "not known"
    is_count = float(value).is_integer() and value >= 1
    return f"{value:,.0f}" if is_count else f"{value:.4f}"


def show_board(
    title: str, rows: Sequence[Repeated], failed: Sequence[str], tests: Sequence[Comparison]
) -> None:
    """Print a leaderboard: one line a method and treatment of seen items, best first.

    Methods are ordered by the last metric; the paired tests follow.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    by_key = {(row.method, row.seen, row.metric): row for row in rows}
    keys = sorted(
        {(row.method, row.seen) for row in rows},
        key=lambda key: (key[1] != "removed", -by_key[(*key, metrics[-1])].mean),
    )
    with_intervals = len(metrics) <= MAX_INTERVAL_METRICS
    lines = []
    for method, seen in keys:
        figures = [by_key[method, seen, metric] for metric in metrics]
        cells = [_mean_text(figure, with_intervals) for figure in figures]
        lines.append([method, seen, str(len(figures[0].means)), *cells])
    legend = "95 % interval over users and random states" if with_intervals else "intervals: --json"
    table(
        ["method", "seen", "seeds", *metrics],
        lines,
        title=f"{title}. [{legend}; ± between random states]",
        width=WIDE,
    )
    show_comparisons(tests)
    say(*failed)


def _mean_text(row: Repeated, with_interval: bool) -> str:
    spread = f" ±{row.deviation:.4f}" if len(row.means) > 1 else ""
    interval = f" [{row.low:.4f} {row.high:.4f}]" if with_interval else ""
    return f"{row.mean:.4f}{spread}{interval}"
