"""`tailor serve`, `tailor refit`, `tailor keys`: running it for people."""

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


def missing(packages: Iterable[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


@keys_app.callback()
def needs_service() -> None:
    """Raises MissingExtraError where what the service is built on is not installed."""
    if lacking := missing(NEEDED):
        raise MissingExtraError(
            f'the service needs {", ".join(lacking)}: pip install "tailor-engine[serve]"'
        )


@contextmanager
def opened(url: str) -> "Iterator[sa.Engine]":
    """The engine of a database whose tables are of this version, and whose people's keys are there.
    Raises StoreError for one that cannot be used.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import UNUSABLE, connect
    from tailor.store.migrating import migrate

    engine = connect(url)
    try:
        gone = migrate(engine)
        if any(gone.values()):
            say(
                "This store is older than its keys: what it held of people who were erased since"
                f" is deleted ({counted(gone)})"
            )
        yield engine
    except UNUSABLE as error:
        raise StoreError(
            f"the database {engine.url.render_as_string()} cannot be used:"
            f" {str(error.orig if hasattr(error, 'orig') else error).strip()}"
        ) from None
    finally:
        engine.dispose()


def counted(rows: Mapping[str, int]) -> str:
    """Rows by table, in words."""
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
    """See `tailor serve --help`."""
    needs_service()
    from tailor.cli.showing import say
    from tailor.core.defaults import encoder
    from tailor.service.batcher import saved_digest, saved_kind
    from tailor.service.worker import refuse_taken, serve
    from tailor.store import keys
    from tailor.store.engine import held, writing
    from tailor.store.models import PREDICTS, RECOMMENDS, add_model, current_model, serve_model

    if workers < 1:
        raise StoreError(f"--workers {workers}: at least 1")
    if not 0 < rate < math.inf:
        raise StoreError(f"--rate {rate:g}: requests a second, more than 0")
    if not 0 < port < 2**16:
        raise StoreError(f"--port {port}: from 1 to {2**16 - 1:,}")
    if not 0 <= explore < 1:
        raise StoreError(f"--explore {explore:g}: a share from 0 to below 1")
    refuse_taken(host, port)  # before anything is written, and before a key is shown
    if meaning:
        encoder().encode(["a word"])  # what is missing for it is said now, not by every worker
    with opened(database) as engine, held(engine):
        if data is not None:
            load(engine, tenant, data)
        with writing(engine) as connection:
            for given, kind in ((model, RECOMMENDS), (predictor, PREDICTS)):
                if given is not None:
                    folder = str(given.resolve())
                    if saved_kind(folder) != kind:
                        raise ModelError(
                            f"{given} {saved_kind(folder)}: give it as"
                            f" --{'model' if kind == PREDICTS else 'predictor'}"
                        )
                    version = add_model(
                        connection,
                        tenant,
                        folder,
                        saved_digest(folder),
                        "given to serve",
                        kind=kind,
                    )
                    serve_model(connection, tenant, version)
            running = current_model(connection, tenant)
            first = (
                None
                if keys.listed(connection)
                else keys.make_key(connection, tenant, "admin", "first")
            )
        if first:
            say("First start. This key may do everything; it is shown this once:", f"  {first}")
        if running is None:
            say(
                "No model answers yet: fit one, then start with --model FOLDER, or run `tailor"
                " refit` beside this server"
            )
        say(f"Serving on http://{host}:{port}; how to ask: docs/guide/service.md, or /openapi.json")
        serve(engine, host, port, workers, rate, models, explore, meaning)


def refit_command(
    pipeline: str,
    database: str,
    tenant: str,
    out: Path,
    every: float | None,
    after: int,
    force: bool,
    seed: int,
    json: bool,
) -> None:
    """See `tailor refit --help`."""
    needs_service()
    from dataclasses import asdict

    from tailor.cli.fitting import described
    from tailor.cli.showing import print_json, say
    from tailor.core.run import Run
    from tailor.progress import terminal
    from tailor.service.refit import refit
    from tailor.store.engine import reading
    from tailor.store.events import count

    if every is not None and every <= 0:
        raise StoreError(f"--every {every:g}: minutes, more than 0")
    spec, last = described(pipeline), 0
    with opened(database) as engine:
        while True:
            with reading(engine) as connection:
                new, latest = count(connection, tenant, last)
            if new >= after:
                outcome = refit(engine, tenant, spec, out, Run(seed, progress=terminal), force)
                if json:
                    print_json(asdict(outcome))
                else:
                    say(
                        f"version {outcome.version} answers: {outcome.why}"
                        if outcome.swapped
                        else f"nothing changed: {outcome.why}"
                    )
                last = latest
            elif every is None:
                say(f"nothing changed: {new} events, --after {after} were asked for")
            if every is None:
                return
            time.sleep(every * 60)


def load(engine: "sa.Engine", tenant: str, data: Path) -> None:
    """Write a data set into the store, and say what was new."""
    from tailor.cli.showing import say
    from tailor.data.dataset import Dataset
    from tailor.progress import terminal
    from tailor.store.loading import load_dataset

    found = load_dataset(engine, tenant, Dataset.open(data), terminal)
    say(
        f"{data}: {found['items']} items, {found['new items']} of them new,"
        f" {found['changed items']} changed; {found['events']} events, {found['new events']} of"
        " them new"
    )


def _written(database: str, job: Callable[..., T]) -> T:
    from tailor.store.engine import writing

    with opened(database) as engine, writing(engine) as connection:
        return job(connection)


@keys_app.command("make")
def make_key(
    name: Annotated[str, typer.Argument(help="What it is for; keys are revoked by name.")],
    role: Annotated[
        str, typer.Option(help="read (answers), write (events and items too), admin (everything).")
    ] = "read",
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Make an API key and print it, this once."""
    from tailor.cli.showing import say
    from tailor.store import keys

    say(_written(database, lambda connection: keys.make_key(connection, tenant, role, name)))


@keys_app.command("list")
def list_keys(database: Database = HERE) -> None:
    """Every key's tenant, name and role; never the key."""
    from tailor.cli.showing import table
    from tailor.store import keys

    found = _written(database, keys.listed)
    when = time.gmtime
    rows = [
        [
            row["tenant"],
            row["name"],
            row["role"],
            time.strftime("%Y-%m-%d", when(int(str(row["made_ms"])) / 1000)),
            "revoked" if row["revoked_ms"] else "",
        ]
        for row in found
    ]
    table(["tenant", "name", "role", "made", ""], rows)


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Of the key.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """End every key of a name; running servers believe it within seconds."""
    from tailor.cli.showing import say
    from tailor.store import keys

    ended = _written(database, lambda connection: keys.revoke(connection, tenant, name))
    if not ended:
        raise StoreError(
            f'tenant "{tenant}" has no key "{name}" that is not revoked: `tailor keys list`'
        )
    say(f"revoked: {ended}")
