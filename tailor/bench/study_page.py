"""What a search leaves for people: the best pipeline as a file, and a page with every trial."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tailor.bench.space import Dimension, placed, short_names
from tailor.bench.study import Study
from tailor.core.search_space import Choices
from tailor.data.folders import replaced_by

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 900, 300, 70, 34, 14, 16
SMALL_WIDTH, SMALL_HEIGHT = 290, 190
STYLE = """
:root { --ink: #1d2530; --soft: #66707c; --line: #d9dee4; --mark: #2463a8; --best: #c2410c; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #37404a; --mark: #7db3ee; --best: #fb923c; --paper: #14181d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 920px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.35rem } h2 { font-size: 1.05rem; margin-top: 2rem } p.note, td.soft, caption { color: var(--soft) }
svg { max-width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--soft) } .panels { display: flex; flex-wrap: wrap; gap: 10px }
.axis { stroke: var(--line) } .dot { fill: var(--mark) } .whisker { stroke: var(--mark); opacity: .35 } .off { fill: none; stroke: var(--soft) }
.best { fill: var(--best) } .climb { fill: none; stroke: var(--best); stroke-width: 1.5 } .written { stroke: var(--soft); stroke-dasharray: 4 4 }
table { border-collapse: collapse; width: 100%; font-size: 13px } th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line);
vertical-align: top } td.figure { text-align: right } td.figure, td.mean { font-variant-numeric: tabular-nums; white-space: nowrap } tr.first td { font-weight: 600 } .scroll { overflow-x: auto }
"""


def write_results(
    out: Path, about: Mapping[str, Any], space: Sequence[Dimension], study: Study
) -> None:
    """Write `best.toml` and `study.html` into the study's folder, each aside and then renamed."""
    for name, text in (
        ("best.toml", best_pipeline(about, space, study)),
        ("study.html", page(about, space, study)),
    ):
        with replaced_by(out / name) as aside:
            aside.write_text(text, encoding="utf-8")


def best_pipeline(about: Mapping[str, Any], space: Sequence[Dimension], study: Study) -> str:
    """The pipeline file with the best settings, and where they come from."""
    import tomli_w

    best, metric = study.best, study.about["metric"]
    head = [
        (
            f"# Found by `tailor tune`: trial {best.number} of {len(study.trials)}, seed"
            f" {study.about['seed']}, split {study.about['split']}."
        ),
        (
            f"# {metric} on validation {best.figure}; as written {study.trials[0].figure}. The best"
            " of many tried is flattered by validation."
        ),
        "",
    ]
    return "\n".join(head) + tomli_w.dumps(
        placed(about, best.settings, space) if best.number else dict(about)
    )


def page(about: Mapping[str, Any], space: Sequence[Dimension], study: Study) -> str:
    """One HTML file without anything from elsewhere: the climb, one panel a setting, the table of
    trials.
    """
    names, best, said = short_names(about, space), study.best, study.about
    counts = ", ".join(
        f"{len(found)} {state}"
        for state in ("complete", "pruned", "failed")
        if (found := study.of_state(state))
    )
    panels = "".join(_panel(one, names[one.name], study) for one in space)
    screened = f", settings screened on {said['screen']:.0%} of the users" if said["screen"] else ""
    body = f"""<h1>{escape(said["metric"])} on validation: {best.figure}</h1>
<p>Trial {best.number} of {len(study.trials)} ({counts}); the pipeline as written, trial 0, has {study.trials[0].figure}. Seen items {escape(said["seen"])}, seed
{said["seed"]}, split {escape(said["split"])}{screened}.</p>
<p class="note">In brackets: 95 % interval over users. The best of many trials is flattered by the users it was chosen on; only the test part, which a search never looks at, says what it
is worth.</p>
<h2>Trials</h2>{_climb(study)}
<h2>Settings</h2><p class="note">Every complete trial; orange: the best; dashed: as written.</p><div class="panels">{panels}</div>
<h2>Every trial</h2><div class="scroll">{_table(names, study)}</div>"""
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>Study</title><style>{STYLE}</style>\n{body}\n</html>\n'
    )


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low or 1.0) / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    return [
        round(step * at, 12) for at in range(math.ceil(low / step), math.floor(high / step) + 1)
    ]


def _frame(width: int, height: int, low: float, high: float, y: Callable[[float], float]) -> str:
    """Axes, and lines at round figures."""
    lines = [
        f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT}" y1="{y(at):.1f}"'
        f' y2="{y(at):.1f}"/><text x="{LEFT - 6}" y="{y(at) + 4:.1f}"'
        f' text-anchor="end">{at:.6g}</text>'
        for at in _ticks(low, high, 4)
    ]
    floor = height - BOTTOM
    return (
        "".join(lines)
        + f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT}" y1="{floor}" y2="{floor}"/>'
    )


