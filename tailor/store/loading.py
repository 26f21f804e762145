"""From a data set into the store, and from the store to a data set."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.progress import Progress, silent
from tailor.store.catalogue import CONTENT, add_items
from tailor.store.engine import now_ms, reading, writing
from tailor.store.schema import events, impressions, items, requests
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
PLAIN = ("event_id", "user_id", "item_id", "time_ms", "action", "value", "request_id")


def load_dataset(
    engine: sa.Engine, tenant: str, data: Dataset, progress: Progress = silent
) -> dict[str, int]:
    """Write those of a data set's items and events that the store does not have; how many. Loading
    the same again changes nothing, whatever became of them since: items stay as they were changed,
    deleted or taken down, and events of before their person's erasure stay out. Broken off, it goes
    on.

    Events without an id get one made of the data set's name and their place. Raises DataError for
    events without times.
    """
    if not data.has_times:
        raise DataError(
            f'data set "{data.name}" has no times: a store needs to know when its events happened'
        )
    rows = [_item(row) for row in data.item_table.iter_rows(named=True)]
    frame = data.events
    if "event_id" not in frame.columns:
        frame = frame.with_columns(
            pl.format("{}-{}", pl.lit(data.name), pl.int_range(pl.len())).alias("event_id")
        )
    frame = frame.select([name for name in PLAIN if name in frame.columns])
    new_items, new, now = 0, 0, now_ms()
    for start in progress(range(0, len(rows), CHUNK), "items", -(-len(rows) // CHUNK)):
        with writing(engine) as connection:
            new_items += add_items(connection, tenant, rows[start : start + CHUNK])
    for start in progress(range(0, len(frame), CHUNK), "events", -(-len(frame) // CHUNK)):
        with writing(engine) as connection:
            new += len(
                ingest_events(connection, tenant, frame[start : start + CHUNK].to_dicts(), now)[0]
            )
    return {"items": len(rows), "new items": new_items, "events": len(frame), "new events": new}


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
