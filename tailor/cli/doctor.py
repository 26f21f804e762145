"""`tailor doctor`: what is installed, what is there, and what to do about the rest."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.cli.serving import missing_packages
from tailor.cli.showing import print_json, table
from tailor.errors import TailorError

if TYPE_CHECKING:
    import sqlalchemy as sa

RESTORE = "stop the server, tailor store restore COPY"  # against a damaged file
EXTRAS = {
    "torch": ("torch", "safetensors", "optuna"),
    "text": ("sentence_transformers",),
    "llm": ("openai", "openvino_genai", "gguf"),
    "serve": ("fastapi", "uvicorn", "sqlalchemy", "alembic", "cryptography", "httpx"),
}
FREE_GB = 2.0  # of disk, below which something will fail before long
MOST_SHOWN = 5  # odd items of a tenant, and names of each
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: str
    good: bool
    remedy: str = ""
    """What to do; empty where nothing is."""


def doctor_command(database: str, as_json: bool) -> bool:
    """Look at everything; return whether all that must be there is well.

    Extras and models that are not there are listed, but count as well.
    """
    findings = [*_machine(), *_extras(), *_models(), *_disks(database), *_store(database)]
    if as_json:
        print_json([_as_json(finding) for finding in findings])
    else:
        rows = [
            ["ok" if finding.good else "!", finding.subject, finding.state, finding.remedy]
            for finding in findings
        ]
        table(["", "what", "found", "remedy"], rows)
    return all(finding.good for finding in findings)


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "what": finding.subject,
        "found": finding.state,
        "good": finding.good,
        "remedy": finding.remedy,
    }


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    is_new = sys.version_info >= OLDEST_PYTHON
    yield Finding("Python", version, is_new, "" if is_new else "install Python 3.11 or newer")
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    yield Finding("cores", str(cores), True)
    remedy = "free some: models and data sets are written beside what they replace"
    yield _free_disk("free disk here", Path(), remedy)


def _free_disk(subject: str, folder: Path, remedy: str) -> Finding:
    """Say how much of a folder's disk is free."""
    free_gb = shutil.disk_usage(folder).free / 2**30
    is_enough = free_gb >= FREE_GB
    return Finding(subject, f"{free_gb:.1f} GB", is_enough, "" if is_enough else remedy)


def _disks(database: str) -> Iterator[Finding]:
    """Look at the disks of the database, of its keys, and of the models that are served."""
    remedy = "free some: where it is full, nothing is accepted and no model is learned"
    folders = {}
    if not missing_packages(("sqlalchemy", "alembic")):
        from tailor.store.engine import connect, key_file

        with suppress(TailorError):  # named by `_store`
            engine = connect(database)
            if engine.dialect.name == "sqlite":
                store = Path(str(engine.url.database))
                folders["free disk of the database"] = store
                folders["free disk of people's keys"] = key_file(str(store))
    folders["free disk of the models"] = Path(os.environ.get("TAILOR_SERVED_MODELS") or "models")
    for subject, path in folders.items():
        # a link may lead to another disk, or in a circle
        folder = Path(os.path.realpath(path))
        while not folder.is_dir():
            folder = folder.parent
        yield _free_disk(subject, folder, remedy)


def _extras() -> Iterator[Finding]:
    for extra, packages in EXTRAS.items():
        missing = missing_packages(packages)
        if missing:
            remedy = f'pip install "tailor-engine[{extra}]"'
            yield Finding(f"extra {extra}", f"without {', '.join(missing)}", True, remedy)
        else:
            yield Finding(f"extra {extra}", "installed", True)


def _models() -> Iterator[Finding]:
    from tailor.ports.weights import KNOWN, pulled_folder

    for name in KNOWN:
        try:
            yield Finding(f"model {name}", str(pulled_folder(name)), True)
        except TailorError:
            yield Finding(f"model {name}", "not pulled", True, f"tailor models pull {name}")