def _climb(study: Study) -> str:
    """Figure over trial: dots with intervals, the best so far as a line, given-up trials along the
    bottom.
    """
    complete = study.of_state("complete")
    low, high = min(one.low or 0.0 for one in complete), max(one.high or 0.0 for one in complete)
    x = _scale(0, max(len(study.trials) - 1, 1), LEFT + 12, WIDTH - RIGHT - 8)
    y = _scale(low, high, HEIGHT - BOTTOM - 16, TOP)
    marks, path, top = [_frame(WIDTH, HEIGHT, low, high, y)], "", -math.inf
    written = y(study.trials[0].value or 0.0)
    marks.append(
        f'<line class="written" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{written:.1f}"'
        f' y2="{written:.1f}"/>'
    )
    for one in study.trials:
        at = x(one.number)
        if one.value is None:
            marks.append(
                f'<circle class="off" cx="{at:.1f}" cy="{HEIGHT - BOTTOM - 6}" r="3"><title>trial'
                f" {one.number}: {one.state} {escape(one.reason)}</title></circle>"
            )
            continue
        kind = "best" if one is study.best else "dot"
        marks.append(
            f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{y(one.low or 0.0):.1f}"'
            f' y2="{y(one.high or 0.0):.1f}"/><circle class="{kind}" cx="{at:.1f}"'
            f' cy="{y(one.value):.1f}" r="{4 if kind == "best" else 3}"><title>trial {one.number}:'
            f" {one.figure}</title></circle>"
        )
        top = max(top, one.value)
        path += f"H{at:.1f}V{y(top):.1f}" if path else f"M{at:.1f} {y(top):.1f}"
    marks.append(f'<path class="climb" d="{path}H{WIDTH - RIGHT}"/>')
    marks += [
        f'<text x="{x(at):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{at:g}</text>'
        for at in _ticks(0, max(len(study.trials) - 1, 1), 10)
        if at == int(at)
    ]
    return _svg(WIDTH, HEIGHT, "best figure by trial", marks)


def _panel(one: Dimension, name: str, study: Study) -> str:
    """Figure over one setting."""
    complete = study.of_state("complete")
    low, high = (
        min(trial.value or 0.0 for trial in complete),
        max(trial.value or 0.0 for trial in complete),
    )
    y = _scale(low, high, SMALL_HEIGHT - BOTTOM - 8, TOP + 18)
    place, ticks = _places(one)
    marks = [
        _frame(SMALL_WIDTH, SMALL_HEIGHT, low, high, y),
        f'<text x="{LEFT}" y="{TOP}">{escape(name)}</text>',
    ]
    marks += [
        f'<text x="{at:.1f}" y="{SMALL_HEIGHT - 14}" text-anchor="middle">{escape(label)}</text>'
        for at, label in ticks
    ]
    for trial in sorted(complete, key=lambda trial: trial is study.best):
        at = place(trial.settings[one.name])
        if at is None:
            continue
        if trial.number == 0:
            marks.append(
                f'<line class="written" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP + 10}"'
                f' y2="{SMALL_HEIGHT - BOTTOM}"/>'
            )
        kind = "best" if trial is study.best else "dot"
        marks.append(
            f'<circle class="{kind}" cx="{at:.1f}" cy="{y(trial.value or 0.0):.1f}"'
            f' r="{4 if kind == "best" else 2.5}"><title>trial {trial.number}:'
            f" {escape(str(trial.settings[one.name]))}, {trial.value:.4f}</title></circle>"
        )
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, name, marks)


def _places(one: Dimension) -> tuple[Callable[[Any], float | None], list[tuple[float, str]]]:
    """Where a value stands along a panel (None: outside of what was searched), and what is written
    below.
    """
    left, right = LEFT + 10, SMALL_WIDTH - RIGHT - 10
    if isinstance(one.among, Choices):
        values = one.among.values
        x = _scale(0, len(values) - 1, left + 14, right - 14)
        return (lambda value: x(values.index(value)) if value in values else None), [
            (x(i), _short(value)) for i, value in enumerate(values)
        ]
    low, high = one.among.low, one.among.high
    scaled = math.log if one.among.log else float
    x = _scale(scaled(low), scaled(high), left, right)

    def place(value: Any) -> float | None:
        return x(scaled(value)) if isinstance(value, int | float) and low <= value <= high else None

    middle = math.sqrt(low * high) if one.among.log else (low + high) / 2
    return place, [(x(scaled(at)), f"{at:.3g}") for at in (low, middle, high)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 12 else text[:11] + "…"


def _svg(width: int, height: int, label: str, marks: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
        f' aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )


def _table(names: Mapping[str, str], study: Study) -> str:
    head = "".join(
        f"<th>{escape(name).replace('.', '.<wbr>')}</th>"
        for name in ("trial", study.about["metric"], "seconds", *names.values())
    )
    rows = []
    for one in sorted(
        study.trials, key=lambda one: -math.inf if one.value is None else one.value, reverse=True
    ):
        figure = (
            one.state + (f": {one.reason}" if one.reason else "")
            if one.value is None
            else one.figure
        )
        cells = "".join(
            f'<td class="figure">{escape(_short(one.settings[name]))}</td>' for name in names
        )
        rows.append(
            f"<tr{' class=first' if one is study.best else ''}><td>{one.number}</td><td"
            f' class="{"soft" if one.value is None else "mean"}">{escape(figure)}</td><td'
            f' class="figure">{one.seconds:.1f}</td>{cells}</tr>'
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
