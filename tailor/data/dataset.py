"""A data set: Parquet tables in a folder, their catalogue, and a sequence of events per user."""

import functools
import hashlib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.data.conditions import Condition
from tailor.data.event_columns import event_columns
from tailor.data.folders import sha256_of, written_aside
from tailor.data.frames import table_of
from tailor.data.queries import Queries, Rankings
from tailor.data.tables import TABLES, Tables, checked
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest

SCHEMA_VERSION = 1
# a data set has at least one of these
SUBJECTS = ("events", "judgements", "turns", "impressions")
NAMING_ITEMS = ("events", "items", "judgements", "candidates", "impressions")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Every user's events, oldest first, ties in file order.

    Row u of the arrays is user `users.ids[u]`.
    """

    rows: Ragged
    """Item rows."""
    events: np.ndarray
    """(m,) int64: row of each event in the events table."""
    times_ms: Ragged | None
    """Times in milliseconds since 1970; None where there are none."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Training data of a stage after retrieval: queries, candidate lists and next items."""

    queries: Queries
    """Queries whose next items are known."""
    rankings: Rankings
    """Lists that an earlier stage made for them."""
    targets: Ragged
    """Next items, as rows of the queries' catalogue."""

    def take(self, rows: np.ndarray) -> "Lists":
        """Return the lists of these queries."""
        return Lists(self.queries.take(rows), self.rankings.take(rows), self.targets.take(rows))


@dataclass(frozen=True)
class Provenance:
    """Which part of which data a model may have seen."""

    data_hash: str
    """Content hash of the whole data set."""
    split_hash: str | None = None
    """Hash of the split that cut it; None for no cut."""
    part: str = "all"
    """Part of the split: train, train+valid or all."""
    within: "Provenance | None" = None
    """Origin of the data that was split, if it was a cut itself."""

    def chain(self) -> "list[Provenance]":
        """Return this origin and all that it was cut from."""
        return [self, *(self.within.chain() if self.within else ())]

    def after(self, other: "Provenance") -> "Provenance":
        """Append `other`, which was learned from before, to the chain of origins."""
        return replace(self, within=other if self.within is None else self.within.after(other))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Provenance":
        """Return the origin that `dataclasses.asdict` wrote."""
        within = fields.get("within")
        return cls(
            fields["data_hash"],
            fields["split_hash"],
            fields["part"],
            cls.of(within) if within else None,
        )


