"""A tenant's items in memory: what is blocked, what meets a filter, what a search finds."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailor.data.conditions import Condition
from tailor.data.vocabulary import Vocabulary
from tailor.ports.configuration import catalogue_language
from tailor.retrieval.hybrid import blended
from tailor.service.item_table import ItemTable
from tailor.service.semantic_search import SemanticSearch
from tailor.store.catalogue import items_since, version
from tailor.text.bm25 import BM25

MOST_FILTERS = 64  # whose answers are cached
STALE_PART = 4  # one text in so many may be outdated before those are dropped
NEVER = -1  # count of changes of a catalogue that was never read

Match = tuple[str, float]


@dataclass(eq=False, slots=True)
class _Text:
    """An item's words at one time."""

    item_id: str
    row: int
    is_valid: bool = True
    """False once the item has other words, or is blocked."""


class Catalogue:
    """The items of one tenant.

    `refresh` reads what changed since the last time; everything else needs no database.
    """

    def __init__(self, tenant: str, semantic_search: SemanticSearch | None = None) -> None:
        self.tenant = tenant
        self.semantic_search = semantic_search
        self.changed = NEVER
        self.rows: dict[str, dict[str, Any]] = {}
        self.blocked = Vocabulary({})
        self.unread = 0  # texts that wait to be encoded
        self._search = BM25(language=catalogue_language())
        self._texts: list[_Text] = []  # by row of the index
        self._text_of: dict[str, _Text] = {}
        # (rows of texts, D), zero for a text that is not encoded yet
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self._filters: dict[str, Vocabulary] = {}
        self._table: ItemTable | None = None  # built for the first filter
        self._changed_ids: set[str] = set()  # since the table was built
        self._lock = threading.Lock()

    def refresh(self, connection: sa.Connection) -> None:
        """Read what changed."""
        if version(connection, self.tenant) == self.changed:
            return
        with self._lock:
            changed_rows = items_since(connection, self.tenant, self.changed)
            if not changed_rows:
                self.changed = max(self.changed, 0)
                return
            rows = dict(self.rows)
            for row in changed_rows:
                rows[row["item_id"]] = row
            self._index(changed_rows)
            # the same vocabulary stays where it can: models have looked up its rows
            if any(
                bool(row["blocked"]) != (row["item_id"] in self.blocked) for row in changed_rows
            ):
                blocked_ids = [item_id for item_id, row in rows.items() if row["blocked"]]
                self.blocked = Vocabulary(dict.fromkeys(blocked_ids))
            self.rows = rows
            self._filters = {}
            self._changed_ids = self._changed_ids | {row["item_id"] for row in changed_rows}
            self.changed = max(row["changed"] for row in changed_rows)

    def _index(self, changed_rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the texts of changed items; outdated texts are skipped, and dropped later."""
        new_texts: list[tuple[str, str, str]] = []  # item id, words, title
        for row in changed_rows:
            item_id = row["item_id"]
            words = words_of(row)
            old_text = self._text_of.get(item_id)
            is_same = (
                old_text is not None
                and not row["blocked"]
                and words == words_of(self.rows[item_id])
            )
            if is_same:
                continue
            if old_text is not None:
                old_text.is_valid = False
                del self._text_of[item_id]
            if not row["blocked"]:
                new_texts.append((item_id, words, row["title"] or ""))
        words_added = [words for _, words, _ in new_texts]
        titles_added = [title for _, _, title in new_texts]
        texts_added = [
            _Text(item_id, row)
            for row, (item_id, _, _) in enumerate(new_texts, start=len(self._texts))
        ]
        self._search.add(words_added, titles_added)
        self._texts += texts_added
        self._text_of |= {text.item_id: text for text in texts_added}
        if (len(self._texts) - len(self._text_of)) * STALE_PART > len(self._texts):
            self._drop_outdated()
        if self.semantic_search is not None:
            self.unread += len(words_added)
            self.semantic_search.encode_items(
                words_added,
                lambda start, vectors: self._add_vectors(
                    texts_added[start : start + len(vectors)], vectors
                ),
            )

    def _drop_outdated(self) -> None:
        valid_texts = [text for text in self._texts if text.is_valid]
        rows = np.array([text.row for text in valid_texts], dtype=np.int64)
        self._search.keep(rows)
        encoded_rows = rows[rows < len(self._vectors)]
        self._vectors = self._vectors[encoded_rows]
        for row, text in enumerate(valid_texts):
            text.row = row
        self._texts = valid_texts

    def _add_vectors(self, texts: Sequence[_Text], vectors: np.ndarray) -> None:
        with self._lock:
            width = vectors.shape[1]
            if self._vectors.shape[1] != width or len(self._vectors) < len(self._texts):
                length = max(len(self._texts), len(self._vectors) * 5 // 4)
                grown = np.zeros((length, width), dtype=np.float32)
                grown[: len(self._vectors), : self._vectors.shape[1]] = self._vectors
                self._vectors = grown
            valid = [i for i, text in enumerate(texts) if text.is_valid]
            self._vectors[[texts[i].row for i in valid]] = vectors[valid]
            self.unread -= len(vectors)

    def excluded_by(self, condition: str) -> Vocabulary:
        """Return the items that do not meet a condition (the language of `Filter`).

        Raises DataError for a condition that cannot be read.
        """
        with self._lock:
            excluded = self._filters.get(condition)
            rows = self.rows
            table = self._table
            changed_ids = self._changed_ids
        if excluded is not None:
            return excluded
        parsed = Condition(condition, "filter")  # a condition that cannot be read needs no table
        table = ItemTable.of(rows) if table is None else table.updated(rows, changed_ids)
        with self._lock:
            # kept before the condition is tried: one that does not fit is asked again and again
            if self.rows is rows:
                self._table = table
                self._changed_ids = set()
        is_excluded = pl.Series(~parsed.holds(table.frame))
        excluded = Vocabulary(dict.fromkeys(table.frame["item_id"].filter(is_excluded).to_list()))
        with self._lock:
            if self.rows is rows:  # else items changed meanwhile
                if len(self._filters) >= MOST_FILTERS:
                    self._filters.clear()
                self._filters[condition] = excluded
        return excluded

    def search(self, text: str, k: int, without: Sequence[Vocabulary]) -> list[Match]:
        """Return the k items that answer a text best, with their scores.

        Words count (BM25), and meanings too where vectors are there.
        """
        if self.semantic_search is not None and len(self._vectors):
            query_vector = self.semantic_search.encode_query(text)
            return self._hybrid_search(text, query_vector, k, without)
        with self._lock:
            texts = self._texts
            # blocked items have no text here
            skipped = sum(len(ids) for ids in without if ids is not self.blocked)
            skipped += len(texts) - len(self._text_of)
            depth = min(k + skipped, len(texts))
            if not depth:
                return []
            rows, scores = self._search.search([text], depth)
        matches = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return self._allowed(
            ((texts[row], score) for row, score in matches if row >= 0 and score > 0), k, without
        )

    def _hybrid_search(
        self, text: str, query_vector: np.ndarray, k: int, without: Sequence[Vocabulary]
    ) -> list[Match]:
        """Blend words and meanings as `Hybrid` does; without a vector a text has its words."""
        with self._lock:
            texts = self._texts
            vectors = self._vectors[: len(texts)]
            word_scores = np.asarray(self._search.scores([text]).todense(), dtype=np.float32)
        meaning_scores = np.full(word_scores.shape, -np.inf, dtype=np.float32)
        encoded = np.flatnonzero(vectors.any(axis=1))
        meaning_scores[0, encoded] = vectors[encoded] @ query_vector
        scores = blended(word_scores, meaning_scores)[0]
        matching = np.flatnonzero(np.isfinite(scores))
        order = matching[np.argsort(-scores[matching], kind="stable")]
        matches = zip(order.tolist(), scores[order].tolist(), strict=True)
        return self._allowed(((texts[row], score) for row, score in matches), k, without)

    def _allowed(
        self, matches: Iterable[tuple[_Text, float]], k: int, without: Sequence[Vocabulary]
    ) -> list[Match]:
        """Return the first k valid matches that are neither blocked nor among `without`."""
        forbidden = (*without, self.blocked)
        allowed: list[Match] = []
        for text, score in matches:
            if len(allowed) == k:
                break
            if text.is_valid and not any(text.item_id in ids for ids in forbidden):
                allowed.append((text.item_id, score))
        return allowed


def words_of(row: Mapping[str, Any]) -> str:
    """Return the words of an item that are searched."""
    return " ".join([row["title"] or "", *(row["categories"] or []), row["text"] or ""])
