"""From a data set into the store, and from the store to a data set."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from tailor.data.dataset import Dataset
from tailor.data.event_ids import PREFIX, with_event_ids
from tailor.errors import DataError
from tailor.progress import Progress, silent
from tailor.store.catalogue import BATCH, CONTENT, add_items, change_items
from tailor.store.encryption import Seal
from tailor.store.engine import insert_into, now_ms, pad_values, reading, writing
from tailor.store.schema import events, impressions, items, loaded_items, requests
from tailor.store.subjects import all_subjects
from tailor.store.users import ingest_events

LOG = {
    "event_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "time_ms": pl.Int64,
    "action": pl.String,
    "value": pl.Float64,
    "request_id": pl.String,
}
ASKED = {"request_id": pl.String, "user_id": pl.String, "time_ms": pl.Int64, "surface": pl.String}
SHOWN = {
    "request_id": pl.String,
    "position": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float64,
    "propensity": pl.Float64,
    "model": pl.String,
}
CHUNK = 10_000  # rows a transaction
KEYED = 32  # characters of a keyed id
PLAIN = ("event_id", "user_id", "item_id", "time_ms", "action", "value", "request_id")


def load_dataset(
    engine: sa.Engine, tenant: str, data: Dataset, progress: Progress = silent
) -> dict[str, int]:
    """Write a data set's items and events into the store; return the counts of each.

    New items are added. An item whose content in the data set differs from what a data set brought
    last is changed. All others stay as they are: changed by a caller, deleted or taken down. An
    event that the store has is not added again, nor is one of before its user's erasure. Events
    without an id get one made of their content, so that folder, file and order do not matter. A
    broken-off load goes on where it stopped. Raises DataError for events without times.
    """
    if not data.has_times:
        raise DataError(
            f'data set "{data.name}" has no times: a store needs to know when its events happened'
        )
    now = now_ms()
    counts = {"items": 0, "new items": 0, "changed items": 0, "events": 0, "new events": 0}
    rows = [_item(row) for row in data.item_table.iter_rows(named=True)]
    for start in progress(range(0, len(rows), CHUNK), "items", -(-len(rows) // CHUNK)):
        chunk = rows[start : start + CHUNK]
        with writing(engine) as connection:
            counts["items"] += len(chunk)
            counts["new items"] += add_items(connection, tenant, chunk)
            counts["changed items"] += _change_reloaded(connection, tenant, chunk)
    frame = _with_keyed_ids(engine, tenant, data.events)
    for start in progress(range(0, len(frame), CHUNK), "events", -(-len(frame) // CHUNK)):
        events_read = frame[start : start + CHUNK].to_dicts()
        with writing(engine) as connection:
            counts["events"] += len(events_read)
            counts["new events"] += len(ingest_events(connection, tenant, events_read, now)[0])
    return counts


def _change_reloaded(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Write the items whose content differs from the one loaded last; remember what was loaded."""
    before: dict[str, str] = {}
    here = loaded_items.c
    for start in range(0, len(rows), BATCH):
        ids = pad_values([row["item_id"] for row in rows[start : start + BATCH]])
        loaded = sa.select(here.item_id, here.digest).where(
            here.tenant == tenant, here.item_id.in_(ids)
        )
        before |= {item_id: digest for item_id, digest in connection.execute(loaded)}
    digests = {row["item_id"]: _digest(row) for row in rows}
    differing = [row for row in rows if before.get(row["item_id"]) != digests[row["item_id"]]]
    changed = change_items(
        connection, tenant, [row for row in differing if row["item_id"] in before]
    )
    insert = insert_into(connection, loaded_items)
    upsert = insert.on_conflict_do_update(
        index_elements=["tenant", "item_id"], set_={"digest": insert.excluded.digest}
    )
    marks = [
        {"tenant": tenant, "item_id": row["item_id"], "digest": digests[row["item_id"]]}
        for row in differing
    ]
    for start in range(0, len(marks), BATCH):
        connection.execute(upsert, marks[start : start + BATCH])
    return changed


def _digest(row: Mapping[str, Any]) -> str:
    """Return a digest of an item's content."""
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).hexdigest()


