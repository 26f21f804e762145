"""`tailor data`: import, export, check, stats, synth, split, diagnose."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tailor.data.untimed import UNTIMED
from tailor.errors import DataError

app = typer.Typer(no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Folder to write.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the folder where it is there already.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SourceFile = Annotated[
    Path | None,
    typer.Argument(
        help=(
            "The events: a file, perhaps packed by gzip or zip, or a folder of part files; or a"
            " folder of a public data set's layout."
        )
    ),
]
Format = Annotated[
    str,
    typer.Option(
        help=(
            "csv, jsonl, parquet, sequences, recbole, movielens, amazon-2023, user-json, beir,"
            " trec, cranfield, cacm, npl, locomo, redial or open-bandit. The endings .csv, .json,"
            " .jsonl and .parquet speak for themselves."
        )
    ),
]
TableFiles = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "Any table by its name, as in requests=searches.jsonl or turns=turns.parquet."
            " Repeatable."
        )
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "Our column = the file's, as in user_id=customer, items.title=name or"
            " items.title=product.title; its number without a header, as in user_id=1. Repeatable."
        )
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether a CSV file begins with a line of names (default: it does).",
        show_default=False,
    ),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "Types of columns that are not ours, as in stock=int,items.ean=text: int, float, bool"
            " or text. Repeatable; by default numbers and truth values are recognised."
        )
    ),
]
TimeUnit = Annotated[
    str | None,
    typer.Option(
        help=(
            "s, ms, us or ns where guessing by size would go wrong; cocoa (since 2001), dotnet,"
            " filetime, webkit or excel; day-first or month-first for written dates."
        )
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(help='Format of written times, as in "%d.%m.%y %H:%M" or "%m/%d/%Y %I:%M %p".'),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(help="A further text that stands for a missing value, as NULL. Repeatable."),
]


@app.command("import")
def import_(
    src: SourceFile = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    format: Format = "csv",
    items: Annotated[
        Path | None, typer.Option(help="The catalogue: ids, titles, texts, categories, prices.")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="What is known about users.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="What users wrote: reviews, queries, notes.")
    ] = None,
    table: TableFiles = None,
    columns: Columns = None,
    header: Header = None,
    types: Types = None,
    time_unit: TimeUnit = None,
    time_format: TimeFormat = None,
    missing: Missing = None,
    decimal: Annotated[str, typer.Option(help='"," where numbers are written 1.299,50.')] = ".",
    encoding: Annotated[str, typer.Option(help="Encoding of the files.")] = "utf-8",
    strict: Annotated[
        bool, typer.Option(help="Stop at the first bad row instead of putting it aside.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the data set (default: the file's).")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help='For a log of what was shown: which rows were chosen, as in "clicked == 1". Makes'
            " requests, impressions and events."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the first ten rows of every table as understood; write nothing."
        ),
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Read your files into a data set; bad rows go to rejected.parquet.

    Each rejected row is kept with file, line and reason.
    """
    from tailor.cli.showing import print_json, say
    from tailor.data.importers.importing import import_data
    from tailor.progress import terminal

    if out is None and not dry_run:
        raise DataError("name the folder to write (--out FOLDER), or look first (--dry-run)")
    report = import_data(
        src,
        out or "data",
        format=format,
        items=items,
        users=users,
        texts=texts,
        tables=_tables(table),
        columns=pairs(columns, "columns", 'our column = the file\'s, as in "user_id=customer"'),
        header=header,
        types=pairs(types, "types", 'the column = its type, as in "stock=int"'),
        time_unit=time_unit,
        time_format=time_format,
        missing=missing or (),
        decimal=decimal,
        encoding=encoding,
        strict=strict,
        overwrite=overwrite,
        dry_run=dry_run,
        name=name,
        label=label,
        progress=terminal,
    )
    if json:
        has_times = not report.rows.get("events") or report.time_range is not None
        print_json(report.to_dict() | {"can_be_served": has_times})
        return
    say(*report.lines())
    if report.rows.get("events") and report.time_range is None:
        say(f"note: it {UNTIMED}")
    if dry_run:
        _show_preview(report.preview)
    else:
        say(
            f"Next: tailor data check {out}",
            *(
                [f"      tailor data split {out} --by last --out SPLIT"]
                if "events" in report.rows
                else []
            ),
        )


def pairs(options: list[str] | None, name: str, form: str) -> dict[str, str]:
    """Return pairs such as a=b,c=d. Raises DataError, naming the form, for anything else.

    A comma that no further pair follows belongs to the value.
    """
    pairs = [pair for option in options or [] for pair in re.split(r",(?=[^,=]+=)", option)]
    for pair in pairs:
        if "=" not in pair:
            raise DataError(f"--{name} {pair}: write {form}")
    parts = [pair.partition("=") for pair in pairs]
    return {key.strip(): value.strip() for key, _, value in parts}


