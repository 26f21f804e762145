"""Splits of the events: to learn from, to validate on and to test on."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset, Provenance, read_toml
from tailor.data.event_columns import event_columns
from tailor.data.folders import written_aside
from tailor.data.queries import Queries
from tailor.errors import DataError, nearest

TRAIN, VALID, TEST, CONTEXT, DROPPED = range(5)  # CONTEXT: known to a query, never learned from
PARTS = {"train": (TRAIN,), "train+valid": (TRAIN, VALID, CONTEXT)}
# splits whose dropped events would leak the held-out items
COLD_SPLITS = ("cold-start", "new-items")
# tables beside the events that are cut with them
EVENT_TABLES = ("texts", "turns", "requests", "preferences", "relations")


@dataclass(frozen=True, eq=False)
class Split:
    """A data set with a part for every event.

    It gives the data to learn from, and queries with their targets.
    """

    data: Dataset
    """The whole data set."""
    kind: str
    """Name of the split: last, time, ratio, ..."""
    params: Mapping[str, Any]
    """Settings of the split."""
    part: np.ndarray
    """(events,) int8, parallel to data.events."""

    @cached_property
    def hash(self) -> str:
        """Return a hash of the data, the settings and the parts."""
        fields = json.dumps([self.kind, dict(self.params), self.data.content_hash], sort_keys=True)
        return hashlib.blake2b(fields.encode() + self.part.tobytes(), digest_size=16).hexdigest()

    @cached_property
    def train(self) -> Dataset:
        """Return the training part."""
        return self.learn_from("train")

    @cached_property
    def train_valid(self) -> Dataset:
        """Return the training and the validation part."""
        return self.learn_from("train+valid")

    def learn_from(self, part: str) -> Dataset:
        """Return the data that a method fitted on "train", "train+valid" or "all" may see.

        Texts, requests, ... are cut with the events.
        """
        if part == "all":
            return self.data
        if part not in PARTS:
            raise DataError(f'cannot train on "{part}".{nearest(part, [*PARTS, "all"])}')
        events = np.isin(self.part, PARTS[part])
        if part == "train+valid":  # the context of a test user is not learned from
            test_users = self.data.events.filter(pl.Series(self.part == TEST))["user_id"].unique()
            is_test_user = self.data.events["user_id"].is_in(test_users.implode()).to_numpy()
            events &= ~((self.part == CONTEXT) & is_test_user)
        return self.data.cut(
            events,
            self._known(events),
            Provenance(self.data.content_hash, self.hash, part, self.data.cut_from),
        )

    def _known(self, events: np.ndarray) -> dict[str, np.ndarray]:
        """Return table -> (rows,) bool: True for rows that could be known with these events."""
        # dropped by `only`: no secret, left out for being of another kind
        dropped = (self.part == DROPPED) & (self.kind not in COLD_SPLITS)
        tables = self.data.tables
        hidden = self.data.events.filter(pl.Series(~events & ~dropped))
        masks = {
            table: self._known_rows(tables[table], hidden)
            for table in EVENT_TABLES
            if table in tables
        }
        # they have no time of their own, so they go with their requests
        if "impressions" in tables:
            if "requests" in tables:
                requests = tables["requests"].filter(pl.Series(masks["requests"]))["request_id"]
                impressions = tables["impressions"]["request_id"]
                masks["impressions"] = impressions.is_in(requests.implode()).to_numpy()
            else:
                masks["impressions"] = self._known_rows(tables["impressions"], hidden)
        return masks

    def _known_rows(self, frame: pl.DataFrame, hidden: pl.DataFrame) -> np.ndarray:
        """Return (rows,) bool: True for rows from before the first hidden event.

        Counts that of their user, where they name one. A row that names a hidden (user, item) pair
        or request is not known. Nor is a row without a time that is about a user with hidden
        events, where the others have times.
        """
        visible = np.ones(len(frame), dtype=bool)
        if {"user_id", "item_id"} <= set(frame.columns):
            pairs = hidden.select("user_id", "item_id").unique().with_columns(hidden=True)
            joined = frame.select("user_id", "item_id").join(
                pairs, on=["user_id", "item_id"], how="left", maintain_order="left"
            )
            visible &= joined["hidden"].is_null().to_numpy()
        if "item_id" in frame.columns and self.kind == "new-items":
            visible &= ~_is_among(frame["item_id"], hidden["item_id"].unique())
        if "request_id" in frame.columns and "request_id" in hidden.columns:
            visible &= ~_is_among(frame["request_id"], hidden["request_id"].drop_nulls())
        if "time_ms" in frame.columns and self.data.has_times:
            visible &= self._is_before(frame, hidden)
        return visible

    def _is_before(self, frame: pl.DataFrame, hidden: pl.DataFrame) -> np.ndarray:
        """Return (rows,) bool: True for rows from before the first hidden event."""
        personal = "user_id" in frame.columns
        if self.kind == "time" or not personal:
            first = pl.Series([hidden["time_ms"].min()] * len(frame), dtype=pl.Int64)
        else:
            starts = hidden.group_by("user_id").agg(first=pl.col("time_ms").min())
            users = frame.select("user_id")
            first = users.join(starts, on="user_id", how="left", maintain_order="left")["first"]
        before = (frame["time_ms"] < first).fill_null(not personal)
        return (first.is_null() | before).to_numpy()

    def has(self, part: str) -> bool:
        """Return whether a part, "valid" or "test", has any event."""
        return bool((self.part == (VALID if part == "valid" else TEST)).any())

    def queries(self, part: str = "test", columns: Iterable[str] = ()) -> tuple[Queries, Ragged]:
        """Return queries of the users with events in a part, and their target item rows.

        `part` is "valid" or "test". The history is what was known before: train for "valid", train
        and valid for "test". `now_ms` is the target's time, or the cut's for a split by time.
        `columns` (actions, values, texts) are added to the histories.
        """
        if part not in ("valid", "test"):
            raise DataError(f'queries of "{part}"?{nearest(part, ["valid", "test"])}')
        codes = self.part[self.data.sequences.events]
        target = codes == (VALID if part == "valid" else TEST)
        in_history = (codes == TRAIN) | (codes == CONTEXT) | ((codes == VALID) & (part == "test"))
        sequences = self.data.sequences
        targets = sequences.rows.keep(target)
        users = np.flatnonzero(targets.lengths)
        if not len(users):
            raise DataError(
                f'the split by {self.kind} has no user in "{part}": use more data or another split'
            )
        times = sequences.times_ms
        now = None
        history_columns = {
            name: sequences.rows.with_values(values).keep(in_history).take(users)
            for name, values in event_columns(self.data, columns).items()
        }
        if times is not None:
            history_columns["times_ms"] = times.keep(in_history).take(users)
            target_times = times.keep(target).take(users)
            first = target_times.values[target_times.offsets[:-1]]
            now = np.full(len(users), first.min()) if self.kind == "time" else first
        history = sequences.rows.keep(in_history).take(users)
        ids = self.data.users.ids[users]
        queries = Queries(
            self.data.catalogue,
            history,
            ids,
            history_columns,
            now_ms=now,
            contexts=self.data.contexts(ids),
        )
        return queries, targets.take(users)

    @cached_property
    def report(self) -> dict[str, Any]:
        """Return the numbers of events, users and targets that the split made."""
        codes = self.part[self.data.sequences.events]
        users = self.data.sequences.rows.row_ids
        counts = {
            name: int((self.part == code).sum())
            for name, code in [
                ("train", TRAIN),
                ("valid", VALID),
                ("test", TEST),
                ("context", CONTEXT),
                ("dropped", DROPPED),
            ]
        }
        return {
            "kind": self.kind,
            **self.params,
            "hash": self.hash,
            "events": counts,
            "users": {
                "all": len(self.data.users),
                "valid": len(np.unique(users[codes == VALID])),
                "test": len(np.unique(users[codes == TEST])),
            },
            "test_targets_of_items_not_in_train": self._new_targets(codes),
            "users_whose_target_a_tie_decides": self._tied_targets(codes),
        }

    def _new_targets(self, codes: np.ndarray) -> float:
        """Return the share of test targets whose item is not in the training part."""
        items = self.data.sequences.rows.values
        in_train = np.zeros(len(self.data.catalogue), dtype=bool)
        in_train[items[codes == TRAIN]] = True
        targets = items[codes == TEST]
        return round(float((~in_train[targets]).mean()), 4) if len(targets) else 0.0

    def _tied_targets(self, codes: np.ndarray) -> float:
        """Return the share of test users whose target is decided by file order.

        Their first target has the time of an event of another part.
        """
        used = codes != DROPPED
        codes = codes[used]
        owners = self.data.sequences.rows.row_ids[used]
        tests = len(np.unique(owners[codes == TEST]))
        if self.data.sequences.times_ms is None or not tests:
            return 0.0
        times = self.data.sequences.times_ms.values[used]
        edge = (
            (owners[1:] == owners[:-1])
            & (times[1:] == times[:-1])
            & (codes[1:] == TEST)
            & (codes[:-1] != TEST)
        )
        return round(len(np.unique(owners[1:][edge])) / tests, 4)

    def save(self, folder: str | Path, data_folder: str | Path, overwrite: bool = False) -> Path:
        """Write the split, with the folder and the hash of its data set."""
        import tomli_w

        with written_aside(folder, overwrite) as aside:
            np.save(aside / "part.npy", self.part)
            fields = {
                "kind": self.kind,
                "params": dict(self.params),
                "hash": self.hash,
                "data": str(Path(data_folder).resolve()),
                "data_hash": self.data.content_hash,
                "report": self.report,
            }
            (aside / "split.toml").write_text(tomli_w.dumps(fields), encoding="utf-8")
        return Path(folder)

    @classmethod
    def open(cls, folder: str | Path, data_folder: str | Path | None = None) -> "Split":
        """Read a split and its data set.

        Raises DataError where the data set is not the one that was split.
        """
        folder = Path(folder)
        fields = _read_fields(folder)
        data = _data_of_split(folder, fields, data_folder)
        try:
            part = np.load(folder / "part.npy")
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder}/part.npy is damaged ({error}): split again") from None
        split = cls(data, fields["kind"], fields["params"], part)
        if len(part) != len(data.events) or split.hash != fields["hash"]:
            raise DataError(f"{folder} is damaged: its parts do not match its hash; split again")
        return split


FIELDS = {"kind": str, "params": dict, "hash": str, "data": str, "data_hash": str}


def _read_fields(folder: Path) -> dict[str, Any]:
    """Return what split.toml holds. Raises DataError for a value that cannot be."""
    fields = read_toml(folder / "split.toml", "a split", "make one with `tailor data split`")
    for key, kind in FIELDS.items():
        if not isinstance(fields.get(key), kind):
            raise DataError(f"{folder}/split.toml holds {key} = {fields.get(key)!r}: split again")
    return fields


def data_path(folder: Path) -> Path:
    """Return the folder of the data set that a split was made of."""
    return Path(_read_fields(folder)["data"])


def _data_of_split(
    folder: Path, fields: Mapping[str, Any], data_folder: str | Path | None
) -> Dataset:
    """Return the data set that was split. Raises DataError where it is gone or has changed."""
    path = Path(data_folder or fields["data"])
    if not path.exists():
        raise DataError(
            f"the data set of this split was at {path} and is gone: name its new place with --data"
        )
    data = Dataset.open(path)
    if data.content_hash != fields["data_hash"]:
        raise DataError(f"{path} has changed since {folder} was made: split it again")
    if not data.is_intact():
        raise DataError(
            f"a table of {path} was changed in place: import it again, and split it again"
        )
    return data


def _is_among(values: pl.Series, others: pl.Series) -> np.ndarray:
    """Return (n,) bool: True where a value is one of the others."""
    return values.is_in(others.implode()).fill_null(False).to_numpy()


def last_out(data: Dataset) -> Split:
    """Split off every user's last event for the test, and the one before for validation.

    Users with fewer than 3 events are only learned from.
    """
    rows = data.sequences.rows
    long = np.repeat(rows.lengths >= 3, rows.lengths)
    code = np.full(len(long), TRAIN)
    code[long & (rows.from_end == 1)] = VALID
    code[long & (rows.from_end == 0)] = TEST
    return _split(data, "last", {}, code)


def by_ratio(data: Dataset, valid: float = 0.1, test: float = 0.1) -> Split:
    """Split off the last shares of every user's events, at least one event for each part.

    Users with fewer than 3 events are only learned from.
    """
    _check_shares(valid, test)
    rows = data.sequences.rows
    lengths = rows.lengths
    n_test = np.clip(np.floor(lengths * test), 1, np.maximum(lengths - 2, 1)).astype(int)
    most_valid = np.maximum(lengths - 1 - n_test, 1)
    n_valid = np.clip(np.floor(lengths * valid), 1, most_valid).astype(int)
    long = np.repeat(lengths >= 3, lengths)
    code = np.full(len(long), TRAIN)
    code[long & (rows.from_end < np.repeat(n_test + n_valid, lengths))] = VALID
    code[long & (rows.from_end < np.repeat(n_test, lengths))] = TEST
    return _split(data, "ratio", {"valid": valid, "test": test}, code)


def by_time(data: Dataset, valid: float = 0.1, test: float = 0.1) -> Split:
    """Split at two moments: the last share of events is the test, the one before validation.

    Events at the time of the cut fall after it, so no training event is as new as a test event.
    Users and items first seen after the cut stay in.
    """
    _check_shares(valid, test)
    if not data.has_times:
        raise DataError(
            f'data set "{data.name}" has no times, so it cannot be split by time: use "last" or'
            ' "ratio"'
        )
    times = data.events["time_ms"].to_numpy()
    cuts = [
        int(times[min(int(len(times) * share), len(times) - 1)])
        for share in (1 - valid - test, 1 - test)
    ]
    part = np.full(len(times), TRAIN, dtype=np.int8)
    part[times >= cuts[0]] = VALID
    part[times >= cuts[1]] = TEST
    if not (part == TRAIN).any() or not (part == VALID).any():
        raise DataError(
            f"too many events share the time of a cut ({cuts}): nothing is left before it; use"
            " another split"
        )
    return Split(data, "time", {"valid": valid, "test": test, "cuts_ms": cuts}, part)


def new_users(data: Dataset, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Split off some users, who are never learned from.

    Their last event is the target, the ones before are the history of their query.
    """
    _check_shares(valid, test)
    rows = data.sequences.rows
    kind = _drawn_parts(len(rows), valid, test, seed)
    kind[rows.lengths < 2] = TRAIN
    kinds = np.repeat(kind, rows.lengths)
    code = np.where((kinds != TRAIN) & (rows.from_end > 0), CONTEXT, kinds)
    return _split(data, "new-users", {"valid": valid, "test": test, "seed": seed}, code)


