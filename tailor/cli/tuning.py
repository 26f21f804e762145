"""`tailor tune`."""

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

SHOWN = 5  # best trials in the table


def tune_command(
    pipeline: str,
    split: Path,
    out: Path,
    search: Search,
    data_folder: Path | None,
    run: Run,
    json: bool,
) -> None:
    about = described(pipeline)
    names = short_names(about, search_space(about))
    cut = Split.open(split, data_folder)
    done: list[Study] = []
    try:
        study = search_settings(about, cut, out, search, run, _teller(search.minutes, done))
    except BaseException:  # also Ctrl-C
        if done:
            _tell(
                f"{out}/best.toml holds the best of {len(done[-1].trials)} trials; the same command"
                " goes on with the study"
            )
        raise
    if json:
        print_json(
            {
                **study.to_dict(),
                "files": {
                    name: str(out / name) for name in ("best.toml", "study.html", "study.jsonl")
                },
            }
        )
        return
    users = len(cut.queries("valid")[0])
    _show(study, names, users)
    say(
        f"The best of many is flattered by the {users} users it was chosen on: the test part, which"
        " was not looked at, tells what it is worth.",
        f"{out}/study.html shows every trial.",
        f"Next: tailor fit {out}/best.toml --split {split} --out MODEL",
    )


def _teller(minutes: float | None, done: list[Study]) -> Callable[[Study], None]:
    """A line on standard error after every trial: what it reached, the best so far, the time left
    of --minutes.
    """
    started = time.perf_counter()

    def told(study: Study) -> None:
        done.append(study)
        last, best = study.trials[-1], study.best
        left = (
            ""
            if minutes is None
            else f", {max(minutes - (time.perf_counter() - started) / 60, 0):.1f} min left"
        )
        figure = last.figure if last.value is not None else f"{last.state} {last.reason}".strip()
        _tell(
            f"trial {last.number}: {figure}, {last.seconds:.1f} s; best {best.value:.4f} (trial"
            f" {best.number}){left}"
        )

    return told


def _tell(line: str) -> None:
    sys.stderr.write(printable(line) + "\n")  # while a bar is shown, this goes above it


def _show(study: Study, names: dict[str, str], users: int) -> None:
    """The best trials beside the pipeline as written, and what the best one sets."""
    best, written = study.best, study.trials[0]
    counts = ", ".join(
        f"{len(found)} {state}"
        for state in ("complete", "pruned", "failed")
        if (found := study.of_state(state))
    )
    say(
        f"{len(study.trials)} trials ({counts}) on {users} users of the validation part, seen items"
        f" {study.about['seen']}. [95 % interval over users]"
    )
    complete = sorted(study.of_state("complete"), key=lambda one: -(one.value or 0.0))
    numbers = dict.fromkeys(
        [best.number, *(one.number for one in complete[:SHOWN]), written.number]
    )
    rows = [
        [
            _label(study.trials[number], study),
            study.trials[number].figure,
            f"{study.trials[number].seconds:.1f}",
        ]
        for number in numbers
    ]
    table(["trial", study.about["metric"], "seconds"], rows)
    if best is not written:
        rows = [
            [
                short,
                _searched(study.about["space"][name]),
                str(written.settings[name]),
                (
                    f"{best.settings[name]}{_at_the_end(study.about['space'][name], best.settings[name])}"
                ),
            ]
            for name, short in names.items()
        ]
        table(["setting", "searched", "as written", "best"], rows)
    else:
        say("No trial was better than the pipeline as written: best.toml is that pipeline.")


def _label(one: Trial, study: Study) -> str:
    return f"{one.number}{', best' if one is study.best else ''}{', as written' if one.number == 0 else ''}"


def _at_the_end(among: dict[str, Any], value: Any) -> str:
    """A hint where the best value stands at an end of its range: the next study might look beyond."""
    if "choices" in among or not min(
        abs(value - among["low"]), abs(value - among["high"])
    ) <= 0.02 * (among["high"] - among["low"]):
        return ""
    return ", at the end"


def _searched(among: dict[str, Any]) -> str:
    return (
        ", ".join(map(str, among["choices"]))
        if "choices" in among
        else f"{among['low']:g} to {among['high']:g}{', log' if among.get('log') else ''}"
    )
