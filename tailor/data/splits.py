"""Splits: which events a method may learn from, which it is tuned on, and which it is judged by."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset, Provenance, read_toml
from tailor.data.folders import written_aside
from tailor.data.queries import Queries
from tailor.errors import DataError, nearest

TRAIN, VALID, TEST, CONTEXT, DROPPED = range(5)  # CONTEXT: known to a query, never learned from
PARTS = {"train": (TRAIN,), "train+valid": (TRAIN, VALID, CONTEXT)}
# splits whose dropped events would tell of what must stay unknown
STRANGERS = ("cold-start", "new-items")
# tables beside the events that are cut with them
HAPPENED = ("texts", "turns", "requests", "preferences", "relations")


@dataclass(frozen=True, eq=False)
class Split:
    """A data set with a part for every event; hands out what may be learned from, and queries with
    their targets.
    """

    data: Dataset
    kind: str
    params: Mapping[str, Any]
    part: np.ndarray
    """(events,) int8, parallel to data.events."""

    @cached_property
    def hash(self) -> str:
        about = json.dumps([self.kind, dict(self.params), self.data.content_hash], sort_keys=True)
        return hashlib.blake2b(about.encode() + self.part.tobytes(), digest_size=16).hexdigest()

    @cached_property
    def train(self) -> Dataset:
        return self.learn_from("train")

    @cached_property
    def train_valid(self) -> Dataset:
        return self.learn_from("train+valid")

    def learn_from(self, part: str) -> Dataset:
        """The data set cut to what a method fitted on "train", "train+valid" or "all" may see;
        texts, requests, ... are cut with it.
        """
        if part == "all":
            return self.data
        if part not in PARTS:
            raise DataError(f'cannot train on "{part}".{nearest(part, [*PARTS, "all"])}')
        events = np.isin(self.part, PARTS[part])
        if part == "train+valid":  # the context of a test user is not learned from
            test_users = self.data.events.filter(pl.Series(self.part == TEST))["user_id"].unique()
            context = self.part == CONTEXT
            events &= ~(
                context & self.data.events["user_id"].is_in(test_users.implode()).to_numpy()
            )
        return self.data.cut(
            events,
            self._known(events),
            Provenance(self.data.content_hash, self.hash, part, self.data.cut_from),
        )

    def _known(self, events: np.ndarray) -> dict[str, np.ndarray]:
        """For every table beside the events that tells what happened, (rows,) bool: what was there
        to be known.
        """
        # by `only`: no secret, left out for being of another kind
        dropped = (self.part == DROPPED) & (self.kind not in STRANGERS)
        tables, hidden = self.data.tables, self.data.events.filter(pl.Series(~events & ~dropped))
        known = {
            table: self._known_rows(tables[table], hidden) for table in HAPPENED if table in tables
        }
        # they have no time of their own, so they go with their requests
        if "impressions" in tables:
            if "requests" in tables:
                requests = tables["requests"].filter(pl.Series(known["requests"]))["request_id"]
                known["impressions"] = (
                    tables["impressions"]["request_id"].is_in(requests.implode()).to_numpy()
                )
            else:
                known["impressions"] = self._known_rows(tables["impressions"], hidden)
        return known

    def _known_rows(self, frame: pl.DataFrame, hidden: pl.DataFrame) -> np.ndarray:
        """Rows from before the first hidden event (of their user, where they name one) that name no
        hidden (user, item) pair or request.

        A row without a time is not known where it is about a user with hidden events and the others
        have times.
        """
        known = np.ones(len(frame), dtype=bool)
        if {"user_id", "item_id"} <= set(frame.columns):
            pairs = hidden.select("user_id", "item_id").unique().with_columns(hidden=True)
            joined = frame.select("user_id", "item_id").join(
                pairs, on=["user_id", "item_id"], how="left", maintain_order="left"
            )
            known &= joined["hidden"].is_null().to_numpy()
        if "item_id" in frame.columns and self.kind == "new-items":
            known &= (
                ~frame["item_id"]
                .is_in(hidden["item_id"].unique().implode())
                .fill_null(False)
                .to_numpy()
            )
        if "request_id" in frame.columns and "request_id" in hidden.columns:
            known &= (
                ~frame["request_id"]
                .is_in(hidden["request_id"].drop_nulls().implode())
                .fill_null(False)
                .to_numpy()
            )
        if "time_ms" in frame.columns and self.data.has_times:
            personal = "user_id" in frame.columns
            if self.kind == "time" or not personal:
                first = pl.Series([hidden["time_ms"].min()] * len(frame), dtype=pl.Int64)
            else:
                starts = hidden.group_by("user_id").agg(first=pl.col("time_ms").min())
                first = frame.select("user_id").join(
                    starts, on="user_id", how="left", maintain_order="left"
                )["first"]
            known &= (
                first.is_null() | (frame["time_ms"] < first).fill_null(not personal)
            ).to_numpy()
        return known

    def queries(self, part: str = "test") -> tuple[Queries, Ragged]:
        """Queries of the users with events in `part` ("valid" or "test"), and their target item
        rows.

        The history holds what was known before: train for "valid", train and valid for "test".
        `now_ms` is the target's time, or the cut's for a split by time.
        """
        if part not in ("valid", "test"):
            raise DataError(f'queries of "{part}"?{nearest(part, ["valid", "test"])}')
        codes = self.part[self.data.sequences.events]
        target = codes == (VALID if part == "valid" else TEST)
        known = (codes == TRAIN) | (codes == CONTEXT) | ((codes == VALID) & (part == "test"))
        sequences = self.data.sequences
        targets = sequences.rows.keep(target)
        users = np.flatnonzero(targets.lengths)
        if not len(users):
            raise DataError(
                f'the split by {self.kind} has no user in "{part}": use more data or another split'
            )
        times, now = sequences.times_ms, None
        columns = {}
        if times is not None:
            columns["times_ms"] = times.keep(known).take(users)
            asked = times.keep(target).take(users)
            first = asked.values[asked.offsets[:-1]]
            now = np.full(len(users), first.min()) if self.kind == "time" else first
        history = sequences.rows.keep(known).take(users)
        ids = self.data.users.ids[users]
        return Queries(
            self.data.catalogue, history, ids, columns, now_ms=now, contexts=self.data.contexts(ids)
        ), targets.take(users)

    @cached_property
    def report(self) -> dict[str, Any]:
        """What the split kept and dropped, in numbers."""
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
        out: dict[str, Any] = {
            "kind": self.kind,
            **self.params,
            "hash": self.hash,
            "events": counts,
        }
        out["users"] = {
            "all": len(self.data.users),
            "valid": len(np.unique(users[codes == VALID])),
            "test": len(np.unique(users[codes == TEST])),
        }
        learned = np.zeros(len(self.data.catalogue), dtype=bool)
        learned[self.data.sequences.rows.values[codes == TRAIN]] = True
        tests = self.data.sequences.rows.values[codes == TEST]
        out["test_targets_of_items_not_in_train"] = (
            round(float((~learned[tests]).mean()), 4) if len(tests) else 0.0
        )
        out["users_whose_target_a_tie_decides"] = self._tied_targets(codes)
        return out

    def _tied_targets(self, codes: np.ndarray) -> float:
        """Share of test users whose first target has the time of an event of another part: file
        order decides there.
        """
        kept = codes != DROPPED
        codes, owners = codes[kept], self.data.sequences.rows.row_ids[kept]
        tests = len(np.unique(owners[codes == TEST]))
        if self.data.sequences.times_ms is None or not tests:
            return 0.0
        times = self.data.sequences.times_ms.values[kept]
        edge = (
            (owners[1:] == owners[:-1])
            & (times[1:] == times[:-1])
            & (codes[1:] == TEST)
            & (codes[:-1] != TEST)
        )
        return round(len(np.unique(owners[1:][edge])) / tests, 4)

    def save(self, folder: str | Path, data_folder: str | Path, overwrite: bool = False) -> Path:
        """Write the split; it names the data set's folder and holds its hash."""
        import tomli_w

        with written_aside(folder, overwrite) as aside:
            np.save(aside / "part.npy", self.part)
            about = {
                "kind": self.kind,
                "params": dict(self.params),
                "hash": self.hash,
                "data": str(Path(data_folder).resolve()),
                "data_hash": self.data.content_hash,
                "report": self.report,
            }
            (aside / "split.toml").write_text(tomli_w.dumps(about), encoding="utf-8")
        return Path(folder)

    @classmethod
    def open(cls, folder: str | Path, data_folder: str | Path | None = None) -> "Split":
        """Read a split and its data set. Raises DataError where the data set is not the one that
        was split.
        """
        folder = Path(folder)
        about = read_toml(folder / "split.toml", "a split", "make one with `tailor data split`")
        for key, kind in {
            "kind": str,
            "params": dict,
            "hash": str,
            "data": str,
            "data_hash": str,
        }.items():
            if not isinstance(about.get(key), kind):
                raise DataError(
                    f"{folder}/split.toml holds {key} = {about.get(key)!r}: split again"
                )
        where = Path(data_folder or about["data"])
        if not where.exists():
            raise DataError(
                f"the data set of this split was at {where} and is gone: name its new place with"
                " --data"
            )
        data = Dataset.open(where)
        if data.content_hash != about["data_hash"]:
            raise DataError(f"{where} has changed since {folder} was made: split it again")
        if not data.is_intact():
            raise DataError(
                f"a table of {where} was changed in place: import it again, and split it again"
            )
        try:
            part = np.load(folder / "part.npy")
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder}/part.npy is damaged ({error}): split again") from None
        split = cls(data, about["kind"], about["params"], part)
        if len(part) != len(data.events) or split.hash != about["hash"]:
            raise DataError(f"{folder} is damaged: its parts do not match its hash; split again")
        return split


