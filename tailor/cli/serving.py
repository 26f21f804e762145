"""`tailor serve`, `tailor keys`: run the service; open its database for any command."""

import importlib.util
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tailor.data.untimed import UNTIMED
from tailor.errors import DataError, MissingExtraError, ModelError, StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tailor.data.dataset import Dataset

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


def fit_tenant(name: str) -> str:
    """Return the name of a tenant. Raises StoreError, with the rule, for one that cannot be."""
    if not missing_packages(NEEDED):  # else the command says so
        from tailor.store.keys import check_tenant

        check_tenant(name)
    return name


Tenant = Annotated[str, typer.Option(help="Whose data and models.", callback=fit_tenant)]
HERE = "tailor.db"
MOST_CHECKED_BYTES = 2**31  # of a SQLite file that is read through at every start
OPTIONS = {"recommends": "model", "predicts": "predictor", "reranks": "reranker"}  # by kind
FIRST_KEY = "first-key"  # ending of the file with the first key
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
def open_store(url: str, make: bool = False) -> "Iterator[sa.Engine]":
    """Open a database whose tables are those of this version, and whose keys are there.

    Nothing is migrated. With `make` a database that is not there is made. Raises StoreError for one
    that cannot be used, with the command that helps.
    """
    from tailor.store.engine import reading, writing
    from tailor.store.migrating import alone, make_if_empty, require_current
    from tailor.store.subjects import is_out_of_sync, reconcile

    with usable(url) as engine:
        if make:
            make_if_empty(engine)
        else:
            require_file(engine)
            with alone(engine):  # a migration that runs is waited for
                require_current(engine)
        with reading(engine) as connection:
            is_older = is_out_of_sync(connection)
        if is_older:
            with writing(engine) as connection:
                say_deleted(reconcile(connection))
        yield engine


@contextmanager
def open_to_serve(url: str) -> "Iterator[sa.Engine]":
    """Open a database for a server: whole, brought to this version's shape, held to the end.

    Raises StoreError for one that is damaged, of a newer version, or served already.
    """
    from tailor.store.engine import held
    from tailor.store.migrating import alone, migrate, require_current

    with usable(url) as engine:
        if engine.dialect.name == "sqlite":
            with held(engine):
                refuse_damaged(engine)
                say_deleted(migrate(engine))
                yield engine
            return
        say_deleted(migrate(engine))
        with held(engine):
            with alone(engine):
                require_current(engine)  # nobody has changed the tables in between
            yield engine


@contextmanager
def usable(url: str) -> "Iterator[sa.Engine]":
    """Connect to a database, and make its errors one line each.

    Raises StoreError with the cause and the remedy.
    """
    from tailor.store.engine import UNUSABLE, address_of, connect, first_line

    engine = connect(url)
    try:
        yield engine
    except UNUSABLE as error:
        cause = first_line(error)
        raise StoreError(
            f"the database {address_of(engine)} cannot be used: {cause}{_remedy(cause)}"
        ) from None
    finally:
        engine.dispose()


REMEDIES = {  # by a part of the cause
    "malformed": ". The file is damaged: stop every server, then `tailor store restore COPY`",
    "not a database": ". Name another file, or put a copy back: `tailor store restore COPY`",
    "password authentication failed": (
        ". In an address @ : / % of a password are written %40 %3A %2F %25; or give it as"
        " PGPASSWORD"
    ),
    "disk is full": ". Free some space on the disk of the database",
    "No space left": ". Free some space on the disk of the database",
    "locked": ". Another program is writing: wait until it ends, or end it",
    "readonly": ". Make the file and its folder writable for this user",
    "unable to open": ". Make the file and its folder readable and writable for this user",
}


def _remedy(cause: str) -> str:
    """Return the sentence that helps against a cause, empty where none is known."""
    return next((text for part, text in REMEDIES.items() if part in cause), "")


def say_deleted(counts: Mapping[str, int]) -> None:
    """Say how many rows of erased people went, by table."""
    from tailor.cli.showing import say

    if any(counts.values()):
        say(
            "This store is older than its keys: what it held of people who were erased since"
            f" is deleted ({describe_counts(counts)})"
        )


def require_file(engine: "sa.Engine") -> None:
    """Raise StoreError where the file of a SQLite database is not there."""
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path is not None and not Path(path).is_file():
        raise StoreError(
            f"{path} is not there: name the database by --database or TAILOR_DATABASE, or make it"
            " (`tailor serve`, or `tailor store load DATA`)"
        )


def refuse_damaged(engine: "sa.Engine") -> None:
    """Raise StoreError for a SQLite file in which something is wrong."""
    from tailor.store.engine import find_damage

    path = Path(str(engine.url.database))
    if not path.is_file() or path.stat().st_size > MOST_CHECKED_BYTES:
        return
    damage = find_damage(engine)
    if damage:
        remedy = _remedy(damage) or REMEDIES["malformed"]
        raise StoreError(f"the database {path} cannot be used: {damage}{remedy}")


def describe_counts(rows: Mapping[str, int]) -> str:
    """Return counts of rows by table as a text, empty where there are none."""
    return ", ".join(f"{name}: {n:,}" for name, n in rows.items() if n)


