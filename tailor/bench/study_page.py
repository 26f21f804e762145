"""Write the results of a search: the best pipeline, and a page with every trial."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tailor.bench.space import Dimension, apply_settings, short_names
from tailor.bench.study import Study, Trial
from tailor.core.search_space import Choices
from tailor.data.folders import replaced_by

# pixels of the plot of trials, and of its margins
WIDTH = 900
HEIGHT = 300
LEFT = 70
BOTTOM = 34
TOP = 14
RIGHT = 16
# pixels of a plot of one setting
SMALL_WIDTH = 290
SMALL_HEIGHT = 190
STYLE = """
:root { --ink: #1d2530; --soft: #66707c; --line: #d9dee4; --mark: #2463a8;
  --best: #c2410c; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #37404a;
  --mark: #7db3ee; --best: #fb923c; --paper: #14181d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 920px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.35rem } h2 { font-size: 1.05rem; margin-top: 2rem }
p.note, td.soft, caption { color: var(--soft) }
svg { max-width: 100%; height: auto }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.panels { display: flex; flex-wrap: wrap; gap: 10px }
.axis { stroke: var(--line) } .dot { fill: var(--mark) }
.whisker { stroke: var(--mark); opacity: .35 } .off { fill: none; stroke: var(--soft) }
.best { fill: var(--best) } .climb { fill: none; stroke: var(--best); stroke-width: 1.5 }
.written { stroke: var(--soft); stroke-dasharray: 4 4 }
table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line);
  vertical-align: top }
td.figure { text-align: right }
td.figure, td.mean { font-variant-numeric: tabular-nums; white-space: nowrap }
tr.first td { font-weight: 600 } .scroll { overflow-x: auto }
"""

Scale = Callable[[float], float]  # value -> pixel


def write_results(
    out: Path, description: Mapping[str, Any], space: Sequence[Dimension], study: Study
) -> None:
    """Write `best.toml` and `study.html` into the study's folder.

    Each is written under another name and then renamed, so no half-written file is ever seen.
    """
    for name, text in (
        ("best.toml", best_pipeline(description, space, study)),
        ("study.html", page(description, space, study)),
    ):
        with replaced_by(out / name) as aside:
            aside.write_text(text, encoding="utf-8")


def best_pipeline(description: Mapping[str, Any], space: Sequence[Dimension], study: Study) -> str:
    """Return the pipeline file with the best settings, and a comment on their origin."""
    import tomli_w

    best = study.best
    metric = study.about["metric"]
    comment = (
        f"# Found by `tailor tune`: trial {best.number} of {len(study.trials)}, seed"
        f" {study.about['seed']}, split {study.about['split']}.\n"
        f"# {metric} on validation: {best.figure}; as written: {study.trials[0].figure}.\n"
        "# The best of many trials looks better on validation than it is.\n"
    )
    pipeline = dict(description)
    if best.number:  # trial 0 is the pipeline as written
        pipeline = apply_settings(description, best.settings, space)
    return comment + tomli_w.dumps(pipeline)


def page(description: Mapping[str, Any], space: Sequence[Dimension], study: Study) -> str:
    """Return an HTML page: a plot of all trials, a plot per setting, a table."""
    names = short_names(description, space)
    panels = "".join(_panel(dimension, names[dimension.name], study) for dimension in space)
    body = f"""{_summary(study)}
<h2>Trials</h2>{_trials_plot(study)}
<h2>Settings</h2><p class="note">Dots: complete trials; orange: the best; dashed: as written.</p>
<div class="panels">{panels}</div>
<h2>Every trial</h2><div class="scroll">{_table(names, study)}</div>"""
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>Study</title><style>{STYLE}</style>\n{body}\n'
        "</html>\n"
    )


def _summary(study: Study) -> str:
    """Return a heading with the best figure, and two paragraphs about the search."""
    best = study.best
    header = study.about
    counts = []
    for state in ("complete", "pruned", "failed"):
        trials = study.of_state(state)
        if trials:
            counts.append(f"{len(trials)} {state}")
    screening = ""
    if header["screen"]:
        screening = f", settings screened on {header['screen']:.0%} of the users"
    return f"""<h1>{escape(header["metric"])} on validation: {best.figure}</h1>