def _store(database: str) -> Iterator[Finding]:
    if missing_packages(("sqlalchemy", "alembic")):
        return
    from tailor.store.engine import UNUSABLE, connect, find_damage, first_line, is_damage
    from tailor.store.migrating import check_version, newest, revision

    try:
        engine = connect(database)
        path = Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None
        if path is not None and not path.exists():
            yield _absent(path)
            return
        current = revision(engine)
        check_version(engine)
        damage = find_damage(engine)
    except (*UNUSABLE, TailorError) as error:
        remedy = RESTORE if is_damage(error) else first_line(error)
        yield Finding("store", "cannot be read", False, remedy)
        return
    if damage:
        yield Finding("store", f"is damaged: {damage}", False, RESTORE)
        return
    yield _tables(engine, path, current)
    if current is None:
        return
    if current != newest():
        yield Finding(
            "tables",
            f"of an older version (now {newest()})",
            True,
            "tailor store migrate; serve does so by itself",
        )
        return
    missing = _missing_tables(engine)
    if missing:
        remedy = "stop the server, tailor store restore COPY (with --keys KEYS for personal ones)"
        yield Finding("tables", f"without {', '.join(missing)}", False, remedy)
        return
    yield from _look("writing", lambda: iter([_writes(engine)]))
    yield from _look("people's keys", lambda: iter([_keys(engine)]))
    yield from _look("deleted data", lambda: iter([_deleted(engine)]))
    yield from _look("served models", lambda: _served_models(engine))
    yield from _look("items", lambda: _odd_items(engine))


