"""`tailor start`: from files of events and items to a served model, in one command.

Every step leaves a folder behind, so a command that was stopped goes on where it was.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailor.cli.evaluating import EvaluateOptions, evaluate_command
from tailor.cli.fitting import FitOptions, check_run, fit_command, item_titles
from tailor.cli.serving import needs_service
from tailor.cli.showing import say
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.folders import replaced_by
from tailor.data.importers.importing import import_data
from tailor.data.splits import last_out
from tailor.data.untimed import UNTIMED
from tailor.errors import DataError
from tailor.progress import terminal
from tailor.retrieval.popularity import Popularity

SOURCES = "start.json"  # which files the folder was made from
DATA, SPLIT, MODEL, POPULARITY = "data", "split", "model", "popularity"
CHECKPOINTS = "checkpoints"
SERVE = ("serve", "--model", MODEL, "--data", DATA, "--database", "shop.db", "--first-key", "key")


@dataclass(frozen=True)
class StartOptions:
    """Options of `tailor start` that say what is made, from what."""

    events: Path
    """File of the events, or a folder in a layout that `tailor data import` reads."""
    items: Path | None
    """File of the items."""
    columns: Mapping[str, str]
    """Our column: the file's."""
    pipeline: str
    """A pipeline file, a class, or the name of a pipeline that comes with Tailor."""
    settings: Sequence[str]
    """NAME=VALUE, in place of those of the pipeline."""
    out: Path
    """Folder of all that is made."""

    @property
    def files(self) -> list[Path]:
        """The files to read."""
        return [path for path in (self.events, self.items) if path is not None]


def start_command(options: StartOptions, run: Run, port: int | None) -> None:
    """Import, split, fit, measure, and serve on `port` (None: do not serve).

    A step whose folder is there is not done again. Raises DataError where the folder was made from
    other files or settings.
    """
    if port is not None:
        needs_service()
    check_run(run)
    for path in options.files:
        if not path.exists():
            raise DataError(f"{path} is not there: name the file of the events, and of the items")
    split, data = options.out / SPLIT, options.out / DATA
    fitting = FitOptions(
        options.pipeline, split, data_folder=data, settings=tuple(options.settings)
    )
    fitting.method()  # a mistyped class or setting is told before the work
    options.out.mkdir(parents=True, exist_ok=True)
    _check_sources(options)
    _import(options, data)
    _cut(data, split)
    _fit(fitting, options.out, run)
    say("4. Measure it beside popularity, on each person's last event")
    models = [options.out / MODEL, options.out / POPULARITY]
    evaluate_command(models, EvaluateOptions(split, data), None, None, json=False)
    if port is None:
        say(f"Next: cd {options.out} && tailor {' '.join(SERVE)}")
        return
    say(f"5. Serve on port {port}, until Ctrl-C; its key lies in {options.out / 'key'}")
    sys.stdout.flush()
    os.chdir(options.out)
    # the server takes the place of this process, and with it its signals
    os.execv(sys.executable, [sys.executable, "-m", "tailor", *SERVE, "--port", str(port)])


def _check_sources(options: StartOptions) -> None:
    """Note what the folder is made from. Raises DataError where it was made from something else."""
    sources = {
        "files": {str(path.resolve()): _version(path) for path in options.files},
        "columns": dict(options.columns),
        "pipeline": options.pipeline,
        "settings": list(options.settings),
    }
    note = options.out / SOURCES
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != sources:
        raise DataError(
            f"{options.out} was made from other files or settings (see {note}): name another --out,"
            " or remove the folder"
        )
    with replaced_by(note) as aside:
        aside.write_text(json.dumps(sources, indent=1), encoding="utf-8")


def _version(path: Path) -> list[int]:
    """Return what changes when a file changes: its size, and when it was written."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _import(options: StartOptions, data: Path) -> None:
    if data.exists():
        say(f"1. {data} is there already")
        return
    say(f"1. Import {options.events}")
    report = import_data(
        options.events, data, items=options.items, columns=options.columns, progress=terminal
    )
    say(*report.lines())


def _cut(data: Path, split: Path) -> None:
    if split.exists():
        say(f"2. {split} is there already")
        return
    say("2. Keep each person's last event to measure by, and the one before it to choose by")
    whole = Dataset.open(data)
    if not whole.has_times:
        raise DataError(f"{data} {UNTIMED}")
    last_out(whole).save(split, data)


def _fit(fitting: FitOptions, out: Path, run: Run) -> None:
    """Fit the method and popularity, unless they are there."""
    if (out / MODEL).exists():
        say(f"3. {out / MODEL} is there already")
    else:
        say(f"3. Fit {fitting.pipeline}; after a stop the same command goes on")
        fit_command(fitting, out / MODEL, False, False, run, json=False)
    if not (out / POPULARITY).exists():
        data, _ = fitting.read()
        Popularity().fit(data, run).save(out / POPULARITY, titles=item_titles(data))