<p>Trial {best.number} of {len(study.trials)} ({", ".join(counts)}). Trial 0, the pipeline as
written, has {study.trials[0].figure}. Seen items {escape(header["seen"])}, seed {header["seed"]},
split {escape(header["split"])}{screening}.</p>
<p class="note">In brackets: 95 % interval over users. The best of many trials looks better than it
is on the users that chose it. To know what it is worth, measure it on the test part, which a search
never reads.</p>"""


# ---- plots


def _scale(low: float, high: float, start: float, stop: float) -> Scale:
    """Return the linear function that maps [low, high] to [start, stop]."""
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from low to high, in at most `most` steps."""
    span = high - low
    smallest_step = (span or 1.0) / most
    magnitude = 10 ** math.floor(math.log10(smallest_step))
    round_steps = [magnitude * factor for factor in (1, 2, 5, 10)]
    step = next(size for size in round_steps if span / size <= most)
    first = math.ceil(low / step)
    last = math.floor(high / step)
    multiples = range(first, last + 1)
    return [round(step * multiple, 12) for multiple in multiples]


def _frame(width: int, height: int, low: float, high: float, y: Scale) -> str:
    """Return the horizontal axis, and a labelled line at every round figure."""
    right = width - RIGHT
    marks = []
    for tick in _ticks(low, high, 4):
        line_y = y(tick)
        marks.append(
            f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{line_y:.1f}" y2="{line_y:.1f}"/>'
        )
        marks.append(
            f'<text x="{LEFT - 6}" y="{line_y + 4:.1f}" text-anchor="end">{tick:.6g}</text>'
        )
    base = height - BOTTOM
    marks.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    return "".join(marks)


def _text(x: float, y: float, label: str) -> str:
    """Return a centred label."""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{escape(label)}</text>'


def _trials_plot(study: Study) -> str:
    """Plot the figure of every trial, and the best figure so far.

    A trial is a dot with its interval, or a circle at the bottom where it has no figure.
    The best so far is a line of steps.
    """
    complete = study.of_state("complete")
    low = min(trial.low or 0.0 for trial in complete)
    high = max(trial.high or 0.0 for trial in complete)
    last_number = max(len(study.trials) - 1, 1)
    x = _scale(0, last_number, LEFT + 12, WIDTH - RIGHT - 8)
    y = _scale(low, high, HEIGHT - BOTTOM - 16, TOP)
    written_y = y(study.trials[0].value or 0.0)
    marks = [
        _frame(WIDTH, HEIGHT, low, high, y),
        f'<line class="written" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{written_y:.1f}"'
        f' y2="{written_y:.1f}"/>',
    ]
    path = ""  # H: across to the trial; V: up to the best figure so far
    best = -math.inf
    for trial in study.trials:
        trial_x = x(trial.number)
        marks.append(_trial_mark(trial, trial_x, y, trial is study.best))
        if trial.value is not None:
            best = max(best, trial.value)
            move = f"H{trial_x:.1f}V" if path else f"M{trial_x:.1f} "
            path += f"{move}{y(best):.1f}"
    marks.append(f'<path class="climb" d="{path}H{WIDTH - RIGHT}"/>')
    # few trials have ticks such as 0.5, which number no trial
    numbers = [tick for tick in _ticks(0, last_number, 10) if tick == int(tick)]
    marks += [_text(x(number), HEIGHT - 14, f"{number:g}") for number in numbers]
    return _svg(WIDTH, HEIGHT, "best figure by trial", marks)


def _trial_mark(trial: Trial, x: float, y: Scale, is_best: bool) -> str:
    """Return a trial's dot with its interval; without a figure, a circle at the bottom."""
    if trial.value is None:
        return (
            f'<circle class="off" cx="{x:.1f}" cy="{HEIGHT - BOTTOM - 6}" r="3"><title>trial'
            f" {trial.number}: {trial.state} {escape(trial.reason)}</title></circle>"
        )
    interval = (
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{y(trial.low or 0.0):.1f}"'
        f' y2="{y(trial.high or 0.0):.1f}"/>'
    )
    label = f"trial {trial.number}: {trial.figure}"
    return interval + _dot(x, y(trial.value), 4 if is_best else 3, is_best, label)


def _dot(x: float, y: float, radius: float, is_best: bool, label: str) -> str:
    """Return a dot, whose label is shown under the pointer."""
    return (
        f'<circle class="{"best" if is_best else "dot"}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{label}</title></circle>"
    )


