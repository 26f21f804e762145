"""`tailor bench`: claims, papers, suites, cards, peers."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tailor.errors import DataError

app = typer.Typer(no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="The repository, which holds benchmarks/claims and docs.")]


def _repository(root: Path) -> None:
    if not (root / "docs" / "papers.toml").is_file():
        raise DataError(
            f"{root.absolute()} is not the repository (there is no docs/papers.toml): name a clone"
            " of it with --root"
        )


Out = Annotated[Path, typer.Option(help="Folder of the cards.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def claims(
    slug: Annotated[
        str | None, typer.Argument(help="A paper; left out: all without a valid record.")
    ] = None,
    root: Root = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Measure nothing; say which records are not valid.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="With --check: a stale record fails, too.")
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Renew records whose method answers as it did.")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="Measure the long form.")] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="Measure every paper again; a stopped sweep goes on."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --all: begin the sweep anew.")
    ] = False,
    seed: int = 0,
) -> None:
    """Measure what a paper promises, and write the record that docs/papers.md shows."""
    from tailor.bench.claims import slugs_to_measure, statuses

    _repository(root)
    if check:
        _check_claims(root, release)
    elif renew:
        _renew_claims(root)
    elif every:
        _sweep_claims(root, seed, fresh)
    else:
        for name in [slug] if slug else slugs_to_measure(statuses(root)):
            _measure(name, root, seed, long)


def _check_claims(root: Path, release: bool) -> None:
    """Print the state of every record that is not valid; fails where one is unusable."""
    from tailor.bench.claims import FATAL, OUTDATED, statuses
    from tailor.cli.showing import say

    states = [status for status in statuses(root) if status.state != "valid"]
    say(*([str(status) for status in states] or ["every built paper has a valid record"]))
    fatal = (*FATAL, *OUTDATED) if release else FATAL
    raise typer.Exit(any(status.state in fatal for status in states))


def _renew_claims(root: Path) -> None:
    from tailor.bench.claims import renew
    from tailor.cli.showing import say

    renewed = [f"renewed: {status.slug} ({status.form})" for status in renew(root)]
    say(*(renewed or ["nothing to renew"]))


def _sweep_claims(root: Path, seed: int, fresh: bool) -> None:
    """Measure all papers; one that fails does not cost the others their time."""
    from tailor.bench.claims import end_sweep, sweep, sweeping, verdicts
    from tailor.cli.showing import say, table
    from tailor.errors import TailorError

    failures = []
    with sweeping(root):
        left, done = sweep(root, fresh)
        if done:
            say(f"going on: {len(done)} of {len(done) + len(left)} are measured already")
        for slug in left:
            try:
                _measure(slug, root, seed)
            except TailorError as error:
                failures.append(f"{slug}: {error}")
            except Exception as error:  # programs are anybody's
                failures.append(f"{slug}: {type(error).__name__}: {error}")
        if not failures:
            end_sweep(root)
    columns = ["paper", "verdict", "form", "promises", "date", "commit", "seconds"]
    rows = [
        [row[name] or 0.0 if name == "seconds" else row[name] for name in columns]
        for row in verdicts(root)
    ]
    table(columns, rows)
    say(*failures)
    raise typer.Exit(bool(failures))


def _measure(slug: str, root: Path, seed: int, long: bool = False) -> None:
    from tailor.bench.claims import run_claim
    from tailor.cli.showing import say
    from tailor.core.run import Run
    from tailor.progress import terminal

    form: Literal["quick", "long"] = "long" if long else "quick"
    record = run_claim(slug, root, Run(seed=seed, progress=terminal), form)
    say(f"{slug}: {record['verdict']} in {record['processor_seconds']} processor seconds")
    for promise, came_out in record["checks"].items():
        say(f"  {'yes' if came_out else 'no '}  {promise}")


@app.command()
def suites() -> None:
    """List the suites: what each measures, and what of it is not built yet."""
    from tailor.bench.suites import read_suite, suite_names
    from tailor.cli.showing import say
    from tailor.errors import MissingExtraError

    for name in suite_names():
        try:
            suite = read_suite(name)
        except MissingExtraError as error:  # the others can be run all the same
            say(f"{name}: {error}")
            continue
        say(f"{name}: {suite.about}", f"    methods: {', '.join(suite.methods) or 'none yet'}")
        say(*(f"    not built: {method} ({reason})" for method, reason in suite.waiting.items()))


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a file of one (TOML).")],
    out: Out = Path("runs"),
    only: Annotated[
        list[str] | None, typer.Option(help="Only this method of the suite. Repeatable.")
    ] = None,
) -> None:
    """Measure a suite, one card (a folder) per method and random state.

    Cards that are there already are kept, so a stopped run goes on.
    """
    from tailor.bench.cards import run_suite
    from tailor.bench.suites import read_suite
    from tailor.cli.showing import say, show_diagnosis
    from tailor.core.run import Run
    from tailor.errors import nearest
    from tailor.progress import terminal

    plan = read_suite(suite)
    for method in only or []:
        if method not in plan.methods:
            hint = nearest(method, plan.methods)
            raise DataError(f'the suite has no method "{method}".{hint}')
    cards = run_suite(plan, out, Run(progress=terminal), only or [], show_diagnosis)
    say(*(f"{card.folder}: {card.status}" for card in cards))
    say(*(f"not built: {method} ({reason})" for method, reason in plan.waiting.items()))
    baseline = f" --baseline {plan.baseline}" if plan.baseline and not only else ""
    say(f"Next: tailor bench table {out / plan.name}{baseline}")
    raise typer.Exit(any(card.status != "done" for card in cards))


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="A card, or a folder of cards.")]) -> None:
    """Make every card's result again, and compare it value by value.

    What differs is printed, and the exit code is then 1.
    """
    from tailor.bench.cards import cards_in
    from tailor.bench.verifying import verify as verified
    from tailor.cli.showing import say
    from tailor.core.run import Run
    from tailor.errors import TailorError

    is_different = False
    for card in cards_in(folder):
        try:
            lines = verified(card, Run())
        except TailorError as error:
            lines = [str(error)]
        is_different |= bool(lines)
        say(
            f"{card.folder}: {'not as it was' if lines else 'the same, value by value'}",
            *(f"    {line}" for line in lines),
        )
    raise typer.Exit(is_different)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A card.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Print the differences of two cards: settings, data, code, random state, results."""
    from tailor.bench.cards import read_card
    from tailor.bench.leaderboard import compare_cards
    from tailor.cli.showing import say

    say(*(compare_cards(read_card(first), read_card(second)) or ["nothing"]))


