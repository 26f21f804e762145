"""From a data set into the store."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from tailor.data.actions import LABEL
from tailor.data.dataset import Dataset
from tailor.data.event_ids import PREFIX, with_event_ids
from tailor.data.ids import check_ids
from tailor.errors import DataError
from tailor.progress import Progress, silent
from tailor.store.catalogue import BATCH, CONTENT, add_items, change_items
from tailor.store.encryption import Seal
from tailor.store.engine import insert_into, now_ms, pad_values, writing
from tailor.store.feedback import AGAINST_WORD, CountingRule, write_rule
from tailor.store.schema import loaded_items
from tailor.store.users import ingest_events

CHUNK = 10_000  # rows of a transaction
KEYED = 32  # characters of a keyed id
EVENT_COLUMNS = ("event_id", "user_id", "item_id", "time_ms", "action", "value", "request_id")


def load_dataset(
    engine: sa.Engine, tenant: str, data: Dataset, progress: Progress = silent
) -> dict[str, int]:
    """Write a data set's items and events into the store; return the counts of each.

    New items are added. An item whose content in the data set differs from what a data set brought
    last is changed. All others stay as they are: changed by a caller, deleted or taken down. An
    event that the store has is not added again, nor is one of before its user's erasure. Events
    without an id get one made of their content, so that folder, file and order do not matter. A
    label `against` of the data set becomes the tenant's rule of which events count. A broken-off
    load goes on where it stopped. Raises DataError for events without times and for ids that
    cannot be one.
    """
    if not data.has_times:
        raise DataError(
            f'data set "{data.name}" has no times: a store needs to know when its events happened'
        )
    check_ids(data.item_table["item_id"], "item_id of an item")
    for name in ("user_id", "item_id"):
        check_ids(data.events[name], f"{name} of an event")
    _keep_label(engine, tenant, data)
    now = now_ms()
    counts = {"items": 0, "new items": 0, "changed items": 0, "events": 0, "new events": 0}
    rows = [_item_row(row) for row in data.item_table.iter_rows(named=True)]
    for start in progress(range(0, len(rows), CHUNK), "items", -(-len(rows) // CHUNK)):
        chunk = rows[start : start + CHUNK]
        with writing(engine) as connection:
            counts["items"] += len(chunk)
            counts["new items"] += add_items(connection, tenant, chunk)
            counts["changed items"] += _change_reloaded(connection, tenant, chunk)
    frame = _with_keyed_ids(engine, tenant, data.events)
    for start in progress(range(0, len(frame), CHUNK), "events", -(-len(frame) // CHUNK)):
        event_rows = frame[start : start + CHUNK].to_dicts()
        with writing(engine) as connection:
            counts["events"] += len(event_rows)
            counts["new events"] += len(ingest_events(connection, tenant, event_rows, now)[0])
    return counts


def _keep_label(engine: sa.Engine, tenant: str, data: Dataset) -> None:
    """Keep the data set's label `against` as the tenant's rule."""
    if LABEL not in data.labels:
        return
    try:
        rule = CountingRule(AGAINST_WORD + data.labels[LABEL])
    except DataError as error:
        raise DataError(
            f'the label "{LABEL}" of data set "{data.name}" cannot be kept in the store, which'
            f" knows action, value, item_id and time_ms of an event: {error}"
        ) from None
    with writing(engine) as connection:
        write_rule(connection, tenant, rule)


def _change_reloaded(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Write the items whose content differs from the one loaded last; remember what was loaded."""
    old_digests: dict[str, str] = {}
    columns = loaded_items.c
    for start in range(0, len(rows), BATCH):
        ids = pad_values([row["item_id"] for row in rows[start : start + BATCH]])
        loaded = sa.select(columns.item_id, columns.digest).where(
            columns.tenant == tenant, columns.item_id.in_(ids)
        )
        old_digests |= {item_id: digest for item_id, digest in connection.execute(loaded)}
    digests = {row["item_id"]: _digest(row) for row in rows}
    differing = [row for row in rows if old_digests.get(row["item_id"]) != digests[row["item_id"]]]
    reloaded = [row for row in differing if row["item_id"] in old_digests]
    changed = change_items(connection, tenant, reloaded)
    insert = insert_into(connection, loaded_items)
    upsert = insert.on_conflict_do_update(
        index_elements=["tenant", "item_id"], set_={"digest": insert.excluded.digest}
    )
    digest_rows = [
        {"tenant": tenant, "item_id": row["item_id"], "digest": digests[row["item_id"]]}
        for row in differing
    ]
    for start in range(0, len(digest_rows), BATCH):
        connection.execute(upsert, digest_rows[start : start + BATCH])
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
    is_missing = events["event_id"].is_null()
    events = with_event_ids(events)
    keyed = [
        PREFIX + seal.name(tenant, event_id)[:KEYED]
        for event_id in events["event_id"].filter(is_missing)
    ]
    ids = events["event_id"].scatter(is_missing.arg_true(), pl.Series(keyed, dtype=pl.String))
    events = events.with_columns(ids)
    return events.select([name for name in EVENT_COLUMNS if name in events.columns])


def _item_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return an item as a row of the store: further columns go into `more`."""
    further = {
        name: value
        for name, value in row.items()
        if name not in ("item_id", *CONTENT) and value is not None
    }
    as_json = json.loads(json.dumps(further, default=str))  # dates and the like as texts
    content = {name: row.get(name) for name in CONTENT if name != "more"}
    return {"item_id": row["item_id"], **content, "more": as_json or None}
