"""Write a report as one HTML page with plots, without scripts, fonts or files from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite

from tailor.evaluation.comparing import Comparison
from tailor.evaluation.diagnosis import Diagnosis
from tailor.evaluation.report import FEW, Report

WIDTH = 760  # pixels of a plot
NAMES = 220  # pixels of the names beside it
LINE = 24  # pixels of a line
LONGEST = 33  # characters of a name
STYLE = """
:root { color-scheme: light dark;
  --ink: light-dark(#1d2430, #e4e7ec); --soft: light-dark(#6b7482, #98a1b0);
  --paper: light-dark(#fff, #14181f); --rule: light-dark(#dfe3e8, #2c333d);
  --mark: light-dark(#1f5fa8, #7fb2ee); --odd: light-dark(#a15c00, #e6b35c); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p, .soft { color: var(--soft); }
table { border-collapse: collapse; display: block; overflow-x: auto;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); }
svg .rule { stroke: var(--rule); } svg .bar { stroke: var(--mark); stroke-width: 2; }
svg .dot { fill: var(--mark); } .few { opacity: .45; } .wrong { color: var(--odd); }
"""

Row = tuple[str, float, float, float]  # name, mean, low, high
TableRow = tuple[Iterable[object], str]  # cells and the class of the row


def page(
    report: Report,
    comparisons: Sequence[Comparison] = (),
    diagnosis: Diagnosis | None = None,
    title: str = "What was measured",
    sections: Sequence[str] = (),
) -> str:
    """Return the HTML of a report, its comparisons and a diagnosis.

    Means with intervals are drawn and in a table; paired differences, strata (pale below 30 users),
    shortcuts and findings follow, then `sections` of HTML.
    """
    seen = report.treatments[0]
    parts = [f"<h1>{escape(title)}</h1>", _summary(report), *_metric_plots(report, seen)]
    parts += ["<h2>All figures</h2>", _figures_table(report)]
    if comparisons:
        rows = [
            (f"{c.b} - {c.a}, {c.metric}, {c.seen}", c.difference, c.low, c.high)
            for c in comparisons
        ]
        parts.append("<h2>Paired differences</h2>")
        parts += [plot(rows, zero=True), _comparisons_table(comparisons)]
    if report.strata:
        parts.append(f"<h2>{escape(report.metrics[-1])} by kind of user and target</h2>")
        parts.append(_strata_table(report, seen))
    if diagnosis is not None:
        rows = [(floor.name, floor.hit, floor.low, floor.high) for floor in diagnosis.floors]
        parts.append("<h2>Floors of what understands nothing (HR@10)</h2>")
        parts += [plot(rows), _diagnosis_tables(diagnosis)]
    parts += sections
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _summary(report: Report) -> str:
    """Return a paragraph on users, split and ranked items."""
    return (
        f"<p>{len(report.user_ids):,} users of the {escape(report.part)} part, split by"
        f" {escape(str(report.split['kind']))}, over {escape(report.ranked)}. Bars are 95 %"
        " bootstrap intervals over users.</p>"
    )


def _metric_plots(report: Report, seen: str) -> list[str]:
    """Return a heading and a plot per metric, for one treatment of seen items."""
    parts = []
    for metric in report.metrics:
        rows = [
            (method, report.mean(method, metric, seen), *report.interval[method, seen][metric])
            for method, treatment in report.results
            if treatment == seen
        ]
        parts += [f"<h2>{escape(metric)}, seen items {escape(seen)}</h2>", plot(rows)]
    return parts


def plot(rows: Sequence[Row], zero: bool = False) -> str:
    """Return an SVG of names, means and intervals, one line each.

    The axis goes from 0 to the largest value, or also below 0 with `zero`. Undefined values have no
    mark.
    """
    finite = [value for _, *values in rows for value in values if isfinite(value)]
    low = min([0.0, *finite]) if zero else 0.0
    high = max([0.0, *finite]) or 1.0
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(NAMES + (WIDTH - NAMES - 70) * (value - low) / span, 1)

    height = LINE * len(rows) + 24
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img">',
        f'<line class="rule" x1="{x(0)}" x2="{x(0)}" y1="0" y2="{height - 20}"/>',
    ]
    for i, (name, mean, left, right) in enumerate(rows):
        y = LINE * i + LINE // 2
        label = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
        parts.append(f'<text x="{NAMES - 10}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        if all(map(isfinite, (mean, left, right))):
            parts += [
                f"<g><title>{escape(name)}: {mean:.4f} [{left:.4f}, {right:.4f}]</title>"
                f'<line class="bar" x1="{x(left)}" x2="{x(right)}" y1="{y}" y2="{y}"/><circle'
                f' class="dot" cx="{x(mean)}" cy="{y}" r="4"/></g>',
                f'<text class="soft" x="{x(max(right, mean)) + 8}" y="{y + 4}">{mean:.4f}</text>',
            ]
    parts.append(
        f'<text class="soft" x="{x(low)}" y="{height - 4}">{low:.3g}</text><text class="soft"'
        f' x="{x(high)}" y="{height - 4}" text-anchor="end">{high:.3g}</text>'
    )
    return "\n".join([*parts, "</svg>"])


def _table(head: Iterable[str], rows: Iterable[TableRow]) -> str:
    """Return an HTML table."""
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<table><tr>{header}</tr>"]
    for cells, row_class in rows:
        columns = "".join(f"<td>{escape(_cell_text(cell))}</td>" for cell in cells)
        lines.append(f'<tr class="{row_class}">{columns}</tr>')
    return "\n".join([*lines, "</table>"])


def _cell_text(cell: object) -> str:
    """Return a cell as text, numbers with four decimals."""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.4f}" if isfinite(cell) else "not defined"


def _figures_table(report: Report) -> str:
    """Return the table of all means, with the figures of the lists."""
    list_figures = list(next(iter(report.results.values())).lists)
    rows: list[TableRow] = []
    for (method, seen), result in report.results.items():
        means = [
            f"{_cell_text(report.mean(method, metric, seen))} [{low:.4f}, {high:.4f}]"
            for metric, (low, high) in report.interval[method, seen].items()
        ]
        rows.append(([method, seen, result.trained_on, *means, *result.lists.values()], ""))
    names = [name.replace("_", " ") for name in list_figures]
    return _table(["method", "seen", "trained on", *report.metrics, *names], rows)


def _comparisons_table(comparisons: Sequence[Comparison]) -> str:
    """Return the table of paired differences."""
    head = [
        "difference",
        "seen",
        "metric",
        "mean",
        "p",
        "p (Holm)",
        "p (BH)",
        "won / lost",
        "verdict",
    ]
    rows: list[TableRow] = []
    for c in comparisons:
        verdict = f"none found; {c.detectable:.4f} would have been, in four of five cases"
        cells = [
            f"{c.b} - {c.a}",
            c.seen,
            c.metric,
            f"{c.difference:+.4f}",
            c.p,
            c.p_holm,
            c.p_bh,
            f"{c.wins} / {c.losses}",
            "differs" if c.is_significant else verdict,
        ]
        rows.append((cells, ""))
    return _table(head, rows)


def _strata_table(report: Report, seen: str) -> str:
    """Return the last metric by stratum and method, for one treatment of seen items."""
    metric = report.metrics[-1]
    rows: list[TableRow] = []
    for name, mask in report.strata.items():
        users = int(mask.sum())
        for method, treatment in report.results:
            if treatment != seen:
                continue
            low, high = report.strata_interval[method, seen, name][metric]
            mean = report.mean(method, metric, seen, name)
            cells = [name, users, method, mean, f"{low:.4f} to {high:.4f}"]
            rows.append((cells, "few" if users < FEW else ""))
    return _table(["stratum", "users", "method", metric, "95 % interval"], rows)


def _diagnosis_tables(diagnosis: Diagnosis) -> str:
    """Return the tables of figures and of findings."""
    facts: list[TableRow] = [
        ([name, "not known" if value is None else float(value)], "")
        for name, value in diagnosis.facts.items()
    ]
    html = _table(["figure", "value"], facts)
    if not diagnosis.findings:
        return html + "<p>Nothing wrong or odd was found.</p>"
    findings: list[TableRow] = []
    for finding in diagnosis.findings:
        kind = "wrong" if finding.wrong else "odd"
        findings.append(([kind, finding.name, finding.says], "wrong" if finding.wrong else ""))
    return html + _table(["", "finding", "what was found"], findings)
