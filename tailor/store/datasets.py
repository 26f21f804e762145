"""From the store to a data set."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailor.data.dataset import Dataset
from tailor.data.frames import table_of
from tailor.data.tables import checked
from tailor.errors import DataError
from tailor.store.columns import column, is_column_name, is_odd, kind_of, main_kind
from tailor.store.engine import now_ms, reading
from tailor.store.feedback import BY_ACTION, CountingRule, read_rule
from tailor.store.schema import events, impressions, items, requests
from tailor.store.subjects import all_subjects
from tailor.store.users import all_attributes

EVENTS = {
    "event_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "time_ms": pl.Int64,
    "action": pl.String,
    "value": pl.Float64,
    "request_id": pl.String,
}
REQUESTS = {
    "request_id": pl.String,
    "user_id": pl.String,
    "time_ms": pl.Int64,
    "surface": pl.String,
}
IMPRESSIONS = {
    "request_id": pl.String,
    "position": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float64,
    "propensity": pl.Float64,
    "model": pl.String,
}
ITEMS: dict[str, Any] = {
    "item_id": pl.String,
    "title": pl.String,
    "text": pl.String,
    "categories": pl.List(pl.String),
    "price": pl.Float64,
}
MOST_COLUMNS = 1_000  # of a table beside its own: the names that callers give are theirs
MOST_NAMED = 5  # columns in a note
LONGEST_SHOWN = 40  # characters of a name in a note
MOST_TRIED = 10_000  # values of a column that are tried each by itself
ROWS_READ = 50_000  # at a time: the driver's rows are never all in memory
DAY_MS = 86_400_000
# of the same user, item and action, which count in a data set for training: a page that is
# reloaded all day must not change what a model learns
REPEATS_A_DAY = 10
LISTS_A_DAY = 50  # of a user, which count in a data set for training
FUTURE_SHARE = 0.01  # of events; up to it those from the future are errors of a clock


class TrainingData(NamedTuple):
    """The events that count, and how many do not."""

    data: Dataset
    left_out: int
    rule: CountingRule
    notes: tuple[str, ...] = ()
    """What of items and users was left out."""


def stored_dataset(
    engine: sa.Engine, tenant: str, with_lists: bool = False, notes: list[str] | None = None
) -> Dataset:
    """Return all events of a tenant, its users' attributes, and the items that are not blocked.

    With lists, also the requests and the items shown. `notes` gets a line for each kind of value
    that the data set cannot hold. Raises DataError where there is no event.
    """
    with reading(engine) as connection:
        subjects = [(user.token, user.user_id) for user in all_subjects(connection, tenant)]
        names = pl.DataFrame(subjects, {"user_id": pl.String, "name": pl.String}, orient="row")
        log = _read_events(connection, tenant, names)
        lists = _read_lists(connection, tenant, names) if with_lists else {}
        statement = sa.select(items).where(items.c.tenant == tenant)
        item_rows = [dict(row) for row in connection.execute(statement).mappings()]
        attributes = all_attributes(connection, tenant)
        rule = read_rule(connection, tenant)
    blocked = [row["item_id"] for row in item_rows if row["blocked"]]
    log = log.filter(~pl.col("item_id").is_in(blocked))
    if lists:
        lists["impressions"] = lists["impressions"].filter(~pl.col("item_id").is_in(blocked))
    keeps_requests = bool(lists)
    unused = [name for name in ("action", "value", "request_id") if log[name].is_null().all()]
    log = log.drop([name for name in unused if not (keeps_requests and name == "request_id")])
    item_rows = [row for row in item_rows if not row["blocked"]]
    more = {row["item_id"]: row["more"] or {} for row in item_rows}
    table = item_frame(item_rows)
    empty = [name for name in ITEMS if name != "item_id" and table[name].is_null().all()]
    table, unread_items = _readable("items", table.drop(empty))
    users, unread_users = _readable("users", user_frame(attributes))
    if notes is not None:
        notes += _left_out_notes("items", odd_names(more, ITEMS), unread_items)
        notes += _left_out_notes("users", odd_names(attributes, ["user_id"]), unread_users)
    tables = {**lists, **({"users": users} if attributes else {})}
    data = Dataset.from_events(log, table if len(table) else None, name=f"store-{tenant}", **tables)
    data.labels.update(rule.label)
    return data


def _left_out_notes(table: str, odd: Mapping[str, Sequence[str]], unread_count: int) -> list[str]:
    """Return a note on the values of a table that are left out; none where all are there."""
    count = sum(map(len, odd.values())) + unread_count
    if not count:
        return []
    names = sorted({name for row_names in odd.values() for name in row_names}, key=repr)
    suffix = f" ({', '.join(map(shown, names[:MOST_NAMED]))})" if names else ""
    return [
        f"{count:,} values of {table}{suffix} are left out: most values of that name are of"
        " another type, or no column can hold them; `tailor doctor` names the items"
    ]


def training_dataset(
    engine: sa.Engine,
    tenant: str,
    with_lists: bool = False,
    rule: CountingRule | None = None,
) -> TrainingData:
    """Return the stored data set with the events that a model may learn from.

    Left out are events that do not count for their item by the rule (the tenant's by default),
    repeats beyond REPEATS_A_DAY, and single events from the future. A user's lists beyond
    LISTS_A_DAY are left out too. Raises DataError where nothing is left.
    """
    notes: list[str] = []
    data = stored_dataset(engine, tenant, with_lists, notes)
    if rule is None:
        with reading(engine) as connection:
            rule = read_rule(connection, tenant)
    rule = _fitting_rule(rule, data.events)
    mask = (
        rule.counting(data.events) & is_within_repeats(data.events) & ~is_from_future(data.events)
    )
    if not mask.any():
        raise DataError(
            f'none of the {len(mask)} events of tenant "{tenant}" counts for its item by the rule'
            f' "{rule.text or "by action and value"}": give another condition with --only'
        )
    others = {}
    if "requests" in data.tables:
        list_mask = is_within_list_limit(data.tables["requests"])
        request_ids = data.tables["requests"]["request_id"].filter(list_mask)
        others["requests"] = list_mask
        others["impressions"] = (
            data.tables["impressions"]["request_id"].is_in(request_ids.implode()).to_numpy()
        )
    return TrainingData(data.cut(mask, others), int((~mask).sum()), rule, tuple(notes))


def _fitting_rule(rule: CountingRule, log: pl.DataFrame) -> CountingRule:
    """Return the default rule without the sign of values where no value is positive."""
    if rule.text not in ("", BY_ACTION) or "value" not in log.columns:
        return rule
    return CountingRule("" if (log["value"] > 0).any() else BY_ACTION)


def is_within_repeats(log: pl.DataFrame) -> np.ndarray:
    """(events,) bool: True for the first REPEATS_A_DAY of equal events of a user and day."""
    keys = [name for name in ("user_id", "item_id", "action") if name in log.columns]
    day = pl.col("time_ms") // DAY_MS
    repeat = pl.int_range(pl.len()).over(*keys, day)
    return log.select(repeat < REPEATS_A_DAY).to_series().to_numpy()


def is_from_future(log: pl.DataFrame) -> np.ndarray:
    """(events,) bool: True where a time lies more than a day ahead of now.

    Where more than FUTURE_SHARE of the events do, the times are those of a simulation and stay.
    """
    is_ahead = (log["time_ms"] > now_ms() + DAY_MS).to_numpy()
    return is_ahead if is_ahead.mean() <= FUTURE_SHARE else np.zeros(len(log), dtype=bool)


def is_within_list_limit(table: pl.DataFrame) -> np.ndarray:
    """(requests,) bool: True for at most LISTS_A_DAY lists of a user and day.

    A hash of the request id chooses, so that the choice does not depend on what users did.
    """
    day = pl.col("time_ms") // DAY_MS
    rank = pl.col("request_id").hash(seed=0).rank("ordinal").over("user_id", day)
    mask = table.select((rank <= LISTS_A_DAY) | pl.col("user_id").is_null())
    return mask.to_series().to_numpy()


def _read_events(connection: sa.Connection, tenant: str, names: pl.DataFrame) -> pl.DataFrame:
    columns = [events.c[name] for name in EVENTS]
    statement = (
        sa.select(*columns)
        .where(events.c.tenant == tenant)
        .order_by(events.c.time_ms, events.c.number)
    )
    log = _with_user_ids(_read_frame(connection, statement, EVENTS), names)
    log = log.filter(pl.col("user_id").is_not_null())
    if not len(log):
        raise DataError(
            f'tenant "{tenant}" has no events yet: send some to /v1/events, or start with'
            " `tailor serve --data DATA`"
        )
    return log


def _read_lists(
    connection: sa.Connection, tenant: str, names: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Return recommended lists as the tables requests and impressions."""
    is_list = (requests.c.tenant == tenant, requests.c.surface == "recommendations")
    request_rows = sa.select(*[requests.c[name] for name in REQUESTS]).where(*is_list)
    columns = [impressions.c[name] for name in IMPRESSIONS if name != "model"]
    same_request = (impressions.c.tenant == requests.c.tenant) & (
        impressions.c.request_id == requests.c.request_id
    )
    impression_rows = (
        sa.select(*columns, requests.c.model)
        .select_from(impressions.join(requests, same_request))
        .where(*is_list)
    )
    return {
        "requests": _with_user_ids(_read_frame(connection, request_rows, REQUESTS), names),
        "impressions": _read_frame(connection, impression_rows, IMPRESSIONS),
    }


def _with_user_ids(rows: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Replace tokens by user ids, null for those that the key store does not know."""
    joined = rows.join(names, on="user_id", how="left", maintain_order="left")
    return joined.drop("user_id").rename({"name": "user_id"}).select(rows.columns)


def _read_frame(
    connection: sa.Connection, statement: sa.Select[Any], schema: Mapping[str, Any]
) -> pl.DataFrame:
    result = connection.execute(statement.execution_options(yield_per=ROWS_READ))
    parts = [
        pl.DataFrame(_columns(part, list(schema)), schema=schema) for part in result.partitions()
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def _columns(rows: Sequence[Any], names: list[str]) -> dict[str, list[Any]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def item_frame(
    rows: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return stored items as a table of `item_id` and the columns `names`.

    The default is all of ITEMS and the names in `more`, the MOST_COLUMNS most frequent ones. A
    further column has the type of most of its values, or of `kinds` (`columns.column`).
    """
    attributes = [row["more"] or {} for row in rows]
    if names is None:
        names = [*ITEMS, *_further_names(attributes, ITEMS)]
    own = {name: ITEMS[name] for name in ITEMS if name == "item_id" or name in names}
    table = pl.DataFrame(
        {name: [row[name] for row in rows] for name in own}, schema=own, strict=False
    )
    further = [
        column(
            name,
            [values.get(name) for values in attributes],
            None if kinds is None else kinds.get(name),
        )
        for name in names
        if name not in ITEMS
    ]
    return table.with_columns(further)


def user_frame(attributes: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """Return users' attributes as a table with a column for each name, as `item_frame` does."""
    rows = list(attributes.values())
    table = pl.DataFrame({"user_id": list(attributes)}, {"user_id": pl.String})
    further = [
        column(name, [row.get(name) for row in rows]) for name in _further_names(rows, ["user_id"])
    ]
    return table.with_columns(further)


def _further_names(rows: Iterable[Mapping[str, Any]], own: Collection[str]) -> list[str]:
    """Return the MOST_COLUMNS most frequent names that a table can have beside its own, sorted."""
    counts = Counter(
        name for row in rows for name in row if name not in own and is_column_name(name)
    )
    return sorted(name for name, _ in counts.most_common(MOST_COLUMNS))


def shown(name: str) -> str:
    """Return a name of a caller's as notes show it: short, and harmless to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:LONGEST_SHOWN])


def odd_names(rows: Mapping[str, Mapping[str, Any]], own: Collection[str]) -> dict[str, list[str]]:
    """Return the names of attributes that no column holds, by the id of the row that has them.

    `rows` is id -> attributes. A value is odd where most values of that name are of another kind. A
    name is odd where a table cannot have it, has a column of its own for it, or has too many.
    """
    names = set(_further_names(rows.values(), own))
    counts: dict[str, Counter[str]] = {}
    for row in rows.values():
        for name in names & row.keys():
            counts.setdefault(name, Counter())[kind_of(row[name])] += 1
    kinds = {name: main_kind(count) for name, count in counts.items()}
    odd = {
        row_id: [name for name in row if name not in names or is_odd(row[name], kinds[name])]
        for row_id, row in rows.items()
    }
    return {row_id: row_names for row_id, row_names in odd.items() if row_names}


def _readable(table: str, frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the frame without the values that a data set cannot read, and how many those were.

    A name may be one that an import knows, such as `created`, under values that are no times.
    """
    if _can_be_read(table, frame):
        return frame, 0
    key = frame.columns[0]
    unread_count = 0
    for name in frame.columns[1:]:
        values = frame[name]
        if _can_be_read(table, frame.select(key, values)):
            continue
        fresh = values.clear(len(values))
        if not values.dtype.is_nested():  # else the whole column is of a wrong type
            bad_values = _bad_values(table, key, values)
            cleaned = [None if value in bad_values else value for value in values.to_list()]
            fresh = pl.Series(name, cleaned, values.dtype)
        if fresh.count() and _can_be_read(table, frame.select(key, fresh)):
            frame = frame.with_columns(fresh)
            unread_count += fresh.null_count() - values.null_count()
        else:
            frame = frame.drop([name])
            unread_count += values.count()
    return frame, unread_count


def _bad_values(table: str, key: str, values: pl.Series) -> set[Any]:
    """Return the values that cannot be read by themselves, of the first MOST_TRIED."""
    return {
        value
        for value in values.unique().drop_nulls().head(MOST_TRIED)
        if not _can_be_read(table, pl.DataFrame({key: ["x"], values.name: [value]}))
    }


def _can_be_read(table: str, frame: pl.DataFrame) -> bool:
    try:
        checked(table, table_of(table, frame))
    except DataError:
        return False
    return True
