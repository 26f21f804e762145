"""`tailor doctor`: what is installed, what is there, and what to do about what is not."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.cli.serving import missing
from tailor.cli.showing import print_json, table
from tailor.errors import TailorError

if TYPE_CHECKING:
    import sqlalchemy as sa

EXTRAS = {
    "torch": ("torch", "safetensors", "optuna"),
    "text": ("sentence_transformers",),
    "llm": ("openai", "openvino_genai", "gguf"),
    "serve": ("fastapi", "uvicorn", "sqlalchemy", "alembic", "cryptography", "httpx"),
}
FREE_GB = 2.0  # of disk, below which something will fail before long


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` where something is to be done."""

    what: str
    found: str
    good: bool
    remedy: str = ""


def doctor_command(database: str, as_json: bool) -> bool:
    """Look at everything; whether all that must be there is well. Extras and models that are not
    there are told, not held against it.
    """
    found = [*_machine(), *_extras(), *_models(), *_store(database)]
    if as_json:
        print_json([vars(one) for one in found])
    else:
        table(
            ["", "what", "found", "remedy"],
            [["ok" if one.good else "!", one.what, one.found, one.remedy] for one in found],
        )
    return all(one.good for one in found)


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python",
        version,
        sys.version_info >= (3, 11),
        "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer",
    )
    yield Finding(
        "cores",
        str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        True,
    )
    free = shutil.disk_usage(".").free / 2**30
    yield Finding(
        "free disk here",
        f"{free:.1f} GB",
        free >= FREE_GB,
        (
            ""
            if free >= FREE_GB
            else "free some: models and data sets are written beside what they replace"
        ),
    )


def _extras() -> Iterator[Finding]:
    for extra, names in EXTRAS.items():
        lacking = missing(names)
        yield Finding(
            f"extra {extra}",
            f"without {', '.join(lacking)}" if lacking else "installed",
            True,
            f'pip install "tailor-engine[{extra}]"' if lacking else "",
        )


def _models() -> Iterator[Finding]:
    from tailor.ports.weights import KNOWN, where

    for name in KNOWN:
        try:
            yield Finding(f"model {name}", str(where(name)), True)
        except TailorError:
            yield Finding(f"model {name}", "not pulled", True, f"tailor models pull {name}")


def _store(database: str) -> Iterator[Finding]:
    if missing(("sqlalchemy", "alembic")):
        return
    from tailor.store.engine import UNUSABLE, connect, reading
    from tailor.store.migrating import check_version, newest, revision
    from tailor.store.served import listed_models, tenants

    path = None if database.startswith("postgres") else Path(database.removeprefix("sqlite:///"))
    if path is not None and not path.exists():
        yield Finding("store", f"{path} is not there", True, "tailor serve makes it")
        return
    try:
        engine = connect(database)
        at = revision(engine)
        check_version(engine)
        damage = _damage(engine)
    except (*UNUSABLE, TailorError) as error:
        yield Finding(
            "store",
            "cannot be read",
            False,
            str(getattr(error, "orig", None) or error).splitlines()[0],
        )
        return
    if damage:
        yield Finding(
            "store", f"is damaged: {damage}", False, "stop the server, tailor store restore COPY"
        )
        return
    writable = path is None or (
        os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
    )
    yield Finding(
        "store",
        f"{engine.dialect.name}, revision {at}",
        writable and at is not None,
        (
            ""
            if writable and at
            else "tailor store migrate"
            if writable
            else "make the file and its folder writable"
        ),
    )
    if at is None:
        return
    if at != newest():
        yield Finding(
            "tables",
            f"of an older version (now {newest()})",
            True,
            "tailor store migrate; serve does so by itself",
        )
        return
    yield _keys(engine)
    with reading(engine) as connection:
        rows = {tenant: listed_models(connection, tenant) for tenant in tenants(connection)}
    for tenant, versions in rows.items():
        for kind, what in (
            ("recommends", f"model of {tenant}"),
            ("predicts", f"predictor of {tenant}"),
        ):
            if of_kind := [one for one in versions if one["kind"] == kind]:
                yield _served(what, of_kind)


def _damage(engine: "sa.Engine") -> str:
    """What SQLite finds wrong in the file; it reads all of it."""
    from tailor.store.engine import reading

    if engine.dialect.name != "sqlite":
        return ""
    with reading(engine) as connection:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    return "" if found == "ok" else found.splitlines()[-1]


def _keys(engine: "sa.Engine") -> Finding:
    """Whether people's keys are there, and what lies open on the disk."""
    from tailor.store.engine import AWAY, reading
    from tailor.store.subjects import apart, seal_of

    try:
        with reading(engine) as connection:
            old, open_to_see = apart(connection), not seal_of(connection).is_closed
    except (*AWAY, TailorError) as error:
        return Finding(
            "people's keys",
            "do not fit the store",
            False,
            str(getattr(error, "orig", None) or error).splitlines()[0],
        )
    if old:
        return Finding("people's keys", "newer than the store", False, "tailor store sweep")
    how = (
        "not under a master key: whoever has the disk has people's data"
        if open_to_see
        else "under a master key"
    )
    return Finding("people's keys", how, True, "tailor store rekey FILE" if open_to_see else "")


def _served(what: str, versions: list[dict[str, object]]) -> Finding:
    """Whether the model that should answer is the one in its folder."""
    from tailor.service.batcher import digest_of

    first = versions[0]
    if first["served_ms"] is None:
        return Finding(
            what,
            f"{len(versions)} registered, none put in place",
            False,
            "POST /v1/models/switch, or tailor refit --force",
        )
    try:
        same = digest_of(str(first["folder"])) == first["digest"]
    except TailorError as error:
        return Finding(what, f"version {first['version']}", False, str(error))
    return Finding(
        what,
        f"version {first['version']}, {first['folder']}",
        same,
        "" if same else "the folder holds another model: register it anew, or roll back",
    )