def cold_start(
    data: Dataset, known: int = 3, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Split off some users of whom only the first `known` events are known.

    The next event is the target, the rest is dropped. With known = 0 nothing is known. Users with
    no more than `known` events are learned from. Raises DataError for known below 0.
    """
    _check_shares(valid, test)
    if known < 0:
        raise DataError(f"known={known}: a cold user has 0 or more known events")
    rows = data.sequences.rows
    kind = _drawn_parts(len(rows), valid, test, seed)
    kind[rows.lengths <= known] = TRAIN
    kinds = np.repeat(kind, rows.lengths)
    position = np.repeat(rows.lengths, rows.lengths) - 1 - rows.from_end
    code = np.where(position < known, CONTEXT, DROPPED)
    is_target = (kinds == TRAIN) | (position == known)
    code[is_target] = kinds[is_target]
    return _split(
        data, "cold-start", {"known": known, "valid": valid, "test": test, "seed": seed}, code
    )


def new_items(data: Dataset, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Split off some items, which are never learned from.

    The last event of every user who ends with one is the target, other events of such items are
    dropped. Nothing is known of these items but the catalogue: texts about them are not learned
    from either.
    """
    _check_shares(valid, test)
    rows = data.sequences.rows
    item_part = _drawn_parts(len(data.catalogue), valid, test, seed)[rows.values]
    ends = (rows.from_end == 0) & np.repeat(rows.lengths >= 2, rows.lengths)
    code = np.where((item_part == TRAIN) | ends, item_part, DROPPED)
    return _split(data, "new-items", {"valid": valid, "test": test, "seed": seed}, code)


def _drawn_parts(n: int, valid: float, test: float, seed: int) -> np.ndarray:
    """Return (n,) TRAIN, VALID or TEST, drawn by these shares."""
    draw = np.random.default_rng(seed).permutation(n) / max(n, 1)
    part = np.full(n, TRAIN)
    part[draw < test + valid] = VALID
    part[draw < test] = TEST
    return part


def inner_cut(data: Dataset, seed: int = 0, most: int = 20_000) -> Split | None:
    """Split off the last event of up to `most` users for validation; None where no user has 3.

    For methods that need targets of their own. Users with fewer than 3 events are only learned
    from.
    """
    rows = data.sequences.rows
    long = np.flatnonzero(rows.lengths >= 3)
    if not len(long):
        return None
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(long)[:most]] = True
    code = np.where(np.repeat(chosen, rows.lengths) & (rows.from_end == 0), VALID, TRAIN)
    return _split(data, "inner", {"seed": seed, "most": most}, code)


