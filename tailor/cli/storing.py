"""`tailor store`: the service's database, its backups, people's keys, and what is kept for how
long.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailor.cli.serving import HERE, Database, Tenant, counted, load, needs_service, opened
from tailor.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

store_app = typer.Typer(no_args_is_help=True)
store_app.callback()(needs_service)


@store_app.command("load")
def load_data(
    data: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Write those of a data set's items and events into the store that it does not have; again,
    nothing changes.
    """
    with opened(database) as engine:
        load(engine, tenant, data)


@store_app.command("migrate")
def migrate_store(database: Database = HERE) -> None:
    """Bring the tables to this version's shape; `serve` does so by itself."""
    from tailor.cli.showing import say
    from tailor.store.migrating import revision

    with opened(database) as engine:
        say(f"the tables are at revision {revision(engine)}")


@store_app.command("backup")
def backup(
    out: Annotated[Path, typer.Argument(help="File to write; must not be there.")],
    keys: Annotated[
        Path | None,
        typer.Option(help="A second file, for people's keys; left out, they are in no backup."),
    ] = None,
    database: Database = HERE,
) -> None:
    """Copy a SQLite store while it is being served. Without people's keys the copy names nobody and
    shows no texts. For PostgreSQL use pg_dump.
    """
    from tailor.cli.showing import say

    _, store, people = _files(database, "made with pg_dump")
    for one in (out, *([keys] if keys else [])):
        if one.exists():
            raise StoreError(f"{one} is there already: choose another name")
    for one in (store, *([people] if keys else [])):
        if not one.is_file():
            raise StoreError(f"{one} is not there: name the store by --database or TAILOR_DATABASE")
    _copy(store, out)
    say(
        f"{out}: written; without the keys it names nobody, and those erased later are in it as"
        " rows of nobody"
    )
    if keys is not None:
        _copy(people, keys)  # after the store: all its people are in it
        say(
            f"{keys}: written; with it that backup is people's data: keep it apart, and no longer"
            " than erasures may wait"
        )


@store_app.command("restore")
def restore(
    copy: Annotated[Path, typer.Argument(help="What `tailor store backup` wrote.")],
    keys: Annotated[
        Path | None,
        typer.Option(
            help="The copy of people's keys too, where they were lost; left out, they stay."
        ),
    ] = None,
    database: Database = HERE,
) -> None:
    """Put a backup of a SQLite store in its place: what was there goes. Stop every server and refit
    first. For PostgreSQL use psql.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import held

    engine, store, people = _files(database, "put back with psql")
    _holds(copy, "events", "a store")
    if keys is not None:
        _holds(keys, "subjects", "people's keys")
    with held(engine):
        if keys is not None:
            _copy(keys, people, owned=True)
        _copy(copy, store, owned=True)
    if keys is not None:
        say(
            f"{people}: as {keys} has it; who was erased since is in it again: erase them anew"
            " (tailor store erase) before you start"
        )
    say(
        f"{store}: as {copy} has it; what it holds of people who were erased since, or of whom"
        " nothing was left, goes with the next start"
    )


def _files(database: str, otherwise: str) -> "tuple[sa.Engine, Path, Path]":
    """A SQLite store, its file and that of people's keys. Its tables stay of the version that they
    are: a backup may be what one wants before they change.
    """
    from tailor.store.engine import connect, key_file

    engine = connect(database)
    if engine.dialect.name != "sqlite" or engine.url.database is None:
        raise StoreError(f"backups of PostgreSQL are {otherwise} (docs/guide/operations.md)")
    return engine, Path(engine.url.database), key_file(engine.url.database)


def _holds(copy: Path, table: str, what: str) -> None:
    """Raises StoreError where a copy is not whole, or of something else."""
    import sqlite3
    from contextlib import closing

    if not copy.is_file():
        raise StoreError(f"{copy} is not there: name what `tailor store backup` wrote")
    try:
        with closing(sqlite3.connect(copy)) as found:
            whole = found.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            named = found.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
            ).fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{copy} cannot be read ({error}): nothing was put back") from None
    if not whole or not named:
        raise StoreError(
            f"{copy} {'is damaged' if not whole else f'does not hold {what}'}: nothing was put back"
        )


def _copy(file: Path, out: Path, owned: bool = False) -> None:
    """A whole copy that its owner alone may read; with `owned` of whom `out` belongs to, who must
    be able to serve it.
    """
    import os
    import sqlite3
    from contextlib import closing

    aside = out.with_name(f".{out.name}.partial")
    try:
        os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(aside)) as target:
            source.backup(target)
        if owned and out.exists():
            os.chown(aside, out.stat().st_uid, out.stat().st_gid)
        # of what was called so before: SQLite would write it into the copy
        for log in ("-wal", "-shm"):
            out.with_name(out.name + log).unlink(missing_ok=True)
        aside.rename(out)
    except (OSError, sqlite3.Error) as error:
        aside.unlink(missing_ok=True)
        raise StoreError(f"{file} could not be copied to {out} ({error})") from None


@store_app.command("sweep")
def sweep_store(
    lose_people: Annotated[
        bool,
        typer.Option(
            "--lose-people", help="Even where the key store is older than the store, or another's."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many, and delete nothing.")
    ] = False,
    database: Database = HERE,
) -> None:
    """Delete rows of people whose keys are not there, after a store was put back from a backup;
    every start does so by itself where no living person can be lost by it.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import connect, held, overwrite_deleted, reading, writing
    from tailor.store.migrating import prepare
    from tailor.store.subjects import count_orphans, reconcile

    engine = connect(database)
    with held(engine):
        prepare(engine)
        if dry_run:
            with reading(engine) as connection:
                gone = count_orphans(connection)
        else:
            with writing(engine) as connection:
                gone = reconcile(connection, lose_people)
            overwrite_deleted(engine)
    engine.dispose()
    say(f"{counted(gone) or 'nothing'} {'would go' if dry_run else 'deleted'}")