def _look(subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; whatever it raises is a finding too.

    Only errors of the database and of Tailor are quoted: others may hold anything.
    """
    from tailor.store.engine import UNUSABLE, first_line

    try:
        yield from look()
    except (*UNUSABLE, TailorError) as error:
        cause = first_line(error)
    except Exception as error:
        cause = type(error).__name__
    else:
        return
    remedy = "rows were changed by hand: mend them, or tailor store restore COPY"
    yield Finding(subject, f"cannot be read: {cause}", False, remedy)


def _missing_tables(engine: "sa.Engine") -> list[str]:
    """Return the tables that are not there, and the columns that tables lack."""
    import sqlalchemy as sa

    from tailor.store.engine import reading
    from tailor.store.schema import metadata, personal

    missing = []
    with reading(engine) as connection:
        inspector = sa.inspect(connection)
        for table in (*metadata.sorted_tables, *personal.sorted_tables):
            if not inspector.has_table(table.name, schema=table.schema):
                missing.append(table.fullname)
                continue
            columns = inspector.get_columns(table.name, schema=table.schema)
            names = {column["name"] for column in columns}
            missing += [f"{table.fullname}.{name}" for name in set(table.c.keys()) - names]
    return sorted(missing)


def _absent(path: Path) -> Finding:
    """Say that a SQLite file is not there, which is wrong where a server runs on it."""
    import fcntl

    with suppress(FileNotFoundError), Path(f"{path}.server").open(encoding="utf-8") as file:
        try:
            # a server and its workers share the lock
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "stop the server, tailor store restore COPY"
            return Finding("store", f"{path} is gone, while a server runs on it", False, remedy)
    return Finding("store", f"{path} is not there", True, "tailor serve makes it")


def _writes(engine: "sa.Engine") -> Finding:
    """Say whether the store can be written, by writing a mark as it is."""
    from tailor.store.engine import UNUSABLE, first_line, writing
    from tailor.store.writer import write_the_same

    try:
        with writing(engine) as connection:
            write_the_same(connection)
    except UNUSABLE as error:
        cause = first_line(error)
        remedy = "free its disk, end other programs that hold it, or make its files writable"
        return Finding("writing", f"is refused: {cause}", False, remedy)
    return Finding("writing", "works", True)


def _tables(engine: "sa.Engine", path: Path | None, current: str | None) -> Finding:
    """Say whether there are tables, and whether the file can be written."""
    is_writable = path is None or (
        os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
    )
    remedy = ""
    if not is_writable:
        remedy = "make the file and its folder writable"
    elif current is None:
        remedy = "tailor store migrate"
    return Finding("store", f"{engine.dialect.name}, revision {current}", not remedy, remedy)


def _keys(engine: "sa.Engine") -> Finding:
    """Say whether people's keys are there, and what can be read on the disk."""
    from tailor.store.engine import UNUSABLE, first_line, reading
    from tailor.store.signing import seal_of
    from tailor.store.subjects import is_out_of_sync

    try:
        with reading(engine) as connection:
            is_old = is_out_of_sync(connection)
            has_master_key = seal_of(connection).has_master_key
    except (*UNUSABLE, TailorError) as error:
        return Finding("people's keys", "do not fit the store", False, first_line(error))
    if is_old:
        return Finding("people's keys", "newer than the store", False, "tailor store sweep")
    if has_master_key:
        return Finding("people's keys", "under a master key", True)
    return Finding(
        "people's keys",
        "not under a master key: whoever has the disk has people's data",
        True,
        "tailor store rekey FILE",
    )


def _deleted(engine: "sa.Engine") -> Finding:
    """Say whether SQLite's logs still hold what was deleted."""
    from tailor.store.engine import is_overwriting_due

    if not is_overwriting_due(engine):
        return Finding("deleted data", "overwritten", True)
    remedy = (
        "end whatever reads the database for long; the server overwrites the logs then, or"
        " tailor store sweep where none runs"
    )
    return Finding("deleted data", "still in the database's logs", False, remedy)


def _odd_items(engine: "sa.Engine") -> Iterator[Finding]:
    """Name the items with values that no filter meets and no data set holds.

    They harm nobody else, so the finding is good.
    """
    import sqlalchemy as sa

    from tailor.store.datasets import ITEMS, odd_names, shown
    from tailor.store.engine import reading
    from tailor.store.schema import items

    # as texts: a row that was changed by hand may hold no JSON, and must be named
    more_text = sa.cast(items.c.more, sa.Text)
    statement = sa.select(items.c.tenant, items.c.item_id, more_text).where(more_text.is_not(None))
    more_of: dict[str, dict[str, dict[str, object]]] = {}
    broken: list[str] = []
    with reading(engine) as connection:
        for tenant, item_id, text in connection.execute(statement):
            columns = _json_object(text)
            if columns is None:
                broken.append(f"{item_id} of {tenant}")
            elif columns:
                more_of.setdefault(tenant, {})[item_id] = columns
    if broken:
        state = f"{len(broken):,} cannot be read: {', '.join(broken[:MOST_SHOWN])}"
        yield Finding("items", state, False, "PUT /v1/items with the item, or delete it there")
    for tenant, rows in more_of.items():
        odd = odd_names(rows, ITEMS)
        if odd:
            named = [
                f"{item_id} ({', '.join(map(shown, names[:MOST_SHOWN]))})"
                for item_id, names in sorted(odd.items())[:MOST_SHOWN]
            ]
            state = f"{len(odd):,} have values that count as missing: {'; '.join(named)}"
            remedy = "PUT /v1/items with values of the type that most items have under the name"
            yield Finding(f"items of {tenant}", state, True, remedy)


def _json_object(text: str) -> dict[str, object] | None:
    """Return the object of a JSON text, empty for null, None for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    value = {} if value is None else value
    return value if isinstance(value, dict) else None


def _served_models(engine: "sa.Engine") -> Iterator[Finding]:
    from tailor.store.engine import reading
    from tailor.store.models import PREDICTS, RECOMMENDS, RERANKS, list_models, tenants

    with reading(engine) as connection:
        models = {tenant: list_models(connection, tenant) for tenant in tenants(connection)}
    for tenant, rows in models.items():
        for kind, word in ((RECOMMENDS, "model"), (PREDICTS, "predictor"), (RERANKS, "reranker")):
            rows_of_kind = [row for row in rows if row["kind"] == kind]
            if rows_of_kind:
                yield _served(f"{word} of {tenant}", rows_of_kind)


def _served(subject: str, rows: list[dict[str, object]]) -> Finding:
    """Say whether the model that should answer is in its folder and can be loaded.

    It is loaded as a server would load it.
    """
    from tailor.service.batcher import check_model, saved_digest

    first = rows[0]
    if first["served_ms"] is None:
        return Finding(
            subject,
            f"{len(rows)} registered, none put in place",
            False,
            "POST /v1/models/switch, or tailor refit --force",
        )
    state = f"version {first['version']}"
    folder = str(first["folder"])
    try:
        is_same = saved_digest(folder) == first["digest"]
        notes = check_model(folder).notes if is_same else ()
    except TailorError as error:
        return Finding(subject, f"{state} cannot be loaded", False, str(error))
    if not is_same:
        remedy = "the folder holds another model: register it anew, or roll back"
        return Finding(subject, f"{state}, {folder}", False, remedy)
    return Finding(subject, f"{state}, {folder}, can be loaded", True, ". ".join(notes))