MAKERS: dict[str, Callable[..., Split]] = {
    "last": last_out,
    "time": by_time,
    "ratio": by_ratio,
    "new-users": new_users,
    "cold-start": cold_start,
    "new-items": new_items,
}
KINDS = tuple(MAKERS)


def split_by(data: Dataset, kind: str, only: str | None = None, **params: Any) -> Split:
    """Return a split by its name: last, time, ratio, new-users, cold-start or new-items.

    `only` names a label, or is a condition on the events such as "action = 'buy'": the other events
    are dropped.
    """
    if kind not in MAKERS:
        raise DataError(f'no split by "{kind}".{nearest(kind, MAKERS)}')
    allowed = inspect.signature(MAKERS[kind]).parameters
    for name in params:
        if name not in allowed:
            options = [option for option in allowed if option != "data"]
            raise DataError(f'a split by {kind} takes no "{name}".{nearest(name, options)}')
    if only is None:
        return MAKERS[kind](data, **params)
    chosen = data.where(only)
    if not chosen.any():
        raise DataError(f'no event fulfils "{only}"')
    inner = MAKERS[kind](data.cut(chosen), **params)
    part = np.full(len(data.events), DROPPED, dtype=np.int8)
    part[chosen] = inner.part
    return Split(data, kind, {**inner.params, "only": only}, part)


def _split(data: Dataset, kind: str, params: dict[str, Any], code_of_sequence: np.ndarray) -> Split:
    part = np.empty(len(data.sequences.events), dtype=np.int8)
    part[data.sequences.events] = code_of_sequence
    return Split(data, kind, params, part)


def _check_shares(valid: float, test: float) -> None:
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(f"shares valid={valid}, test={test}: both above 0, together below 1")
