"""`tailor serve`, `tailor refit`, `tailor keys`: run the service."""

import importlib.util
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tailor.errors import MissingExtraError, ModelError, StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tailor.service.refit import Outcome

T = TypeVar("T")
keys_app = typer.Typer(no_args_is_help=True)
Database = Annotated[
    str,
    typer.Option(
        help="sqlite:///FILE, a file's path, or postgresql://USER@HOST/NAME.",
        envvar="TAILOR_DATABASE",
        show_envvar=True,
    ),
]
Tenant = Annotated[str, typer.Option(help="Whose data and models.")]
HERE = "tailor.db"
NEEDED = ("sqlalchemy", "alembic", "cryptography", "fastapi", "uvicorn", "prometheus_client")


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Return those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


@keys_app.callback()
def needs_service() -> None:
    """Raise MissingExtraError where packages of the service are not installed."""
    missing = missing_packages(NEEDED)
    if missing:
        raise MissingExtraError(
            f'the service needs {", ".join(missing)}: pip install "tailor-engine[serve]"'
        )


@contextmanager
def open_store(url: str) -> "Iterator[sa.Engine]":
    """Open a database whose tables are brought to this version and whose keys are there.

    Raises StoreError for one that cannot be used.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import UNUSABLE, connect
    from tailor.store.migrating import migrate

    engine = connect(url)
    try:
        deleted = migrate(engine)
        if any(deleted.values()):
            say(
                "This store is older than its keys: what it held of people who were erased since"
                f" is deleted ({describe_counts(deleted)})"
            )
        yield engine
    except UNUSABLE as error:
        cause = error.orig if hasattr(error, "orig") else error
        raise StoreError(
            f"the database {engine.url.render_as_string()} cannot be used: {str(cause).strip()}"
        ) from None
    finally:
        engine.dispose()


def describe_counts(rows: Mapping[str, int]) -> str:
    """Return counts of rows by table as a text."""
    return ", ".join(f"{name}: {n:,}" for name, n in rows.items())


def serve_command(
    model: Path | None,
    predictor: Path | None,
    database: str,
    data: Path | None,
    tenant: str,
    host: str,
    port: int,
    workers: int,
    rate: float,
    models: Path,
    explore: float,
    meaning: bool,
) -> None:
    """Check the options, prepare the store, and serve (`tailor serve --help`)."""
    needs_service()
    from tailor.cli.showing import say
    from tailor.core.defaults import encoder
    from tailor.service.worker import refuse_taken, serve
    from tailor.store import keys
    from tailor.store.engine import held, writing
    from tailor.store.models import PREDICTS, RECOMMENDS, current_model

    _check_serve_options(workers, rate, port, explore)
    refuse_taken(host, port)  # before anything is written, and before a key is shown
    if meaning:
        encoder().encode(["a word"])  # reports what is missing now, not in every worker
    with open_store(database) as engine, held(engine):
        if data is not None:
            load_folder(engine, tenant, data)
        with writing(engine) as connection:
            for folder, kind in ((model, RECOMMENDS), (predictor, PREDICTS)):
                if folder is not None:
                    _serve_folder(connection, tenant, folder, kind)
            running = current_model(connection, tenant)
            first_key = None
            if not keys.list_keys(connection):
                first_key = keys.make_key(connection, tenant, "admin", "first")
        if first_key:
            say("First start. This key may do everything; it is shown this once:", f"  {first_key}")
        if running is None:
            say(
                "No model answers yet: fit one, then start with --model FOLDER, or run `tailor"
                " refit` beside this server"
            )
        say(f"Serving on http://{host}:{port}; how to ask: docs/guide/service.md, or /openapi.json")
        serve(engine, host, port, workers, rate, models, explore, meaning)


def _check_serve_options(workers: int, rate: float, port: int, explore: float) -> None:
    if workers < 1:
        raise StoreError(f"--workers {workers}: at least 1")
    if not 0 < rate < math.inf:
        raise StoreError(f"--rate {rate:g}: requests a second, more than 0")
    if not 0 < port < 2**16:
        raise StoreError(f"--port {port}: from 1 to {2**16 - 1:,}")
    if not 0 <= explore < 1:
        raise StoreError(f"--explore {explore:g}: a share from 0 to below 1")


def _serve_folder(connection: "sa.Connection", tenant: str, folder: Path, kind: str) -> None:
    """Register a saved model of a kind and let it answer."""
    from tailor.service.batcher import saved_digest, saved_kind
    from tailor.store.models import PREDICTS, add_model, serve_model

    if saved_kind(folder) != kind:
        option = "model" if kind == PREDICTS else "predictor"
        raise ModelError(f"{folder} {saved_kind(folder)}: give it as --{option}")
    path = str(folder.resolve())
    digest = saved_digest(folder)
    version = add_model(connection, tenant, path, digest, "given to serve", kind=kind)
    serve_model(connection, tenant, version)


def refit_command(
    pipeline: str,
    database: str,
    tenant: str,
    out: Path,
    every: float | None,
    after: int,
    force: bool,
    only: str | None,
    seed: int,
    json: bool,
) -> None:
    """Refit once, or again and again (`tailor refit --help`)."""
    needs_service()
    from tailor.cli.fitting import described
    from tailor.cli.showing import say
    from tailor.core.run import Run
    from tailor.progress import terminal
    from tailor.service.refit import refit
    from tailor.store.engine import reading
    from tailor.store.events import count_events

    if every is not None and every <= 0:
        raise StoreError(f"--every {every:g}: minutes, more than 0")
    spec = described(pipeline)
    run = Run(seed, progress=terminal)
    last_event = 0
    with open_store(database) as engine:
        while True:
            with reading(engine) as connection:
                new_events, latest_event = count_events(connection, tenant, last_event)
            if new_events >= after:
                outcome = refit(engine, tenant, spec, out, run, force, only)
                _say_outcome(outcome, json)
                last_event = latest_event
            elif every is None:
                say(f"nothing changed: {new_events} events, --after {after} were asked for")
            if every is None:
                return
            time.sleep(every * 60)


def _say_outcome(outcome: "Outcome", json: bool) -> None:
    from dataclasses import asdict

    from tailor.cli.showing import print_json, say

    if json:
        print_json(asdict(outcome))
        return
    if outcome.swapped:
        say(f"version {outcome.version} answers: {outcome.why}")
    else:
        say(f"nothing changed: {outcome.why}")
    if outcome.left_out:
        say(
            f"{outcome.events:,} events count, {outcome.left_out:,} do not: they speak against"
            " their item, repeat the same all day, or lie in the future"
        )


def load_folder(engine: "sa.Engine", tenant: str, folder: Path) -> None:
    """Write a data set into the store, and say what was new."""
    from tailor.cli.showing import say
    from tailor.data.dataset import Dataset
    from tailor.progress import terminal
    from tailor.store.loading import load_dataset

    counts = load_dataset(engine, tenant, Dataset.open(folder), terminal)
    say(
        f"{folder}: {counts['items']} items, {counts['new items']} of them new,"
        f" {counts['changed items']} changed; {counts['events']} events, {counts['new events']} of"
        " them new"
    )


def _write(database: str, job: "Callable[[sa.Connection], T]") -> T:
    from tailor.store.engine import writing

    with open_store(database) as engine, writing(engine) as connection:
        return job(connection)


@keys_app.command("make")
def make_key(
    name: Annotated[str, typer.Argument(help="What it is for; keys are revoked by name.")],
    role: Annotated[
        str,
        typer.Option(
            help="serve (lists), read (reasons too), write (events and items too), admin (all)."
        ),
    ] = "read",
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Make an API key and print it, this once."""
    from tailor.cli.showing import say
    from tailor.store import keys

    say(_write(database, lambda connection: keys.make_key(connection, tenant, role, name)))


@keys_app.command("list")
def list_keys(database: Database = HERE) -> None:
    """Print every key's tenant, name and role; never the key."""
    from tailor.cli.showing import table
    from tailor.store import keys

    rows = []
    for key in _write(database, keys.list_keys):
        made_at = time.gmtime(int(str(key["made_ms"])) / 1000)
        rows.append(
            [
                key["tenant"],
                key["name"],
                key["role"],
                time.strftime("%Y-%m-%d", made_at),
                "revoked" if key["revoked_ms"] else "",
            ]
        )
    table(["tenant", "name", "role", "made", ""], rows)


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Of the key.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Revoke every key of a name; running servers follow within seconds."""
    from tailor.cli.showing import say
    from tailor.store import keys

    revoked = _write(database, lambda connection: keys.revoke(connection, tenant, name))
    if not revoked:
        raise StoreError(
            f'tenant "{tenant}" has no key "{name}" that is not revoked: `tailor keys list`'
        )
    say(f"revoked: {revoked}")