class Dataset:
    """Tables of events, items, users, texts, ... with one catalogue.

    A cut of a data set keeps the catalogue of the whole. Events are sorted by `time_ms` (full
    precision, ties as given), by each user's `order` where there are no times, and not at all where
    there is neither. Outside ids are strings. One of events, judgements, turns and impressions is
    required.
    """

    def __init__(
        self,
        tables: Mapping[str, pl.DataFrame],
        name: str = "data",
        labels: Mapping[str, str] | None = None,
        *,
        catalogue: Vocabulary | None = None,
        users: Vocabulary | None = None,
        provenance: Provenance | None = None,
        lists: Lists | None = None,
    ) -> None:
        if not any(table in tables for table in SUBJECTS):
            raise DataError(
                "a data set needs a table of events or of judgements, turns or impressions; given:"
                f" {', '.join(tables) or 'none'}"
            )
        self.tables = (
            tables
            if isinstance(tables, Tables)
            else Tables({table: _ready(table, frame) for table, frame in tables.items()})
        )
        self.name = name
        self.labels = dict(labels or {})
        self.lists = lists
        self._catalogue, self._users, self._provenance = catalogue, users, provenance
        # of a data set in a folder: each file of a table and its hash
        self._files: dict[Path, str] = {}

    @classmethod
    def from_events(
        cls, events: Any, items: Any = None, name: str = "data", **tables: Any
    ) -> "Dataset":
        """Return a data set of data frames (Polars, pandas, Arrow) or mappings of columns.

        Names of columns, ids, times and lists follow the rules of the import: `timestamp` is read
        as `time_ms`, `rating` as `value`, and so on. Raises DataError for a column that cannot be
        read, naming the row.
        """
        columns_by_table = {"events": events, "items": items, **tables}
        frames = {
            table: table_of(table, columns)
            for table, columns in columns_by_table.items()
            if columns is not None
        }
        return cls(frames, name)

    @property
    def events(self) -> pl.DataFrame:
        """Return the table of events. Raises DataError where there is none."""
        if "events" not in self.tables:
            raise DataError(f'data set "{self.name}" has no events')
        return self.tables["events"]

    @property
    def has_times(self) -> bool:
        """Return whether the events have times."""
        if "sequences" in self.__dict__:  # known without reading the events
            return self.sequences.times_ms is not None
        return "time_ms" in self.events.columns

    @cached_property
    def catalogue(self) -> Vocabulary:
        """Return all items of the tables that name one, in seeded hash order of their ids."""
        if self._catalogue is not None:
            return self._catalogue
        ids = [
            self.tables[table]["item_id"].unique() for table in NAMING_ITEMS if table in self.tables
        ]
        return Vocabulary.of_items(item_id for column in ids for item_id in column.to_list())

    @cached_property
    def users(self) -> Vocabulary:
        """Return all users with events."""
        if self._users is not None:
            return self._users
        return Vocabulary.of_users(
            self.events["user_id"].unique().to_list() if "events" in self.tables else ()
        )

    @cached_property
    def sequences(self) -> Sequences:
        """Return the events of every user, oldest first."""
        users = self.users.codes(self.events["user_id"])
        items = self.catalogue.codes(self.events["item_id"])
        n = len(users)
        # coo -> csr is a stable counting sort by user
        by_user = sp.coo_matrix(
            (np.arange(n, dtype=np.int64), (users, np.arange(n))),
            shape=(len(self.users), max(n, 1)),
        ).tocsr()
        order = by_user.data
        offsets = by_user.indptr.astype(np.int64)
        times = None
        if self.has_times:
            times = Ragged(offsets, self.events["time_ms"].to_numpy()[order])
        return Sequences(Ragged(offsets, items[order]), order, times)

    @cached_property
    def content_hash(self) -> str:
        """Return a hash of every value of every table, in order; the name does not count."""
        digest = hashlib.blake2b(digest_size=16)
        for table in sorted(self.tables):
            frame = self.tables[table]
            for column in sorted(frame.columns):
                digest.update(f"{table}.{column}:{frame.schema[column]}".encode())
                for chunk in _buffers(frame[column]):
                    digest.update(chunk)
        return digest.hexdigest()

    def is_intact(self) -> bool:
        """Return whether the files of the tables are still those that were saved.

        True for a data set that was not opened from a folder.
        """
        return all(
            path.exists() and sha256_of(path) == digest for path, digest in self._files.items()
        )

    @property
    def cut_from(self) -> Provenance | None:
        """Return the origin of a cut; None for a whole data set."""
        return self._provenance

    @property
    def provenance(self) -> Provenance:
        """Return the origin of this data set."""
        return self._provenance or Provenance(self.content_hash)

    @cached_property
    def item_table(self) -> pl.DataFrame:
        """Return the items table in catalogue order, one row an item.

        An item that the table lacks has nulls.
        """
        frame = pl.DataFrame(
            {"item_id": self.catalogue.ids.tolist()}, schema={"item_id": pl.String}
        )
        if "items" not in self.tables:
            return frame
        return frame.join(self.tables["items"], on="item_id", how="left", maintain_order="left")

    @cached_property
    def item_texts(self) -> list[str]:
        """Return (N,) title, categories and text of every item, joined; "" where it has none."""
        return self.texts_of("title", "categories", "text")

    def texts_of(self, *names: str) -> list[str]:
        """Return (N,) these columns of every item, joined; "" for an item without words."""
        frame = self.item_table
        parts = [
            pl.col(name).list.join(" ") if name == "categories" else pl.col(name)
            for name in names
            if name in frame.columns
        ]
        if not parts:
            return [""] * len(frame)
        return (
            frame.select(pl.concat_str(parts, separator=" ", ignore_nulls=True))[:, 0]
            .fill_null("")
            .to_list()
        )

    @cached_property
    def finest_categories(self) -> np.ndarray:
        """Return (N,) int64 number of each item's finest category, the last of its list.

        Items without a category share a number.
        """
        if "categories" not in self.item_table.columns:
            return np.zeros(len(self.catalogue), np.int64)
        finest = self.item_table["categories"].list.last().fill_null("").to_list()
        return Vocabulary(dict.fromkeys(finest)).rows(finest).astype(np.int64)

    def where(self, condition: str) -> np.ndarray:
        """Return (events,) bool: True where a condition on the events holds.

        `condition` is a label of dataset.toml (`click = "action = 'click'"`) or a condition itself,
        as in `data/expressions.py`. It reaches nothing but the events.
        """
        if (
            condition not in self.labels
            and condition not in self.events.columns
            and not set(condition) & set("=<>( `")
        ):
            raise DataError(
                f'no label "{condition}" in dataset.toml.{nearest(condition, self.labels)} A'
                " condition compares, as in \"action = 'buy'\""
            )
        return Condition(self.labels.get(condition, condition)).holds(self.events)

    def cut(
        self,
        events: np.ndarray,
        others: Mapping[str, np.ndarray] | None = None,
        provenance: Provenance | None = None,
    ) -> "Dataset":
        """Return the data set with only these events; catalogue and users stay.

        events
            (events,) bool mask.
        others
            Table -> mask of its rows.
        """
        masks = {"events": events, **(others or {})}
        part = Dataset(
            self.tables.filtered({table: pl.Series(mask) for table, mask in masks.items()}),
            self.name,
            self.labels,
            catalogue=self.catalogue,
            users=self.users,
            provenance=provenance or self.provenance,
        )
        whole = self.sequences
        mask = events[whole.events]
        new_row = np.cumsum(events) - 1
        times = None if whole.times_ms is None else whole.times_ms.keep(mask)
        part.__dict__["sequences"] = Sequences(
            whole.rows.keep(mask), new_row[whole.events[mask]], times
        )
        return part

    def with_lists(self, lists: Lists) -> "Dataset":
        """Return the same data set with training lists for a later stage."""
        other = Dataset(
            self.tables,
            self.name,
            self.labels,
            catalogue=self.catalogue,
            users=self.users,
            provenance=self.provenance,
            lists=lists,
        )
        other.__dict__["sequences"] = self.sequences
        return other

    def queries(self, user_ids: list[str] | None = None, columns: Iterable[str] = ()) -> Queries:
        """Return one query a user with the whole history; unknown users have an empty one.

        Histories have times where the events have; `columns` (actions, values, texts) are added to
        them.
        """
        is_list = user_ids is None or (
            not isinstance(user_ids, str) and all(isinstance(user, str) for user in user_ids)
        )
        if not is_list:
            raise DataError(f"user ids are a list of strings, got {user_ids!r}")
        rows = np.arange(len(self.users)) if user_ids is None else self.users.rows(user_ids)
        # one empty row at the end serves the unknown
        history_rows = np.where(rows >= 0, rows, len(self.users))
        sequences = self.sequences

        def histories(ragged: Ragged) -> Ragged:
            return Ragged(np.r_[ragged.offsets, ragged.offsets[-1]], ragged.values).take(
                history_rows
            )

        history_columns = {
            name: histories(sequences.rows.with_values(values))
            for name, values in event_columns(self, columns).items()
        }
        if sequences.times_ms is not None:
            history_columns["times_ms"] = histories(sequences.times_ms)
        ids = self.users.ids if user_ids is None else np.array(user_ids, dtype=object)
        return Queries(
            self.catalogue,
            histories(sequences.rows),
            ids,
            history_columns,
            contexts=self.contexts(ids),
        )

    def contexts(self, user_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Return column of the users table -> (n,) object, its values for these users.

        None for a user whom the table does not have.
        """
        if "users" not in self.tables:
            return {}
        ids = pl.DataFrame({"user_id": user_ids.tolist()}, schema={"user_id": pl.String})
        rows = ids.join(
            self.tables["users"].unique("user_id", keep="first"),
            on="user_id",
            how="left",
            maintain_order="left",
        )
        return {
            name: np.array([*rows[name].to_list(), None], dtype=object)[:-1]
            for name in rows.columns[1:]
            if rows.schema[name] != pl.List
        }

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        beside: Mapping[str, pl.DataFrame] | None = None,
    ) -> Path:
        """Write the folder aside and put it in place whole.

        Frames `beside` (rejected rows) go in without being tables.
        """
        import tomli_w

        with written_aside(folder, overwrite) as aside:
            for table, frame in {**self.tables, **(beside or {})}.items():
                _write_parquet(frame, aside / f"{table}.parquet")
            self._save_sequences(aside / "sequences")
            fields = {
                "name": self.name,
                "schema": SCHEMA_VERSION,
                "content_hash": self.content_hash,
                "labels": self.labels,
                "rows": {table: len(frame) for table, frame in self.tables.items()},
                "sha256": {table: sha256_of(aside / f"{table}.parquet") for table in self.tables},
            }
            (aside / "dataset.toml").write_text(tomli_w.dumps(fields), encoding="utf-8")
        return Path(folder)

    def _save_sequences(self, folder: Path) -> None:
        folder.mkdir()
        if "events" in self.tables:
            np.save(folder / "offsets.npy", self.sequences.rows.offsets)
            np.save(folder / "item_rows.npy", self.sequences.rows.values)
            np.save(folder / "events.npy", self.sequences.events)
            if self.sequences.times_ms is not None:
                np.save(folder / "times_ms.npy", self.sequences.times_ms.values)
        for name, vocabulary in (("catalogue", self.catalogue), ("users", self.users)):
            ids = pl.DataFrame({"id": vocabulary.ids.tolist()}, schema={"id": pl.String})
            _write_parquet(ids, folder / f"{name}.parquet")

    @classmethod
    def open(cls, folder: str | Path) -> "Dataset":
        """Read a saved data set; its sequences are memory-mapped.

        Raises DataError where a file is missing or damaged.
        """
        folder = Path(folder)
        fields = _read_fields(folder)
        tables = _table_readers(folder, fields["rows"])
        catalogue, users = (
            Vocabulary(read_parquet(folder / "sequences" / f"{name}.parquet")["id"])
            for name in ("catalogue", "users")
        )
        data = cls(
            Tables(tables), fields["name"], fields["labels"], catalogue=catalogue, users=users
        )
        if "events" in tables:
            has_times = "time_ms" in pl.read_parquet_schema(folder / "events.parquet")
            data.__dict__["sequences"] = _mapped_sequences(
                folder / "sequences", fields["rows"]["events"], has_times
            )
        data.__dict__["content_hash"] = fields["content_hash"]
        data._files = {
            folder / f"{table}.parquet": str(digest)
            for table, digest in fields.get("sha256", {}).items()
        }
        return data


def _table_readers(
    folder: Path, rows_by_table: Mapping[str, int]
) -> dict[str, Callable[[], pl.DataFrame]]:
    """Return table -> a function that reads it. Raises DataError for a damaged folder."""
    readers: dict[str, Callable[[], pl.DataFrame]] = {}
    for table, rows in rows_by_table.items():
        if table not in TABLES:
            raise DataError(
                f'{folder}/dataset.toml names the table "{table}".{nearest(table, TABLES)}'
            )
        path = folder / f"{table}.parquet"
        n = count_rows(path)
        if n != rows:
            raise DataError(f"{path} holds {n} rows, dataset.toml says {rows}: import again")
        readers[table] = functools.partial(_read_table, table, path, _mark(path))
    return readers


FIELDS = {"schema": int, "name": str, "content_hash": str, "labels": dict, "rows": dict}


def _read_fields(folder: Path) -> dict[str, Any]:
    """Return what dataset.toml holds. Raises DataError for a value that cannot be."""
    fields = read_toml(folder / "dataset.toml", "a data set", "make one with `tailor data import`")
    for key, kind in FIELDS.items():
        if not isinstance(fields.get(key), kind):
            raise DataError(
                f"{folder}/dataset.toml holds {key} = {fields.get(key)!r}: import again"
            )
    if fields["schema"] > SCHEMA_VERSION:
        raise DataError(
            f"{folder} has schema {fields['schema']}, this version reads up to {SCHEMA_VERSION}:"
            " update tailor"
        )
    if not all(isinstance(label, str) for label in fields["labels"].values()):
        raise DataError(
            f"{folder}/dataset.toml: all labels must be texts, they are {fields['labels']}"
        )
    if not isinstance(fields.get("sha256", {}), dict):
        raise DataError(f"{folder}/dataset.toml holds sha256 = {fields['sha256']!r}: import again")
    return fields


def read_toml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a TOML file as a dict. Raises DataError that says what the folder should be."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path.parent} is not {what} (there is no {path.name}): {remedy}"
        ) from None
    except NotADirectoryError:
        raise DataError(f"{path.parent} is not {what} (it is a file): {remedy}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise DataError for a file that is missing, forbidden or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the folder is damaged, import again") from None
    except PermissionError:
        raise DataError(f"{path} may not be read: permission denied") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} is damaged or cut short ({str(error).splitlines()[0]}): import again"
        ) from None


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a Parquet file. Raises DataError where it cannot be read."""
    with _readable(path):
        return pl.read_parquet(path)


def count_rows(path: Path) -> int:
    """Return the rows that a Parquet file's footer counts; a file cut short has none."""
    with _readable(path):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_table(table: str, path: Path, mark: tuple[int, int, int]) -> pl.DataFrame:
    """Read the table of a file, if it is still the one that the data set was opened with."""
    frame = read_parquet(path)
    if _mark(path) != mark:
        raise DataError(f"{path} was replaced after the data set was opened: open it again")
    return _ready(table, frame)


def _ready(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the checked table; events oldest first."""
    if table != "events":
        return checked(table, frame)
    # twice: times given as texts are numbers only once checked
    return _oldest_first(checked(table, _oldest_first(frame)))


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    try:
        frame.write_parquet(path)
    except pl.exceptions.PolarsError as error:  # what Polars makes of a full disk
        raise OSError(f"{path.name}: {error}") from error


def _oldest_first(events: pl.DataFrame) -> pl.DataFrame:
    columns = [name for name in ("time_ms", "order") if name in events.columns]
    if not columns or "user_id" not in events.columns:
        return events
    column = columns[0]
    if not (events.schema[column].is_numeric() or events.schema[column].is_temporal()):
        return events
    if empty := events[column].null_count():
        raise DataError(
            f"events.{column} is empty in {empty} rows: give it for every event, or for none of"
            " them"
        )
    if column == "order":  # may count from 0 for every user
        is_sorted = not events.select(
            (pl.col(column) < pl.col(column).shift().over("user_id")).any()
        ).item()
    else:
        is_sorted = events[column].is_sorted()
    return events if is_sorted else events.sort(column, maintain_order=True)


def _mapped_sequences(folder: Path, events: int, has_times: bool) -> Sequences:
    try:
        offsets, rows, order = (
            np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("offsets", "item_rows", "events")
        )
        times_ms = None
        if has_times:
            times_ms = Ragged(offsets, np.load(folder / "times_ms.npy", mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder} is damaged ({error}): import again") from None
    counts = {
        len(rows),
        len(order),
        int(offsets[-1]),
        len(rows if times_ms is None else times_ms.values),
    }
    if counts != {events}:
        raise DataError(
            f"{folder} holds {max(counts - {events})} events, the table {events}: import again"
        )
    return Sequences(Ragged(offsets, rows), order, times_ms)


FIXED = (
    pl.Boolean,
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.Float32,
    pl.Float64,
)


def _buffers(column: pl.Series) -> list[Any]:
    """Return the bytes of a column's values, independent of how it is chunked."""
    nulls = column.is_null().to_numpy().tobytes()
    if column.dtype == pl.List:
        lengths = column.list.len().fill_null(0).to_numpy().tobytes()
        return [nulls, lengths, *_buffers(column.explode(empty_as_null=False, keep_nulls=False))]
    if column.dtype == pl.String:
        lengths = column.str.len_bytes().fill_null(0).to_numpy().tobytes()
        return [
            nulls,
            lengths,
            "".join(column.drop_nulls().to_list()).encode("utf-8", "surrogatepass"),
        ]
    if column.dtype.is_temporal():
        column = column.to_physical()
    if column.dtype in FIXED:
        return [
            nulls,
            column.fill_null(False if column.dtype == pl.Boolean else 0).to_numpy().tobytes(),
        ]
    return [nulls, "\0".join(map(repr, column.to_list())).encode()]
