"""Outside ids and inside rows."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl

from tailor.errors import DataError

SMALL_COLUMN = 1000
"""Columns shorter than this are looked up value by value."""


def tie_hash(item_id: str, seed: int = 0) -> bytes:
    """Return the key by which equal scores are ordered.

    It is a seeded hash, so that neither position nor the id's own value counts.
    """
    raw = item_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=8, key=seed.to_bytes(8, "little")).digest()


class Vocabulary:
    """Distinct outside ids and the row (int32) of each, in the order of the ids."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = np.array(list(ids), dtype=object)
        if len(set(self.ids.tolist())) != len(self.ids):
            raise DataError("an id stands twice in a vocabulary: ids are distinct")
        # answers of `mapping_to`
        self._mapped: WeakKeyDictionary[Vocabulary, np.ndarray] = WeakKeyDictionary()
        # answers of `joined`; None: the union is this vocabulary itself
        self._joined: WeakKeyDictionary[Vocabulary, Vocabulary | None] = WeakKeyDictionary()

    @classmethod
    def of_items(cls, ids: Iterable[str], seed: int = 0) -> "Vocabulary":
        """Return a catalogue, whose rows stand in the order of a seeded hash of the ids.

        Ordering ties by row is then ordering them by chance.
        """
        return cls(sorted(set(ids), key=lambda item_id: (tie_hash(item_id, seed), item_id)))

    @classmethod
    def of_users(cls, ids: Iterable[str]) -> "Vocabulary":
        """Return the ids in sorted order."""
        return cls(sorted(set(ids)))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, outside_id: object) -> bool:
        return outside_id in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {outside_id: row for row, outside_id in enumerate(self.ids)}

    @cached_property
    def fingerprint(self) -> str:
        """A hash that is equal for vocabularies of equal ids in equal order."""
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
        """Return (n,) int32 rows of a whole column, as `rows` but fast; -1 for unknown or null."""
        if len(column) < SMALL_COLUMN:
            return self.rows(column.to_list())
        coded = column.cast(pl.Enum(self.ids.tolist()), strict=False).to_physical()
        return coded.cast(pl.Int32).fill_null(-1).to_numpy()

    def mapping_to(self, other: "Vocabulary") -> np.ndarray | None:
        """Return (len(self),) the row of each of our ids in `other`, -1 where unknown.

        None where both are the same.
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
        """Return the catalogue of the items of both.

        It is made once: methods that know different items need it for every answer.
        """
        if self.mapping_to(other) is None:
            return self
        if other not in self._joined:
            union = Vocabulary.of_items([*self.ids, *other.ids])
            self._joined[other] = None if union.fingerprint == self.fingerprint else union
        return self._joined[other] or self

    def found_in(self, other: "Vocabulary") -> np.ndarray:
        """Return the rows in `other` of those of our ids that it has."""
        rows = self.mapping_to(other)
        return np.arange(len(self), dtype=np.int32) if rows is None else rows[rows >= 0]

    def named(self, rows: np.ndarray | Sequence[int]) -> list[str]:
        """Return the outside ids of rows."""
        return self.ids[np.asarray(rows, dtype=np.int64)].tolist()
