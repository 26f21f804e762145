"""A tenant's items in memory: what is blocked, what meets a filter, what a search finds. Kept up to
date by what changed.
"""

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailor.data.conditions import Condition
from tailor.data.vocabulary import Vocabulary
from tailor.retrieval.hybrid import in_deviations
from tailor.service.item_table import ItemTable
from tailor.service.semantic_search import SemanticSearch
from tailor.store.catalogue import items_since, version
from tailor.text.bm25 import BM25

FILTERS = 64  # whose answers are remembered
STALE = 4  # one text in so many may be an item's former one before those are forgotten


@dataclass(eq=False, slots=True)
class _Text:
    """An item's words at one time."""

    item_id: str
    row: int
    now: bool = True
    """False once the item has others, or is blocked."""


class Catalogue:
    """The items of one tenant. `refresh` reads what changed since the last time; everything else
    needs no database.
    """

    def __init__(self, tenant: str, meaning: SemanticSearch | None = None) -> None:
        self.tenant, self.changed, self.semantic_search = tenant, -1, meaning  # -1: never read
        self.rows: dict[str, dict[str, Any]] = {}
        self.blocked = Vocabulary({})
        # by row, and each item's own
        self._search, self._texts, self._of = (
            BM25(language="english"),
            list[_Text](),
            dict[str, _Text](),
        )
        # (rows of texts, D), zero while a text is not read yet
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self.unread = 0  # texts that are still to be read for search by meaning
        self._filters: dict[str, Vocabulary] = {}
        self._table: ItemTable | None = None  # what filters ask, once one has
        self._behind: set[str] = set()  # items that changed since it was made
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
            self._index(rows)
            # else it stays, looked up already
            if any(bool(row["blocked"]) != (row["item_id"] in self.blocked) for row in rows):
                self.blocked = Vocabulary(
                    dict.fromkeys(one for one, row in fresh.items() if row["blocked"])
                )
            self.rows = fresh
            self._filters, self._behind = {}, self._behind | {row["item_id"] for row in rows}
            self.changed = max(row["changed"] for row in rows)

    def _index(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Follow changed items. A new text stands behind the old one, which is passed over from
        then on, and forgotten with others of its kind.
        """
        new: list[tuple[str, str]] = []
        for row in rows:
            item_id, text = row["item_id"], words_of(row)
            had = self._of.get(item_id)
            if had is not None and (row["blocked"] or text != words_of(self.rows[item_id])):
                had.now = False
                had = None
                del self._of[item_id]
            if had is None and not row["blocked"]:
                new.append((item_id, text))
        texts, added = (
            [text for _, text in new],
            [_Text(item_id, at) for at, (item_id, _) in enumerate(new, len(self._texts))],
        )
        self._search.add(texts)
        self._texts += added
        self._of |= {text.item_id: text for text in added}
        if (len(self._texts) - len(self._of)) * STALE > len(self._texts):
            self._forget()
        if self.semantic_search is not None:
            self.unread += len(texts)
            self.semantic_search.read(
                texts, lambda at, vectors: self._arrived(added[at : at + len(vectors)], vectors)
            )

    def _forget(self) -> None:
        """Let go of the texts that are no item's any more."""
        kept = [text for text in self._texts if text.now]
        rows = np.array([text.row for text in kept], dtype=np.int64)
        self._search.keep(rows)
        read = rows[rows < len(self._vectors)]  # a text behind the last vector is not read yet
        self._vectors = self._vectors[read]
        for row, text in enumerate(kept):
            text.row = row
        self._texts = kept

    def _arrived(self, texts: Sequence[_Text], vectors: np.ndarray) -> None:
        with self._lock:
            if self._vectors.shape[1] != vectors.shape[1] or len(self._vectors) < len(self._texts):
                grown = np.zeros(
                    (max(len(self._texts), len(self._vectors) * 5 // 4), vectors.shape[1]),
                    dtype=np.float32,
                )
                grown[: len(self._vectors), : self._vectors.shape[1]] = self._vectors
                self._vectors = grown
            now = [i for i, text in enumerate(texts) if text.now]
            self._vectors[[texts[i].row for i in now]] = vectors[now]
            self.unread -= len(vectors)

    def outside(self, condition: str) -> Vocabulary:
        """The items that do not meet a condition (docs: the language of `Filter`). Raises DataError
        for one that cannot be read.
        """
        with self._lock:
            found, rows, table, behind = (
                self._filters.get(condition),
                self.rows,
                self._table,
                self._behind,
            )
        if found is not None:
            return found
        asked = Condition(condition, "filter")  # what cannot be read needs no table
        table = ItemTable.of(list(rows.values())) if table is None else table.followed(rows, behind)
        with self._lock:
            # else items came meanwhile; kept before it is asked, since who asks what cannot be read
            # asks again
            if self.rows is rows:
                self._table, self._behind = table, set()
        holds = asked.holds(table.frame)
        found = Vocabulary(
            dict.fromkeys(table.frame["item_id"].filter(pl.Series(~holds)).to_list())
        )
        with self._lock:
            if self.rows is rows:
                if len(self._filters) >= FILTERS:
                    self._filters.clear()
                self._filters[condition] = found
        return found

    def search(self, text: str, k: int, without: Sequence[Vocabulary]) -> list[tuple[str, float]]:
        """The k items that answer `text` best, and their scores: by words (BM25), and where vectors
        are there also by meaning.
        """
        if self.semantic_search is not None and len(self._vectors):
            return self._by_both(text, self.semantic_search.of(text), k, without)
        with self._lock:
            texts = self._texts
            # what is blocked has no text here
            shown_not = sum(len(one) for one in without if one is not self.blocked)
            passed_over = shown_not + len(texts) - len(self._of)
            depth = min(k + passed_over, len(texts))
            rows, scores = (
                self._search.search([text], depth)
                if depth
                else (np.zeros((1, 0), int), np.zeros((1, 0)))
            )
        found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return self._shown(
            ((texts[row], score) for row, score in found if row >= 0 and score > 0), k, without
        )

    def _by_both(
        self, text: str, asked: np.ndarray, k: int, without: Sequence[Vocabulary]
    ) -> list[tuple[str, float]]:
        """As `Hybrid` blends: words and meaning in standard deviations over all items, half and
        half; what is not read yet counts by its words.
        """
        with self._lock:
            texts, vectors = self._texts, self._vectors[: len(self._texts)]
            words = np.asarray(self._search.scores([text]).todense(), dtype=np.float32)
        read = np.zeros(words.shape[1], dtype=bool)
        read[: len(vectors)] = vectors.any(axis=1)
        near = np.full(words.shape, -np.inf, dtype=np.float32)
        near[0, : len(vectors)][read[: len(vectors)]] = vectors[read[: len(vectors)]] @ asked
        total = (in_deviations(words) + in_deviations(near))[0] / 2
        named = np.flatnonzero(read | (words[0] > 0))
        order = named[np.argsort(-total[named], kind="stable")]
        return self._shown(
            (
                (texts[row], score)
                for row, score in zip(order.tolist(), total[order].tolist(), strict=True)
            ),
            k,
            without,
        )

    def _shown(
        self, found: Iterable[tuple[_Text, float]], k: int, without: Sequence[Vocabulary]
    ) -> list[tuple[str, float]]:
        """The first k of texts, best first, that are their item's own and may be shown."""
        named = ((text.item_id, score) for text, score in found if text.now)
        return list(
            itertools.islice(
                (
                    one
                    for one in named
                    if not any(one[0] in ids for ids in (*without, self.blocked))
                ),
                k,
            )
        )


def words_of(row: Mapping[str, Any]) -> str:
    """What of an item is searched."""
    return " ".join([row["title"] or "", *(row["categories"] or []), row["text"] or ""])
