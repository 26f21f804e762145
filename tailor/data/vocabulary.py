"""Outside ids and inside rows."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl

from tailor.errors import DataError


def tie_hash(item_id: str, seed: int = 0) -> bytes:
    """The key by which equal scores are ordered: a seeded hash, so that neither position nor the
    id's own value counts.
    """
    return hashlib.blake2b(
        item_id.encode("utf-8", "surrogatepass"), digest_size=8, key=seed.to_bytes(8, "little")
    ).digest()


class Vocabulary:
    """Distinct outside ids and the row (int32) of each; the order of the ids given is the order of
    the rows.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = np.array(list(ids), dtype=object)
        if len(set(self.ids.tolist())) != len(self.ids):
            raise DataError("an id stands twice in a vocabulary: ids are distinct")
        # the answers of `mapping_to`
        self._mapped: WeakKeyDictionary[Vocabulary, np.ndarray] = WeakKeyDictionary()
        # those of `joined`; None: we are it
        self._joined: WeakKeyDictionary[Vocabulary, Vocabulary | None] = WeakKeyDictionary()

    @classmethod
    def of_items(cls, ids: Iterable[str], seed: int = 0) -> "Vocabulary":
        """A catalogue: rows in the order of a seeded hash of the ids, so that ordering ties by row
        is ordering them by chance.
        """
        return cls(sorted(set(ids), key=lambda one: (tie_hash(one, seed), one)))

    @classmethod
    def of_users(cls, ids: Iterable[str]) -> "Vocabulary":
        return cls(sorted(set(ids)))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, one: object) -> bool:
        return one in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {one: row for row, one in enumerate(self.ids)}

    @cached_property
    def fingerprint(self) -> str:
        """Equal for vocabularies of equal ids in equal order."""
        digest = hashlib.blake2b(digest_size=16)
        for one in self.ids:
            raw = one.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """(n,) int32 rows; -1 for an id that is not known."""
        known = self._rows
        return np.array([known.get(one, -1) for one in ids], dtype=np.int32)

    def codes(self, column: pl.Series) -> np.ndarray:
        """(n,) int32 rows of a whole column, as `rows` but fast; -1 for unknown or null."""
        if len(column) < 1000:
            return self.rows(column.to_list())
        coded = column.cast(pl.Enum(self.ids.tolist()), strict=False).to_physical()
        return coded.cast(pl.Int32).fill_null(-1).to_numpy()

    def mapping_to(self, other: "Vocabulary") -> np.ndarray | None:
        """(len(self),) row of each of our ids in `other`, -1 where unknown; None when both are the
        same.
        """
        if other is self or (len(other) == len(self) and other.fingerprint == self.fingerprint):
            return None
        rows = self._mapped.get(other)
        if rows is None:
            rows = other.rows(self.ids)
            self._mapped[other] = rows
        return rows

    def is_within(self, other: "Vocabulary") -> bool:
        """Whether `other` knows all of our ids."""
        to = self.mapping_to(other)
        return to is None or bool((to >= 0).all())

    def joined(self, other: "Vocabulary") -> "Vocabulary":
        """The catalogue of all items of both, made once: of methods that know different items it is
        asked for at every answer.
        """
        if self.mapping_to(other) is None:
            return self
        if other not in self._joined:
            union = Vocabulary.of_items([*self.ids, *other.ids])
            self._joined[other] = None if union.fingerprint == self.fingerprint else union
        return self._joined[other] or self

    def found_in(self, other: "Vocabulary") -> np.ndarray:
        """The rows in `other` of those of our ids that it knows."""
        rows = self.mapping_to(other)
        return np.arange(len(self), dtype=np.int32) if rows is None else rows[rows >= 0]

    def named(self, rows: np.ndarray | Sequence[int]) -> list[str]:
        """The outside ids of rows."""
        return self.ids[np.asarray(rows, dtype=np.int64)].tolist()
