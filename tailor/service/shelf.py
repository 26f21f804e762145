"""A tenant's items in memory: what is blocked, what meets a filter, what a search finds. Kept up to date by what changed."""

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailor.data.conditions import Condition
from tailor.data.vocabulary import Vocabulary
from tailor.retrieval.hybrid import in_deviations
from tailor.service.meaning import Meaning
from tailor.store.catalogue import items_since, version
from tailor.store.loading import item_frame
from tailor.text.bm25 import BM25

FILTERS = 64  # whose answers are remembered


class Shelf:
    """The items of one tenant. `refresh` reads what changed since the last time; everything else needs no database."""

    def __init__(self, tenant: str, meaning: Meaning | None = None) -> None:
        self.tenant, self.changed, self.meaning = tenant, -1, meaning  # -1: never read
        self.rows: dict[str, dict[str, Any]] = {}
        self.blocked = Vocabulary({})
        self._search, self._place, self._ids = BM25(language="english"), dict[str, int](), list[str]()  # the row of each item's latest text
        self._vectors = np.zeros((0, 0), dtype=np.float32)  # (rows of texts, D), zero while a text is not read yet
        self.unread = 0  # texts that are still to be read for search by meaning
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
        start, texts = len(self._ids), [words_of(row) for row in rows]
        self._search.add(texts)
        self._ids += [row["item_id"] for row in rows]
        self._place |= {row["item_id"]: start + i for i, row in enumerate(rows)}
        if self.meaning is not None:
            self.unread += len(texts)
            self.meaning.read(texts, start, self._arrived)

    def _arrived(self, start: int, vectors: np.ndarray) -> None:
        with self._lock:
            stop = start + len(vectors)
            if self._vectors.shape[1] != vectors.shape[1] or len(self._vectors) < stop:
                grown = np.zeros((max(stop, 2 * len(self._vectors), len(self._ids)), vectors.shape[1]), dtype=np.float32)
                grown[: len(self._vectors), : self._vectors.shape[1]] = self._vectors
                self._vectors = grown
            self._vectors[start:stop] = vectors
            self.unread -= len(vectors)

    def outside(self, condition: str) -> Vocabulary:
        """The items that do not meet a condition (docs: the language of `Filter`). Raises DataError for one that cannot be read."""
        with self._lock:
            found, rows, table = self._filters.get(condition), self.rows, self._table
        if found is not None:
            return found
        table = item_frame(list(rows.values())) if table is None else table
        holds = Condition(condition, "filter").holds(table)
        found = Vocabulary(dict.fromkeys(table["item_id"].filter(pl.Series(~holds)).to_list()))
        with self._lock:
            if self.rows is rows:  # else items came meanwhile that were not looked at
                if len(self._filters) >= FILTERS:
                    self._filters.clear()
                self._filters[condition], self._table = found, table
        return found

    def search(self, text: str, k: int, without: Sequence[Vocabulary]) -> list[tuple[str, float]]:
        """The k items that answer `text` best, and their scores: by words (BM25), and where vectors are there also by meaning."""
        if self.meaning is not None and len(self._vectors):
            return self._by_both(text, self.meaning.of(text), k, without)
        with self._lock:
            passed_over = sum(len(one) for one in (*without, self.blocked)) + len(self._ids) - len(self._place)
            depth = min(k + passed_over, len(self._ids))
            rows, scores = self._search.search([text], depth) if depth else (np.zeros((1, 0), int), np.zeros((1, 0)))
        found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return self._shown(((row, score) for row, score in found if row >= 0 and score > 0), k, without)

    def _by_both(self, text: str, asked: np.ndarray, k: int, without: Sequence[Vocabulary]) -> list[tuple[str, float]]:
        """As `Hybrid` blends: words and meaning in standard deviations over all items, half and half; what is not read yet counts by its words."""
        with self._lock:
            vectors = self._vectors[: len(self._ids)]
            words = np.asarray(self._search.scores([text]).todense(), dtype=np.float32)
        read = np.zeros(words.shape[1], dtype=bool)
        read[: len(vectors)] = vectors.any(axis=1)
        near = np.full(words.shape, -np.inf, dtype=np.float32)
        near[0, : len(vectors)][read[: len(vectors)]] = vectors[read[: len(vectors)]] @ asked
        total = (in_deviations(words) + in_deviations(near))[0] / 2
        named = np.flatnonzero(read | (words[0] > 0))
        order = named[np.argsort(-total[named], kind="stable")]
        return self._shown(zip(order.tolist(), total[order].tolist(), strict=True), k, without)

    def _shown(self, found: Iterable[tuple[int, float]], k: int, without: Sequence[Vocabulary]) -> list[tuple[str, float]]:
        """The first k of rows of texts, best first, that are their item's latest text and may be shown."""
        named = ((self._ids[row], row, score) for row, score in found)
        may = ((item_id, score) for item_id, row, score in named
               if self._place[item_id] == row and not any(item_id in one for one in (*without, self.blocked)))  # fmt: skip
        return list(itertools.islice(may, k))


def words_of(row: Mapping[str, Any]) -> str:
    """What of an item is searched."""
    return " ".join([row["title"] or "", *(row["categories"] or []), row["text"] or ""])
