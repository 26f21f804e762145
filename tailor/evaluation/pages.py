"""A report as one page that needs nothing else: no script, no font, no picture from elsewhere;
plots are drawn into it.
"""

from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite

from tailor.evaluation.comparing import Comparison
from tailor.evaluation.diagnosis import Diagnosis
from tailor.evaluation.report import FEW, Report

WIDTH, NAMES, LINE = 760, 220, 24  # pixels of a plot, of the names beside it, and of a line
STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1d2430, #e4e7ec); --soft: light-dark(#6b7482, #98a1b0); --paper: light-dark(#fff, #14181f);
  --rule: light-dark(#dfe3e8, #2c333d); --mark: light-dark(#1f5fa8, #7fb2ee); --odd: light-dark(#a15c00, #e6b35c); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p, .soft { color: var(--soft); }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
svg { display: block; width: 100%; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); }
svg .rule { stroke: var(--rule); } svg .bar { stroke: var(--mark); stroke-width: 2; } svg .dot { fill: var(--mark); } .few { opacity: .45; } .wrong { color: var(--odd); }
"""


def page(
    report: Report,
    comparisons: Sequence[Comparison] = (),
    diagnosis: Diagnosis | None = None,
    title: str = "What was measured",
) -> str:
    """HTML of a report: means with intervals drawn and in a table, paired differences, strata (pale
    where below 30 users), floors and findings.
    """
    seen = next(iter(report.results))[1]
    parts = [
        f"<h1>{escape(title)}</h1>",
        (
            f"<p>{len(report.user_ids):,} users of the {escape(report.part)} part, split by"
            f" {escape(str(report.split['kind']))}, {escape(report.ranked)} ranked. Bars are 95 %"
            " bootstrap intervals over users.</p>"
        ),
    ]
    for metric in report.metrics:
        rows = [
            (method, report.mean(method, metric, how), *report.interval[method, how][metric])
            for method, how in report.results
            if how == seen
        ]
        parts += [f"<h2>{escape(metric)}, seen items {escape(seen)}</h2>", plot(rows)]
    parts += ["<h2>All figures</h2>", _figures(report)]
    if comparisons:
        rows = [(f"{c.b} - {c.a}, {c.metric}", c.difference, c.low, c.high) for c in comparisons]
        parts += ["<h2>Paired differences</h2>", plot(rows, zero=True), _differences(comparisons)]
    if report.strata:
        parts += [
            f"<h2>{escape(report.metrics[-1])} by kind of user and target</h2>",
            _strata(report, seen),
        ]
    if diagnosis is not None:
        parts += [
            "<h2>Floors of what understands nothing (HR@10)</h2>",
            plot([(one.name, one.hit, one.low, one.high) for one in diagnosis.floors]),
            _findings(diagnosis),
        ]
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def plot(rows: Sequence[tuple[str, float, float, float]], zero: bool = False) -> str:
    """An SVG of names, means and intervals, one line each, on an axis from 0 (or around it) to the
    largest value; undefined ones have no mark.
    """
    known = [value for _, *values in rows for value in values if isfinite(value)]
    low, high = min([0.0, *known]) if zero else 0.0, max([0.0, *known]) or 1.0
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(NAMES + (WIDTH - NAMES - 70) * (value - low) / span, 1)

    height = LINE * len(rows) + 24
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img">',
        f'<line class="rule" x1="{x(0)}" x2="{x(0)}" y1="0" y2="{height - 20}"/>',
    ]
    for at, (name, mean, left, right) in enumerate(rows):
        y = LINE * at + LINE // 2
        parts.append(
            f'<text x="{NAMES - 10}" y="{y + 4}"'
            f' text-anchor="end">{escape(name if len(name) < 34 else name[:32] + "…")}</text>'
        )
        if all(map(isfinite, (mean, left, right))):
            parts.append(
                f"<g><title>{escape(name)}: {mean:.4f} [{left:.4f}, {right:.4f}]</title>"
                f'<line class="bar" x1="{x(left)}" x2="{x(right)}" y1="{y}" y2="{y}"/><circle'
                f' class="dot" cx="{x(mean)}" cy="{y}" r="4"/></g>'
            )
            parts.append(
                f'<text class="soft" x="{x(max(right, mean)) + 8}" y="{y + 4}">{mean:.4f}</text>'
            )
    parts.append(
        f'<text class="soft" x="{x(low)}" y="{height - 4}">{low:.3g}</text><text class="soft"'
        f' x="{x(high)}" y="{height - 4}" text-anchor="end">{high:.3g}</text>'
    )
    return "\n".join([*parts, "</svg>"])


def _table(head: Iterable[str], rows: Iterable[tuple[Iterable[object], str]]) -> str:
    """Rows are cells and the class of the row."""
    lines = ["<table><tr>" + "".join(f"<th>{escape(one)}</th>" for one in head) + "</tr>"]
    for cells, kind in rows:
        lines.append(
            f'<tr class="{kind}">'
            + "".join(f"<td>{escape(_shown(cell))}</td>" for cell in cells)
            + "</tr>"
        )
    return "\n".join([*lines, "</table>"])


def _shown(cell: object) -> str:
    return (
        (f"{cell:.4f}" if isfinite(cell) else "not defined")
        if isinstance(cell, float)
        else str(cell)
    )


def _figures(report: Report) -> str:
    rows = []
    for (method, seen), result in report.results.items():
        means = [
            f"{_shown(report.mean(method, metric, seen))} [{low:.4f}, {high:.4f}]"
            for metric, (low, high) in report.interval[method, seen].items()
        ]
        rows.append(([method, seen, result.trained_on, *means, *result.lists.values()], ""))
    lists = list(next(iter(report.results.values())).lists)
    return _table(
        [
            "method",
            "seen",
            "trained on",
            *report.metrics,
            *(name.replace("_", " ") for name in lists),
        ],
        rows,
    )


def _differences(found: Sequence[Comparison]) -> str:
    return _table(
        [
            "difference",
            "seen",
            "metric",
            "mean",
            "p",
            "p (Holm)",
            "p (BH)",
            "won / lost",
            "verdict",
        ],
        [
            (
                [
                    f"{c.b} - {c.a}",
                    c.seen,
                    c.metric,
                    f"{c.difference:+.4f}",
                    c.p,
                    c.p_holm,
                    c.p_bh,
                    f"{c.wins} / {c.losses}",
                    (
                        "differs"
                        if c.is_significant
                        else (
                            f"none found; {c.detectable:.4f} would have been, in four of five cases"
                        )
                    ),
                ],
                "",
            )
            for c in found
        ],
    )


def _strata(report: Report, seen: str) -> str:
    metric, rows = report.metrics[-1], []
    for name, mask in report.strata.items():
        users = int(mask.sum())
        for method, how in report.results:
            if how == seen:
                low, high = report.strata_interval[method, how, name][metric]
                rows.append(
                    (
                        [
                            name,
                            users,
                            method,
                            report.mean(method, metric, how, name),
                            f"{low:.4f} to {high:.4f}",
                        ],
                        "few" if users < FEW else "",
                    )
                )
    return _table(["stratum", "users", "method", metric, "95 % interval"], rows)


def _findings(diagnosis: Diagnosis) -> str:
    facts = _table(
        ["figure", "value"],
        [
            ([name, "not known" if value is None else float(value)], "")
            for name, value in diagnosis.facts.items()
        ],
    )
    found = [
        ([("wrong" if one.wrong else "odd"), one.name, one.says], "wrong" if one.wrong else "")
        for one in diagnosis.findings
    ]
    return facts + (
        _table(["", "finding", "what was found"], found)
        if found
        else "<p>Nothing wrong or odd was found.</p>"
    )
