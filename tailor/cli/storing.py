"""`tailor store`: the service's database, its backups, users' keys, export and retention."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tailor.cli.serving import (
    HERE,
    Database,
    Tenant,
    describe_counts,
    load_folder,
    needs_service,
    open_store,
    open_timed,
    refuse_damaged,
    require_file,
    say_deleted,
    usable,
)
from tailor.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tailor.store.carrying import Carried

T = TypeVar("T")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many, and delete nothing.")]
store_app = typer.Typer(no_args_is_help=True)
store_app.callback()(needs_service)


@store_app.command("load")
def load_data(
    data: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Write a data set's new items and events, and its changed items, into the store.

    Loaded again, nothing changes. A label `against` of the data set tells from then on which events
    do not count for their item.
    """
    dataset = open_timed(data)
    with open_store(database, make=True) as engine:
        load_folder(engine, tenant, dataset, data)


@store_app.command("export")
def export_data(
    out: Annotated[Path, typer.Argument(help="Folder to write; a data set.")],
    lists: Annotated[
        bool, typer.Option("--lists", help="Also the lists that were answered.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is there.")
    ] = False,
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Write a tenant's events, users and items as a data set, for `tailor fit` and `evaluate`.

    All events are in it, those that speak against their item too. It holds users' ids: delete it
    when it is no longer needed, since an erasure does not reach it.
    """
    from tailor.cli.showing import say
    from tailor.store.datasets import stored_dataset

    with open_store(database) as engine:
        notes: list[str] = []
        data = stored_dataset(engine, tenant, lists, notes)
    data.save(out, overwrite=overwrite)
    say(
        f"{out}: {len(data.events):,} events of {len(data.users):,} users,"
        f" {len(data.catalogue):,} items; it holds users' ids, and no erasure reaches it"
    )
    for note in notes:
        say(note)


@store_app.command("migrate")
def migrate_store(database: Database = HERE) -> None:
    """Bring the tables to this version's shape; `serve` does so by itself. Stop every server and
    refit first.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import held
    from tailor.store.migrating import migrate, revision

    with usable(database) as engine:
        if engine.dialect.name == "sqlite":
            with held(engine):
                refuse_damaged(engine)
                say_deleted(migrate(engine))
        else:
            say_deleted(migrate(engine))
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

    _, store_file, keys_file = _files(database, "made with pg_dump")
    sources = [store_file] if keys is None else [store_file, keys_file]
    targets = [out] if keys is None else [out, keys]
    for path in targets:
        if path.exists():
            raise StoreError(f"{path} is there already: choose another name")
    for path in sources:
        if not path.is_file():
            raise StoreError(
                f"{path} is not there: name the store by --database or TAILOR_DATABASE"
            )
    _copy(store_file, out)
    say(
        f"{out}: written; without the keys it names nobody, and those erased later are in it as"
        " rows of nobody"
    )
    if keys is not None:
        _copy(keys_file, keys)  # after the store, so that all its users are in it
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

    engine, store_file, keys_file = _files(database, "put back with psql")
    _check_copy(copy, "events", "a store")
    if keys is not None:
        _check_copy(keys, "subjects", "people's keys")
    with held(engine):
        carried = None
        if keys is not None:
            carried = _put_back_keys(keys, copy, engine)
        _copy(copy, store_file, keep_owner=True)
    if carried is not None:
        say(f"{keys_file}: as {keys} has it; {_describe_carried(carried)}")
    say(
        f"{store_file}: as {copy} has it; what it holds of people who were erased since, or of"
        " whom nothing was left, goes with the next start"
    )


def _put_back_keys(keys: Path, copy: Path, engine: "sa.Engine") -> "Carried":
    """Put people's keys in place, of the copy of a store; who was erased since stays erased."""
    from tailor.store.carrying import Carried, carry_over, read_replaced
    from tailor.store.engine import key_file

    store_file = Path(str(engine.url.database))
    keys_file = key_file(str(store_file))
    replaced = read_replaced(keys_file, store_file)
    outcomes: list[Carried] = []

    def change(partial: Path) -> None:
        seal = engine.get_execution_options()["seal"]
        outcomes.append(carry_over(replaced, partial, copy, seal))

    _copy(keys, keys_file, keep_owner=True, change=change)
    return outcomes[0]


def _describe_carried(carried: "Carried") -> str:
    """Say who was erased since the copy, and whether all of them are known."""
    if carried.is_complete:
        return f"{carried.people:,} people who were erased since stay erased"
    return (
        f"{carried.people:,} people are known to be erased since, but the key store before could"
        " not be read, or the copy is of an earlier version or under another master key: who was"
        " erased since may be in it again: erase them anew (tailor store erase) before you start"
    )


def _files(database: str, alternative: str) -> "tuple[sa.Engine, Path, Path]":
    """Return a SQLite store, its file and its key store's.

    The tables are not migrated: a backup may be wanted before they change.
    """
    from tailor.store.engine import connect, key_file

    engine = connect(database)
    if engine.dialect.name != "sqlite" or engine.url.database is None:
        raise StoreError(f"backups of PostgreSQL are {alternative} (docs/guide/operations.md)")
    return engine, Path(engine.url.database), key_file(engine.url.database)


def _check_copy(copy: Path, table: str, content: str) -> None:
    """Raise StoreError for a copy that is damaged or has not this table."""
    import sqlite3
    from contextlib import closing

    if not copy.is_file():
        raise StoreError(f"{copy} is not there: name what `tailor store backup` wrote")
    try:
        with closing(sqlite3.connect(copy)) as connection:
            is_whole = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            row = connection.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
            ).fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{copy} cannot be read ({error}): nothing was put back") from None
    if not is_whole:
        raise StoreError(f"{copy} is damaged: nothing was put back")
    if not row:
        raise StoreError(f"{copy} does not hold {content}: nothing was put back")