def _tables(options: list[str] | None) -> dict[str, Path]:
    """Return table -> file. Raises DataError for an option of another form."""
    for option in options or []:
        if "=" not in option:
            raise DataError(
                f'--table {option}: write the table = its file, as in "requests=searches.jsonl"'
            )
    parts = [option.partition("=") for option in options or []]
    return {name.strip(): Path(path) for name, _, path in parts}


def _show_preview(preview: Mapping[str, list[dict[str, Any]]]) -> None:
    from tailor.cli.showing import table

    for name, rows in preview.items():
        columns = list(rows[0])
        cells = [[_cell(column, row[column]) for column in columns] for row in rows]
        table(columns, cells, title=f"{name}: the first {len(rows)} rows")


def _cell(column: str, value: Any) -> str:
    """Return one short line; times as dates, so that a day taken for a month is seen."""
    if value is None:
        return ""
    if column.endswith("_ms") and isinstance(value, int):
        moment = datetime.fromtimestamp(value / 1000, UTC)
        value = moment.isoformat(" ", "seconds").removesuffix("+00:00")
    elif isinstance(value, list):
        value = " | ".join(map(str, value))
    return " ".join(str(value).split())[:60]


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    out: Out,
    format: Annotated[str, typer.Option(help="csv (lists as JSON), jsonl or parquet.")] = "csv",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write every table to a file that other tools read.

    `import` makes the same data set of these files again.
    """
    from tailor.cli.showing import print_json, say
    from tailor.data.dataset import Dataset
    from tailor.data.exporting import export_data

    files = export_data(Dataset.open(folder), out, format, overwrite)
    if json:
        print_json({name: str(path) for name, path in files.items()})
    else:
        say(
            *(f"{name}: {path}" for name, path in files.items()),
            f"Back again: tailor data import {out} --out DATA",
        )


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")], json: Json = False
) -> None:
    """Say what is wrong with a data set (exit code 1 then), and what looks odd.

    Every finding has examples and a remedy.
    """
    from tailor.cli.showing import print_json, say
    from tailor.data.checks import check
    from tailor.data.dataset import Dataset

    findings = check(Dataset.open(folder))
    wrong = sum(finding.wrong for finding in findings)
    if json:
        print_json(
            {
                "wrong": wrong,
                "odd": len(findings) - wrong,
                "findings": [finding.to_dict() for finding in findings],
            }
        )
    else:
        for finding in findings:
            say(
                f"{'WRONG' if finding.wrong else 'odd  '}  {finding.name}: {finding.says}",
                *(f"         e.g. {example}" for example in finding.examples),
                f"         -> {finding.remedy}",
            )
        say(
            f"{folder}: {wrong} wrong, {len(findings) - wrong} odd"
            if findings
            else f"{folder}: nothing wrong, nothing odd"
        )
    if wrong:
        raise typer.Exit(1)


@app.command()
def stats(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")], json: Json = False
) -> None:
    """Print figures of a data set: sizes, events per user and item, repeats, ties."""
    from tailor.cli.showing import print_json, table
    from tailor.data.dataset import Dataset
    from tailor.data.stats import stats

    figures = stats(Dataset.open(folder))
    if json:
        print_json(figures)
    else:
        table(["", str(folder)], [[key, _figure(value)] for key, value in figures.items()])


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_figure(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def synth(
    out: Out,
    users: Annotated[int, typer.Option(help="How many users.")] = 2000,
    items: Annotated[int, typer.Option(help="How many items.")] = 600,
    days: Annotated[int, typer.Option(help="How many days of events.")] = 180,
    seed: Annotated[int, typer.Option(help="Another seed, another shop.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a planted shop: users with drifting tastes, seasons, repeat purchases, reviews."""
    from tailor.cli.showing import say
    from tailor.progress import terminal
    from tailor.worlds.shop import shop

    data = shop(users=users, items=items, days=days, seed=seed, progress=terminal).data
    data.save(out, overwrite)
    say(f"{out}: {len(data.users)} users, {len(data.catalogue)} items, {len(data.events)} events")


