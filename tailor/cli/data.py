"""`tailor data`: import, export, check, stats, synth, split, diagnose."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tailor.errors import DataError

app = typer.Typer(no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Folder to write.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the folder where it is there already.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("import")
def import_(
    src: Annotated[
        Path | None,
        typer.Argument(
            help=(
                "The events: a file, packed by gzip or zip perhaps, or a folder of part files; or a"
                " folder of a public data set's layout."
            )
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    format: Annotated[
        str,
        typer.Option(
            help=(
                "csv, jsonl, parquet, sequences, recbole, movielens, amazon-2023, user-json, beir,"
                " trec, cranfield, cacm, npl, locomo, "
                "redial or open-bandit. The endings .csv, .jsonl and .parquet speak for themselves."
            )
        ),
    ] = "csv",
    items: Annotated[
        Path | None, typer.Option(help="The catalogue: ids, titles, texts, categories, prices.")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="What is known about users.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="What users wrote: reviews, queries, notes.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Any table by its name, as in requests=searches.jsonl or turns=turns.parquet."
                " Repeatable."
            )
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Our column = the file's, as in user_id=customer, items.title=name or"
                " items.title=product.title. Repeatable."
            )
        ),
    ] = None,
    time_unit: Annotated[
        str | None,
        typer.Option(
            help=(
                "s, ms, us or ns where guessing by size would go wrong; day-first or month-first"
                " for written dates."
            )
        ),
    ] = None,
    decimal: Annotated[str, typer.Option(help='"," where numbers are written 1.299,50.')] = ".",
    encoding: Annotated[str, typer.Option(help="Encoding of the files.")] = "utf-8",
    strict: Annotated[
        bool, typer.Option(help="Stop at the first bad row instead of putting it aside.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the data set (default: the file's).")
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
    """Read your files into a data set. Bad rows go to rejected.parquet with file, line and reason."""
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
        columns=_mapping(columns),
        time_unit=time_unit,
        decimal=decimal,
        encoding=encoding,
        strict=strict,
        overwrite=overwrite,
        dry_run=dry_run,
        name=name,
        progress=terminal,
    )
    if json:
        print_json(report.to_dict())
        return
    say(*report.lines())
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


def _mapping(columns: list[str] | None) -> dict[str, str]:
    pairs = [one for given in columns or [] for one in given.split(",")]
    for pair in pairs:
        if "=" not in pair:
            raise DataError(
                f'--columns {pair}: write our column = the file\'s, as in "user_id=customer"'
            )
    return {
        ours.strip(): theirs.strip() for ours, _, theirs in (pair.partition("=") for pair in pairs)
    }


def _tables(given: list[str] | None) -> dict[str, Path]:
    for one in given or []:
        if "=" not in one:
            raise DataError(
                f'--table {one}: write the table = its file, as in "requests=searches.jsonl"'
            )
    return {
        name.strip(): Path(path) for name, _, path in (one.partition("=") for one in given or [])
    }


def _show_preview(preview: Mapping[str, list[dict[str, Any]]]) -> None:
    from tailor.cli.showing import table

    for name, rows in preview.items():
        columns = list(rows[0])
        cells = [[_cell(column, row[column]) for column in columns] for row in rows]
        table(columns, cells, title=f"{name}: the first {len(rows)} rows")


def _cell(column: str, value: Any) -> str:
    """One line, short; times as dates, so that a day taken for a month is seen."""
    if value is None:
        return ""
    if column.endswith("_ms") and isinstance(value, int):
        value = (
            datetime.fromtimestamp(value / 1000, UTC)
            .isoformat(" ", "seconds")
            .removesuffix("+00:00")
        )
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
    """Write every table to a file that other tools read, and that `import` makes the same data set
    of again.
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
    """Say what is wrong with a data set (exit code 1 then) and what looks odd, with examples and
    remedies.
    """
    from tailor.cli.showing import print_json, say
    from tailor.data.checks import check
    from tailor.data.dataset import Dataset

    found = check(Dataset.open(folder))
    wrong = sum(finding.wrong for finding in found)
    if json:
        print_json(
            {
                "wrong": wrong,
                "odd": len(found) - wrong,
                "findings": [finding.to_dict() for finding in found],
            }
        )
    else:
        for finding in found:
            say(
                f"{'WRONG' if finding.wrong else 'odd  '}  {finding.name}: {finding.says}",
                *(f"         e.g. {example}" for example in finding.examples),
                f"         -> {finding.remedy}",
            )
        say(
            f"{folder}: {wrong} wrong, {len(found) - wrong} odd"
            if found
            else f"{folder}: nothing wrong, nothing odd"
        )
    if wrong:
        raise typer.Exit(1)


@app.command()
def stats(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")], json: Json = False
) -> None:
    """Print numbers to know about a data set: sizes, events per person and item, repeats, ties."""
    from tailor.cli.showing import print_json, table
    from tailor.data.dataset import Dataset
    from tailor.data.stats import stats

    found = stats(Dataset.open(folder))
    if json:
        print_json(found)
    else:
        table(["", str(folder)], [[key, _figure(value)] for key, value in found.items()])


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_figure(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def synth(
    out: Out,
    users: Annotated[int, typer.Option(help="How many people.")] = 2000,
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
        typer.Option(help="How many events of a stranger are known (only with cold-start)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Which users or items are new (new-users, cold-start, new-items)."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Decide what may be learned from and what methods are judged by."""
    from tailor.cli.showing import print_json, say
    from tailor.data.dataset import Dataset
    from tailor.data.splits import split_by

    given = {
        name: value
        for name, value in (("valid", valid), ("test", test), ("known", known), ("seed", seed))
        if value is not None
    }
    made = split_by(Dataset.open(folder), by, only, **given)
    made.save(out, folder, overwrite)
    if json:
        print_json(made.report)
        return
    about = made.report
    say(
        f"{out}: split by {by}; events "
        + ", ".join(f"{name} {n}" for name, n in about["events"].items() if n),
        f"users with a test target: {about['users']['test']} of {about['users']['all']}; targets of"
        f" items never seen in training: {about['test_targets_of_items_not_in_train']:.1%}; targets"
        f" decided by a tie in time: {about['users_whose_target_a_tie_decides']:.1%}",
        f"Next: tailor fit default --split {out} --out MODEL",
    )


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
        int, typer.Option(help="Which users the floors are measured on, where there are many.")
    ] = 0,
    json: Json = False,
) -> None:
    """Say what a split can measure: how far the next item can be foreseen, what shortcuts reach,
    what leaks (exit code 1 then).
    """
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
    found = diagnose(split, part, Run(seed=seed, progress=terminal))
    if json:
        print_json(found.to_dict())
    else:
        show_diagnosis(found)
    if found.wrong:
        raise typer.Exit(1)