def _copy(
    source_file: Path,
    out: Path,
    keep_owner: bool = False,
    change: Callable[[Path], None] = lambda partial: None,
) -> None:
    """Write a whole copy that only its owner may read.

    With `keep_owner` that is the owner of `out`, who must be able to serve it. `change` is called
    with the copy before it takes its place.
    """
    import os
    import sqlite3
    from contextlib import closing

    partial = out.with_name(f".{out.name}.partial")
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        with (
            closing(sqlite3.connect(source_file)) as source,
            closing(sqlite3.connect(partial)) as target,
        ):
            source.backup(target)
        change(partial)
        _empty_log(partial)
        if keep_owner and out.exists():
            os.chown(partial, out.stat().st_uid, out.stat().st_gid)
            _empty_log(out)  # killed before the end, it is the store still, with all that was in it
        # logs of the file of that name before: SQLite would write them into the copy
        for suffix in ("-wal", "-shm"):
            out.with_name(out.name + suffix).unlink(missing_ok=True)
        partial.rename(out)
    except StoreError:
        partial.unlink(missing_ok=True)
        raise
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{source_file} could not be copied to {out} ({error})") from None


def _empty_log(file: Path) -> None:
    """Move the write-ahead log of a file into it; one that cannot be read stays as it is."""
    import sqlite3
    from contextlib import closing, suppress

    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _say_overwritten(is_overwritten: bool) -> None:
    """Say where deleted rows are in SQLite's logs still."""
    from tailor.cli.showing import say

    if not is_overwritten:
        say(
            "What was deleted is in the database's logs still, since somebody reads it: the server"
            " overwrites them once it can, as any of these commands does"
        )


