"""`tailor memory`: what a store remembers of a user, and why; correct it, and let go of it."""

import json as json_format
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailor.cli.serving import HERE, Database, Tenant, needs_service, open_store
from tailor.errors import DataError

if TYPE_CHECKING:
    from tailor.profiles.memory import Memory
    from tailor.profiles.propositions import Observation, Proposition

memory_app = typer.Typer(no_args_is_help=True)
memory_app.callback()(needs_service)
User = Annotated[str, typer.Argument(help="Id of the user.")]
Entry = Annotated[str, typer.Argument(help="Id of a proposition, as `timeline --json` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsOf = Annotated[
    int | None, typer.Option(help="As the memory was at this time, in milliseconds since 1970.")
]
At = Annotated[
    int | None, typer.Option(help="A time in the user's life, in milliseconds since 1970.")
]
Sensitivity = Annotated[
    int, typer.Option(min=0, max=3, help="3 shows health, faith, love and politics too.")
]
DAY = "%Y-%m-%d"


@contextmanager
def _opened(database: str, tenant: str) -> "Iterator[Memory]":
    from tailor.profiles.memory import Memory

    with open_store(database, make=True) as engine:
        yield Memory(engine, tenant)


@memory_app.command("observe")
def observe(
    user: User,
    text: Annotated[str | None, typer.Argument(help="A message of the user.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help=(
                "JSON lines with text, and kind, occurred_ms, item_id, value, source, speaker where"
                " they are known."
            )
        ),
    ] = None,
    json: Json = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Store what a user said or did, and believe what follows from it."""
    from tailor.cli.showing import print_json, say
    from tailor.profiles.sensitivity import MOST_SENSITIVITY, shown_propositions

    if (text is None) == (file is None):
        raise DataError("give a text, or --file with JSON lines")
    sent: str | list[Observation] = text or ""
    with _opened(database, tenant) as memory:
        if file is not None:
            sent = _read_observations(file, memory.clock())
        observed = memory.observe(user, sent)
        believed = shown_propositions(observed.believed, MOST_SENSITIVITY)
        if json:
            values = [_values(p, memory.clock()) for p in believed]
            print_json({**observed._asdict(), "believed": values})
            return
        say(
            f"{len(observed.new):,} new, {observed.repeats:,} known, {observed.refused:,} refused,"
            f" {observed.withdrawn:,} not to be remembered{'; paused' if observed.paused else ''}"
        )
        _show(believed, memory.clock())


@memory_app.command("recall")
def recall(
    user: User,
    query: Annotated[str, typer.Argument(help="What is asked.")],
    k: Annotated[int, typer.Option(help="How many, at most.")] = 10,
    tokens: Annotated[int | None, typer.Option(help="Tokens of all texts, at most.")] = None,
    scope: Annotated[str, typer.Option(help='What holds elsewhere counts less: "at work".')] = "",
    at: At = None,
    as_of: AsOf = None,
    most_sensitivity: Sensitivity = 1,
    json: Json = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Find what of a memory answers a question."""
    from dataclasses import asdict

    from tailor.cli.showing import print_json, say, table

    with _opened(database, tenant) as memory:
        recollection = memory.recall(user, query, k, tokens, scope, at, as_of, most_sensitivity)
    if json:
        print_json(asdict(recollection))
        return
    rows = [[item.text, item.kind, round(item.score, 3)] for item in recollection.items]
    if rows:
        table(["text", "kind", "score"], rows)
    say(f"answerable: {recollection.answerable:.2f}")


@memory_app.command("profile")
def profile(
    user: User,
    tokens: Annotated[int | None, typer.Option(help="Tokens of the text, at most.")] = None,
    most_sensitivity: Sensitivity = 1,
    at: At = None,
    as_of: AsOf = None,
    json: Json = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Write down what is believed of a user, the surest first, with ids."""
    from tailor.cli.showing import print_json, say
    from tailor.data.nouns import plain

    with _opened(database, tenant) as memory:
        result = memory.profile(user, at, as_of, tokens, most_sensitivity)
    if json:
        print_json(plain(result))
    else:
        say(*(result.text.splitlines() or result.notes))


@memory_app.command("explain")
def explain(
    user: User,
    proposition: Entry,
    most_sensitivity: Sensitivity = 1,
    json: Json = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Show what a proposition rests on, and since when it is believed."""
    from dataclasses import asdict

    from tailor.cli.showing import print_json, say, table

    with _opened(database, tenant) as memory:
        explanation = memory.explain(user, proposition, most_sensitivity)
        values = _values(explanation.proposition, memory.clock())
    if json:
        evidence = [asdict(observation) for observation in explanation.evidence]
        print_json({**explanation._asdict(), "proposition": values, "evidence": evidence})
        return
    say(f"{explanation.proposition.text}: {explanation.confidence:.2f}, {values['status']}")
    rows = [
        [observation.text or str(observation.item_id), observation.kind, _day(observation)]
        for observation in explanation.evidence
    ]
    table(["evidence", "kind", "day"], rows)
    say(f"concluded by {', '.join(explanation.proposers)}")


@memory_app.command("confirm")
def confirm(
    user: User, proposition: Entry, tenant: Tenant = "default", database: Database = HERE
) -> None:
    """Note that the user says a proposition is right."""
    with _opened(database, tenant) as memory:
        _show_to_writer(memory.confirm(user, proposition), memory.clock())


@memory_app.command("reject")
def reject(
    user: User, proposition: Entry, tenant: Tenant = "default", database: Database = HERE
) -> None:
    """Note that the user says a proposition is wrong: no inference brings it back."""
    with _opened(database, tenant) as memory:
        _show_to_writer(memory.reject(user, proposition), memory.clock())


@memory_app.command("correct")
def correct(
    user: User,
    proposition: Entry,
    value: Annotated[str, typer.Argument(help="What takes the place of its object.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Put the user's own value in place of a proposition's object."""
    with _opened(database, tenant) as memory:
        _show_to_writer(memory.correct(user, proposition, value), memory.clock())


@memory_app.command("forget")
def forget(
    user: User,
    entry: Annotated[
        str | None, typer.Argument(help="Id of an observation or a proposition.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="All observations that have these words.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole memory.")] = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Delete observations and what rests on them alone; print the signed receipt."""
    from tailor.cli.showing import print_json

    with _opened(database, tenant) as memory:
        print_json(memory.forget(user, entry, query, everything))


@memory_app.command("pause")
def pause(user: User, tenant: Tenant = "default", database: Database = HERE) -> None:
    """Observe nothing new of a user until `resume`."""
    from tailor.cli.showing import say

    with _opened(database, tenant) as memory:
        memory.pause(user)
    say("paused: nothing new is observed, what is known stays")


@memory_app.command("resume")
def resume(user: User, tenant: Tenant = "default", database: Database = HERE) -> None:
    """Observe a user again."""
    from tailor.cli.showing import say

    with _opened(database, tenant) as memory:
        memory.resume(user)
    say("observing")


@memory_app.command("retain")
def retain(
    user: User,
    days: Annotated[float, typer.Argument(help="Days that observations are kept; 0: for ever.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Delete observations so many days after they happened, now and from now on."""
    from tailor.cli.showing import say

    with _opened(database, tenant) as memory:
        memory.retain(user, days or None)
    say(f"kept for {days:g} days" if days else "kept for ever")


@memory_app.command("export")
def export(
    user: User,
    out: Annotated[Path, typer.Argument(help="File to write: JSON, as `import` reads it.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Write all of a memory to a file. No erasure reaches it."""
    from tailor.cli.showing import say

    with _opened(database, tenant) as memory:
        exported = memory.export(user)
    out.write_text(json_format.dumps(exported, indent=1) + "\n", encoding="utf-8")
    say(
        f"{out}: {len(exported['observations']):,} observations,"
        f" {len(exported['propositions']):,} propositions; no erasure reaches it"
    )


@memory_app.command("import")
def import_file(
    user: User,
    file: Annotated[Path, typer.Argument(help="What `export` wrote.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Add an exported memory to a user's; what is there already counts once."""
    from tailor.cli.showing import say

    exported = _read_json(file)
    with _opened(database, tenant) as memory:
        observed = memory.import_(user, exported)
    say(f"{len(observed.new):,} new, {observed.repeats:,} known, {observed.refused:,} refused")


@memory_app.command("timeline")
def timeline(
    user: User,
    as_of: AsOf = None,
    most_sensitivity: Sensitivity = 1,
    json: Json = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """List all that is or was believed, the earliest first."""
    from tailor.cli.showing import print_json

    with _opened(database, tenant) as memory:
        propositions = memory.timeline(user, as_of, most_sensitivity)
        if json:
            print_json([_values(p, memory.clock()) for p in propositions])
        else:
            _show(propositions, memory.clock())


@memory_app.command("diff")
def diff(
    user: User,
    since: Annotated[int, typer.Argument(help="A time, in milliseconds since 1970.")],
    until: Annotated[int | None, typer.Argument(help="A later one; left out: now.")] = None,
    most_sensitivity: Sensitivity = 1,
    json: Json = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Show what a memory came to believe between two times, and ceased to."""
    from tailor.cli.showing import print_json, say

    with _opened(database, tenant) as memory:
        difference = memory.diff(user, since, until, most_sensitivity)
        if json:
            sides = difference._asdict().items()
            time_ms = memory.clock()
            print_json({name: [_values(p, time_ms) for p in side] for name, side in sides})
            return
    say(*(f"- {proposition.text} ({proposition.status})" for proposition in difference.retracted))
    say(*(f"+ {proposition.text} ({proposition.status})" for proposition in difference.added))


@memory_app.command("replay")
def replay(user: User, tenant: Tenant = "default", database: Database = HERE) -> None:
    """Compute all that is believed anew from raw observations, and compare."""
    from tailor.cli.showing import say

    with _opened(database, tenant) as memory:
        replayed = memory.replay(user)
    if not replayed.agrees:
        raise DataError(
            f"{len(replayed.difference.retracted)} propositions do not follow from the observations"
            f" and {len(replayed.difference.added)} are not there: they were concluded by an"
            " earlier version, or changed by hand"
        )
    say(f"the same: {replayed.replayed_hash}")


def _values(proposition: "Proposition", time_ms: int) -> dict[str, Any]:
    from tailor.profiles.exports import shown

    return shown(proposition, time_ms)


def _show_to_writer(propositions: "Sequence[Proposition]", time_ms: int) -> None:
    """Print propositions but those that no reading shows unless it is asked."""
    from tailor.profiles.sensitivity import MOST_SENSITIVITY, shown_propositions

    _show(shown_propositions(propositions, MOST_SENSITIVITY), time_ms)


def _show(propositions: "Sequence[Proposition]", time_ms: int) -> None:
    """Print a table of propositions."""
    from tailor.cli.showing import table

    rows = [
        [
            p.text,
            p.status,
            round(p.confidence(time_ms), 2),
            datetime.fromtimestamp(p.valid_from_ms / 1000, UTC).strftime(DAY),
            p.proposition_id,
        ]
        for p in propositions
    ]
    if rows:
        table(["text", "status", "confidence", "since", "id"], rows)


def _day(observation: "Observation") -> str:
    return datetime.fromtimestamp(observation.occurred_ms / 1000, UTC).strftime(DAY)


def _read_json(file: Path) -> Any:
    try:
        return json_format.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error})") from None


def _read_observations(file: Path, time_ms: int) -> "list[Observation]":
    """Return the observations of a file; those without a time are of now."""
    from tailor.profiles.exports import as_observation

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error})") from None
    observations = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = {"kind": "chat", "occurred_ms": time_ms, **json_format.loads(line)}
            observations.append(as_observation(value))
        except (TypeError, ValueError) as error:
            raise DataError(f"{file}, line {number}: no observation ({error})") from None
    return observations
