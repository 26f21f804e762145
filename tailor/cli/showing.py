"""What commands print: tables on standard output, or JSON."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailor.cli.plain import shown
from tailor.evaluation.comparing import Repeated
from tailor.evaluation.diagnosis import Diagnosis
from tailor.evaluation.protocol import Comparison, Report

MOST_WITH_INTERVALS = 3  # metrics of a leaderboard that fit into a line with their intervals
# columns of a table of figures, where it is no terminal: two metrics fit into 100, and more must
# not be torn
FIGURES = 160
COMMAND = re.compile(r"(Next: |Back again: | +)tailor ")


def console(width: int = 100) -> Console:
    """Standard output; so wide where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=width)


def say(*lines: str) -> None:
    """One line each, broken between words where too long; commands never are, so that they can be
    copied.
    """
    for line in lines:
        console().print(
            shown(line), markup=False, highlight=False, soft_wrap=COMMAND.match(line) is not None
        )


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str | None = None,
    width: int = 100,
) -> None:
    """Text columns to the left, the rest to the right."""
    made = Table(
        title=None if title is None else Text(shown(title), style="table.title"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        numeric = bool(rows) and not isinstance(rows[0][i], str)
        made.add_column(
            Text(shown(column)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        cells = (
            one if isinstance(one, str) else f"{one:.4f}" if isinstance(one, float) else str(one)
            for one in row
        )
        made.add_row(*(Text(shown(one)) for one in cells))  # as Text, brackets are no markup
    console(width).print(made)


def show_report(report: Report, comparisons: Sequence[Comparison] = ()) -> None:
    """The table of a report: each method with and without seen items, mean and 95 % interval, then
    the paired tests.
    """
    parts = {result.trained_on for result in report.results.values()}
    same = f", trained on {parts.pop()}" if len(parts) == 1 else ""  # else a column says it
    say(
        f"{len(report.user_ids)} users of the {report.part} part, split by {report.split['kind']},"
        f" {report.ranked} ranked{same}; {report.repeat_targets:.1%} of the targets are items the"
        " user had before. [95 % interval over users]"
    )
    if report.ranked != "the whole catalogue":
        say(
            f"These figures are over candidates, of whom {report.reachable:.1%} hold the target;"
            " they are not those of full ranking."
        )
    rows = []
    for (method, seen), result in report.results.items():
        cells = [
            f"{report.mean(method, metric, seen):.4f} [{low:.4f} {high:.4f}]"
            for metric, (low, high) in report.interval[method, seen].items()
        ]
        rows.append(
            [
                method,
                seen,
                *([] if same else [result.trained_on]),
                *cells,
                f"{result.lists['coverage']:.1%}",
                f"{result.seconds:.2f}",
            ]
        )
    table(
        [
            "method",
            "seen",
            *([] if same else ["trained on"]),
            *report.metrics,
            "coverage",
            "seconds",
        ],
        rows,
        width=FIGURES,
    )
    show_comparisons(comparisons)


def show_comparisons(comparisons: Sequence[Comparison]) -> None:
    if comparisons:
        rows = [
            [
                f"{c.b} - {c.a}",
                c.seen,
                c.metric,
                f"{c.difference:+.4f} [{c.low:+.4f} {c.high:+.4f}]",
                f"{c.p_holm:.4f}",
                f"{c.wins}/{c.losses}",
                _verdict(c),
            ]
            for c in comparisons
        ]
        table(
            ["paired difference", "seen", "metric", "mean", "p (Holm)", "won/lost", "significant"],
            rows,
            width=FIGURES,
        )


def _verdict(found: Comparison) -> str:
    """No difference found is not no difference: beside it stands what would have been found in four
    of five cases.
    """
    if found.is_significant:
        return "yes"
    return "no" if not found.detectable > 0 else f"no (finds {found.detectable:.4f})"


def show_diagnosis(found: Diagnosis) -> None:
    """The figures, the floors that any method must pass, and what is wrong or odd."""
    rows = [
        [
            name,
            (
                "not known"
                if value is None
                else f"{value:,.0f}"
                if float(value).is_integer() and value >= 1
                else f"{value:.4f}"
            ),
        ]
        for name, value in found.facts.items()
    ]
    table(["", found.name], rows)
    cells = [
        [
            floor.name,
            f"{floor.hit:.4f}"
            + (f" [{floor.low:.4f} {floor.high:.4f}]" if floor.high > floor.low else ""),
            floor.ndcg,
        ]
        for floor in found.floors
    ]
    users = (
        f"{found.floors[0].users:,} users of the {found.part} part" if found.floors else "nobody"
    )
    table(
        ["what understands nothing reaches", "HR@10 [95 %]", "NDCG@10"],
        cells,
        title=f"Floors: {users}, whole catalogue, seen items removed",
    )
    for one in found.findings:
        say(
            f"{'WRONG' if one.wrong else 'odd  '}  {one.name}: {one.says}",
            f"         -> {one.remedy}",
        )
    say(
        f"{len(found.wrong)} wrong, {len(found.findings) - len(found.wrong)} odd, in"
        f" {found.seconds:.1f} s"
    )


def _cell(row: Repeated, interval: bool) -> str:
    spread = f" ±{row.deviation:.4f}" if len(row.means) > 1 else ""
    return f"{row.mean:.4f}{spread}" + (f" [{row.low:.4f} {row.high:.4f}]" if interval else "")


def show_board(
    title: str, rows: Sequence[Repeated], failed: Sequence[str], tests: Sequence[Comparison]
) -> None:
    """A leaderboard: one line a method and treatment of seen items, best first by the last metric,
    then the paired tests.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    by_key = {(row.method, row.seen, row.metric): row for row in rows}
    keys = sorted(
        {(row.method, row.seen) for row in rows},
        key=lambda key: (key[1] != "removed", -by_key[(*key, metrics[-1])].mean),
    )
    short = len(metrics) <= MOST_WITH_INTERVALS
    lines = []
    for method, seen in keys:
        found = [by_key[method, seen, metric] for metric in metrics]
        lines.append(
            [method, seen, str(len(found[0].means)), *(_cell(row, short) for row in found)]
        )
    told = "95 % interval over users and random states" if short else "intervals: --json"
    table(
        ["method", "seen", "seeds", *metrics],
        lines,
        title=f"{title}. [{told}; ± between random states]",
        width=FIGURES,
    )
    show_comparisons(tests)
    say(*failed)
