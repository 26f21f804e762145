"""Checks of a data set: what is wrong and what looks odd, with counts, examples and remedies."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from tailor.data.actions import LABEL, condition_for, events_against
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.ids import holds_control, is_named_missing, is_rounded, is_scientific
from tailor.data.stats import exact_duplicates, tied

EXAMPLES = 3
DAY = 86_400_000
FIRST, LAST = (
    int(np.datetime64(year, "ms").astype(np.int64)) for year in ("1971-01-01", "2101-01-01")
)
BUSY = 10_000  # events of one user
LONG = 100_000  # characters
STRAYS = 0.001  # share of events that may lie apart from all others
RELOADS = 50  # events of one user with one item that may be one page reloaded
# hits of the next ten ids that chance does not explain: this much above it, and this many times it
PROBED, CHANCES = 0.02, 3
# a rank correlation worth telling: this high, and so many standard deviations off none
CORRELATED, DEVIATIONS = 0.3, 4
ENOUGH = 20  # rows below which nothing is said about shares
ENTITY = r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
COUNTER = re.compile(
    r"(?i)^(average_?rating|(avg|mean)_?(rating|score)"
    r"|(rating|review|click|view|sale|purchase|vote|play|download)s?_?(count|number|num|rank)"
    r"|(num|n|count|number)_?(of_)?"
    r"(ratings?|reviews?|clicks?|views?|sales|purchases|votes|plays)"
    r"|popularity|sales_?rank)$"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or odd."""

    name: str
    wrong: bool
    """True if results on these data would not be true; False if somebody should look."""
    table: str
    count: int
    """Rows, or what `says` counts."""
    says: str
    """The finding in words."""
    remedy: str
    """What to do about it."""
    examples: list[Any] = field(default_factory=list)
    """Up to EXAMPLES rows or values."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def check(data: Dataset) -> list[Finding]:
    """Return all findings, wrong ones first. Plain JSON values throughout."""
    findings = [finding for find in CHECKS for finding in find(data)]
    return sorted(findings, key=lambda finding: not finding.wrong)


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the first rows, long texts cut short."""
    short = [
        {name: value[:80] if isinstance(value, str) else value for name, value in row.items()}
        for row in frame.head(EXAMPLES).to_dicts()
    ]
    return [{name: value for name, value in row.items() if value is not None} for row in short]


# ---- events


def _duplicates(data: Dataset) -> Iterator[Finding]:
    count = exact_duplicates(data.events)
    if count:
        frame = data.events.drop("event_id", "order", strict=False)
        yield Finding(
            "exact_duplicates",
            False,
            "events",
            count,
            f"{count:,} events equal an earlier one in everything",
            "if they were logged twice, drop them before the import; if people repeat themselves,"
            " leave them",
            _rows(frame.filter(~frame.hash_rows().is_first_distinct())),
        )


def _users(data: Dataset) -> Iterator[Finding]:
    lengths = data.sequences.rows.lengths
    if len(lengths) == 1 and len(data.events) >= ENOUGH:
        yield Finding(
            "one_user",
            True,
            "events",
            len(data.events),
            "all events belong to one user",
            "the column read as user_id is none: name the right one (--columns user_id=NAME)",
            data.users.ids[:1].tolist(),
        )
    single = np.flatnonzero(lengths == 1)
    if len(single):
        yield Finding(
            "one_event_users",
            False,
            "events",
            len(single),
            f"{len(single):,} of {len(lengths):,} users have one event",
            "they have no history to learn from and are never a target of leave-last-out",
            data.users.named(single[:EXAMPLES]),
        )
    busy = np.flatnonzero(lengths > BUSY)
    if len(busy):
        yield Finding(
            "busy_users",
            False,
            "events",
            len(busy),
            f"{len(busy):,} users have more than {BUSY:,} events each",
            "look whether they are robots, shops or shared accounts, and drop them before the"
            " import if so",
            [f"{data.users.ids[row]}: {lengths[row]:,} events" for row in busy[:EXAMPLES]],
        )


