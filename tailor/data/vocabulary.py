"""Map outside ids (strings) to inside rows (numbers), and back."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl

from tailor.errors import DataError

SMALL_COLUMN = 1000
"""Length of a column from which one cast is faster than a look-up of every value."""


def tie_hash(item_id: str, seed: int = 0) -> bytes:
    """Return the sort key of an item among items of equal score.

    It is a seeded hash of the id. So the order says nothing about ids or their positions.
    """
    raw = item_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=8, key=seed.to_bytes(8, "little")).digest()


class Vocabulary:
    """Holds distinct outside ids; the row of an id is its position (int32)."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = np.array(list(ids), dtype=object)
        if len(set(self.ids.tolist())) != len(self.ids):
            [(outside_id, _)] = Counter(self.ids.tolist()).most_common(1)
            raise DataError(f'the id "{outside_id}" is given twice: give each id once')
        # cache of `mapping_to`
        self._mapped: WeakKeyDictionary[Vocabulary, np.ndarray] = WeakKeyDictionary()
        # cache of `joined`; None: the union is this vocabulary itself
        self._joined: WeakKeyDictionary[Vocabulary, Vocabulary | None] = WeakKeyDictionary()

    @classmethod
    def of_items(cls, ids: Iterable[str], seed: int = 0) -> "Vocabulary":
        """Return a catalogue, with rows in the order of a seeded hash of the ids.

        So ties that are ordered by row are ordered by chance.
        """
        return cls(sorted(set(ids), key=lambda item_id: (tie_hash(item_id, seed), item_id)))

    @classmethod
    def of_users(cls, ids: Iterable[str]) -> "Vocabulary":
        """Return a vocabulary of users, with rows in the sorted order of the ids."""
        return cls(sorted(set(ids)))

    def with_items(self, ids: Iterable[str]) -> "tuple[Vocabulary, np.ndarray]":
        """Return a catalogue with further items, and the order (n,) that brings arrays to it.

        `np.concatenate([old, new])[order]` has the rows of the new catalogue.
        """
        all_ids = [*self.ids.tolist(), *ids]
        extended = Vocabulary.of_items(all_ids)
        return extended, np.argsort(extended.rows(all_ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, outside_id: object) -> bool:
        return outside_id in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {outside_id: row for row, outside_id in enumerate(self.ids)}

    @cached_property
    def fingerprint(self) -> str:
        """A hash; vocabularies with the same ids in the same order have the same."""
        digest = hashlib.blake2b(digest_size=16)
        for outside_id in self.ids:
            raw = outside_id.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Return (n,) int32 rows; -1 for an unknown id."""
        row_of = self._rows
        return np.array([row_of.get(outside_id, -1) for outside_id in ids], dtype=np.int32)

    def codes(self, column: pl.Series) -> np.ndarray:
        """Return (n,) int32 rows of a column, faster than `rows`; -1 for unknown or null."""
        if len(column) < SMALL_COLUMN:
            return self.rows(column.to_list())
        coded = column.cast(pl.Enum(self.ids.tolist()), strict=False).to_physical()
        return coded.cast(pl.Int32).fill_null(-1).to_numpy()

    def mapping_to(self, other: "Vocabulary") -> np.ndarray | None:
        """Return (len(self),) rows in `other` of our ids, -1 where `other` lacks an id.

        None where both vocabularies are the same, so that nothing need be mapped.
        """
        if other is self or (len(other) == len(self) and other.fingerprint == self.fingerprint):
            return None
        rows = self._mapped.get(other)
        if rows is None:
            rows = other.rows(self.ids)
            self._mapped[other] = rows
        return rows

    def is_within(self, other: "Vocabulary") -> bool:
        """Return whether `other` has all of our ids."""
        rows = self.mapping_to(other)
        return rows is None or bool((rows >= 0).all())

    def joined(self, other: "Vocabulary") -> "Vocabulary":
        """Return the catalogue with the items of both.

        The union is cached: a pipeline of methods that know different items needs it for every
        answer.
        """
        if self.mapping_to(other) is None:
            return self
        if other not in self._joined:
            union = Vocabulary.of_items([*self.ids, *other.ids])
            self._joined[other] = None if union.fingerprint == self.fingerprint else union
        return self._joined[other] or self

    def found_in(self, other: "Vocabulary") -> np.ndarray:
        """Return the rows in `other` of our ids, without the ids that `other` lacks."""
        rows = self.mapping_to(other)
        return np.arange(len(self), dtype=np.int32) if rows is None else rows[rows >= 0]

    def named(self, rows: np.ndarray | Sequence[int]) -> list[str]:
        """Return the outside ids of rows."""
        return self.ids[np.asarray(rows, dtype=np.int64)].tolist()
