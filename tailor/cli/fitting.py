"""`tailor fit`, `evaluate`, `methods`, `pipeline`."""

import dataclasses
from pathlib import Path
from typing import Any

from tailor.cli.asking import opened
from tailor.cli.predicting import all_predict, evaluate_predictions_command
from tailor.cli.showing import print_json, say, show_report, table
from tailor.core.costs import Cost, Stopwatch, estimate, resident_bytes
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, discover, find_class, read_pipeline
from tailor.data.folders import replaced_by
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.pages import page
from tailor.evaluation.protocol import compare, refuse_seen_targets
from tailor.evaluation.protocol import evaluate as measure
from tailor.evaluation.report import write_per_user
from tailor.evaluation.runs import Candidates, ExternalRun, candidates_of, only_new_items, sampled
from tailor.pipeline.default import FILES, has_nets, pipeline_file
from tailor.progress import terminal
from tailor.scale.processes import rank

MOST_VALUES = 8  # of a list in a fit report that are shown


def fit_command(
    pipeline: str,
    split: Path,
    out: Path,
    train_on: str,
    with_histories: bool,
    data_folder: Path | None,
    overwrite: bool,
    run: Run,
) -> None:
    method = build(described(pipeline))
    _check(run)
    if out.exists() and not overwrite:  # before the work, not after it
        raise ModelError(f"{out} is there already: choose another --out, or pass --overwrite")
    if method.keeps_people() and not with_histories:
        raise ModelError(
            f"{method.name} holds people's events and cannot work without them: say so with"
            " --with-histories"
        )
    cut = Split.open(split, data_folder)
    data = cut.learn_from(train_on)
    method.fit(data, run, cut if train_on == "train" else None)
    if rank():  # of processes that trained together, the first writes
        return
    titles = data.item_table if "title" in data.item_table.columns else None
    method.save(out, overwrite, data.queries() if with_histories else None, titles)
    say(
        f"{out}: {method.name} fitted on {train_on} ({len(data.events)} events)",
        *report_lines(method.fit_report_),
    )
    if pipeline == "default" and not has_nets():
        say("The default pipeline has no net here: pip install 'tailor-engine[torch]' adds SASRec")
    say(
        f"Next: tailor evaluate {out} --split {split}"
        if train_on != "all"
        else f"Next: tailor recommend {out} --history ID,ID"
    )


def dry_run_command(
    pipeline: str, split: Path, train_on: str, data_folder: Path | None, run: Run, json: bool
) -> None:
    method = build(described(pipeline))
    _check(run)
    watch, cut = Stopwatch(), Split.open(split, data_folder)
    data = cut.learn_from(train_on)
    # with the events in order, which are made here at the latest
    held = len(data.sequences.rows.values) and resident_bytes()
    cost = estimate(method, data, run, cut if train_on == "train" else None)
    if json:
        print_json(
            {
                "method": method.name,
                "trained_on": train_on,
                "events": len(data.events),
                "before_bytes": held,
                **cost.to_dict(),
            }
        )
        return
    rows = [
        (indent + name, _time(one), _size(one.peak_bytes), _size(one.kept_bytes))
        for indent, name, one in _outline(cost)
    ]
    if rows:
        table(["part", "time", "memory at its worst", "of it kept"], rows)
    limit = "at most " if cost.at_most else "about "
    say(
        f"{method.name} on {train_on} ({len(data.events):,} events): {limit}{_time(cost)},"
        f" {_size(held + cost.peak_bytes)} of memory ({_size(held)} of it for the program and the"
        " data)",
        "Times are those of this machine as busy as it is now, and right to about a half"
        + (" (training stops by itself once it gains no more)" if cost.at_most else ""),
    )
    if cost.guessed:
        say(f"Only guessed, as growing with the events: {', '.join(cost.guessed)}")
    say(f"Found out in {watch.lap():.0f} s; nothing was written")


def _outline(cost: Cost, indent: str = "") -> list[tuple[str, str, Cost]]:
    """Every part with its parts below it."""
    return [
        row
        for name, one in cost.parts
        for row in [(indent, name, one), *_outline(one, indent + "  ")]
    ]


def _time(cost: Cost) -> str:
    whole = round(cost.seconds)
    if cost.seconds < 10:
        return f"{cost.seconds:.1f} s"
    return (
        f"{whole} s"
        if whole < 120
        else f"{whole // 60} min {whole % 60:02d} s"
        if whole < 7200
        else f"{whole / 3600:.1f} h"
    )


def _size(n: float) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 1e8 else f"{n / 1e6:.0f} MB"


def _check(run: Run) -> None:
    """What would otherwise be found wrong after the work of other parts."""
    if run.deadline_s is not None and not run.deadline_s > 0:
        raise DataError(f"--minutes {run.deadline_s / 60:g}: more than 0")
    if run.device != "cpu" and has_nets():
        from tailor.nn.devices import device_for

        device_for(run.device)