def _times(data: Dataset) -> Iterator[Finding]:
    if not data.has_times or not len(data.events):
        return
    times = data.events["time_ms"]
    early = times < FIRST
    late = times > LAST
    if early.all():
        yield Finding(
            "times_too_small",
            True,
            "events",
            len(times),
            "all times lie before 1971: seconds were taken for milliseconds",
            "import again with --time-unit s (times of a data set are milliseconds)",
            _rows(data.events),
        )
    elif late.all():
        yield Finding(
            "times_too_large",
            True,
            "events",
            len(times),
            "all times lie after 2100: milliseconds or less were taken for seconds",
            "import again with --time-unit ms, us or ns",
            _rows(data.events),
        )
    elif count := int((early | late).sum()):
        yield Finding(
            "absurd_times",
            True,
            "events",
            count,
            f"{count:,} times lie before 1971 or after 2100 beside others that do not",
            "mend or drop these rows: splits by time put them at one end",
            _rows(data.events.filter(early | late)),
        )
    yield from _gaps(times.to_numpy())
    yield from _ties(data, data.sequences.times_ms)


def _gaps(times: np.ndarray) -> Iterator[Finding]:
    days = np.unique(times // DAY)
    between = np.diff(days)
    least = max(7.0, 0.1 * float(days[-1] - days[0]))  # a week, or a tenth of the whole
    gaps = np.flatnonzero(between > least)
    if len(days) >= ENOUGH and len(gaps):
        spans = [
            f"{days[row].astype('M8[D]')} to {days[row + 1].astype('M8[D]')}"
            for row in gaps[:EXAMPLES]
        ]
        yield Finding(
            "gaps",
            False,
            "events",
            len(gaps),
            f"{len(gaps):,} stretches of {int(between[gaps].min())} days and more hold no event",
            "look whether a part of the log is missing; a split by time across a gap measures"
            " something else",
            spans,
        )


def _ties(data: Dataset, times: Ragged | None) -> Iterator[Finding]:
    if times is None:
        return
    same = tied(times)
    if not same.any():
        return
    last = times.from_end == 0
    decided = same & last
    yield Finding(
        "tied_times",
        False,
        "events",
        int(same.sum()),
        f"{same.mean():.1%} of events share their time with another one of the same user; "
        f"file order decides {decided.sum() / last.sum():.1%} of the targets of leave-last-out",
        "prefer a split by time; keep finer times if the source has them",
        data.users.named(times.row_ids[decided][:EXAMPLES]),
    )


def _future(data: Dataset) -> Iterator[Finding]:
    """Find events that have not happened yet: all that counts from the newest time would move."""
    if not data.has_times:
        return
    future = data.events["time_ms"] > int(time.time() * 1000) + DAY
    if future.any() and not (data.events["time_ms"] > LAST).all():
        yield Finding(
            "future_times",
            False,
            "events",
            int(future.sum()),
            f"{int(future.sum()):,} events lie in the future",
            "mend the clock or the unit (--time-unit), or drop them before the import",
            _rows(data.events.filter(future)),
        )


def _stray(data: Dataset) -> Iterator[Finding]:
    """Find the few events that lie long before or after all others."""
    if not data.has_times or len(data.events) < ENOUGH:
        return
    times = data.events["time_ms"].to_numpy()
    most = max(1, int(len(times) * STRAYS))
    span = int(times[-most - 1] - times[most])
    least = max(30 * DAY, span // 2)
    late = np.flatnonzero(np.diff(times[-most - 1 :]) > least)
    early = np.flatnonzero(np.diff(times[: most + 1]) > least)
    rows = np.zeros(len(times), dtype=bool)
    if len(late):
        rows[len(times) - most + int(late[0]) :] = True
    if len(early):
        rows[: int(early[-1]) + 1] = True
    if rows.any():
        yield Finding(
            "stray_times",
            False,
            "events",
            int(rows.sum()),
            f"{int(rows.sum()):,} events lie far from all others in time",
            "look whether their clock was wrong, and drop them before the import if so: they"
            " stretch the time that a log covers",
            _rows(data.events.filter(pl.Series(rows))),
        )


def _against(data: Dataset) -> Iterator[Finding]:
    """Find events that speak against their item: dislikes, refunds, negative values."""
    against = events_against(data)
    if not against.any() or LABEL in data.labels:
        return
    events = data.events.filter(pl.Series(against))
    says = f"{len(events):,} events speak against their item"
    if "action" in events.columns:
        counts = events["action"].drop_nulls().value_counts(sort=True).head(EXAMPLES).rows()
        names = ", ".join(f"{name}: {n:,}" for name, n in counts)
        says += f" ({names})" if names else ""
    condition = condition_for(data.events)
    yield Finding(
        "events_against_items",
        False,
        "events",
        len(events),
        says,
        "methods would learn from them as if they spoke for it: leave them out (tailor data split"
        f' --only "{condition}")',
        _rows(events),
    )


def _reloads(data: Dataset) -> Iterator[Finding]:
    """Find items most of whose events are one user's, as from one page reloaded."""
    rows = data.sequences.rows
    pairs = rows.row_ids.astype(np.int64) * len(data.catalogue) + rows.values
    pair_ids, counts = np.unique(pairs, return_counts=True)
    per_item = np.bincount(rows.values, minlength=len(data.catalogue))
    items = pair_ids % max(len(data.catalogue), 1)
    reloaded = (counts >= RELOADS) & (2 * counts > per_item[items])
    if reloaded.any() and len(rows) > 1:
        users = data.users.ids[pair_ids // len(data.catalogue)]
        examples = [
            f"{users[row]}: {counts[row]:,} of {per_item[items[row]]:,} events of"
            f" {data.catalogue.ids[items[row]]}"
            for row in np.flatnonzero(reloaded)[:EXAMPLES]
        ]
        yield Finding(
            "reloaded_items",
            False,
            "events",
            int(reloaded.sum()),
            f"{int(reloaded.sum()):,} items have most of their events from one user",
            "look whether a page was reloaded or a robot was at work, and keep one event of each"
            " such user and item if so",
            examples,
        )


def _items(data: Dataset) -> Iterator[Finding]:
    counts = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))
    never = np.flatnonzero(counts == 0)
    if len(never):
        yield Finding(
            "items_never_seen",
            False,
            "items",
            len(never),
            f"{len(never):,} of {len(data.catalogue):,} items have no event",
            "they can only be found by their words; drop them if they cannot be recommended",
            data.catalogue.named(never[:EXAMPLES]),
        )


def _id_order(data: Dataset) -> Iterator[Finding]:
    """Find ids whose order tells when an item came or how popular it is.

    Says too what the ten ids after a history's largest would score.
    """
    rows, events = data.sequences.rows.values, data.sequences.events
    counts = np.bincount(rows, minlength=len(data.catalogue))
    seen = np.flatnonzero(counts)
    if len(seen) < ENOUGH:
        return
    first = np.full(len(counts), len(events), dtype=np.int64)
    np.minimum.at(first, rows, events)
    ids = data.catalogue.ids[seen]
    numbers = _numbers_of(ids, seen, len(counts))
    ranks = rankdata(ids.astype(str) if numbers is None else numbers[seen])
    when = _correlation(ranks, first[seen])
    often = _correlation(ranks, counts[seen])
    says = (
        f"rank correlation of item ids with their first event {when:+.2f}, with their popularity"
        f" {often:+.2f}"
    )
    leaks = False
    if numbers is not None:
        hits, chance = _next_ten(data.sequences.rows, numbers)
        leaks = hits - chance > PROBED and hits > CHANCES * chance
        says += (
            f"; the ten ids after a history's largest hold the last event of {hits:.2%} of users"
            f" (by chance {chance:.2%})"
        )
    if leaks or max(abs(when), abs(often)) > max(CORRELATED, DEVIATIONS / len(seen) ** 0.5):
        yield Finding(
            "id_order",
            leaks,
            "events",
            len(seen),
            says,
            "never let an id be a feature, an order or a tie-break (no method of Tailor does);"
            " renumber the items by chance before other tools see them",
            ids[np.argsort(ranks)][:EXAMPLES].tolist(),
        )


def _numbers_of(ids: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray | None:
    """Return (n,) int64 numbers of the ids at their rows, -1 elsewhere; None where any is none."""
    if not all(item_id.isascii() and item_id.isdigit() and len(item_id) <= 15 for item_id in ids):
        return None
    numbers = np.full(n, -1, dtype=np.int64)
    numbers[rows] = [int(item_id) for item_id in ids]
    return numbers


def _correlation(ranks: np.ndarray, values: np.ndarray) -> float:
    other = rankdata(values)
    return float(np.corrcoef(ranks, other)[0, 1]) if other.std() > 0 and ranks.std() > 0 else 0.0


def _next_ten(sequences: Ragged, numbers: np.ndarray) -> tuple[float, float]:
    """Return the share of users whose last item is one of the ten next ids, and that by chance.

    Counts users of 3 events or more.
    """
    long = np.flatnonzero(sequences.lengths >= 3)
    if not len(long):
        return 0.0, 1.0
    ordered = np.sort(numbers[numbers >= 0])
    histories = sequences.take(long)
    ranks = np.searchsorted(ordered, numbers[histories.values])
    last = histories.from_end == 0
    largest = np.maximum.reduceat(np.where(last, -1, ranks), histories.offsets[:-1])
    after = ranks[last] - largest
    return float(((after >= 1) & (after <= 10)).mean()), min(1.0, 10 / len(ordered))


# ---- ids and texts of every table


def _ids(data: Dataset) -> Iterator[Finding]:
    for column, kind in (("user_id", "users"), ("item_id", "items")):
        ids = _distinct(data, column)
        yield from _floats(ids, column, kind)
        yield from _damaged(data, ids, column, kind)
        plain = ids.str.strip_chars().str.to_lowercase()
        alike = (
            pl.DataFrame({"id": ids, "plain": plain}).filter(plain.is_duplicated()).sort("plain")
        )
        if len(alike):
            n = alike["plain"].n_unique()
            yield Finding(
                "ids_alike",
                False,
                kind,
                n,
                f"{n:,} {kind} have ids that differ from another only by case or blanks",
                "if they are the same, write them alike in all files before the import",
                alike.group_by("plain", maintain_order=True)
                .agg("id")["id"]
                .head(EXAMPLES)
                .to_list(),
            )


def _damaged(data: Dataset, ids: pl.Series, column: str, kind: str) -> Iterator[Finding]:
    """Find ids that a tool has merged, rounded or made of nothing."""
    cut = f"and different ones may be one now: export {column} as text and import again"
    merged = ids.filter(is_scientific(ids))
    if len(merged):
        says = f"{len(merged):,} {kind} have ids such as {merged[0]}"
        remedy = f"a spreadsheet cut longer numbers, {cut}"
        yield _of_ids("merged_ids", kind, merged, says, remedy)
    rounded = ids.filter(is_rounded(ids))
    if len(rounded):
        says = f"{len(rounded):,} {kind} have long ids that end in zeros, such as {rounded[0]}"
        remedy = f"a tool kept 15 digits of longer numbers, {cut}"
        yield _of_ids("rounded_ids", kind, rounded, says, remedy)
    control = ids.filter(holds_control(ids))
    if len(control):
        says = f"{len(control):,} {kind} have ids with control characters: the service refuses them"
        remedy = "take line ends and tabs out of the ids and import again"
        yield _of_ids("control_characters", kind, control, says, remedy)
    missing = ids.filter(is_named_missing(ids))
    if len(missing):
        frames = [frame for frame in data.tables.values() if column in frame.columns]
        rows = sum(int(frame[column].is_in(missing.implode()).sum()) for frame in frames)
        says = f"{rows:,} rows have a {column} such as {missing[0]!r}, which may stand for none"
        remedy = f"if it does, import again with --missing {missing[0]}"
        yield _of_ids("ids_named_missing", kind, missing, says, remedy)


def _of_ids(name: str, kind: str, ids: pl.Series, says: str, remedy: str) -> Finding:
    """Return an odd finding about ids, with the first of them."""
    examples = [text if text.isprintable() else ascii(text) for text in ids.head(EXAMPLES)]
    return Finding(name, False, kind, len(ids), says, remedy, examples)


def _floats(ids: pl.Series, column: str, kind: str) -> Iterator[Finding]:
    """Find ids such as "12.0", which a table of floats made of "12"."""
    floats = ids.filter(ids.str.contains(r"^[0-9]+\.0+$"))
    if not len(floats):
        return
    both = floats.filter(floats.str.replace(r"\.0+$", "").is_in(ids.implode()))
    says = f"{len(floats):,} {kind} have ids such as {floats[0]}"
    if len(both):
        says += f", {len(both):,} of which stand elsewhere without the .0"
    yield Finding(
        "ids_like_floats",
        bool(len(both)),
        kind,
        len(floats),
        says,
        f"a tool read whole numbers as floats: write {column} as whole numbers or text in all"
        " files, and import again",
        (both if len(both) else floats).head(EXAMPLES).to_list(),
    )


def _distinct(data: Dataset, column: str) -> pl.Series:
    parts = [
        frame[column].drop_nulls().unique()
        for frame in data.tables.values()
        if column in frame.columns
    ]
    return pl.concat(parts).unique().sort() if parts else pl.Series(column, [], dtype=pl.String)


def _words(data: Dataset) -> Iterator[Finding]:
    for table, frame in data.tables.items():
        for column in [name for name in ("title", "text") if name in frame.columns]:
            entities = frame.filter(frame[column].str.contains(ENTITY).fill_null(False))
            if len(entities) and table == "items":
                yield Finding(
                    "html_entities",
                    False,
                    table,
                    len(entities),
                    f"{len(entities):,} rows of {table}.{column} hold HTML entities such as &amp;",
                    "unescape them before the import (html.unescape in Python): they count as"
                    " words",
                    entities[column]
                    .str.extract(f"(.{{0,30}}{ENTITY}.{{0,30}})", 1)
                    .head(EXAMPLES)
                    .to_list(),
                )
            long = frame.filter((frame[column].str.len_chars() > LONG).fill_null(False))
            if len(long):
                yield Finding(
                    "long_texts",
                    False,
                    table,
                    len(long),
                    f"{len(long):,} rows of {table}.{column} are longer than {LONG:,} characters",
                    "look whether several records ran together; cut them if only their beginning"
                    " matters",
                    _rows(long),
                )


# ---- between tables

REFERENCES = (  # a table's column, and where its values should be known
    ("events", "item_id", "items", "item_id"),
    ("events", "user_id", "users", "user_id"),
    ("judgements", "item_id", "items", "item_id"),
    ("judgements", "query_id", "requests", "request_id"),
    ("candidates", "item_id", "items", "item_id"),
    ("candidates", "query_id", "requests", "request_id"),
    ("impressions", "item_id", "items", "item_id"),
    ("impressions", "request_id", "requests", "request_id"),
    ("texts", "item_id", "items", "item_id"),
)


def _unknown_ids(data: Dataset) -> Iterator[Finding]:
    """Find ids that the table of their kind lacks."""
    for table, column, other_table, key in REFERENCES:
        if table not in data.tables or other_table not in data.tables:
            continue
        if column not in data.tables[table].columns:
            continue
        values = data.tables[table][column].drop_nulls()
        unknown = values.filter(~values.is_in(data.tables[other_table][key].implode()))
        if len(unknown):
            # two tables that share no id at all were written by different systems
            apart = len(unknown) == len(values) >= ENOUGH
            yield Finding(
                "unknown_ids",
                apart,
                table,
                len(unknown),
                f"{len(unknown):,} of {len(values):,} rows of {table} name a {column} that the"
                f" table {other_table} lacks",
                f"look whether {column} is written alike in both files, or complete the table"
                f" {other_table}",
                unknown.unique(maintain_order=True).head(EXAMPLES).to_list(),
            )


def _later(data: Dataset) -> Iterator[Finding]:
    """Find rows dated after the last event: unknown when any of them happened."""
    if "events" not in data.tables or not data.has_times or not len(data.events):
        return
    last = data.events["time_ms"].max()
    for table, column in (
        ("texts", "time_ms"),
        ("items", "created_ms"),
        ("requests", "time_ms"),
        ("relations", "time_ms"),
    ):
        frame = data.tables.get(table)
        if frame is None or column not in frame.columns:
            continue
        late = frame.filter((pl.col(column) > last).fill_null(False))
        if len(late):
            yield Finding(
                "dated_after_events",
                False,
                table,
                len(late),
                f"{len(late):,} rows of {table} are dated after the last event",
                "splits cut tables by time, so they reach no training part; look whether the log"
                " ends too early",
                _rows(late),
            )
    yield from _before_creation(data)


def _before_creation(data: Dataset) -> Iterator[Finding]:
    if "created_ms" not in data.item_table.columns:
        return
    created = data.item_table.select("item_id", "created_ms").drop_nulls()
    early = data.events.join(created, on="item_id").filter(pl.col("time_ms") < pl.col("created_ms"))
    if len(early):
        yield Finding(
            "events_before_creation",
            False,
            "events",
            len(early),
            f"{len(early):,} events happened before their item was created",
            "created_ms may be the day of the last change or of the crawl: leave it out if so (it"
            " would leak)",
            _rows(early),
        )


def _counters(data: Dataset) -> Iterator[Finding]:
    columns = [
        (table, name)
        for table in ("items", "users")
        if table in data.tables
        for name in data.tables[table].columns
    ]
    for table, name in [(table, name) for table, name in columns if COUNTER.fullmatch(name)]:
        values = data.tables[table][name].drop_nulls()
        yield Finding(
            f"{table[:-1]}_counters",
            False,
            table,
            len(values),
            f'the column "{name}" of {table} looks like a counter made of all events, test events'
            " included",
            "do not use it as a feature; count as of a time from the events instead",
            values.head(EXAMPLES).to_list(),
        )


def _numbers(data: Dataset) -> Iterator[Finding]:
    impressions = data.tables.get("impressions")
    if impressions is not None and "propensity" in impressions.columns:
        bad = impressions.filter(
            ((pl.col("propensity") <= 0) | (pl.col("propensity") > 1)).fill_null(False)
        )
        if len(bad):
            yield Finding(
                "propensities",
                True,
                "impressions",
                len(bad),
                f"{len(bad):,} propensities are not above 0 and at most 1",
                "a propensity is the probability with which the item was shown there: mend the log",
                _rows(bad),
            )


EVENT_CHECKS: tuple[Callable[[Dataset], Iterable[Finding]], ...] = (
    _duplicates,
    _users,
    _times,
    _future,
    _stray,
    _against,
    _reloads,
    _items,
    _id_order,
)


def _events(data: Dataset) -> Iterator[Finding]:
    if "events" in data.tables and len(data.events):
        for find in EVENT_CHECKS:
            yield from find(data)


CHECKS: tuple[Callable[[Dataset], Iterable[Finding]], ...] = (
    _events,
    _ids,
    _words,
    _unknown_ids,
    _later,
    _counters,
    _numbers,
)
