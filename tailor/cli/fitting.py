"""`tailor fit`, with and without --dry-run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tailor.cli.answering import command_of
from tailor.cli.showing import print_json, say, table
from tailor.cli.studying import parse_settings
from tailor.core.costs import Cost, Stopwatch, estimate, resident_bytes
from tailor.core.methods import Agent, Method, Predictor, Recommender
from tailor.core.run import Run
from tailor.core.specs import build, find_class, read_pipeline
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, data_path
from tailor.data.untimed import UNTIMED
from tailor.errors import DataError, ModelError, nearest
from tailor.pipeline.default import FILES, has_nets, pipeline_file
from tailor.reranking.reranker import Reranker
from tailor.scale.processes import rank

MAX_VALUES = 8  # of a list in a fit report that are printed


@dataclass(frozen=True)
class FitOptions:
    """Options of `tailor fit` that say what is fitted, on what."""

    pipeline: str
    """A pipeline file, a class, or the name of a pipeline that comes with Tailor."""
    split: Path
    """Folder of the split."""
    train_on: str = "train"
    """Part of the data: train, train+valid or all."""
    data_folder: Path | None = None
    """The data set, where it has moved."""
    settings: Sequence[str] = ()
    """NAME=VALUE, in place of those of the pipeline."""

    def method(self) -> Method:
        """Return the method to fit. Raises ModelError for an unknown class or setting."""
        return build({**described(self.pipeline), **parse_settings(self.settings)})

    def read(self) -> tuple[Dataset, Split | None]:
        """Return the data to learn from, and the split if it may be validated on."""
        split = Split.open(self.split, self.data_folder)
        return split.learn_from(self.train_on), split if self.train_on == "train" else None


def fit_command(
    options: FitOptions, out: Path, with_histories: bool, overwrite: bool, run: Run, json: bool
) -> None:
    """Fit and save; see `tailor fit --help`."""
    method = options.method()
    check_run(run)
    _check_output(method, out, with_histories, overwrite)  # before the work, not after it
    data, valid = options.read()
    method.fit(data, run, valid)
    if rank():  # of processes that trained together, the first writes
        return
    histories = data.queries() if with_histories else None
    method.save(out, overwrite, histories, item_titles(data))
    if json:
        print_json(
            {
                "model": str(out),
                "method": method.name,
                "trained_on": options.train_on,
                "events": len(data.events),
                "with_histories": with_histories,
                "fit_report": method.fit_report_,
            }
        )
        return
    say(
        f"{out}: {method.name} fitted on {options.train_on} ({len(data.events)} events)",
        *report_lines(method.fit_report_),
    )
    if options.pipeline == "default" and not has_nets():
        say("The default pipeline has no net here: pip install 'tailor-engine[torch]' adds SASRec")
    say(f"Next: {_next_command(method, options, out)}", *_serving_lines(method, options, out, data))
    if with_histories:
        say("It names people: to serve a model, fit it without --with-histories")


def _next_command(method: Method, options: FitOptions, out: Path) -> str:
    """Return the command to go on with after a fit."""
    if isinstance(method, Recommender) and options.train_on != "all":
        return f"tailor evaluate {out} --split {options.split}"
    command = f"{command_of(type(method))} {out}"
    if isinstance(method, Agent):
        return command
    if isinstance(method, Predictor):
        command += " --items ID,ID"
    return f"{command} --history ID,ID"


def _serving_lines(method: Method, options: FitOptions, out: Path, data: Dataset) -> list[str]:
    """Return the commands that serve a model, empty for a method that is not served."""
    if not isinstance(method, Recommender | Predictor):
        return []
    if isinstance(method, Reranker):
        return [f"      tailor serve --reranker {out}"]
    folder = options.data_folder or data_path(options.split)
    if not data.has_times:
        return [f"      To serve it, events need times; {folder} {UNTIMED}"]
    option = "model" if isinstance(method, Recommender) else "predictor"
    lines = [f"      tailor serve --{option} {out} --data {folder}"]
    if isinstance(method, Recommender):
        lines.append(f"      tailor refit {options.pipeline}")
        lines.append("`tailor refit` runs beside the server and learns from all that happened")
    return lines


def item_titles(data: Dataset) -> pl.DataFrame:
    """Return item_id and title of the whole catalogue, the title null where there is none."""
    items = data.item_table
    if "title" not in items.columns:
        items = items.with_columns(title=pl.lit(None, pl.String))
    return items.select("item_id", "title")


def _check_output(method: Method, out: Path, with_histories: bool, overwrite: bool) -> None:
    """Raise ModelError if the fitted method could not be saved."""
    if out.exists() and not overwrite:
        raise ModelError(f"{out} is there already: choose another --out, or pass --overwrite")
    if method.keeps_people() and not with_histories:
        raise ModelError(
            f"{method.name} holds people's events and cannot work without them: say so with"
            " --with-histories"
        )


def check_run(run: Run) -> None:
    """Raise DataError for settings of a run that would fail late in the work."""
    if run.deadline_s is not None and not run.deadline_s > 0:
        raise DataError(f"--minutes {run.deadline_s / 60:g}: more than 0")
    if run.workers < 1:
        raise DataError(f"--workers {run.workers}: at least 1 thread")
    if run.device != "cpu" and has_nets():
        from tailor.nn.devices import device_for

        device_for(run.device)


def described(pipeline: str) -> dict[str, Any]:
    """Return the description of a pipeline file, a class or a pipeline of Tailor.

    Raises ModelError for a name that is none of them, with the nearest name.
    """
    if pipeline in FILES:
        return read_pipeline(pipeline_file(pipeline))
    try:
        if "." not in pipeline:
            find_class(pipeline)
    except ModelError:
        suggestion = nearest(pipeline.lower(), FILES)
        if "Did you mean" in suggestion:
            raise ModelError(f'there is no pipeline "{pipeline}".{suggestion}') from None
        raise
    return read_pipeline(pipeline)


def report_lines(report: dict[str, Any], indent: str = "  ") -> list[str]:
    """Return a fit report as indented lines."""
    lines = []
    for name, value in report.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *report_lines(value, indent + "  ")] if value else []
        elif isinstance(value, list) and len(value) > MAX_VALUES:
            lines.append(f"{indent}{name}: {value[0]} ... {value[-1]} ({len(value)} values)")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines


# --- dry run


def dry_run_command(options: FitOptions, run: Run, json: bool) -> None:
    """Estimate what a fit takes; see `tailor fit --help`."""
    method = options.method()
    check_run(run)
    watch = Stopwatch()
    data, valid = options.read()
    _ = data.sequences  # events in order: part of the data, not of the fit
    before_bytes = resident_bytes()
    cost = estimate(method, data, run, valid)
    if json:
        print_json(
            {
                "method": method.name,
                "trained_on": options.train_on,
                "events": len(data.events),
                "before_bytes": before_bytes,
                **cost.to_dict(),
            }
        )
        return
    _show_cost(
        cost, f"{method.name} on {options.train_on} ({len(data.events):,} events)", before_bytes
    )
    say(f"Found out in {watch.lap():.0f} s; nothing was written")


def _show_cost(cost: Cost, fit: str, before_bytes: int) -> None:
    """Print a cost and those of its parts; `fit` says what is fitted on what."""
    rows = [
        (indent + name, _time_text(part), _size_text(part.peak_bytes), _size_text(part.kept_bytes))
        for indent, name, part in _outline(cost)
    ]
    if rows:
        table(["part", "time", "memory at its worst", "of it kept"], rows)
    limit = "at most" if cost.at_most else "about"
    memory = _size_text(before_bytes + cost.peak_bytes)
    early = " (training stops by itself once it gains no more)" if cost.at_most else ""
    say(
        f"{fit}: {limit} {_time_text(cost)}, {memory} of memory ({_size_text(before_bytes)} of it"
        " for the program and the data)",
        f"Times are those of this machine as busy as it is now, and right to about a half{early}",
    )
    if cost.guessed:
        say(f"Only guessed, as growing with the events: {', '.join(cost.guessed)}")


def _outline(cost: Cost, indent: str = "") -> Iterator[tuple[str, str, Cost]]:
    """Yield (indent, name, cost) of every part, its own parts below it."""
    for name, part in cost.parts:
        yield indent, name, part
        yield from _outline(part, indent + "  ")


def _time_text(cost: Cost) -> str:
    seconds = round(cost.seconds)
    if cost.seconds < 10:
        return f"{cost.seconds:.1f} s"
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds / 3600:.1f} h"


def _size_text(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