@store_app.command("sweep")
def sweep_store(
    lose_people: Annotated[
        bool,
        typer.Option(
            "--lose-people", help="Even where the key store is older than the store, or another's."
        ),
    ] = False,
    dry_run: DryRun = False,
    database: Database = HERE,
) -> None:
    """Delete rows of people whose keys are not there, after a backup was put back.

    Every start does so by itself where no living person can be lost by it.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import held, overwrite_deleted, reading, writing
    from tailor.store.migrating import prepare, require_tables
    from tailor.store.subjects import count_orphans, reconcile

    is_overwritten = True
    with usable(database) as engine:
        require_file(engine)
        with held(engine):
            require_tables(engine)
            prepare(engine)
            if dry_run:
                with reading(engine) as connection:
                    counts = count_orphans(connection)
            else:
                with writing(engine) as connection:
                    counts = reconcile(connection, lose_people)
                is_overwritten = overwrite_deleted(engine)
    say(f"{describe_counts(counts) or 'nothing'} {'would go' if dry_run else 'deleted'}")
    _say_overwritten(is_overwritten)


@store_app.command("rekey")
def rekey_store(
    master_file: Annotated[
        Path | None,
        typer.Argument(help="File with the new master key; left out: none from now on."),
    ] = None,
    database: Database = HERE,
) -> None:
    """Encrypt people's ids and keys under another master key. Stop every server first; start them
    with TAILOR_MASTER_KEY_FILE naming the new one.
    """
    from tailor.cli.showing import say
    from tailor.store.encryption import Seal
    from tailor.store.engine import held, overwrite_deleted, writing
    from tailor.store.subjects import rekey

    seal = Seal() if master_file is None else Seal.of_file(master_file)
    with open_store(database) as engine, held(engine):
        with writing(engine) as connection:
            changed = rekey(connection, seal)
        is_overwritten = overwrite_deleted(engine)
    needed = "no master key" if master_file is None else f"TAILOR_MASTER_KEY_FILE={master_file}"
    say(f"{changed:,} people are put away anew; from now on commands and servers need {needed}")
    _say_overwritten(is_overwritten)


@store_app.command("prune")
def prune_store(
    events: Annotated[
        float | None, typer.Option(help="Delete events older than so many days.")
    ] = None,
    lists: Annotated[
        float | None, typer.Option(help="Delete answered lists older than so many days.")
    ] = None,
    dry_run: DryRun = False,
    database: Database = HERE,
) -> None:
    """Delete old events and lists, what is past the retention of users' memories, and what the
    audit says of the time before 400 days, for cron. A server may run meanwhile.
    """
    from tailor.cli.showing import say
    from tailor.profiles.memory import count_expired, expire_all
    from tailor.store.engine import now_ms, overwrite_deleted
    from tailor.store.retention import prune, prune_looks, prune_users

    days = [number for number in (events, lists) if number is not None]
    if min(days, default=1.0) <= 0:
        raise StoreError("days must be more than 0")
    is_overwritten = True
    with open_store(database) as engine:
        counts = prune(engine, now_ms(), events, lists, dry_run)
        expire = count_expired if dry_run else expire_all
        counts["observations of memories"] = expire(engine)
        counts["looks at people"] = prune_looks(engine, now_ms(), dry_run)
        if not dry_run:
            counts["people of whom nothing is left"] = prune_users(engine)
            is_overwritten = overwrite_deleted(engine)
    say(*(f"{name}: {n:,} {'would go' if dry_run else 'deleted'}" for name, n in counts.items()))
    _say_overwritten(is_overwritten)


@store_app.command("erase")
def erase_person(
    user_id: Annotated[str, typer.Argument(help="Whom to erase.")],
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Erase a person from every table and print the signed receipt. A running server forgets the
    person with its next answer; what waits in its memory goes at once where the server itself is
    asked (DELETE /v1/users/ID/data).
    """
    from tailor.cli.showing import print_json
    from tailor.store.engine import overwrite_deleted, reading, writing
    from tailor.store.erasing import Scan, erase_person
    from tailor.store.users import read_receipt

    with open_store(database) as engine:

        def write(job: "Callable[[sa.Connection], T]") -> T:
            with writing(engine) as connection:
                return job(connection)

        receipt = erase_person(write, tenant, user_id)
        overwrite_deleted(engine)
        Scan(engine, write, tenant, receipt["receipt_id"]).run(user_id)
        with reading(engine) as connection:
            print_json(read_receipt(connection, tenant, receipt["receipt_id"]))


@store_app.command("link")
def link_person(
    user_id: Annotated[str, typer.Argument(help="Whose own page the link opens.")],
    hours: Annotated[int, typer.Option(min=1, max=720, help="Hours after which it ends.")] = 72,
    end: Annotated[
        bool, typer.Option("--end", help="End all links of the person, and make none.")
    ] = False,
    console: Annotated[
        str, typer.Option(help="Address of the console that the person can reach.")
    ] = "http://127.0.0.1:8080",
    tenant: Tenant = "default",
    database: Database = HERE,
) -> None:
    """Print a link to a person's own page: what is known, correct, pause, take along, erase. Who
    has the link may do all of it: send it to that person alone.
    """
    from tailor.cli.showing import say
    from tailor.store.engine import now_ms, reading, writing
    from tailor.store.links import HOUR_MS, end_links, make_link

    unknown = f'nothing is stored of "{user_id}" in the tenant "{tenant}": there is no page to show'
    with open_store(database) as engine:
        if end:
            with writing(engine) as connection:
                if not end_links(connection, tenant, user_id):
                    raise StoreError(unknown)
            say("All links of this person have ended")
            return
        with reading(engine) as connection:
            link = make_link(connection, tenant, user_id, now_ms() + hours * HOUR_MS)
        if link is None:
            raise StoreError(unknown)
        typer.echo(f"{console.rstrip('/')}/me#{link}")  # on one line, to be copied
