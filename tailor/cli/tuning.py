"""`tailor tune`: search settings, and show the trials."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailor.bench.space import short_names
from tailor.bench.space import space_of as search_space
from tailor.bench.study import Study, Trial
from tailor.bench.tune import Search
from tailor.bench.tune import tune as search_settings
from tailor.cli.fitting import described
from tailor.cli.plain import printable
from tailor.cli.showing import print_json, say, table
from tailor.core.run import Run
from tailor.data.splits import Split

MOST_TRIALS = 5  # rows of the table
EDGE_SHARE = 0.02  # of a range, within which a value counts as at its end


def tune_command(
    pipeline: str,
    split: Path,
    out: Path,
    search: Search,
    data_folder: Path | None,
    run: Run,
    json: bool,
) -> None:
    """Search the settings of a pipeline; see `tailor tune --help`."""
    described_pipeline = described(pipeline)
    names = short_names(described_pipeline, search_space(described_pipeline))
    cut = Split.open(split, data_folder)
    studies: list[Study] = []  # the study after each trial
    report_trial = _reporter(search.minutes, studies)
    try:
        study = search_settings(described_pipeline, cut, out, search, run, report_trial)
    except BaseException:  # also Ctrl-C
        if studies:
            _print_line(
                f"{out}/best.toml holds the best of {len(studies[-1].trials)} trials; the same"
                " command goes on with the study"
            )
        raise
    if json:
        files = {name: str(out / name) for name in ("best.toml", "study.html", "study.jsonl")}
        print_json({**study.to_dict(), "files": files})
        return
    users = len(cut.queries("valid")[0])
    _show(study, names, users)
    say(
        f"The best of many is flattered by the {users} users it was chosen on: the test part, which"
        " was not looked at, tells what it is worth.",
        f"{out}/study.html shows every trial.",
        f"Next: tailor fit {out}/best.toml --split {split} --out MODEL",
    )


def _reporter(minutes: float | None, studies: list[Study]) -> Callable[[Study], None]:
    """Return a function that prints a line after every trial and appends the study to a list."""
    started = time.perf_counter()

    def report_trial(study: Study) -> None:
        studies.append(study)
        last = study.trials[-1]
        time_left = ""
        if minutes is not None:
            minutes_left = max(minutes - (time.perf_counter() - started) / 60, 0)
            time_left = f", {minutes_left:.1f} min left"
        figure = last.figure if last.value is not None else f"{last.state} {last.reason}".strip()
        _print_line(
            f"trial {last.number}: {figure}, {last.seconds:.1f} s; best {study.best.value:.4f}"
            f" (trial {study.best.number}){time_left}"
        )

    return report_trial


def _print_line(line: str) -> None:
    sys.stderr.write(printable(line) + "\n")  # while a bar is shown, this goes above it


def _show(study: Study, names: dict[str, str], users: int) -> None:
    """Print the best trials beside the pipeline as written, and the settings of the best one."""
    best = study.best
    written = study.trials[0]
    by_state = {state: study.of_state(state) for state in ("complete", "pruned", "failed")}
    counts = ", ".join(f"{len(trials)} {state}" for state, trials in by_state.items() if trials)
    say(
        f"{len(study.trials)} trials ({counts}) on {users} users of the validation part, seen items"
        f" {study.about['seen']}. [95 % interval over users]"
    )
    complete = sorted(by_state["complete"], key=lambda trial: -(trial.value or 0.0))
    best_numbers = [trial.number for trial in complete[:MOST_TRIALS]]
    rows = []
    for number in dict.fromkeys([best.number, *best_numbers, written.number]):
        trial = study.trials[number]
        rows.append([_label(trial, study), trial.figure, f"{trial.seconds:.1f}"])
    table(["trial", study.about["metric"], "seconds"], rows)
    if best is written:
        say("No trial was better than the pipeline as written: best.toml is that pipeline.")
        return
    rows = []
    for name, short in names.items():
        domain = study.about["space"][name]
        value = f"{best.settings[name]}{_edge_note(domain, best.settings[name])}"
        rows.append([short, _domain_text(domain), str(written.settings[name]), value])
    table(["setting", "searched", "as written", "best"], rows)


def _label(trial: Trial, study: Study) -> str:
    """Return a trial's number, marked if it is the best or the pipeline as written."""
    best = ", best" if trial is study.best else ""
    written = ", as written" if trial.number == 0 else ""
    return f"{trial.number}{best}{written}"


def _edge_note(domain: dict[str, Any], value: Any) -> str:
    """Return a hint if a value is at an end of its range: a next study might look beyond."""
    if "choices" in domain:
        return ""
    low, high = domain["low"], domain["high"]
    is_at_edge = min(abs(value - low), abs(value - high)) <= EDGE_SHARE * (high - low)
    return ", at the end" if is_at_edge else ""


def _domain_text(domain: dict[str, Any]) -> str:
    """Return the values that were searched as words."""
    if "choices" in domain:
        return ", ".join(map(str, domain["choices"]))
    scale = ", log" if domain.get("log") else ""
    return f"{domain['low']:g} to {domain['high']:g}{scale}"