@app.command("synth-answers")
def synth_answers(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a data set with a table of requests, the questions.")
    ],
    out: Out,
    style: Annotated[
        list[str] | None,
        typer.Option(help="basic, contextual or personalised; repeatable (default: all three)."),
    ] = None,
    most: Annotated[int, typer.Option(help="How many questions are answered, the first ones.")] = (
        1000
    ),
    words: Annotated[int, typer.Option(help="How many words an answer may have.")] = 60,
    overwrite: Overwrite = False,
) -> None:
    """Have the language model answer a community's questions, for SySePQA to learn from."""
    from tailor.cli.showing import say
    from tailor.core.defaults import language_model
    from tailor.data.dataset import Dataset
    from tailor.llm.metered import without_cache
    from tailor.reranking.synthetic_answers import (
        checked_styles,
        questions_of,
        with_answers,
        write_answers,
    )

    styles = checked_styles(style or ())
    data = Dataset.open(folder)
    written = write_answers(
        without_cache(language_model()), questions_of(data)[:most], styles, words
    )
    with_answers(data, written.answers).save(out, overwrite)
    say(
        f"{out}: {len(written.answers)} answers; {written.failed} prompts got none, and"
        f" {written.copied} answers that repeat their question were left out",
        f'Next, in Python: SySePQA().fit(Dataset.open("{out}"))',
    )


@app.command("regen-like")
def regen_like(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set whose items have titles.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON lines, one user a line).")],
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(help="Seed of which words a critique names.")] = 0,
) -> None:
    """Write critiques and narratives around histories, in the form of REGEN, by templates."""
    import json

    from tailor.cli.showing import say
    from tailor.data.dataset import Dataset
    from tailor.data.folders import replaced_by
    from tailor.generative.regen import regen_records

    if out.exists() and not overwrite:
        raise DataError(f"{out} is there already: name another file, or add --overwrite")
    steps = critiques = 0
    with replaced_by(out) as path, path.open("w", encoding="utf-8") as file:
        for record in regen_records(Dataset.open(folder), seed):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            steps += len(record["steps"])
            critiques += sum(bool(step["critique"]) for step in record["steps"])
    say(f"{out}: {steps:,} steps with a narrative, {critiques:,} with a critique")


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    out: Out,
    by: Annotated[
        str, typer.Option(help="last, time, ratio, new-users, cold-start or new-items.")
    ] = "last",
    valid: Annotated[
        float | None, typer.Option(help="Share for validation (not with `last`).")
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="Share for the test (not with `last`).")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Which events count, as in \"action = 'buy'\", or a label (default: all)."
        ),
    ] = None,
    known: Annotated[
        int | None,
        typer.Option(help="How many events of a cold user are known (only with cold-start)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Which users or items are new (new-users, cold-start, new-items)."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Split a data set into parts to learn from, to validate on and to test on."""
    from tailor.cli.showing import print_json, say
    from tailor.data.actions import condition_for
    from tailor.data.dataset import Dataset
    from tailor.data.splits import split_by

    shares = {"valid": valid, "test": test, "known": known, "seed": seed}
    options = {name: value for name, value in shares.items() if value is not None}
    data = Dataset.open(folder)
    parts = split_by(data, by, only, **options)
    parts.save(out, folder, overwrite)
    if json:
        print_json(parts.report)
        return
    say(*_split_lines(parts.report, out, by))
    against = condition_for(data.events) if only is None else None
    if against is not None:
        say(
            "Some events speak against their item, and count here as if they spoke for it; to"
            f' leave them out as the service does: --only "{against}"'
        )


def _split_lines(report: Mapping[str, Any], out: Path, kind: str) -> list[str]:
    """Return what a split kept and dropped, in words."""
    events = ", ".join(f"{name} {n}" for name, n in report["events"].items() if n)
    return [
        f"{out}: split by {kind}; events {events}",
        f"users with a test target: {report['users']['test']} of {report['users']['all']}; targets"
        f" of items never seen in training: {report['test_targets_of_items_not_in_train']:.1%};"
        f" targets decided by a tie in time: {report['users_whose_target_a_tie_decides']:.1%}",
        f"Next: tailor fit default --split {out} --out MODEL",
    ]


@app.command()
def diagnose(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a split, or of a data set, which is then split by leaving the last out."
        ),
    ],
    part: Annotated[str, typer.Option(help="test or valid.")] = "test",
    data_folder: Annotated[
        Path | None, typer.Option("--data", help="The data set, where it has moved.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Which users are sampled for the floors, where there are many.")
    ] = 0,
    json: Json = False,
) -> None:
    """Say what a split can measure, what shortcuts reach, and what leaks (exit code 1 then)."""
    from tailor.cli.showing import print_json, show_diagnosis
    from tailor.core.run import Run
    from tailor.data.dataset import Dataset
    from tailor.data.splits import Split, last_out
    from tailor.evaluation.diagnosis import diagnose
    from tailor.progress import terminal

    split = (
        Split.open(folder, data_folder)
        if (folder / "split.toml").exists()
        else last_out(Dataset.open(folder))
    )
    diagnosis = diagnose(split, part, Run(seed=seed, progress=terminal))
    if json:
        print_json(diagnosis.to_dict())
    else:
        show_diagnosis(diagnosis)
    if diagnosis.wrong:
        raise typer.Exit(1)