def serve_command(
    model: Path | None,
    predictor: Path | None,
    reranker: Path | None,
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
    memory: bool = True,
    first_key: Path | None = None,
) -> None:
    """Check the options, prepare the store, and serve (`tailor serve --help`)."""
    needs_service()
    from tailor.cli.showing import say
    from tailor.core.defaults import encoder
    from tailor.service.worker import refuse_taken, serve
    from tailor.store.engine import writing
    from tailor.store.models import PREDICTS, RECOMMENDS, RERANKS, current_model

    _check_serve_options(workers, rate, port, explore)
    refuse_taken(host, port)  # before anything is written, and before a key is shown
    dataset = None if data is None else open_timed(data)
    if meaning:
        encoder().encode(["a word"])  # reports what is missing now, not in every worker
    with open_to_serve(database) as engine:
        if dataset is not None:
            load_folder(engine, tenant, dataset, data)
        with writing(engine) as connection:
            folders = {RECOMMENDS: model, PREDICTS: predictor, RERANKS: reranker}
            for kind, folder in folders.items():
                if folder is not None:
                    _serve_folder(connection, tenant, folder, kind)
            running = current_model(connection, tenant)
        _make_first_key(engine, tenant, first_key)
        if running is None:
            say(
                "No model answers yet: fit one, then start with --model FOLDER, or run `tailor"
                " refit` beside this server"
            )
        say(f"Serving on http://{host}:{port}; how to ask: docs/guide/service.md, or /openapi.json")
        serve(engine, host, port, workers, rate, models, explore, meaning, memory)


def _make_first_key(engine: "sa.Engine", tenant: str, file: Path | None) -> None:
    """Make a key that may do everything where there is none yet.

    A terminal shows it. Elsewhere, or where a file is named, it is written into a file, since
    output is kept in logs that many can read. Raises StoreError where that cannot be written.
    """
    from tailor.cli.showing import say
    from tailor.store import keys
    from tailor.store.engine import writing
    from tailor.store.migrating import alone

    with alone(engine), writing(engine) as connection:
        if keys.list_keys(connection):
            return
        key = keys.make_key(connection, tenant, "admin", "first")
        if file is None and not sys.stdout.isatty():
            file = first_key_file(engine)
        if file is not None:
            _write_secret(file, key)  # before the commit: no key is made that nobody has
    if file is None:
        say("First start. This key may do everything; it is shown this once:", f"  {key}")
    else:
        say(
            f"First start. The first key, which may do everything, is in {file}: only its owner can"
            " read it. Keep it elsewhere, then delete the file"
        )


def first_key_file(engine: "sa.Engine") -> Path:
    """Return the file for the first key: beside a SQLite database, else in this folder."""
    name = engine.url.database or ""
    if engine.dialect.name == "sqlite":
        return Path(name).with_suffix(f".{FIRST_KEY}")
    stem = name if re.fullmatch(r"[\w-]+", name) else "tailor"
    return Path(f"{stem}.{FIRST_KEY}")


def _write_secret(path: Path, text: str) -> None:
    """Write a line that only the file's owner can read, aside and then renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(
            f"the first key cannot be written to {path} ({error.strerror}): name another file by"
            " --first-key FILE"
        ) from None


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
    """Load a saved model of a kind, register it, and let it answer.

    Raises ModelError, before anything is written, for one that cannot be served.
    """
    from tailor.cli.showing import say
    from tailor.service.batcher import check_model, saved_kind
    from tailor.store.models import add_model, serve_model

    if saved_kind(folder) != kind:
        option = OPTIONS[saved_kind(folder)]
        raise ModelError(f"{folder} {saved_kind(folder)}: give it as --{option}")
    checked = check_model(folder)
    path = str(folder.resolve())
    version = add_model(connection, tenant, path, checked.digest, "given to serve", kind=kind)
    serve_model(connection, tenant, version)
    if checked.notes:
        say(f"{folder}: {'. '.join(checked.notes)}")


def open_timed(folder: Path) -> "Dataset":
    """Open a data set whose events have times. Raises DataError for another, with the remedy."""
    from tailor.data.dataset import Dataset

    data = Dataset.open(folder)
    if not data.has_times:
        raise DataError(f"{folder} {UNTIMED}")
    return data


def load_folder(engine: "sa.Engine", tenant: str, data: "Dataset", folder: Path | None) -> None:
    """Write a data set into the store, and say what was new."""
    from tailor.cli.showing import say
    from tailor.progress import terminal
    from tailor.store.loading import load_dataset

    counts = load_dataset(engine, tenant, data, terminal)
    say(
        f"{folder}: {counts['items']} items, {counts['new items']} of them new,"
        f" {counts['changed items']} changed; {counts['events']} events, {counts['new events']} of"
        " them new"
    )


def _write(database: str, job: "Callable[[sa.Connection], T]", make: bool = False) -> T:
    from tailor.store.engine import writing

    with open_store(database, make) as engine, writing(engine) as connection:
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

    say(_write(database, lambda connection: keys.make_key(connection, tenant, role, name), True))


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