def last_out(data: Dataset) -> Split:
    """Every user's last event is the test, the one before validation; users with fewer than 3
    events are only learned from.
    """
    rows = data.sequences.rows
    long = np.repeat(rows.lengths >= 3, rows.lengths)
    code = np.where(
        long & (rows.from_end == 0), TEST, np.where(long & (rows.from_end == 1), VALID, TRAIN)
    )
    return _split(data, "last", {}, code)


def by_ratio(data: Dataset, valid: float = 0.1, test: float = 0.1) -> Split:
    """The last share of every user's events, at least one for each part; users with fewer than 3
    events are only learned from.
    """
    _shares(valid, test)
    rows = data.sequences.rows
    n_test = np.clip(np.floor(rows.lengths * test), 1, np.maximum(rows.lengths - 2, 1)).astype(int)
    n_valid = np.clip(
        np.floor(rows.lengths * valid), 1, np.maximum(rows.lengths - 1 - n_test, 1)
    ).astype(int)
    long = np.repeat(rows.lengths >= 3, rows.lengths)
    tests, valids = np.repeat(n_test, rows.lengths), np.repeat(n_test + n_valid, rows.lengths)
    code = np.where(
        long & (rows.from_end < tests),
        TEST,
        np.where(long & (rows.from_end < valids), VALID, TRAIN),
    )
    return _split(data, "ratio", {"valid": valid, "test": test}, code)


