"""A tenant's items in memory: what is blocked, what meets a filter, what a search finds. Kept up to date by what changed."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailor.data.conditions import Condition
from tailor.data.vocabulary import Vocabulary
from tailor.store.catalogue import items_since, version
from tailor.store.loading import item_frame
from tailor.text.bm25 import BM25

FILTERS = 64  # whose answers are remembered


class Shelf:
    """The items of one tenant. `refresh` reads what changed since the last time; everything else needs no database."""

    def __init__(self, tenant: str) -> None:
        self.tenant, self.changed = tenant, -1  # -1: never read
        self.rows: dict[str, dict[str, Any]] = {}
        self.blocked = Vocabulary({})
        self._search, self._place, self._ids = BM25(language="english"), dict[str, int](), list[str]()  # the row of each item's latest text
        self._filters: dict[str, Vocabulary] = {}
        self._table: pl.DataFrame | None = None
        self._lock = threading.Lock()

    def refresh(self, connection: sa.Connection) -> None:
        """Read what changed."""
        if version(connection, self.tenant) == self.changed:
            return
        with self._lock:
            rows = items_since(connection, self.tenant, self.changed)
            if not rows:
                self.changed = max(self.changed, 0)
                return
            fresh = dict(self.rows)
            for row in rows:
                fresh[row["item_id"]] = row
            self.blocked = Vocabulary(dict.fromkeys(one for one, row in fresh.items() if row["blocked"]))
            self.rows = fresh
            self._index([row for row in rows if not row["blocked"]])
            self._filters, self._table = {}, None
            self.changed = max(row["changed"] for row in rows)

    def _index(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A changed text stands behind the old one, which is passed over from then on."""
        start = len(self._ids)
        self._search.add([words_of(row) for row in rows])
        self._ids += [row["item_id"] for row in rows]
        self._place |= {row["item_id"]: start + i for i, row in enumerate(rows)}

    def outside(self, condition: str) -> Vocabulary:
        """The items that do not meet a condition (docs: the language of `Filter`). Raises DataError for one that cannot be read."""
        found = self._filters.get(condition)
        if found is None:
            table = self._frame()
            holds = Condition(condition, "filter").holds(table)
            found = Vocabulary(dict.fromkeys(table["item_id"].filter(pl.Series(~holds)).to_list()))
            if len(self._filters) >= FILTERS:
                self._filters.clear()
            self._filters[condition] = found
        return found

    def _frame(self) -> pl.DataFrame:
        if self._table is None:
            self._table = item_frame(list(self.rows.values()))
        return self._table

    def search(self, text: str, k: int, without: Sequence[Vocabulary]) -> list[tuple[str, float]]:
        """The k items whose words answer `text` best, and their BM25 scores."""
        with self._lock:
            passed_over = sum(len(one) for one in (*without, self.blocked)) + len(self._ids) - len(self._place)
            depth = min(k + passed_over, len(self._ids))
            rows, scores = self._search.search([text], depth) if depth else (np.zeros((1, 0), int), np.zeros((1, 0)))
            ids, place = self._ids, self._place
        out = []
        for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True):
            if row < 0 or score <= 0:
                break
            item_id = ids[row]
            if place[item_id] == row and not any(item_id in one for one in (*without, self.blocked)):
                out.append((item_id, score))
        return out[:k]


def words_of(row: Mapping[str, Any]) -> str:
    """What of an item is searched."""
    return " ".join([row["title"] or "", *(row["categories"] or []), row["text"] or ""])
