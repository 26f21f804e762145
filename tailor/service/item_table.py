"""What filters ask: the stored items as a table that follows their changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from tailor.store.loading import item_frame

Rows = Sequence[Mapping[str, Any]]
# kinds of values whose column has one type, whatever comes and goes; of lists it hangs on what is
# in them
PLAIN = (float, str, bool)


@dataclass(frozen=True, eq=False)
class ItemTable:
    """`store.loading.item_frame` of all items. Making it takes a second for 100,000 of them,
    putting some in the place of their former selves milliseconds.
    """

    frame: pl.DataFrame
    kinds: Mapping[str, frozenset[type]]
    """Of the values in each further column, or that were once."""

    @classmethod
    def of(cls, rows: Rows) -> "ItemTable":
        return cls(item_frame(rows), _kinds(rows))

    def followed(self, rows: Mapping[str, Mapping[str, Any]], changed: set[str]) -> "ItemTable":
        """The table of all `rows` (by item id), of which `changed` are not as they were."""
        if not changed:
            return self
        some = [rows[one] for one in changed]
        return self._mended(some) or ItemTable.of(list(rows.values()))

    def _mended(self, some: Rows) -> "ItemTable | None":
        """None where a column is new or gone, or may have another type now."""
        fresh, kinds = item_frame(some), {**self.kinds}
        old = self.frame["item_id"].is_in(fresh["item_id"].implode())
        former = self.frame.filter(old)
        for name, found in _kinds(some).items():
            kinds[name] = kinds.get(name, frozenset()) | found
        for name, found in kinds.items():
            touched = name in fresh.columns or former[name].null_count() < len(former)
            if name not in self.frame.columns or (
                touched and not (len(found) == 1 and found <= set(PLAIN))
            ):
                return None
        columns = [
            (
                pl.col(name)
                if name in fresh.columns and fresh[name].dtype != pl.Null
                else pl.lit(None, kind).alias(name)
            )
            for name, kind in self.frame.schema.items()
        ]
        frame = pl.concat(
            [self.frame.filter(~old), fresh.select(columns)], how="vertical_relaxed", rechunk=True
        )  # whole numbers join others
        gone = any(frame[name].null_count() == len(frame) for name in kinds)
        return None if gone else ItemTable(frame, kinds)


def _kinds(rows: Rows) -> dict[str, frozenset[type]]:
    """The kinds of values under each name of `more`; all numbers are of one."""
    found: dict[str, set[type]] = {}
    for row in rows:
        for name, value in (row["more"] or {}).items():
            kinds = found.setdefault(name, set())
            if value is not None:
                kinds.add(float if type(value) is int else type(value))
    return {name: frozenset(kinds) for name, kinds in found.items()}