def _with_keyed_ids(engine: sa.Engine, tenant: str, events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with an id each; made ids go through the store's key.

    A plain digest of user, item and time would let a reader of a backup find out whose row it is.
    """
    seal: Seal = engine.get_execution_options()["seal"]
    if "event_id" not in events.columns:
        events = events.with_columns(pl.lit(None, pl.String).alias("event_id"))
    missing = events["event_id"].is_null()
    events = with_event_ids(events)
    keyed = [
        PREFIX + seal.name(tenant, event_id)[:KEYED]
        for event_id in events["event_id"].filter(missing)
    ]
    ids = events["event_id"].scatter(missing.arg_true(), pl.Series(keyed, dtype=pl.String))
    events = events.with_columns(ids)
    return events.select([name for name in PLAIN if name in events.columns])


def stored_dataset(engine: sa.Engine, tenant: str, with_lists: bool = False) -> Dataset:
    """All events, and the items that may be answered; with lists, also what was answered to whom.
    Raises DataError where there is no event.
    """
    with reading(engine) as connection:
        wanted = (
            events.c.event_id,
            events.c.user_id,
            events.c.item_id,
            events.c.time_ms,
            events.c.action,
            events.c.value,
            events.c.request_id,
        )
        known = [(one.token, one.user_id) for one in all_subjects(connection, tenant)]
        names = pl.DataFrame(known, {"user_id": pl.String, "name": pl.String}, orient="row")
        log = _frame(
            connection,
            sa.select(*wanted)
            .where(events.c.tenant == tenant)
            .order_by(events.c.time_ms, events.c.number),
            LOG,
        )
        log = _named(log, names).filter(pl.col("user_id").is_not_null())
        if not len(log):
            raise DataError(
                f'tenant "{tenant}" has no events yet: send some to /v1/events, or start with'
                " `tailor serve --data DATA`"
            )
        lists = _lists(connection, tenant, names) if with_lists else {}
        shelf = [
            dict(row)
            for row in connection.execute(
                sa.select(items).where(items.c.tenant == tenant)
            ).mappings()
        ]
    blocked = {row["item_id"] for row in shelf if row["blocked"]}
    log = log.filter(~pl.col("item_id").is_in(list(blocked))) if blocked else log
    if lists:
        lists["impressions"] = lists["impressions"].filter(~pl.col("item_id").is_in(list(blocked)))
    log = log.drop(
        [
            name
            for name in ("action", "value", "request_id")
            if log[name].is_null().all() and not (lists and name == "request_id")
        ]
    )
    table = item_frame([row for row in shelf if not row["blocked"]])
    table = table.drop(
        [name for name in ("title", "text", "categories", "price") if table[name].is_null().all()]
    )
    return Dataset.from_events(log, table if len(table) else None, name=f"store-{tenant}", **lists)


def _lists(connection: sa.Connection, tenant: str, names: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Recommended lists: the requests, and what was shown."""
    asked = sa.select(
        requests.c.request_id, requests.c.user_id, requests.c.time_ms, requests.c.surface
    )
    here = (requests.c.tenant == tenant, requests.c.surface == "recommendations")
    shown = sa.select(
        impressions.c.request_id,
        impressions.c.position,
        impressions.c.item_id,
        impressions.c.score,
        impressions.c.propensity,
        requests.c.model,
    )
    both = impressions.join(
        requests,
        (impressions.c.tenant == requests.c.tenant)
        & (impressions.c.request_id == requests.c.request_id),
    )
    return {
        "requests": _named(_frame(connection, asked.where(*here), ASKED), names),
        "impressions": _frame(connection, shown.select_from(both).where(*here), SHOWN),
    }


def _named(rows: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """With the ids that people have outside; null for whom the key store does not know."""
    found = rows.join(names, on="user_id", how="left", maintain_order="left")
    return found.drop("user_id").rename({"name": "user_id"}).select(rows.columns)


def _item(row: dict[str, Any]) -> dict[str, Any]:
    more = {
        name: value
        for name, value in row.items()
        if name not in ("item_id", *CONTENT) and value is not None
    }
    plain = json.loads(json.dumps(more, default=str))  # dates and the like as texts
    return {
        "item_id": row["item_id"],
        **{name: row.get(name) for name in CONTENT if name != "more"},
        "more": plain or None,
    }


def _frame(
    connection: sa.Connection, wanted: sa.Select[Any], schema: Mapping[str, Any]
) -> pl.DataFrame:
    """Read in chunks: the driver's rows never stand in memory all at once."""
    found = connection.execute(wanted.execution_options(yield_per=50_000))
    parts = [
        pl.DataFrame(_columns(part, list(schema)), schema=schema) for part in found.partitions()
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def _columns(rows: Sequence[Any], names: list[str]) -> dict[str, list[Any]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def item_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Stored items as a table: item_id, title, text, categories, price, and a column for each name
    that `more` has somewhere.
    """
    schema: dict[str, Any] = {
        "item_id": pl.String,
        "title": pl.String,
        "text": pl.String,
        "categories": pl.List(pl.String),
        "price": pl.Float64,
    }
    table = pl.DataFrame(
        {name: [row[name] for row in rows] for name in schema}, schema=schema, strict=False
    )
    more = sorted({name for row in rows for name in row["more"] or {}} - set(schema))
    return table.with_columns(
        [
            pl.Series(name, [(row["more"] or {}).get(name) for row in rows], strict=False)
            for name in more
        ]
    )
