"""A tenant's items in memory: what is blocked, what meets a filter, what a search finds."""

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from tailor.data.conditions import Condition
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.ports.configuration import catalogue_language
from tailor.retrieval.hybrid import blended
from tailor.service.filters import check_filter, columns_of
from tailor.service.item_table import Attributes, ItemTable
from tailor.service.semantic_search import SemanticSearch
from tailor.store.catalogue import items_since, version
from tailor.text.bm25 import BM25

MOST_FILTERS = 64  # whose answers are cached
MOST_FILTERED = 500_000  # items in the cached answers of all filters together
MOST_CHARACTERS = 20_000  # of an item's words that are searched
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

    `refresh` reads what changed since the last time; everything else needs no database. Texts are
    indexed when a search comes, so that nobody else waits for that.
    """

    def __init__(self, tenant: str, semantic_search: SemanticSearch | None = None) -> None:
        self.tenant = tenant
        self.semantic_search = semantic_search
        self.changed = NEVER
        self.rows: dict[str, dict[str, Any]] = {}
        self.blocked = Vocabulary({})
        self.unread = 0  # texts that wait to be encoded
        self._unindexed: dict[str, dict[str, Any]] = {}  # changed rows by id, for the next search
        self._indexed: dict[str, Mapping[str, Any]] = {}  # rows whose texts the index has, by id
        self._search = BM25(language=catalogue_language())
        self._texts: list[_Text] = []  # by row of the index
        self._text_of: dict[str, _Text] = {}
        # (rows of texts, D), zero for a text that is not encoded yet
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self.attributes = Attributes()
        self._arriving: Counter[str] = Counter()  # names that are being written
        self._filters: dict[str, Vocabulary] = {}  # replaced as a whole where items change
        self._table = ItemTable.of({})
        self._changed_ids: set[str] = set()  # since the table was brought up to date
        self._lock = threading.Lock()
        self._index_lock = threading.Lock()  # of texts and vectors, held for longer
        self._filtering = threading.Lock()  # held while a new filter is worked out

    def refresh(self, connection: sa.Connection) -> None:
        """Read what changed."""
        if version(connection, self.tenant) == self.changed:
            return
        with self._lock:
            changed_rows = items_since(connection, self.tenant, self.changed)
            if not changed_rows:
                self.changed = max(self.changed, 0)
                return
            self._take_in(changed_rows)
            self.changed = max(row["changed"] for row in changed_rows)

    def _take_in(self, changed_rows: Sequence[dict[str, Any]]) -> None:
        """Replace changed rows; the lock is held."""
        rows = dict(self.rows)
        old_rows = [rows[row["item_id"]] for row in changed_rows if row["item_id"] in rows]
        for row in changed_rows:
            rows[row["item_id"]] = row
        # the same vocabulary stays where it can: models have looked up its rows
        if any(bool(row["blocked"]) != (row["item_id"] in self.blocked) for row in changed_rows):
            blocked_ids = [item_id for item_id, row in rows.items() if row["blocked"]]
            self.blocked = Vocabulary(dict.fromkeys(blocked_ids))
        self.attributes = self.attributes.count(old_rows, changed_rows)
        self._changed_ids = self._changed_ids | {row["item_id"] for row in changed_rows}
        self.rows = rows
        self._filters = {}
        self._unindexed.update({row["item_id"]: row for row in changed_rows})

    @contextmanager
    def room_for(self, names: Collection[str], most: int) -> Iterator[None]:
        """Hold room for names in `more` while they are written, so that there are at most `most`.

        Names that are there need none. Raises DataError where there is no room; writes of other
        workers at the same moment are not seen.
        """
        with self._lock:
            known = self.attributes.counts.keys() | self._arriving.keys()
            new_names = set(names) - known
            if new_names and len(known) + len(new_names) > most:
                raise DataError(
                    f"items.more: there are {len(known):,} names over all items, and these have"
                    f" {len(new_names):,} new ones, at most {most:,} are possible: put what belongs"
                    " together into one list or object"
                )
            self._arriving.update(new_names)
        try:
            yield
        finally:
            with self._lock:
                self._arriving.subtract(new_names)
                self._arriving = +self._arriving

    def index(self) -> None:
        """Index the texts that were read since the last search."""
        with self._index_lock:
            with self._lock:
                changed_rows, self._unindexed = self._unindexed, {}
            if changed_rows:
                self._index(list(changed_rows.values()))

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
                and words == words_of(self._indexed[item_id])
            )
            self._indexed[item_id] = row
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
                self._give_up,
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
        with self._index_lock:
            width = vectors.shape[1]
            if self._vectors.shape[1] != width or len(self._vectors) < len(self._texts):
                length = max(len(self._texts), len(self._vectors) * 5 // 4)
                grown = np.zeros((length, width), dtype=np.float32)
                grown[: len(self._vectors), : self._vectors.shape[1]] = self._vectors
                self._vectors = grown
            valid = [i for i, text in enumerate(texts) if text.is_valid]
            self._vectors[[texts[i].row for i in valid]] = vectors[valid]
            self.unread -= len(vectors)

    def _give_up(self, count: int) -> None:
        """Count texts no longer that cannot be encoded: they are found by their words."""
        with self._index_lock:
            self.unread -= count

    def known_exclusion(self, condition: str) -> Vocabulary | None:
        """Return what `excluded_by` returns where that is known for the items as they are now.

        It waits for nothing.
        """
        return self._filters.get(condition)

    def excluded_by(self, condition: str) -> Vocabulary:
        """Return the items that do not meet a condition (the language of `Filter`).

        The work grows with the columns that the condition names, not with those there are. One new
        filter of a tenant is worked out at a time. Raises DataError for a condition that cannot be
        read.
        """
        excluded = self.known_exclusion(condition)
        if excluded is not None:
            return excluded
        parsed = check_filter(condition)  # one that cannot be read needs no table
        with self._filtering:
            excluded = self.known_exclusion(condition)
            return self._work_out(parsed) if excluded is None else excluded

    def _work_out(self, condition: Condition) -> Vocabulary:
        with self._lock:
            rows, attributes, changed_ids = self.rows, self.attributes, self._changed_ids
            self._changed_ids = set()
        table, self._table = self._table, ItemTable.of({})
        if len(table.frame) and len(changed_ids) < len(rows):
            table = table.updated(rows, changed_ids, attributes)
        else:
            table = ItemTable.of(rows)
        # kept before the condition is tried: one that does not fit is asked again and again
        self._table = table
        names, schema = columns_of(condition, attributes)
        self._table = table = table.with_columns(names, attributes)
        holds = condition.compiled({**schema, **table.frame.schema})
        is_excluded = table.frame.select((~holds).alias("is excluded"))["is excluded"]
        excluded_ids = table.frame["item_id"].filter(is_excluded).to_list()
        excluded = Vocabulary(dict.fromkeys(excluded_ids))
        with self._lock:
            if self.rows is rows:  # else items changed meanwhile
                self._keep_filter(condition.text, excluded)
        return excluded

    def _keep_filter(self, condition: str, excluded: Vocabulary) -> None:
        """Keep the answer of a filter; the oldest go where there are too many."""
        filters = {**self._filters, condition: excluded}
        while len(filters) > 1 and (
            len(filters) > MOST_FILTERS or sum(map(len, filters.values())) > MOST_FILTERED
        ):
            del filters[next(iter(filters))]
        self._filters = filters

    def search(self, text: str, k: int, without: Sequence[Vocabulary]) -> list[Match]:
        """Return the k items that answer a text best, with their scores.

        Words count (BM25), and meanings too where vectors are there.
        """
        self.index()
        if self.semantic_search is not None and len(self._vectors):
            query_vector = self.semantic_search.encode_query(text)
            if query_vector is not None:
                return self._hybrid_search(text, query_vector, k, without)
        with self._index_lock:
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
        with self._index_lock:
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
    """Return the words of an item that are searched, its first MOST_CHARACTERS."""
    words = " ".join([row["title"] or "", *(row["categories"] or []), row["text"] or ""])
    return words[:MOST_CHARACTERS]