def by_time(data: Dataset, valid: float = 0.1, test: float = 0.1) -> Split:
    """One cut in time for all: the last share of events is the test, the share before it
    validation.

    Events at the time of the cut fall after it, so no training event is as new as a test event.
    Users and items first seen after the cut stay in.
    """
    _shares(valid, test)
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
    part = np.where(times >= cuts[1], TEST, np.where(times >= cuts[0], VALID, TRAIN))
    if not (part == TRAIN).any() or not (part == VALID).any():
        raise DataError(
            f"too many events share the time of a cut ({cuts}): nothing is left before it; use"
            " another split"
        )
    return Split(
        data, "time", {"valid": valid, "test": test, "cuts_ms": cuts}, part.astype(np.int8)
    )


def new_users(data: Dataset, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Some users are never learned from: their last event is the target, the ones before are the
    history of their query.
    """
    _shares(valid, test)
    rows = data.sequences.rows
    draw = np.random.default_rng(seed).permutation(len(rows)) / max(len(rows), 1)
    kind = np.where(
        rows.lengths < 2,
        TRAIN,
        np.where(draw < test, TEST, np.where(draw < test + valid, VALID, TRAIN)),
    )
    kinds = np.repeat(kind, rows.lengths)
    code = np.where((kinds != TRAIN) & (rows.from_end > 0), CONTEXT, kinds)
    return _split(data, "new-users", {"valid": valid, "test": test, "seed": seed}, code)


def cold_start(
    data: Dataset, known: int = 3, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Some users are strangers of whom only the first `known` events are known; the next one is the
    target, the rest is dropped.

    With known = 0 nothing is known. Users with no more than `known` events are learned from. Raises
    DataError for known below 0.
    """
    _shares(valid, test)
    if known < 0:
        raise DataError(f"known={known}: a stranger has 0 or more known events")
    rows = data.sequences.rows
    draw = np.random.default_rng(seed).permutation(len(rows)) / max(len(rows), 1)
    kind = np.where(
        rows.lengths <= known,
        TRAIN,
        np.where(draw < test, TEST, np.where(draw < test + valid, VALID, TRAIN)),
    )
    kinds, place = (
        np.repeat(kind, rows.lengths),
        np.repeat(rows.lengths, rows.lengths) - 1 - rows.from_end,
    )
    code = np.where(
        (kinds == TRAIN) | (place == known), kinds, np.where(place < known, CONTEXT, DROPPED)
    )
    return _split(
        data, "cold-start", {"known": known, "valid": valid, "test": test, "seed": seed}, code
    )


def new_items(data: Dataset, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Some items are never learned from: the last event of every user who ends with one is the
    target, other events of such items are dropped.

    Nothing is known of these items but the catalogue: texts about them are not learned from either.
    """
    _shares(valid, test)
    rows = data.sequences.rows
    draw = np.random.default_rng(seed).permutation(len(data.catalogue)) / max(
        len(data.catalogue), 1
    )
    held = np.where(draw < test, TEST, np.where(draw < test + valid, VALID, TRAIN))[rows.values]
    ends = (rows.from_end == 0) & np.repeat(rows.lengths >= 2, rows.lengths)
    return _split(
        data,
        "new-items",
        {"valid": valid, "test": test, "seed": seed},
        np.where((held == TRAIN) | ends, held, DROPPED),
    )


def inner_cut(data: Dataset, seed: int = 0, most: int = 20_000) -> Split | None:
    """For methods that need targets of their own: the last event of up to `most` users is "valid",
    everything else "train".

    Users with fewer than 3 events are left alone; None where that leaves nobody.
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
    """Any split by its name: last, time, ratio, new-users, cold-start or new-items.

    `only` names a label, or is an expression over the events such as "action = 'buy'": the other
    events are dropped.
    """
    if kind not in MAKERS:
        raise DataError(f'no split by "{kind}".{nearest(kind, MAKERS)}')
    allowed = inspect.signature(MAKERS[kind]).parameters
    for name in params:
        if name not in allowed:
            raise DataError(
                f"a split by {kind} takes no"
                f' "{name}".{nearest(name, [one for one in allowed if one != "data"])}'
            )
    if only is None:
        return MAKERS[kind](data, **params)
    kept = data.where(only)
    if not kept.any():
        raise DataError(f'no event fulfils "{only}"')
    inner = MAKERS[kind](data.cut(kept), **params)
    part = np.full(len(data.events), DROPPED, dtype=np.int8)
    part[kept] = inner.part
    return Split(data, kind, {**inner.params, "only": only}, part)


def _split(data: Dataset, kind: str, params: dict[str, Any], code_of_sequence: np.ndarray) -> Split:
    part = np.empty(len(data.sequences.events), dtype=np.int8)
    part[data.sequences.events] = code_of_sequence
    return Split(data, kind, params, part)


def _shares(valid: float, test: float) -> None:
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise DataError(f"shares valid={valid}, test={test}: both above 0, together below 1")