def described(pipeline: str) -> dict[str, Any]:
    """A pipeline file, a class, or a pipeline that comes with Tailor by its name, as `build` takes
    it.
    """
    if pipeline in FILES:
        return read_pipeline(pipeline_file(pipeline))
    try:
        if "." not in pipeline:
            find_class(pipeline)
    except ModelError:
        if "Did you mean" in nearest(pipeline.lower(), FILES):
            raise ModelError(
                f'there is no pipeline "{pipeline}".{nearest(pipeline.lower(), FILES)}'
            ) from None
        raise
    return read_pipeline(pipeline)


def report_lines(report: dict[str, object], indent: str = "  ") -> list[str]:
    """A fit report as indented lines."""
    lines = []
    for name, value in report.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *report_lines(value, indent + "  ")] if value else []
        elif isinstance(value, list) and len(value) > MOST_VALUES:
            lines.append(f"{indent}{name}: {value[0]} ... {value[-1]} ({len(value)} values)")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines


def evaluate_command(
    models: list[Path],
    split: Path,
    part: str,
    k: str,
    metrics: str,
    baseline: str | None,
    per_user: Path | None,
    data_folder: Path | None,
    json: bool,
    candidates: str | None = None,
    html: Path | None = None,
) -> None:
    cut = Split.open(split, data_folder)
    if predictors := all_predict(models):
        evaluate_predictions_command(predictors, cut, part, baseline, per_user, json)
        return
    methods: dict[str, Recommender | ExternalRun] = {}
    for folder in models:
        if folder.is_file():
            methods[folder.name] = ExternalRun.read(folder)
            continue
        method = opened(folder)
        try:
            refuse_seen_targets(method, cut, part)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from None
        methods[folder.name if folder.name not in methods else str(folder)] = method
    lengths = [int(one) for one in k.split(",") if one.strip().isdigit()]
    if len(lengths) != len(k.split(",")) or 0 in lengths:
        raise DataError(
            f'--k {k}: list lengths are whole numbers from 1, separated by commas, as in "5,10,20"'
        )
    if baseline is not None and baseline not in methods:
        raise DataError(
            f"--baseline {baseline}: name one of the models by its"
            f" folder.{nearest(baseline, methods)}"
        )
    for option, file in (("--per-user", per_user), ("--html", html)):
        # before the work, not after it
        if file is not None and not file.absolute().parent.is_dir():
            raise DataError(f"{option} {file}: there is no folder {file.parent}: make it first")
    wanted = [name.strip() for name in metrics.split(",")]
    report = measure(
        methods,
        cut,
        part,
        lengths,
        wanted,
        run=Run(progress=terminal),
        candidates=_candidates(candidates, cut, part),
    )
    found = (
        compare(report, baseline or next(iter(methods)), seen=report.treatments)
        if len(methods) > 1
        else []
    )
    if per_user is not None:
        write_per_user(report, per_user)
    if html is not None:
        with replaced_by(html) as aside:
            aside.write_text(
                page(report, found, title=f"{', '.join(methods)} on {cut.data.name}"),
                encoding="utf-8",
            )
    if json:
        print_json({**report.to_dict(), "comparisons": [one.to_dict() for one in found]})
    else:
        show_report(report, found)


def _candidates(given: str | None, split: Split, part: str) -> Candidates | None:
    """What `--candidates` names: a file, the items that are new, or a number of negatives."""
    if given is None:
        return None
    if given == "new":
        return only_new_items(split, part)
    by, _, number = given.partition(":")
    if by in ("uniform", "popularity") and number.isdigit():
        return sampled(split, part, int(number), by)
    if not Path(given).is_file():
        raise DataError(
            f"--candidates {given}: name a file with columns user_id, item_id, score, or write new,"
            " uniform:99 or popularity:99"
        )
    return candidates_of(ExternalRun.read(given), split, f"the candidates of {Path(given).name}")


def methods_command(json: bool) -> None:
    rows = []
    for found in discover():
        settings = (
            {}
            if found.cls is None
            else {
                one.name: one.default
                for one in dataclasses.fields(found.cls)
                if one.init and one.default is not dataclasses.MISSING
            }
        )
        summary = (
            ""
            if found.cls is None
            else " ".join((found.cls.__doc__ or "").strip().split("\n\n")[0].split())
        )
        rows.append(
            {
                "class": found.path,
                "summary": summary,
                "paper": found.paper.slug if found.paper else "",
                "settings": settings,
                "missing": found.missing,
            }
        )
    if json:
        print_json(rows)
        return
    table(
        ["class", "what it does"],
        [[row["class"], row["missing"] or row["summary"]] for row in rows],
    )