@app.command()
def table(
    folder: Annotated[Path, typer.Argument(help="A folder of cards.")] = Path("runs"),
    baseline: Annotated[str | None, typer.Option(help="Method to test the others against.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page of its own with plots to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Build leaderboards from the folders of cards.

    They show means over random states with intervals, and paired tests.
    """
    from tailor.bench.cards import cards_in
    from tailor.bench.leaderboard import boards
    from tailor.cli.showing import print_json, say, show_board
    from tailor.data.folders import replaced_by
    from tailor.evaluation.pages import page

    leaderboards = boards(cards_in(folder), baseline)
    if html is not None:
        if len(leaderboards) > 1:
            raise DataError(
                f"{folder} holds cards of {len(leaderboards)} splits or protocols: name the folder"
                " of one suite for a page"
            )
        board = leaderboards[0]
        with replaced_by(html) as aside:
            aside.write_text(page(board.report, board.tests, title=board.title), encoding="utf-8")
    if json:
        print_json(
            [
                {
                    "title": board.title,
                    "rows": [row.to_dict() for row in board.rows],
                    "failed": board.failed,
                    "comparisons": [test.to_dict() for test in board.tests],
                }
                for board in leaderboards
            ]
        )
        return
    for board in leaderboards:
        show_board(board.title, board.rows, board.failed, board.tests)
    if html is not None:
        say(f"page: {html}")


@app.command()
def peers(
    names: Annotated[list[str] | None, typer.Argument(help="Which; left out: all.")] = None,
    root: Root = Path(),
    environments: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a virtual environment for each peer; left out: run nothing."
        ),
    ] = None,
) -> None:
    """Race other projects' programs, and print the results of the last races."""
    from tailor.bench.peers import race, race_table
    from tailor.cli.showing import say
    from tailor.cli.showing import table as show

    _repository(root)
    if environments is not None:
        say(*race(root, environments, names or []))
    rows = race_table(root)
    cells = []
    for row in rows:
        ratio = "" if row["value"] is None else f"{row['value']:.2f}"
        cells.append([row["peer"], row["figure"], ratio, row["date"]])
    show(["peer", "figure", "ratio", "date"], cells)


@app.command()
def papers(root: Root = Path()) -> None:
    """Write docs/papers.md: what is built, whose claim held, what is not there yet.

    Writes the same for the console, tailor/console/papers.json.
    """
    import json

    from tailor.bench.claims import statuses
    from tailor.bench.papers import papers_list, papers_table
    from tailor.cli.showing import say
    from tailor.data.folders import replaced_by

    _repository(root)
    states = statuses(root)
    texts = {
        root / "docs" / "papers.md": papers_table(root, states),
        root / "tailor" / "console" / "papers.json": json.dumps(
            papers_list(root, states), indent=1, ensure_ascii=False
        )
        + "\n",
    }
    for path, text in texts.items():
        with replaced_by(path) as aside:
            aside.write_text(text, encoding="utf-8")
        say(str(path))