@store_app.command("rekey")
def rekey_store(
    master_file: Annotated[
        Path | None,
        typer.Argument(help="File with the new master key; left out: none from now on."),
    ] = None,
    database: Database = HERE,
) -> None:
    """Put people's ids and keys away under another master key. Stop every server first; start them
    with TAILOR_MASTER_KEY_FILE naming the new one.
    """
    from tailor.cli.showing import say
    from tailor.store.encryption import Seal
    from tailor.store.engine import held, overwrite_deleted, writing
    from tailor.store.subjects import rekey

    new = Seal() if master_file is None else Seal.of_file(master_file)
    with opened(database) as engine, held(engine):
        with writing(engine) as connection:
            changed = rekey(connection, new)
        overwrite_deleted(engine)
    needed = "no master key" if master_file is None else f"TAILOR_MASTER_KEY_FILE={master_file}"
    say(f"{changed:,} people are put away anew; from now on commands and servers need {needed}")


@store_app.command("prune")
def prune_store(
    events: Annotated[
        float | None, typer.Option(help="Delete events older than so many days.")
    ] = None,
    lists: Annotated[
        float | None, typer.Option(help="Delete answered lists older than so many days.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many, and delete nothing.")
    ] = False,
    database: Database = HERE,
) -> None:
    """Keep what people did, and what they were shown, no longer than needed; for cron. A server may
    run meanwhile.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import now_ms, overwrite_deleted
    from tailor.store.retention import prune, prune_users

    if events is None and lists is None:
        raise StoreError("say what to delete: --events DAYS, --lists DAYS, or both")
    if min(one for one in (events, lists) if one is not None) <= 0:
        raise StoreError("days must be more than 0")
    with opened(database) as engine:
        gone = prune(engine, now_ms(), events, lists, dry_run)
        if not dry_run:
            gone["people of whom nothing is left"] = prune_users(engine)
            overwrite_deleted(engine)
    say(*(f"{name}: {n:,} {'would go' if dry_run else 'deleted'}" for name, n in gone.items()))


@store_app.command("erase")
def erase_person(
    user_id: Annotated[str, typer.Argument(help="Whom to erase.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Erase a person from every table and print the signed receipt. A running server forgets what
    it remembers of the person with its next restart: ask the server itself (DELETE
    /v1/users/ID/data) where one runs.
    """
    from tailor.cli.showing import print_json
    from tailor.store import users
    from tailor.store.engine import overwrite_deleted, writing

    with opened(database) as engine:
        with writing(engine) as connection:
            receipt = users.erase(connection, tenant, user_id)
        overwrite_deleted(engine)
    print_json(receipt)