def _panel(dimension: Dimension, name: str, study: Study) -> str:
    """Plot the figures of the trials by the values of one setting."""
    complete = study.of_state("complete")
    low = min(trial.value or 0.0 for trial in complete)
    high = max(trial.value or 0.0 for trial in complete)
    y = _scale(low, high, SMALL_HEIGHT - BOTTOM - 8, TOP + 18)
    x, ticks = _setting_scale(dimension)
    marks = [
        _frame(SMALL_WIDTH, SMALL_HEIGHT, low, high, y),
        f'<text x="{LEFT}" y="{TOP}">{escape(name)}</text>',
        *(_text(tick_x, SMALL_HEIGHT - 14, label) for tick_x, label in ticks),
    ]
    # what is drawn last is on top: the best
    for trial in sorted(complete, key=lambda trial: trial is study.best):
        setting = trial.settings[dimension.name]
        setting_x = x(setting)
        if setting_x is None:
            continue
        if trial.number == 0:
            marks.append(
                f'<line class="written" x1="{setting_x:.1f}" x2="{setting_x:.1f}" y1="{TOP + 10}"'
                f' y2="{SMALL_HEIGHT - BOTTOM}"/>'
            )
        is_best = trial is study.best
        label = f"trial {trial.number}: {escape(str(setting))}, {trial.value:.4f}"
        marks.append(_dot(setting_x, y(trial.value or 0.0), 4 if is_best else 2.5, is_best, label))
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, name, marks)


def _setting_scale(
    dimension: Dimension,
) -> tuple[Callable[[Any], float | None], list[tuple[float, str]]]:
    """Return a function from values to pixels, and the ticks: pixel and label.

    The function returns None for a value outside the setting's domain.
    """
    left = LEFT + 10
    right = SMALL_WIDTH - RIGHT - 10
    domain = dimension.domain
    if isinstance(domain, Choices):
        values = domain.values
        choice_x = _scale(0, len(values) - 1, left + 14, right - 14)
        ticks = [(choice_x(i), _shorten(value)) for i, value in enumerate(values)]
        return (lambda value: choice_x(values.index(value)) if value in values else None), ticks
    low = domain.low
    high = domain.high
    transform = math.log if domain.log else float
    number_x = _scale(transform(low), transform(high), left, right)

    def x(value: Any) -> float | None:
        is_inside = isinstance(value, int | float) and low <= value <= high
        return number_x(transform(value)) if is_inside else None

    middle = math.sqrt(low * high) if domain.log else (low + high) / 2
    return x, [(number_x(transform(tick)), f"{tick:.3g}") for tick in (low, middle, high)]


def _shorten(value: Any) -> str:
    """Return a value as text of at most 12 characters."""
    text = str(value)
    return text if len(text) <= 12 else text[:11] + "…"


def _svg(width: int, height: int, label: str, marks: Sequence[str]) -> str:
    """Return an SVG image of the marks, in the order in which they are drawn."""
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
        f' aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )


# ---- table


def _table(names: Mapping[str, str], study: Study) -> str:
    """Return the table of all trials, best first, those without a figure last."""
    head = "".join(
        f"<th>{escape(name).replace('.', '.<wbr>')}</th>"
        for name in ("trial", study.about["metric"], "seconds", *names.values())
    )
    trials = sorted(
        study.trials,
        key=lambda trial: -math.inf if trial.value is None else trial.value,
        reverse=True,
    )
    rows = "".join(_table_row(trial, names, trial is study.best) for trial in trials)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _table_row(trial: Trial, names: Mapping[str, str], is_best: bool) -> str:
    """Return a row of a trial: number, figure or state, seconds, settings."""
    if trial.value is not None:
        outcome = trial.figure
        outcome_class = "mean"
    else:
        outcome = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
        outcome_class = "soft"
    cells = "".join(
        f'<td class="figure">{escape(_shorten(trial.settings[name]))}</td>' for name in names
    )
    return (
        f"<tr{' class=first' if is_best else ''}><td>{trial.number}</td>"
        f'<td class="{outcome_class}">{escape(outcome)}</td>'
        f'<td class="figure">{trial.seconds:.1f}</td>{cells}</tr>'
    )
