"""`tailor bench`: claims and papers."""

from pathlib import Path
from typing import Annotated

import typer

from tailor.errors import DataError

app = typer.Typer(no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="The repository, which holds benchmarks/claims and docs.")]


def _repository(root: Path) -> None:
    if not (root / "docs" / "papers.toml").is_file():
        raise DataError(f"{root.absolute()} is not the repository (there is no docs/papers.toml): name a clone of it with --root")


@app.command()
def claims(
    slug: Annotated[str | None, typer.Argument(help="A paper; left out: all whose record is missing or stale.")] = None,
    root: Root = Path(),
    check: Annotated[bool, typer.Option("--check", help="Run nothing; say which records are missing or stale.")] = False,
    seed: int = 0,
) -> None:
    """Measure what a paper promises, and write the record that docs/papers.md shows."""
    from tailor.base import Run
    from tailor.bench.claims import run_claim, stale_records
    from tailor.cli.showing import say
    from tailor.progress import terminal

    _repository(root)
    stale = stale_records(root)
    if check:
        say(*(stale or ["every built paper has a valid record"]))
        raise typer.Exit(bool(stale))
    for one in [slug] if slug else [line.partition(":")[0] for line in stale]:
        record = run_claim(one, root, Run(seed=seed, progress=terminal))
        say(f"{one}: {record['verdict']} in {record['seconds']} s",
            *[f"  {'yes' if came_out else 'no '}  {what}" for what, came_out in record["checks"].items()])  # fmt: skip


@app.command()
def papers(root: Root = Path()) -> None:
    """Write docs/papers.md: what is built, whose claim held, what is not there yet."""
    from tailor.bench.papers import papers_table
    from tailor.cli.showing import say
    from tailor.data.folders import replaced_by

    _repository(root)
    path = root / "docs" / "papers.md"
    with replaced_by(path) as aside:
        aside.write_text(papers_table(root), encoding="utf-8")
    say(str(path))
